// SPDX-License-Identifier: GPL-2.0
/*
 * late_shutdown.c: shutdown() by somebody else who was inside the call when an operation took the socket: the refusals of
 * a busy end do not reach him any more.
 */
#include "harness.h"

#include <linux/userfaultfd.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define SEED 1
#define BACK 2
#define ATTEMPTS 20

FIXTURE(late_shutdown) {
	struct spl *s;
	struct relay r;
	uint64_t token, state;
};

FIXTURE_VARIANT(late_shutdown) {
	enum spl_engine engine;
	enum net net;
};

VARIANT(late_shutdown, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);
VARIANT(late_shutdown, kmod_mixed, .engine = SPL_ENGINE_KMOD, .net = NET_MIXED);
VARIANT(late_shutdown, kmod_unix, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX);
VARIANT(late_shutdown, kmod_tcp2unix, .engine = SPL_ENGINE_KMOD, .net = NET_TCP_TO_UNIX);

FIXTURE_SETUP(late_shutdown)
{
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	self->state = 7;
	self->r = (struct relay){ -1, -1, -1, -1 };
}

FIXTURE_TEARDOWN(late_shutdown)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* A page that is not there until somebody says so: who sends it has the socket until then. */
struct slow_page { int fd; void *at; };

static int slow_page_make(struct slow_page *p)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range.len = getpagesize(), .mode = UFFDIO_REGISTER_MODE_MISSING };

	p->fd = syscall(__NR_userfaultfd, O_CLOEXEC);
	p->at = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->fd < 0 || p->at == MAP_FAILED)
		return -errno;
	range.range.start = (uintptr_t)p->at;
	return ioctl(p->fd, UFFDIO_API, &api) || ioctl(p->fd, UFFDIO_REGISTER, &range) ? -errno : 0;
}

static int slow_page_come(struct slow_page *p)
{
	static uint8_t bytes[65536] __attribute__((aligned(65536)));
	struct uffdio_copy copy = { .dst = (uintptr_t)p->at, .src = (uintptr_t)bytes, .len = getpagesize() };

	pattern_fill(bytes, getpagesize(), SEED, 0);
	return ioctl(p->fd, UFFDIO_COPY, &copy) ? -errno : 0;
}

static void slow_page_free(struct slow_page *p)
{
	munmap(p->at, getpagesize());
	close(p->fd);
}

/* A thread in a call on the socket. @first: the greater, the earlier it has the processor; 0: after all others. */
struct caller {
	int fd, how, first;
	const void *page;		/* sends its first byte; NULL: shuts down */
	volatile pid_t tid;
	volatile bool done;
	pthread_t thread;
};

static int take_turn(int first)
{
	struct sched_param param = { .sched_priority = first };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return -errno;
	return sched_setscheduler(0, first ? SCHED_FIFO : SCHED_OTHER, &param) ? -errno : 0;
}

static void *caller_thread(void *arg)
{
	struct caller *c = arg;

	take_turn(c->first);
	c->tid = gettid();
	if (c->page)
		send(c->fd, c->page, 1, MSG_NOSIGNAL);
	else
		shutdown(c->fd, c->how);
	c->done = true;
	return NULL;
}

/* Until it is in its call, and waits there. */
static int caller_start(struct caller *c)
{
	int err = -pthread_create(&c->thread, NULL, caller_thread, c);

	while (!err && !c->tid)
		usleep(1000);
	return err ? err : wait_blocked(c->tid);
}

/*
 * Three threads and one processor: the sender, who has the socket, goes before the test, and the test before the thread that
 * waits for the socket in shutdown(). That one is woken when the sender is done, and runs when the test sleeps, which it
 * does when the operation has begun. *@late: so it was; otherwise the sink was shut down before, and the operation refused.
 */
static int late_begin(FIXTURE_DATA(late_shutdown) *self, enum net net, int how, bool *late)
{
	struct slow_page page;
	struct caller sender = { .first = 2 }, closer = { .how = how };
	int err = relay_open(&self->r, net);

	err = err ? err : slow_page_make(&page);
	if (err)
		return err;
	sender.page = page.at;
	sender.fd = closer.fd = fcntl(self->r.b, F_DUPFD_CLOEXEC, 0);
	err = caller_start(&sender);
	err = err ? err : caller_start(&closer);
	err = err ? err : slow_page_come(&page);
	if (err)
		return err;
	while (!sender.done)
		;
	*late = !spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token);
	if (*late)
		self->r.a = self->r.b = -1;
	pthread_join(sender.thread, NULL);
	pthread_join(closer.thread, NULL);
	close(sender.fd);
	slow_page_free(&page);
	return 0;
}

static int late_begun(FIXTURE_DATA(late_shutdown) *self, enum net net, int how)
{
	unsigned int i;
	int err = take_turn(1);
	bool late;

	for (i = 0; i < ATTEMPTS && !err; i++) {
		err = late_begin(self, net, how, &late);
		if (!err && late)
			return 0;
		relay_close(&self->r);
	}
	return err ? err : -EAGAIN;
}

/* Nobody says anything, so that only the shutdown itself can end what has a sink that takes nothing any more. */
NEEDS(late_shutdown, of_the_sink, NEEDS_TCP);
TEST_F_TIMEOUT(late_shutdown, of_the_sink, 60)
{
	static const int how[] = { SHUT_WR, SHUT_RDWR };
	int i, err;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, late_begun(self, variant->net, how[i]));
		ends(self->token, SPL_SINK_FAILED, EPIPE, 0);
		EXPECT_EQ(0, take(self->r.s, SEED, 0, 1));
		EXPECT_EQ(0, at_end(self->r.s));
		/* the end of the server's stream, said by SHUT_RDWR, may have been passed on before */
		err = at_end(self->r.c);
		EXPECT_TRUE(err == -ECONNRESET || (!err && how[i] == SHUT_RDWR)) {
			TH_LOG("the client: %s", strerror(-err));
		}
		relay_close(&self->r);
	}
	EXPECT_EQ(0, no_event(self->s));
}

/* Somebody who shuts an end down, over and over, from when he is told to. */
struct meddler {
	int fd, how;
	unsigned int delay, calls;
	bool over;
	sem_t go, done;
	pthread_t thread;
};

static void *meddler_thread(void *arg)
{
	struct meddler *m = arg;
	volatile unsigned int i;
	unsigned int calls;

	for (;;) {
		sem_wait(&m->go);
		if (m->over)
			return NULL;
		for (i = 0; i < m->delay; i++)
			;
		for (calls = m->calls; calls; calls--)
			shutdown(m->fd, m->how);
		sem_post(&m->done);
	}
}

static int meddler_start(struct meddler *m)
{
	*m = (struct meddler){ .fd = -1 };
	sem_init(&m->go, 0, 0);
	sem_init(&m->done, 0, 0);
	return -pthread_create(&m->thread, NULL, meddler_thread, m);
}

static void meddler_go(struct meddler *m, int fd, uint64_t *state)
{
	static const int how[] = { SHUT_WR, SHUT_WR, SHUT_RDWR, SHUT_RD };

	m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	m->how = how[rnd_below(state, 4)];
	m->delay = rnd_below(state, 2) * rnd_below(state, on_debug_kernel() ? 8000000 : 400000);
	m->calls = 1 + rnd_below(state, 8);
	sem_post(&m->go);
}

static void meddler_wait(struct meddler *m)
{
	sem_wait(&m->done);
	close(m->fd);
}

static void meddler_stop(struct meddler *m)
{
	m->over = true;
	sem_post(&m->go);
	pthread_join(m->thread, NULL);
}

/* To the end, or to the error that is one; wrong bytes: -EILSEQ. */
static int64_t take_all(int fd, uint64_t seed)
{
	uint8_t buf[20000];
	int64_t sum = 0;
	ssize_t n;

	while (poll_fd(fd, POLLIN, WAIT_MS) > 0) {
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n <= 0)
			return sum;
		if (pattern_check(buf, n, seed, sum))
			return -EILSEQ;
		sum += n;
	}
	return -ETIMEDOUT;
}

static size_t send_some(int fd, uint64_t seed, uint64_t *state)
{
	uint8_t buf[20000];
	size_t len = rnd_below(state, 4) ? rnd_size(state, sizeof(buf)) : 0;
	ssize_t n;

	pattern_fill(buf, len, seed, 0);
	n = len ? send(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
	return n < 0 ? 0 : n;
}

/* An operation in the midst of it. */
struct round {
	bool pair;
	int refused;
	size_t there, back;	/* bytes sent */
	struct spl_event ev;
};

/* Begins, and is told to end some time later, unless it has by itself: its event comes. */
static int round_run(FIXTURE_DATA(late_shutdown) *self, struct round *o)
{
	struct relay *r = &self->r;

	o->refused = o->pair ? spl_splice_pair(self->s, r->a, r->b, NULL, &self->token) :
		     spl_forward(self->s, r->a, r->b, SPL_ALL, NULL, &self->token);
	if (o->refused)
		return o->refused == -ENOTCONN || o->refused == -EBUSY ? 0 : o->refused;
	if (o->pair)
		r->a = r->b = -1;
	if (rnd_below(&self->state, 2))
		usleep(rnd_below(&self->state, 500));
	spl_cancel(self->s, self->token);
	return event_of(self->s, self->token, &o->ev);
}

/* Each stream is the beginning of what was sent: as much of it as the event says, or less where a pair was reset. */
static int round_check(FIXTURE_DATA(late_shutdown) *self, struct round *o)
{
	int64_t seen, seen_back;
	int err = 0;

	if (!o->refused && !o->pair)
		err = take_back(self->s, self->token, self->r.a, SEED, o->ev.bytes, o->there - o->ev.bytes);
	close_fd(&self->r.a);
	close_fd(&self->r.b);
	seen = take_all(self->r.s, SEED);
	seen_back = take_all(self->r.c, BACK);
	if (err || seen < 0 || seen_back < 0)
		return err ? err : seen < 0 ? seen : seen_back;
	if (seen > o->ev.bytes || o->ev.bytes > o->there || seen_back > o->ev.bytes_back || o->ev.bytes_back > o->back)
		return -EOVERFLOW;
	return o->pair || seen == o->ev.bytes ? 0 : -ENODATA;
}

static int round_once(FIXTURE_DATA(late_shutdown) *self, enum net net, struct meddler m[2], struct round *o)
{
	int err = relay_open(&self->r, net);

	if (err)
		return err;
	*o = (struct round){ .pair = rnd_below(&self->state, 2) };
	o->there = send_some(self->r.c, SEED, &self->state);
	o->back = send_some(self->r.s, BACK, &self->state);
	meddler_go(&m[0], self->r.a, &self->state);
	meddler_go(&m[1], self->r.b, &self->state);
	err = round_run(self, o);
	meddler_wait(&m[0]);
	meddler_wait(&m[1]);
	err = err ? err : round_check(self, o);
	relay_close(&self->r);
	return err;
}

TEST_F_TIMEOUT(late_shutdown, while_it_begins_and_ends, 120)
{
	unsigned int i, rounds = scaled(200) + 30, refused = 0, failed = 0;
	struct meddler meddlers[2];
	struct round o;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, meddler_start(&meddlers[i]));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, round_once(self, variant->net, meddlers, &o)) {
			TH_LOG("round %u: %s, sent %zu, %zu; refused %d, %s, %llu, %llu: %s", i, o.pair ? "pair" : "forward", o.there,
			       o.back, o.refused, spl_cause_name(o.ev.cause), (unsigned long long)o.ev.bytes,
			       (unsigned long long)o.ev.bytes_back, spl_strerror_last(self->s));
		}
		refused += !!o.refused;
		failed += !o.refused && o.ev.cause != SPL_CANCELED;
	}
	for (i = 0; i < 2; i++)
		meddler_stop(&meddlers[i]);
	TH_LOG("of %u operations %u were refused, %u ended by a shutdown", rounds, refused, failed);
	EXPECT_GT(rounds, refused);
	EXPECT_EQ(0, no_event(self->s));
}

SUITE_MAIN
