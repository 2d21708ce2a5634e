// SPDX-License-Identifier: GPL-2.0
/*
 * pipes.c: pipes and FIFOs as ends, without a thread that drives the context: what blocks in the library blocks
 * the test. And SIGPIPE, which no call may let the program see.
 */
#include "harness.h"

#include <sys/stat.h>

#define SEED 1

FIXTURE(pipes) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct spl_event ev;
};

FIXTURE_VARIANT(pipes) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

USER_PIPES(pipes);
VARIANT(pipes, user_pipe_lossless, .engine = SPL_ENGINE_USER, .net = NET_PIPE,
	.require = SPL_CAP_LOSSLESS);
VARIANT(pipes, user_v4, .engine = SPL_ENGINE_USER, .net = NET_V4);
VARIANT(pipes, user_unix, .engine = SPL_ENGINE_USER, .net = NET_UNIX);

static volatile sig_atomic_t sigpipes;

static void on_sigpipe(int sig)
{
	sigpipes++;
}

FIXTURE_SETUP(pipes)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = variant->engine,
				      .require = variant->require };

	ASSERT_EQ(0, spl_open(&self->s, &opts));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	signal(SIGPIPE, on_sigpipe);
}

static bool sigpipe_pending(void)
{
	sigset_t set;

	return sigpending(&set) || sigismember(&set, SIGPIPE);
}

static bool sigpipe_blocked(void)
{
	sigset_t set;

	return pthread_sigmask(SIG_BLOCK, NULL, &set) || sigismember(&set, SIGPIPE);
}

FIXTURE_TEARDOWN(pipes)
{
	spl_close(self->s);
	relay_close(&self->r);
	EXPECT_EQ(0, sigpipes);
	EXPECT_EQ(false, sigpipe_pending());
	EXPECT_EQ(false, sigpipe_blocked());
}

/* Runs the context for so long. */
static int work(struct spl *s, int ms)
{
	uint64_t until = now_ms() + ms;
	struct spl_event ev;
	int n = 0;

	while (!n && now_ms() < until)
		n = spl_next(s, &ev, 5);
	return n;
}

/* As take(), while the context works. */
static int take_driven(struct spl *s, int fd, uint64_t seed, uint64_t len)
{
	uint64_t until = now_ms() + WAIT_MS, pos = 0;
	struct spl_event ev;
	int n, err = 0;

	while (pos < len && !err && now_ms() < until) {
		spl_next(s, &ev, 1);
		n = queued(fd);
		if (n <= 0)
			continue;
		n = n < len - pos ? n : len - pos;
		err = take(fd, seed, pos, n);
		pos += n;
	}
	return err ? err : pos < len ? -ETIMEDOUT : 0;
}

#define event()	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev))

/* Every way in which bytes can meet a reader that has gone. */
TEST_F(pipes, forward_to_nobody)
{
	uint64_t pos;
	int n = 0;

	begun(spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, NULL, &self->token));
	close_fd(&self->r.s);
	/* of TCP the answer to the first bytes is what tells */
	for (pos = 0; !n && pos < 100; pos++) {
		ASSERT_EQ(0, put(self->r.c, SEED, pos, 1));
		n = spl_next(self->s, &self->ev, 10);
	}
	ASSERT_EQ(1, n);
	EXPECT_EQ(SPL_SINK_FAILED, self->ev.cause);
	EXPECT_TRUE(self->ev.error == EPIPE || self->ev.error == ECONNRESET);
}

TEST_F(pipes, nobody_from_the_start)
{
	int err;

	close_fd(&self->r.s);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, wait_queued(self->r.a, 1000));
	err = spl_forward(self->s, self->r.a, self->r.b, 1000, NULL, &self->token);
	if (!err)
		event();
	EXPECT_TRUE(!err || err == -EPIPE || err == -ENOTCONN) {
		TH_LOG("%d", err);
	}
	err = spl_send(self->s, self->r.b, "x", 1, NULL, &self->token);
	if (!err)
		event();
	EXPECT_GE(1, spl_writeable(self->s, self->r.b));
}

/* In bulk, when the bytes are in a pipe of the engine's own. */
TEST_F_TIMEOUT(pipes, bulk_to_nobody, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	struct spl_stat st = { 0 };
	uint64_t pos = 0;
	int err;

	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, stream_send(&tx));
	while (pos < 3000000) {
		ASSERT_EQ(0, spl_next(self->s, &self->ev, 1));
		if (queued(self->r.s) > 0) {
			size_t n = queued(self->r.s);

			ASSERT_EQ(0, take(self->r.s, SEED, pos, n));
			pos += n;
		}
	}
	ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
	close_fd(&self->r.s);
	event();
	EXPECT_EQ(SPL_SINK_FAILED, self->ev.cause);
	EXPECT_LE(st.bytes, self->ev.bytes);
	/* what was taken and not accepted is not lost for counting */
	EXPECT_LE(0, take_residue(self->s, self->token, SEED, self->ev.bytes));
	err = stream_join(&tx);
	EXPECT_TRUE(err == -EPIPE || err == -ECONNRESET);
}

/* One that the program had blocked and pending stays. */
TEST_F(pipes, pending_stays)
{
	sigset_t set, before;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	ASSERT_EQ(0, pthread_sigmask(SIG_BLOCK, &set, &before));
	raise(SIGPIPE);
	ASSERT_EQ(true, sigpipe_pending());
	close_fd(&self->r.s);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	if (!spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, NULL, &self->token))
		work(self->s, 50);
	EXPECT_EQ(true, sigpipe_pending());
	EXPECT_EQ(true, sigpipe_blocked());
	ASSERT_EQ(0, sigwait(&set, &sig));
	EXPECT_EQ(false, sigpipe_pending());
	ASSERT_EQ(0, pthread_sigmask(SIG_SETMASK, &before, NULL));
}

/* A sink that is full, a source that is empty, both without O_NONBLOCK: no call waits. */
TEST_F_TIMEOUT(pipes, never_blocks, 30)
{
	struct spl_event ev;
	int64_t before;
	uint64_t began;

	ASSERT_EQ(0, fcntl(self->r.a, F_GETFL) & O_NONBLOCK);
	ASSERT_EQ(0, fcntl(self->r.b, F_GETFL) & O_NONBLOCK);
	began = now_ms();
	begun(spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, NULL, &self->token));
	ASSERT_EQ(0, spl_next(self->s, &ev, 0));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	event();
	EXPECT_EQ(0, fcntl(self->r.a, F_GETFL) & O_NONBLOCK);
	EXPECT_EQ(0, fcntl(self->r.b, F_GETFL) & O_NONBLOCK);
	before = stuff(self->r.b, SEED + 1);
	ASSERT_LT(0, before);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 60000));
	began = now_ms();
	begun(spl_forward(self->s, self->r.a, self->r.b, 60000, NULL, &self->token));
	ASSERT_EQ(0, spl_next(self->s, &ev, 0));
	ASSERT_EQ(0, spl_next(self->s, &ev, 100));
	EXPECT_GT(2000, now_ms() - began);
	EXPECT_EQ(0, take(self->r.s, SEED + 1, 0, before));
	EXPECT_EQ(0, take_driven(self->s, self->r.s, SEED, 60000));
	work(self->s, 50);
	EXPECT_EQ(0, fcntl(self->r.a, F_GETFL) & O_NONBLOCK);
	EXPECT_EQ(0, fcntl(self->r.b, F_GETFL) & O_NONBLOCK);
}

/* The writer closes: the end of the stream; and ours, when the splice is over, is that of the reader. */
TEST_F(pipes, end_of_a_splice)
{
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5000));
	ASSERT_EQ(0, fin(&self->r.c));
	event();
	EXPECT_EQ(SPL_EOF, self->ev.cause);
	EXPECT_EQ(5000, take_rest(self->r.s, SEED, 0));
}

#define refused(source, sink, err)							\
	do {										\
		EXPECT_EQ(-(err), spl_forward(self->s, source, sink, 1, NULL, &self->token)); \
		EXPECT_EQ(-(err), spl_splice(self->s, source, sink, NULL, &self->token)); \
		EXPECT_LT(0, strlen(spl_strerror_last(self->s)));			\
		EXPECT_EQ(true, fd_open(source) && fd_open(sink));			\
	} while (0)

TEST_F(pipes, wrong_way_round)
{
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	refused(fds[1], self->r.b, ENOTSOCK);
	refused(self->r.a, fds[0], ENOTSOCK);
	EXPECT_EQ(-ENOTSOCK, spl_splice_pair(self->s, fds[0], self->r.b, NULL, &self->token));
	EXPECT_EQ(-ENOTSOCK, spl_splice_pair(self->s, self->r.a, fds[1], NULL, &self->token));
	close(fds[0]);
	close(fds[1]);
}

TEST_F(pipes, loop)
{
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	refused(fds[0], fds[1], ELOOP);
	close(fds[0]);
	close(fds[1]);
}

/* Packets are no stream. (The end they are read from does not say that it is one.) */
TEST_F(pipes, packets)
{
	int fds[2];

	ASSERT_EQ(0, pipe2(fds, O_DIRECT));
	refused(self->r.a, fds[1], EPROTONOSUPPORT);
	close(fds[0]);
	close(fds[1]);
}

/* From one flow into a pipe, from the pipe into another: its two ends are two ends. */
TEST_F(pipes, in_a_row)
{
	struct relay more;
	uint64_t second;
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(0, relay_open(&more, variant->net));
	begun(spl_forward(self->s, self->r.a, fds[1], 5000, NULL, &self->token));
	begun(spl_forward(self->s, fds[0], more.b, 5000, NULL, &second));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5000));
	event();
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	ASSERT_EQ(0, event_of(self->s, second, &self->ev));
	EXPECT_EQ(5000, self->ev.bytes);
	EXPECT_EQ(0, take(more.s, SEED, 0, 5000));
	relay_close(&more);
	close(fds[0]);
	close(fds[1]);
}

/* A FIFO opened for both can be both, at the same time. */
TEST_F_TIMEOUT(pipes, fifo, 30)
{
	char name[] = "/tmp/fifo.XXXXXX";
	uint64_t second;
	int fifo, i;

	ASSERT_NE(NULL, mkdtemp(name));
	ASSERT_EQ(0, chdir(name));
	ASSERT_EQ(0, mkfifo("fifo", 0600));
	fifo = open("fifo", O_RDWR);
	unlink("fifo");
	rmdir(name);
	ASSERT_LE(0, fifo);
	begun(spl_forward(self->s, fifo, self->r.b, SPL_ALL, NULL, &self->token));
	begun(spl_forward(self->s, self->r.a, fifo, SPL_ALL, NULL, &second));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 3000));
	EXPECT_EQ(0, take_driven(self->s, self->r.s, SEED, 3000));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	event();
	/* nobody empties it any more: full, the other half must not block */
	ASSERT_EQ(0, fcntl(self->r.c, F_SETFL, O_NONBLOCK));
	for (i = 0; i < 40; i++) {
		static char zero[65536];

		if (write(self->r.c, zero, sizeof(zero)) < 0)
			EXPECT_EQ(EAGAIN, errno);
		ASSERT_EQ(0, spl_next(self->s, &self->ev, 1));
	}
	ASSERT_EQ(0, spl_cancel(self->s, second));
	EXPECT_EQ(0, fcntl(fifo, F_GETFL) & O_NONBLOCK);
	close(fifo);
}

/* The flag is one of the description, which others may have too: it is as before for them. */
TEST_F(pipes, description_of_others)
{
	int source = dup(self->r.a), sink = dup(self->r.b);

	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, fin(&self->r.c));
	event();
	EXPECT_EQ(0, fcntl(source, F_GETFL) & O_NONBLOCK);
	EXPECT_EQ(0, fcntl(sink, F_GETFL) & O_NONBLOCK);
	close(source);
	close(sink);
}

SUITE_MAIN
