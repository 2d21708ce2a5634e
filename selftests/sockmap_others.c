// SPDX-License-Identifier: GPL-2.0
/*
 * sockmap_others.c: local mode with others about: programs that have set their receive buffer, that receive already while they
 * connect, or wait when the connection is reset; a relay on the engine user, a second process, a child; ports nobody serves.
 */
#include "harness.h"
#include "probe.h"
#include "../bpf/local.h"

#define SEED	7
#define MB	(1u << 20)

FIXTURE(sockmap_others) {
	struct spl *s;
	struct relay r;
	uint64_t before[LOCAL_COUNTS];
	pid_t second;		/* a process that has no engine yet */
	int control[2];		/* ours is 0 */
};

FIXTURE_VARIANT(sockmap_others) {
	enum spl_engine engine;
	enum net net;
};

SOCKMAP_SOCKETS(sockmap_others);

static int exchange(struct spl *s, struct relay *r)
{
	uint64_t token;
	int e = spl_splice_pair(s, r->a, r->b, NULL, &token);

	r->a = r->b = -1;
	return e || put(r->c, SEED, 0, 100000) || take(r->s, SEED, 0, 100000) || put(r->s, SEED, 0, 70000) || take(r->c, SEED, 0, 70000);
}

static int second_process(int control, enum spl_engine engine, enum net net)
{
	struct relay r;
	struct spl *s;
	char byte;

	if (read(control, &byte, 1) != 1)
		return 0;
	if (engine_open(&s, engine) || write(control, &byte, 1) != 1 || read(control, &byte, 1) != 1)
		return 1;
	if (relay_open(&r, net) || exchange(s, &r))
		return 2;
	relay_close(&r);
	spl_close(s);
	return 0;
}

FIXTURE_SETUP(sockmap_others)
{
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, self->control));
	self->second = fork();
	if (!self->second) {
		close(self->control[0]);
		_exit(second_process(self->control[1], variant->engine, variant->net));
	}
	close(self->control[1]);
	ASSERT_EQ(0, engine_open(&self->s, variant->engine)) {
		TH_LOG("%s", spl_strerror_last(NULL));
	}
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	ASSERT_EQ(LOCAL_COUNTS, spl_sockmap_counts(self->before, LOCAL_COUNTS));
}

FIXTURE_TEARDOWN(sockmap_others)
{
	spl_close(self->s);
	relay_close(&self->r);
	close(self->control[0]);
	EXPECT_EQ(0, reap(self->second));
}

static uint64_t counted(const uint64_t *before, enum local_count what)
{
	uint64_t now[LOCAL_COUNTS] = { 0 };

	spl_sockmap_counts(now, LOCAL_COUNTS);
	return now[what] - before[what];
}

#define COUNTED(what) counted(self->before, LOCAL_##what)

#define forward(n)	begun(spl_forward(self->s, self->r.a, self->r.b, n, NULL, &token))

/* ---- receive buffers that a program has set */

static uint64_t stall(struct __test_metadata *_metadata, FIXTURE_DATA(sockmap_others) *self, int rcvbuf)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 16 * MB, .chunk = 65536 };
	uint64_t token, bytes;

	ASSERT_EQ(0, setsockopt(self->r.s, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf)));
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_stuck(&tx, 1500));
	bytes = COUNTED(BYTES);
	ASSERT_EQ(0, take(self->r.s, SEED, 0, tx.len));
	ASSERT_EQ(0, stream_join(&tx));
	return bytes;
}

/* The kernel doubles it; half of that is redirected, and leaves room for what TCP brings. */
TEST_F_TIMEOUT(sockmap_others, chosen_buffer_bounds, 60)
{
	uint64_t bytes = stall(_metadata, self, 200000);

	EXPECT_LT(0, bytes);
	EXPECT_GE(200000, bytes);
}

TEST_F(sockmap_others, small_buffer_is_left_to_tcp)
{
	int rcvbuf = 10000;
	uint64_t token;

	ASSERT_EQ(0, setsockopt(self->r.s, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf)));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 3000));
	forward(3000);
	ends(token, SPL_DONE, 0, 3000);
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 3000));
	EXPECT_EQ(0, COUNTED(BYTES));
}

/* ---- a reader that waits */

struct reader { int fd; ssize_t n; int error; volatile pid_t tid; pthread_t thread; };

static void *reader_run(void *arg)
{
	struct reader *rd = arg;
	char buf[3000];

	rd->tid = gettid();
	rd->n = recv(rd->fd, buf, sizeof(buf), 0);
	rd->error = errno;
	return NULL;
}

static int reader_wait(struct reader *rd)
{
	if (pthread_create(&rd->thread, NULL, reader_run, rd))
		return -EAGAIN;
	while (!rd->tid)
		sleep_ms(1);
	return wait_blocked(rd->tid);
}

/* It does not go on waiting; at the latest its next call tells why. */
TEST_F(sockmap_others, reset_wakes_a_reader)
{
	struct reader rd = { .fd = self->r.s };
	uint64_t token;
	char byte;

	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 1000));
	ASSERT_EQ(0, reader_wait(&rd));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	ASSERT_EQ(0, pthread_join(rd.thread, NULL));
	ASSERT_EQ(-1, rd.n);
	if (rd.error == EAGAIN) {
		EXPECT_EQ(-1, recv(self->r.s, &byte, 1, 0));
		rd.error = errno;
	}
	EXPECT_EQ(ECONNRESET, rd.error);
}

/* The one of the connections that is fd's; the others are what filled the backlog. */
static int accept_from(int listening, int fd)
{
	struct sockaddr_in own = { 0 }, peer = { 0 };
	socklen_t len = sizeof(own);
	int got;

	if (getsockname(fd, (struct sockaddr *)&own, &len))
		return -1;
	while (poll_fd(listening, POLLIN, WAIT_MS) == POLLIN && (got = accept(listening, NULL, NULL)) >= 0) {
		len = sizeof(peer);
		if (!getpeername(got, (struct sockaddr *)&peer, &len) && peer.sin_port == own.sin_port)
			return got;
		close(got);
	}
	return -1;
}

/* It waits since before the connection was there, within TCP: what was redirected it would never see. */
TEST_F_TIMEOUT(sockmap_others, reader_that_came_early, 60)
{
	struct reader rd = { .fd = -1 };
	uint64_t token;
	int listening, sink;

	rd.fd = tcp_connecting(AF_INET, &listening);
	ASSERT_LE(0, rd.fd);
	ASSERT_EQ(0, fcntl(rd.fd, F_SETFL, 0));
	ASSERT_EQ(0, reader_wait(&rd));
	sink = accept_from(listening, rd.fd);
	ASSERT_LE(0, sink);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 2000));
	begun(spl_forward(self->s, self->r.a, sink, 2000, NULL, &token));
	ends(token, SPL_DONE, 0, 2000);
	ASSERT_EQ(0, pthread_join(rd.thread, NULL));
	EXPECT_EQ(2000, rd.n);
	close(listening);
	close(sink);
	close(rd.fd);
}

/* ---- behind it a relay on the engine user, which knows of no sockmap */

/* Redirected bytes, then TCP's: one recv does not bring both. */
TEST_F(sockmap_others, user_behind_takes_both_kinds)
{
	uint64_t token, behind;
	struct spl *u;
	int x[2];

	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	forward(1000);
	ends(token, SPL_DONE, 0, 1000);
	ASSERT_EQ(0, put(self->r.b, SEED, 1000, 1000));
	EXPECT_EQ(1000, COUNTED(BYTES));
	ASSERT_EQ(0, engine_open(&u, SPL_ENGINE_USER));
	ASSERT_EQ(0, tcp_pair(variant->net, false, x));
	begun(spl_splice(u, self->r.s, x[0], NULL, &behind));
	self->r.s = -1;
	EXPECT_EQ(0, take(x[1], SEED, 0, 2000));
	spl_close(u);
	close(x[1]);
}

/* In bulk it splices, and splice(2) sees nothing of what is redirected. */
TEST_F_TIMEOUT(sockmap_others, user_behind_splices, 60)
{
	struct stream tx = { .fd = self->r.b, .seed = SEED, .len = 8 * MB, .chunk = 200000 };
	uint64_t token, behind, pos = 8 * MB;
	struct spl *u;
	int x[2], i;

	ASSERT_EQ(0, engine_open(&u, SPL_ENGINE_USER));
	ASSERT_EQ(0, tcp_pair(variant->net, false, x));
	begun(spl_splice(u, self->r.s, x[0], NULL, &behind));
	self->r.s = -1;
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, take(x[1], SEED, 0, tx.len));
	ASSERT_EQ(0, stream_join(&tx));
	for (i = 0; i < 20; i++, pos += 5000) {
		ASSERT_EQ(0, put(self->r.c, SEED, pos, 5000));
		forward(5000);
		ends(token, SPL_DONE, 0, 5000);
		ASSERT_EQ(0, take(x[1], SEED, pos, 5000));
	}
	EXPECT_LT(0, COUNTED(BYTES));
	spl_close(u);
	close(x[1]);
}

/* ---- processes */

/* Each relays connections of the cgroup, whoever has learned them. */
TEST_F(sockmap_others, two_processes_on_a_cgroup)
{
	char byte = 'g';

	ASSERT_EQ(1, write(self->control[0], &byte, 1));
	ASSERT_EQ(1, read(self->control[0], &byte, 1));
	EXPECT_EQ(0, exchange(self->s, &self->r));
	EXPECT_EQ(170000, COUNTED(BYTES));
	relay_close(&self->r);
	ASSERT_EQ(1, write(self->control[0], &byte, 1));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	EXPECT_EQ(0, exchange(self->s, &self->r));
}

/* Its copy of everything goes with it. */
TEST_F(sockmap_others, a_child_ends)
{
	pid_t child;
	uint64_t token;

	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	child = fork();
	if (!child)
		_exit(0);
	ASSERT_EQ(0, reap(child));
	ASSERT_EQ(0, put(self->r.c, SEED, 50000, 50000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 100000));
	EXPECT_EQ(100000, COUNTED(BYTES));
}

/* ---- which engine, which sockets */

/* In local mode it is no gain. */
TEST_F(sockmap_others, auto_takes_it_for_the_bypass)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .cgroup = cgroup_path(), .flags = SPL_OPEN_BYPASS };
	struct spl *s;

	if (getenv("SPL_ENGINE") || !access("/sys/module/sksplice", F_OK))
		SKIP(return, "another engine comes first here");
	ASSERT_EQ(0, spl_open(&s, &opts));
	EXPECT_EQ(SPL_ENGINE_SOCKMAP, spl_engine(s));
	spl_close(s);
	opts.flags = 0;
	ASSERT_EQ(0, spl_open(&s, &opts));
	EXPECT_EQ(SPL_ENGINE_USER, spl_engine(s));
	spl_close(s);
	opts.cgroup = NULL;
	opts.flags = SPL_OPEN_BYPASS;
	ASSERT_EQ(0, spl_open(&s, &opts));
	EXPECT_EQ(SPL_ENGINE_USER, spl_engine(s));
	spl_close(s);
}

/* Of the connections to two listening sockets those to the one whose port is named are learned, at both ends. */
TEST_F(sockmap_others, ports_that_are_served)
{
	int listeners[2], fds[2], i;
	struct sockaddr_storage at[2];
	socklen_t len[2];
	char ports[32];
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = variant->engine, .cgroup = cgroup_path(), .ports = ports };

	for (i = 0; i < 2; i++)
		listeners[i] = tcp_listen(AF_INET, &at[i], &len[i]);
	i = ntohs(((struct sockaddr_in *)&at[0])->sin_port);
	snprintf(ports, sizeof(ports), "1,%d-%d", i, i);
	spl_close(self->s);
	ASSERT_EQ(0, spl_open(&self->s, &opts));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(LOCAL_COUNTS, spl_sockmap_counts(self->before, LOCAL_COUNTS));
		fds[0] = socket(AF_INET, SOCK_STREAM, 0);
		ASSERT_EQ(0, connect(fds[0], (struct sockaddr *)&at[i], len[i]));
		fds[1] = accept(listeners[i], NULL, NULL);
		ASSERT_LE(0, fds[1]);
		EXPECT_EQ(i ? 0 : 2, COUNTED(LEARNED));
		close(fds[0]);
		close(fds[1]);
		close(listeners[i]);
	}
}

TEST_F(sockmap_others, ports_that_are_none)
{
	static const char *const wrong[] = { "", "0", "65536", "80,", "80-", "90-80", ",80", "http", "80 81", "-80" };
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = variant->engine, .cgroup = cgroup_path() };
	struct spl *s;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		opts.ports = wrong[i];
		EXPECT_EQ(-EINVAL, spl_open(&s, &opts));
	}
}

SUITE_MAIN
