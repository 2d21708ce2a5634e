// SPDX-License-Identifier: GPL-2.0
/* sockmap_mover.c: the engine sockmap without a cgroup: that the kernel moves the bytes, what is refused, and how a splice is left. */
#include "harness.h"
#include "drive.h"

#include <sys/wait.h>

#define SEED 1
#define BACK 2
#define MUCH 300000

static void __attribute__((constructor)) want_root(void)
{
	if (!geteuid())
		return;
	printf("TAP version 13\n1..1\nok 1 all # SKIP wants root\n");
	exit(0);
}

/* Not engine_open(), which has a thread call the library. */
static int open_it(struct spl **s, uint32_t require)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = SPL_ENGINE_SOCKMAP, .require = require };

	return spl_open(s, &opts);
}

FIXTURE(sockmap_mover) {
	struct spl *s;
	struct relay r;
	struct spl_event ev;
	uint64_t token;
};

FIXTURE_SETUP(sockmap_mover)
{
	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
	ASSERT_EQ(0, open_it(&self->s, 0));
}

FIXTURE_TEARDOWN(sockmap_mover)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* Gives a and b away, and lets the splice begin. */
#define give(call, ...)									\
	do {										\
		begun(call(self->s, self->r.a, self->r.b, OPTS(__VA_ARGS__), &self->token)); \
		self->r.a = self->r.b = -1;						\
		ASSERT_EQ(0, spl_next(self->s, &self->ev, 0));				\
	} while (0)

/* Nobody calls the library meanwhile. */
TEST_F(sockmap_mover, the_kernel_moves)
{
	struct spl_stat st;

	give(spl_splice_pair);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 70000));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 50000));
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 70000));
	ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
	EXPECT_EQ(50000, st.bytes);
	EXPECT_EQ(70000, st.bytes_back);
	EXPECT_EQ(SPL_WANTS_READ, st.wants);
	EXPECT_EQ(SPL_ENGINE_SOCKMAP, st.engine);
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, fin(&self->r.s));
	ends(self->token, SPL_EOF, 0, 50000);
}

TEST_F(sockmap_mover, after_a_prefix)
{
	give(spl_splice, .prefix = "head", .prefix_len = 4);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	char head[4];

	ASSERT_EQ(4, recv(self->r.s, head, 4, MSG_WAITALL));
	EXPECT_EQ(0, memcmp(head, "head", 4));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	ASSERT_EQ(0, fin(&self->r.c));
	ends(self->token, SPL_EOF, 0, 1000);
}

/* What is beyond goes with the source; not a byte too many comes to the sink. */
TEST_F(sockmap_mover, a_limit_one_way)
{
	give(spl_splice, .max = MUCH);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10000));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10000));
	ASSERT_EQ(0, put(self->r.c, SEED, 10000, MUCH));
	ends(self->token, SPL_DONE, 0, MUCH);
	EXPECT_EQ(0, take(self->r.s, SEED, 10000, MUCH - 10000));
	EXPECT_EQ(0, at_eof(self->r.s));
}

TEST_F(sockmap_mover, no_limit_both_ways)
{
	int a = dup(self->r.a), b = dup(self->r.b);

	ASSERT_EQ(-EOPNOTSUPP, spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(.max = 10), &self->token));
	EXPECT_NE(NULL, strstr(spl_strerror_last(self->s), "limit"));
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(-EOPNOTSUPP, spl_splice(self->s, b, a, OPTS(.max = 10), &self->token));
	/* a refusal leaves the ends as they were */
	begun(spl_splice(self->s, b, a, NULL, &self->token));
}

TEST_F(sockmap_mover, gives_nothing_back)
{
	struct spl *s;

	ASSERT_EQ(-EOPNOTSUPP, open_it(&s, SPL_CAP_LOSSLESS));
	EXPECT_NE(NULL, strstr(spl_strerror_last(NULL), "give back"));
	EXPECT_EQ(SPL_CAP_EXACT, spl_caps(self->s));
}

/* The sink's peer reads nothing: so much that some of it waits in the kernel. Nobody calls the library, so it stays there. */
#define give_stalled(call)								\
	do {										\
		set_opt(self->r.b, SOL_SOCKET, SO_SNDBUF, 20000);			\
		set_opt(self->r.s, SOL_SOCKET, SO_RCVBUF, 20000);			\
		give(call);								\
		ASSERT_EQ(0, put(self->r.c, SEED, 0, MUCH));				\
		sleep_ms(QUIET_MS);							\
	} while (0)

static int64_t take_until_reset(int fd)
{
	uint64_t pos = 0;
	uint8_t buf[4096];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		if (pattern_check(buf, (size_t)n, SEED, pos))
			return -EILSEQ;
		pos += (uint64_t)n;
	}
	return n < 0 && errno == ECONNRESET ? (int64_t)pos : -EIO;
}

/* The event comes at once, and what it counts comes to the sink. */
TEST_F(sockmap_mover, cancelled_with_bytes_for_a_sink)
{
	give_stalled(spl_splice_pair);
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	EXPECT_EQ(-ENOENT, spl_cancel(self->s, self->token));
	ASSERT_EQ(1, spl_next(self->s, &self->ev, 1000));
	EXPECT_EQ(SPL_CANCELED, self->ev.cause);
	EXPECT_EQ(MUCH, self->ev.bytes);
	EXPECT_LT(100000, self->ev.unacked);
	EXPECT_EQ(-ENOENT, spl_revoke(self->s, self->token, EPERM));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, MUCH));
	EXPECT_EQ(0, spl_next(self->s, &self->ev, 300));
	EXPECT_EQ(0, at_eof(self->r.s));
}

/* The same the other way: b, which is the sink of the event's figures, has nothing that is not acknowledged. */
TEST_F(sockmap_mover, cancelled_with_bytes_for_the_way_back)
{
	set_opt(self->r.a, SOL_SOCKET, SO_SNDBUF, 20000);
	set_opt(self->r.c, SOL_SOCKET, SO_RCVBUF, 20000);
	give(spl_splice_pair);
	ASSERT_EQ(0, put(self->r.s, BACK, 0, MUCH));
	sleep_ms(QUIET_MS);
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ASSERT_EQ(1, spl_next(self->s, &self->ev, 1000));
	EXPECT_EQ(MUCH, self->ev.bytes_back);
	EXPECT_EQ(0, self->ev.unacked);
	EXPECT_EQ(0, take(self->r.c, BACK, 0, MUCH));
	EXPECT_EQ(0, spl_next(self->s, &self->ev, 300));
	EXPECT_EQ(0, at_eof(self->r.c));
}

/* Who leaves before that must not let it look like the end. */
TEST_F(sockmap_mover, closed_with_bytes_for_a_sink)
{
	give_stalled(spl_splice);
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ASSERT_EQ(1, spl_next(self->s, &self->ev, 1000));
	spl_close(self->s);
	self->s = NULL;
	EXPECT_LE(0, take_until_reset(self->r.s));
}

/* By force: what waits for the sink is lost with the connections, and nobody gets it as a residue. */
TEST_F(sockmap_mover, revoked_with_bytes_for_a_sink)
{
	int64_t got;
	char buf[64];

	give_stalled(spl_splice);
	ASSERT_EQ(0, spl_revoke(self->s, self->token, EPERM));
	ASSERT_EQ(1, spl_next(self->s, &self->ev, 1000));
	EXPECT_EQ(SPL_REVOKED, self->ev.cause);
	EXPECT_EQ(EPERM, self->ev.error);
	EXPECT_GT(MUCH - 100000, self->ev.bytes);
	EXPECT_EQ(0, spl_residue(self->s, self->token, buf, sizeof(buf)));
	EXPECT_EQ(0, at_reset(self->r.c));
	got = take_until_reset(self->r.s);
	EXPECT_LE(0, got);
	EXPECT_GE(self->ev.bytes, got);
	EXPECT_LE(self->ev.bytes - self->ev.unacked, got);
}

/* So it is when the source fails. */
TEST_F(sockmap_mover, failed_with_bytes_for_a_sink)
{
	char buf[64];

	give_stalled(spl_splice);
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	ASSERT_EQ(1, spl_next(self->s, &self->ev, 1000));
	EXPECT_EQ(SPL_SOURCE_FAILED, self->ev.cause);
	EXPECT_EQ(ECONNRESET, self->ev.error);
	EXPECT_GT(MUCH - 100000, self->ev.bytes);
	EXPECT_EQ(0, spl_residue(self->s, self->token, buf, sizeof(buf)));
	EXPECT_GE(self->ev.bytes, take_until_reset(self->r.s));
}

/* The same when the kernel has stopped already, and it is the engine that waits for the sink. */
TEST_F(sockmap_mover, failed_behind_a_full_sink)
{
	set_opt(self->r.b, SOL_SOCKET, SO_SNDBUF, 20000);
	set_opt(self->r.s, SOL_SOCKET, SO_RCVBUF, 20000);
	give(spl_splice);
	ASSERT_LT(1 << 20, stuff(self->r.c, SEED));
	ASSERT_EQ(0, spl_next(self->s, &self->ev, 300));
	stuff(self->r.c, SEED);
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	ASSERT_EQ(1, spl_next(self->s, &self->ev, 1000));
	EXPECT_EQ(SPL_SOURCE_FAILED, self->ev.cause);
	EXPECT_EQ(ECONNRESET, self->ev.error);
	EXPECT_LE(0, take_until_reset(self->r.s));
}

/* A reset is no end, whoever has asked the socket for its error first. */
TEST_F(sockmap_mover, failed_behind_urgent_data)
{
	give(spl_splice);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 10));
	ASSERT_EQ(1, send(self->r.c, "!", 1, MSG_OOB));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	ASSERT_EQ(1, spl_next(self->s, &self->ev, 6000));
	EXPECT_EQ(SPL_SOURCE_FAILED, self->ev.cause);
	EXPECT_EQ(ECONNRESET, self->ev.error);
	EXPECT_LE(0, take_until_reset(self->r.s));
}

TEST_F(sockmap_mover, failed_before_a_reclaim)
{
	int fds[2];

	give_stalled(spl_splice);
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	ASSERT_EQ(-EAGAIN, spl_reclaim(self->s, self->token, fds));
	ASSERT_EQ(1, spl_next(self->s, &self->ev, 1000));
	EXPECT_EQ(SPL_SOURCE_FAILED, self->ev.cause);
	EXPECT_EQ(ECONNRESET, self->ev.error);
	EXPECT_LE(0, take_until_reset(self->r.s));
}

/* Its sockets come back when nothing waits for the sink, and are as they were. */
TEST_F(sockmap_mover, reclaimed_with_bytes_for_a_sink)
{
	int fds[2];

	give_stalled(spl_splice_pair);
	ASSERT_EQ(-EAGAIN, spl_reclaim(self->s, self->token, fds));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, MUCH));
	sleep_ms(QUIET_MS);
	ASSERT_EQ(0, spl_reclaim(self->s, self->token, fds));
	self->r.a = fds[0];
	self->r.b = fds[1];
	ends(self->token, SPL_CANCELED, 0, MUCH);
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	EXPECT_EQ(0, alive(self->r.s, self->r.b));
}

/* Nobody tells of urgent data, and the kernel does not read beyond it: the engine finds it. */
TEST_F(sockmap_mover, urgent_data_delays)
{
	give(spl_splice);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 10));
	ASSERT_EQ(1, send(self->r.c, "!", 1, MSG_OOB));
	ASSERT_EQ(0, put(self->r.c, SEED, 10, 10));
	EXPECT_EQ(0, spl_next(self->s, &self->ev, 6000));
	EXPECT_EQ(0, take(self->r.s, SEED, 10, 10));
}

/* The stream is the parent's: what a child does with its copy of the context does not touch it. */
TEST_F(sockmap_mover, a_child_opens_its_own)
{
	struct relay r;
	int status;
	pid_t pid;

	give(spl_splice_pair);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct spl *s;
		uint64_t token;
		int err = relay_open(&r, NET_V4) ?: open_it(&s, 0) ?:
			  spl_splice_pair(s, r.a, r.b, NULL, &token) ?: spl_next(s, &self->ev, 0) ?:
			  put(r.c, SEED, 0, 1000) ?: take(r.s, SEED, 0, 1000);

		spl_close(self->s);
		err = err ?: put(r.s, SEED, 0, 1000) ?: take(r.c, SEED, 0, 1000);
		_exit(err ? 1 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
}

SUITE_MAIN
