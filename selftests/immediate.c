// SPDX-License-Identifier: GPL-2.0
/*
 * immediate.c: what can move now moves now. A held-back byte costs 40 ms (delayed
 * acknowledgement) or 200 ms (cork) each time, so medians tell; ten round trips of a direct
 * connection on the same machine are allowed on top.
 */
#include "harness.h"
#include "nl.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>

#define SEED 1
#define BACK 2
#define HELD_BACK_US 35000

FIXTURE(immediate) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	uint32_t limit_us;
};

FIXTURE_VARIANT(immediate) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_FEW(immediate);
VARIANT(immediate, kmod_mixed, .engine = SPL_ENGINE_KMOD, .net = NET_MIXED);
USER_SOCKETS(immediate);
USER_LOSSLESS(immediate);
USER_TLS(immediate);

static int by_value(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return a < b ? -1 : a > b;
}

/* The median round trip of one byte between a client and its relay, without a splice. */
static int direct_us(struct relay *r, uint32_t *median)
{
	uint32_t us[41];
	unsigned int i;

	for (i = 0; i < 41; i++) {
		uint64_t began = now_us();

		if (put(r->c, SEED, i, 1) || take(r->a, SEED, i, 1) || put(r->a, BACK, i, 1) ||
		    take(r->c, BACK, i, 1))
			return -1;
		us[i] = now_us() - began;
	}
	qsort(us, 41, sizeof(*us), by_value);
	*median = us[20];
	return 0;
}

FIXTURE_SETUP(immediate)
{
	uint32_t direct;

	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	/* the peers themselves must not hold anything back */
	ASSERT_EQ(0, nodelay(self->r.c));
	ASSERT_EQ(0, nodelay(self->r.s));
	ASSERT_EQ(0, direct_us(&self->r, &direct));
	self->limit_us = HELD_BACK_US + 10 * direct;
	TH_LOG("direct round trip %u us, limit %u us", direct, self->limit_us);
	ASSERT_EQ(0, spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
}

FIXTURE_TEARDOWN(immediate)
{
	spl_close(self->s);
	relay_close(&self->r);
}

struct times { uint32_t median, p98, max; };

static struct times sum_up(uint32_t *us, unsigned int n)
{
	qsort(us, n, sizeof(*us), by_value);
	return (struct times){ us[n / 2], us[n - 1 - n / 50], us[n - 1] };
}

struct echo { int fd; unsigned int rounds; size_t size; int err; };

/* The server: answers each message with one of the same size. */
static void *echo_thread(void *arg)
{
	struct echo *e = arg;
	unsigned int i;

	for (i = 0; i < e->rounds && !e->err; i++) {
		e->err = take(e->fd, SEED, i * e->size, e->size);
		e->err = e->err ? e->err : put(e->fd, BACK, i * e->size, e->size);
	}
	return NULL;
}

TEST_F_TIMEOUT(immediate, ping_pong, 120)
{
	unsigned int i, rounds = variant->net < NET_UNIX ? scaled(2000) : scaled(400);
	struct echo e = { .fd = self->r.s, .rounds = rounds, .size = 64 };
	uint32_t *us = calloc(rounds, sizeof(*us));
	pthread_t thread;
	struct times t;
	uint64_t began;

	ASSERT_NE(NULL, us);
	ASSERT_EQ(0, pthread_create(&thread, NULL, echo_thread, &e));
	for (i = 0; i < rounds; i++) {
		began = now_us();
		ASSERT_EQ(0, put(self->r.c, SEED, i * 64, 64));
		ASSERT_EQ(0, take(self->r.c, BACK, i * 64, 64));
		us[i] = now_us() - began;
	}
	pthread_join(thread, NULL);
	EXPECT_EQ(0, e.err);
	t = sum_up(us, rounds);
	free(us);
	TH_LOG("round trip us: median %u, 98th percentile %u, max %u", t.median, t.p98, t.max);
	EXPECT_GT(self->limit_us / 2, t.median);
	/* what a worker moves, or the thread of a context, waits for its turn on a busy machine, but not each time */
	EXPECT_GT(self->limit_us * (variant->net < NET_UNIX ? 1 : 5), t.p98);
	EXPECT_GT(2000000, t.max);
}

/*
 * Small writes in a row: Nagle on the sink would hold the second until the first is acknowledged,
 * and the reader delays its acknowledgement, as it has been answering all the time.
 */
TEST_F_TIMEOUT(immediate, writes_in_a_row, 120)
{
	unsigned int i, j, rounds = (variant->net < NET_UNIX ? scaled(200) : scaled(60)) + 10;
	uint32_t *us = calloc(rounds, sizeof(*us));
	struct times t;
	uint64_t began;

	ASSERT_NE(NULL, us);
	for (i = 0; i < rounds; i++) {
		began = now_us();
		for (j = 0; j < 5; j++) {
			ASSERT_EQ(0, put(self->r.c, SEED, i * 50 + j * 10, 10));
			usleep(200);
		}
		ASSERT_EQ(0, take(self->r.s, SEED, i * 50, 50));
		us[i] = now_us() - began;
		ASSERT_EQ(0, put(self->r.s, BACK, i, 1));
		ASSERT_EQ(0, take(self->r.c, BACK, i, 1));
	}
	t = sum_up(us, rounds);
	free(us);
	TH_LOG("five writes us: median %u, 98th percentile %u, max %u", t.median, t.p98, t.max);
	EXPECT_GT(self->limit_us, t.median);
	EXPECT_GT(2000000, t.max);
}

/* A lone byte after a pause, over a connection that has carried bulk before. */
TEST_F_TIMEOUT(immediate, byte_after_bulk, 120)
{
	unsigned int i, rounds = scaled(20) + 5;
	uint32_t us[32];
	uint64_t pos = 0, began, len = bulk(variant->net, 400000);
	struct times t;

	for (i = 0; i < rounds; i++, pos += len + 1) {
		struct stream tx = { .fd = self->r.c, .seed = SEED, .pos = pos, .len = len };

		ASSERT_EQ(0, stream_send(&tx));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, len));
		ASSERT_EQ(0, stream_join(&tx));
		sleep_ms(20);
		began = now_us();
		ASSERT_EQ(0, put(self->r.c, SEED, pos + len, 1));
		ASSERT_EQ(0, take(self->r.s, SEED, pos + len, 1));
		us[i] = now_us() - began;
	}
	t = sum_up(us, rounds);
	TH_LOG("lone byte us: median %u, max %u", t.median, t.max);
	EXPECT_GT(self->limit_us, t.median);
}

/*
 * Where the module moves bytes: in the sender's own call, in the worker, or in a runner. One processor has the test and all of
 * these. Nothing here depends on time.
 */
#define SEGMENT		32768		/* large, and arrives as one */
#define BURST		5
#define WARM_UP		40
#define ROOM	(1 << 20)

struct runs { int64_t here, worker; };

static struct runs runs_now(struct nl *nl)
{
	return (struct runs){ stat_now(nl, SKSPLICE_A_STAT_INLINE), stat_now(nl, SKSPLICE_A_STAT_WORKER) };
}

static struct runs runs_since(struct nl *nl, struct runs from)
{
	struct runs r = runs_now(nl);

	return (struct runs){ r.here - from.here, r.worker - from.worker };
}

/* The processors of all workers that are not bound to one: a mask, as the kernel prints it. */
static int workers_on(const char *mask, char *before, size_t len)
{
	static const char path[] = "/sys/devices/virtual/workqueue/cpumask";
	FILE *f = fopen(path, "r");
	int err = 0;

	if (!f)
		return -errno;
	if (before && !fgets(before, len, f))
		err = -EIO;
	fclose(f);
	f = err ? NULL : fopen(path, "w");
	if (!f)
		return err ? err : -errno;
	fputs(mask, f);
	return fclose(f) ? -errno : 0;
}

static int read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	return n > 0 ? 0 : -EIO;
}

/* For each runner of the module, by its number. 0, or what one of the calls returned, or -ENOENT. */
static int runners(int (*call)(int pid, void *arg), void *arg)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	int err = -ENOENT;
	char path[300], comm[32];

	while (dir && (e = readdir(dir)) && (err == -ENOENT || !err)) {
		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		if (atoi(e->d_name) > 0 && !read_text(path, comm, sizeof(comm)) && !strncmp(comm, "sksplice/", 9))
			err = call(atoi(e->d_name), arg);
	}
	if (dir)
		closedir(dir);
	return err;
}

static int is_batch(int pid, void *unused)
{
	(void)unused;
	return sched_getscheduler(pid) == SCHED_BATCH ? 0 : -EINVAL;
}

static int to_first(int pid, void *unused)
{
	cpu_set_t set;

	(void)unused;
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	return sched_setaffinity(pid, sizeof(set), &set) ? -errno : 0;
}

static int add_switches(int pid, void *sum)
{
	char path[64], text[4096], *at;
	int err;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	err = read_text(path, text, sizeof(text));
	at = err ? NULL : strstr(text, "\nvoluntary_ctxt_switches:");
	if (at)
		*(int64_t *)sum += strtoll(at + 25, NULL, 10);
	return err ? err : at ? 0 : -EPROTO;
}

/* How often all of them have gone to rest: that is once, at the latest, after each time that they had work. */
static int64_t runner_switches(void)
{
	int64_t sum = 0;
	int err = runners(add_switches, &sum);

	return err ? err : sum;
}

/* No worker has a turn until the test waits for something. */
static int before_workers(void)
{
	struct sched_param first = { .sched_priority = 1 };

	return sched_setscheduler(0, SCHED_FIFO, &first) ? -errno : 0;
}

/* @n writes in a row, then all of it is read: by one thread, which waits for nothing in between. */
static int bursts(struct relay *r, uint64_t *pos, unsigned int rounds, unsigned int n)
{
	unsigned int i, j;
	int err = 0;

	for (i = 0; i < rounds && !err; i++) {
		for (j = 0; j < n && !err; j++)
			err = put(r->c, SEED, *pos + j * SEGMENT, SEGMENT);
		err = err ? err : take(r->s, SEED, *pos, n * SEGMENT);
		*pos += n * SEGMENT;
	}
	return err;
}

FIXTURE(where) {
	struct spl *s;
	struct nl nl;
	struct relay r;
	uint64_t token, pos;
	char mask[64];
};

FIXTURE_VARIANT(where) {
	enum spl_engine engine;
	enum net net;
};

VARIANT(where, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);
VARIANT(where, kmod_mixed, .engine = SPL_ENGINE_KMOD, .net = NET_MIXED);

FIXTURE_SETUP(where)
{
	int *fd[] = { &self->r.c, &self->r.a, &self->r.b, &self->r.s };
	int i;

	ASSERT_EQ(0, workers_on("1", self->mask, sizeof(self->mask)));
	ASSERT_EQ(0, to_first(0, NULL));
	ASSERT_EQ(0, runners(to_first, NULL));
	ASSERT_EQ(0, nl_open(&self->nl));
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	/* room for a burst everywhere from the beginning */
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, set_opt(*fd[i], SOL_SOCKET, SO_SNDBUFFORCE, ROOM));
		ASSERT_EQ(0, set_opt(*fd[i], SOL_SOCKET, SO_RCVBUFFORCE, ROOM));
		ASSERT_EQ(0, nodelay(*fd[i]));
	}
	ASSERT_EQ(0, spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
}

FIXTURE_TEARDOWN(where)
{
	spl_close(self->s);
	relay_close(&self->r);
	nl_close(&self->nl);
	workers_on(self->mask, NULL, 0);
}

/* Messages, each answered: no worker is woken for one. */
TEST_F_TIMEOUT(where, conversation, 60)
{
	struct runs from, r;
	unsigned int i;

	for (i = 0; i < 1000; i++) {
		if (i == WARM_UP)
			from = runs_now(&self->nl);
		ASSERT_EQ(0, put(self->r.c, SEED, i * 64, 64));
		ASSERT_EQ(0, take(self->r.s, SEED, i * 64, 64));
		ASSERT_EQ(0, put(self->r.s, BACK, i * 64, 64));
		ASSERT_EQ(0, take(self->r.c, BACK, i * 64, 64));
	}
	r = runs_since(&self->nl, from);
	TH_LOG("inline %lld, worker %lld", (long long)r.here, (long long)r.worker);
	EXPECT_LT(19 * r.worker, r.here);
	EXPECT_LE(1000 - WARM_UP, r.here);
}

/* Messages without replies are no stream, however many they are: they do not wait for a thread that lets others go first. */
TEST_F_TIMEOUT(where, lone_messages, 60)
{
	int64_t from = runner_switches();
	unsigned int i;

	for (i = 0; i < 300; i++) {
		ASSERT_EQ(0, put(self->r.c, SEED, i * 64, 64));
		ASSERT_EQ(0, take(self->r.s, SEED, i * 64, 64));
	}
	EXPECT_EQ(from, runner_switches());
}

/* A stream is for the runners, which do not take the processor from its sender. */
TEST_F_TIMEOUT(where, stream, 60)
{
	int64_t from;

	ASSERT_EQ(0, bursts(&self->r, &self->pos, WARM_UP, BURST));
	from = runner_switches();
	ASSERT_EQ(0, bursts(&self->r, &self->pos, 100, BURST));
	EXPECT_LT(from, runner_switches());
	EXPECT_EQ(0, runners(is_batch, NULL));
}

/* Several of them before the worker has a turn: it moves them in one run, and none is moved before. */
TEST_F_TIMEOUT(where, worker_finds_many, 60)
{
	struct runs from, r;

	ASSERT_EQ(0, before_workers());
	ASSERT_EQ(0, bursts(&self->r, &self->pos, WARM_UP, BURST));
	from = runs_now(&self->nl);
	ASSERT_EQ(0, bursts(&self->r, &self->pos, 100, BURST));
	r = runs_since(&self->nl, from);
	TH_LOG("inline %lld, worker %lld", (long long)r.here, (long long)r.worker);
	EXPECT_LT(4 * r.here, r.worker);
	EXPECT_GT(300, r.worker);
}

SUITE_MAIN
