// SPDX-License-Identifier: GPL-2.0
/* borrow.c: the two ends that a forward borrows: which, how many, what becomes of them. */
#include "harness.h"

#define SEED 1

FIXTURE(borrow) {
	struct spl *s;
	struct relay r;
};

FIXTURE_VARIANT(borrow) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(borrow);
USER_SOCKETS(borrow);
USER_PIPES(borrow);
USER_LOSSLESS(borrow);
USER_TLS(borrow);

FIXTURE_SETUP(borrow)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(borrow)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* Starts a forward from a to b. */
#define start(n, opts, token)	\
	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, n, opts, token)) {	\
		TH_LOG("refused: %s", spl_strerror_last(self->s));			\
	}

#define ends_with(token, why, count)					\
	do {								\
		struct spl_event __ev;					\
		ASSERT_EQ(0, event_of(self->s, token, &__ev));		\
		EXPECT_EQ(why, __ev.cause) {				\
			TH_LOG("ended %s", spl_cause_name(__ev.cause));	\
		}							\
		EXPECT_EQ(0, __ev.error);				\
		EXPECT_EQ((uint64_t)(count), __ev.bytes);		\
		EXPECT_EQ(0, __ev.bytes_back);				\
	} while (0)

/* Source and sink may be the two halves of one socket. */
NEEDS(borrow, echo, NEEDS_TWO_WAY);
TEST_F(borrow, echo)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 500000, .chunk = 9000 };
	uint64_t token;

	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.a, 400000, NULL, &token));
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, take(self->r.c, SEED, 0, 400000));
	ends_with(token, SPL_DONE, 400000);
	ASSERT_EQ(0, take(self->r.a, SEED, 400000, 100000));
	ASSERT_EQ(0, stream_join(&tx));
	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.a, SPL_ALL,
				 OPTS(.flags = SPL_F_SHUTDOWN), &token));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 777));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(777, take_rest(self->r.c, SEED, 0));
	ends_with(token, SPL_EOF, 777);
}

/* Many at once, of different length, ended in any order: each event is its own flow's. */
TEST_F_TIMEOUT(borrow, many_at_once, 120)
{
	unsigned int i, count = scaled(60) + 4;
	struct { struct relay r; uint64_t token; size_t n; } f[64];
	uint64_t state = 5;

	for (i = 0; i < count; i++) {
		f[i].n = rnd_size(&state, 30000);
		ASSERT_EQ(0, relay_open(&f[i].r, variant->net));
		ASSERT_EQ(0, spl_forward(self->s, f[i].r.a, f[i].r.b, f[i].n,
					 OPTS(.user_data = i), &f[i].token));
	}
	for (i = 0; i < count; i++) {
		ASSERT_EQ(0, put(f[i].r.c, i, 0, f[i].n + 1));
	}
	for (i = count; i-- > 0; ) {
		struct spl_event ev;

		ASSERT_EQ(0, take(f[i].r.s, i, 0, f[i].n));
		ASSERT_EQ(0, event_of(self->s, f[i].token, &ev));
		EXPECT_EQ(i, ev.user_data);
		EXPECT_EQ(f[i].n, ev.bytes);
		EXPECT_EQ(0, take(f[i].r.a, i, f[i].n, 1));
		relay_close(&f[i].r);
	}
	EXPECT_EQ(0, no_event(self->s));
}

/* Both halves of both sockets, by two forwards at the same time. */
NEEDS(borrow, both_halves, NEEDS_TWO_WAY);
TEST_F(borrow, both_halves)
{
	struct stream tx = { .fd = self->r.c, .seed = 1, .len = 300001 };
	struct stream back = { .fd = self->r.s, .seed = 2, .len = 200002 };
	struct stream rx = { .fd = self->r.s, .seed = 1, .len = 300000 };
	uint64_t there, here;

	start(rx.len, NULL, &there);
	ASSERT_EQ(0, spl_forward(self->s, self->r.b, self->r.a, 200000, NULL, &here));
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_send(&back));
	ASSERT_EQ(0, stream_recv(&rx));
	ASSERT_EQ(0, take(self->r.c, 2, 0, 200000));
	ASSERT_EQ(0, stream_join(&rx));
	ends_with(there, SPL_DONE, 300000);
	ends_with(here, SPL_DONE, 200000);
	EXPECT_EQ(0, take(self->r.a, 1, 300000, 1));
	EXPECT_EQ(0, take(self->r.b, 2, 200000, 2));
	EXPECT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, stream_join(&back));
}

/* The flow holds its own references; the last one gone closes the connection. */
TEST_F(borrow, close_of_borrowed)
{
	uint64_t token;

	start(5000, NULL, &token);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	close_fd(&self->r.a);
	close_fd(&self->r.b);
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 1000));
	EXPECT_EQ(0, at_quiet(self->r.s));
	ASSERT_EQ(0, put(self->r.c, SEED, 1000, 4000));
	ASSERT_EQ(0, take(self->r.s, SEED, 1000, 4000));
	ends_with(token, SPL_DONE, 5000);
	EXPECT_EQ(0, at_eof(self->r.s));
	EXPECT_EQ(0, at_end(self->r.c));
}

/* A dup of a busy end is that busy end, also for another context. */
TEST_F(borrow, dup_is_the_same_end)
{
	int source = dup(self->r.a), sink = dup(self->r.b);
	uint64_t token, none;
	struct spl *other;
	struct relay more;

	ASSERT_EQ(0, engine_open(&other, variant->engine));
	ASSERT_EQ(0, relay_open(&more, variant->net));
	start(10, NULL, &token);
	EXPECT_EQ(-EBUSY, spl_forward(self->s, source, more.b, 1, NULL, &none));
	EXPECT_EQ(-EBUSY, spl_forward(self->s, more.a, sink, 1, NULL, &none));
	EXPECT_EQ(-EBUSY, spl_splice(other, source, more.b, NULL, &none));
	EXPECT_EQ(-EBUSY, spl_splice(other, more.a, sink, NULL, &none));
	EXPECT_EQ(true, fd_open(source) && fd_open(sink));
	EXPECT_EQ(0, alive(more.c, more.a));
	EXPECT_EQ(0, alive(more.b, more.s));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 11));
	ends_with(token, SPL_DONE, 10);
	EXPECT_EQ(0, take(source, SEED, 10, 1));
	ASSERT_EQ(0, spl_forward(other, source, sink, 1, NULL, &token));
	ASSERT_EQ(0, put(self->r.c, SEED, 11, 1));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10));
	EXPECT_EQ(0, take(self->r.s, SEED, 11, 1));
	spl_close(other);
	close(source);
	close(sink);
	relay_close(&more);
}

/* In a child too. */
NEEDS(borrow, dup_refuses_to_read, SPL_CAP_EXCLUSIVE);
TEST_F(borrow, dup_refuses_to_read)
{
	int twin = dup(self->r.a), status;
	uint64_t token;
	char byte;
	pid_t pid;

	start(10, NULL, &token);
	EXPECT_EQ(-1, recv(twin, &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ(EBUSY, errno);
	pid = fork();
	if (!pid)
		_exit(recv(self->r.a, &byte, 1, MSG_DONTWAIT) < 0 && errno == EBUSY ? 0 : 1);
	status = reap(pid);
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 11));
	ends_with(token, SPL_DONE, 10);
	EXPECT_EQ(0, take(twin, SEED, 10, 1));
}

TEST_F(borrow, idle)
{
	uint64_t token, began = now_ms();

	start(SPL_ALL, OPTS(.idle_ms = 300), &token);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5));
	ends_with(token, SPL_IDLE, 5);
	EXPECT_LE(290, now_ms() - began);
	EXPECT_GT(5000, now_ms() - began);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 5));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* What was queued when the source was reset is still delivered; then the failure is told. */
NEEDS(borrow, source_reset, NEEDS_TCP_CLIENT);
TEST_F(borrow, source_reset)
{
	struct spl_event ev;
	uint64_t token;

	start(SPL_ALL, NULL, &token);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 2000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 2000));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_SOURCE_FAILED, ev.cause);
	EXPECT_EQ(ECONNRESET, ev.error);
	EXPECT_EQ(2000, ev.bytes);
	EXPECT_EQ(SPL_END_SOURCE, ev.ended & SPL_END_SOURCE);
	/* a forward propagates nothing unasked */
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

NEEDS(borrow, sink_reset, NEEDS_TCP_SERVER);
TEST_F(borrow, sink_reset)
{
	struct spl_event ev;
	uint64_t token;

	start(SPL_ALL, NULL, &token);
	ASSERT_EQ(0, tcp_reset(&self->r.s));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 2000));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_SINK_FAILED, ev.cause);
	EXPECT_EQ(ECONNRESET, ev.error);
	EXPECT_EQ(SPL_END_SINK, ev.ended & SPL_END_SINK);
	/* what the sink did not accept is still the caller's */
	EXPECT_EQ(0, take_back(self->s, token, self->r.a, SEED, ev.bytes, 2000 - ev.bytes));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
}

/* Nobody is there any more to read: of a pipe, or of a socket in an orderly way. */
TEST_F(borrow, sink_gone)
{
	struct spl_event ev;
	uint64_t token, pos;
	int n = 0;

	start(SPL_ALL, NULL, &token);
	close_fd(&self->r.s);
	for (pos = 0; !n && pos < WAIT_MS; pos++) {
		ASSERT_EQ(0, put(self->r.c, SEED, pos, 1));
		n = spl_wait(self->s, token, &ev, 1);
	}
	ASSERT_EQ(1, n);
	EXPECT_EQ(SPL_SINK_FAILED, ev.cause);
	EXPECT_TRUE(ev.error == EPIPE || ev.error == ECONNRESET) {
		TH_LOG("%s", strerror(ev.error));
	}
	EXPECT_EQ(SPL_END_SINK, ev.ended & SPL_END_SINK);
	EXPECT_EQ(0, take_back(self->s, token, self->r.a, SEED, ev.bytes, pos - ev.bytes));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
}

SUITE_MAIN
