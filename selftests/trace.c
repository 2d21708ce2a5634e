// SPDX-License-Identifier: GPL-2.0
/*
 * trace.c: the ends come back as they were given, whatever stood on them; and what stood on them holds
 * nothing up meanwhile.
 */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(trace) {
	struct spl *s;
	struct relay r;
	uint64_t token;
};

FIXTURE_VARIANT(trace) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(trace);
USER_SOCKETS(trace);
USER_LOSSLESS(trace);
USER_TLS(trace);

FIXTURE_SETUP(trace)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(trace)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* What the ends are set to; -1: not known to this kind of socket. */
struct marks { int nonblock[2], nodelay, cork, lowat, linger, linger_on, peek_off, sndbuf; };

static struct marks marks_of(const struct relay *r)
{
	struct linger lin = { 0 };
	socklen_t len = sizeof(lin);
	bool tcp = is_tcp(r->b);

	getsockopt(r->b, SOL_SOCKET, SO_LINGER, &lin, &len);
	return (struct marks){
		.nonblock = { fcntl(r->a, F_GETFL) & O_NONBLOCK, fcntl(r->b, F_GETFL) & O_NONBLOCK },
		.nodelay = tcp ? get_opt(r->b, IPPROTO_TCP, TCP_NODELAY) : -1,
		.cork = tcp ? get_opt(r->b, IPPROTO_TCP, TCP_CORK) : -1,
		.lowat = get_opt(r->a, SOL_SOCKET, SO_RCVLOWAT),
		.linger_on = lin.l_onoff,
		.linger = lin.l_linger,
		.peek_off = get_opt(r->a, SOL_SOCKET, SO_PEEK_OFF),
		.sndbuf = get_opt(r->b, SOL_SOCKET, SO_SNDBUF),
	};
}

static int set_marks(const struct relay *r, bool on)
{
	struct linger lin = { .l_onoff = on, .l_linger = on ? 7 : 0 };
	int err = fcntl(r->a, F_SETFL, on ? O_NONBLOCK : 0) | fcntl(r->b, F_SETFL, on ? O_NONBLOCK : 0);

	if (is_tcp(r->b)) {
		err |= set_opt(r->b, IPPROTO_TCP, TCP_NODELAY, !on);
		err |= set_opt(r->b, IPPROTO_TCP, TCP_CORK, on);
	}
	err |= set_opt(r->a, SOL_SOCKET, SO_RCVLOWAT, on ? 37 : 1);
	return err | setsockopt(r->b, SOL_SOCKET, SO_LINGER, &lin, sizeof(lin));
}

/* None of them may hold a byte back; a cork would for 200 ms, a low-water mark for ever. */
#define flows_at_once()									\
	do {										\
		uint64_t __began, __best = WAIT_MS, __pos;				\
		for (__pos = 0; __pos < 3; __pos++) {					\
			__began = now_ms();						\
			ASSERT_EQ(0, put(self->r.c, SEED, __pos, 1));			\
			ASSERT_EQ(0, take(self->r.s, SEED, __pos, 1));			\
			__best = __best < now_ms() - __began ? __best : now_ms() - __began; \
		}									\
		EXPECT_GT(100, __best);							\
	} while (0)

#define as_before(before)								\
	do {										\
		struct marks __now = marks_of(&self->r);				\
		EXPECT_EQ(0, memcmp(&(before), &__now, sizeof(__now))) {		\
			TH_LOG("O_NONBLOCK %x %x nodelay %d cork %d lowat %d linger %d %d peek-off %d", \
			       __now.nonblock[0], __now.nonblock[1], __now.nodelay,	\
			       __now.cork, __now.lowat, __now.linger_on, __now.linger,	\
			       __now.peek_off);						\
		}									\
	} while (0)

#define stop()										\
	do {										\
		ASSERT_EQ(0, spl_cancel(self->s, self->token));				\
		ends(self->token, SPL_CANCELED, 0, 3);					\
	} while (0)

TEST_F(trace, of_a_forward)
{
	struct marks before;
	int on;

	for (on = 0; on < 2; on++) {
		ASSERT_EQ(0, set_marks(&self->r, on));
		before = marks_of(&self->r);
		begun(spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, NULL, &self->token));
		flows_at_once();
		stop();
		as_before(before);
	}
}

TEST_F(trace, of_a_kept_pair)
{
	struct marks before;
	int on;

	for (on = 0; on < 2; on++) {
		ASSERT_EQ(0, set_marks(&self->r, on));
		before = marks_of(&self->r);
		begun(spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(.flags = SPL_F_KEEP),
				      &self->token));
		flows_at_once();
		stop();
		as_before(before);
	}
}

TEST_F(trace, of_a_reclaimed_pair)
{
	struct marks before;
	int on, fds[2];

	for (on = 0; on < 2; on++) {
		ASSERT_EQ(0, set_marks(&self->r, on));
		before = marks_of(&self->r);
		begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
		flows_at_once();
		ASSERT_EQ(0, spl_reclaim(self->s, self->token, fds));
		self->r.a = fds[0];
		self->r.b = fds[1];
		as_before(before);
	}
}

/* Bulk is moved in another way than a few bytes are. */
TEST_F_TIMEOUT(trace, of_bulk, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	struct marks before;
	unsigned int i, len = bulk(variant->net, 4000000);

	ASSERT_EQ(0, stream_send(&tx));
	for (i = 0; i < 2; i++) {
		uint64_t pos = (uint64_t)i * len;

		ASSERT_EQ(0, fcntl(self->r.a, F_SETFL, i ? O_NONBLOCK : 0));
		ASSERT_EQ(0, fcntl(self->r.b, F_SETFL, i ? O_NONBLOCK : 0));
		before = marks_of(&self->r);
		before.sndbuf = 0;
		begun(spl_forward(self->s, self->r.a, self->r.b, len, NULL, &self->token));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, len));
		ends(self->token, SPL_DONE, 0, len);
		/* the size of the buffer is the kernel's own doing */
		before.sndbuf = get_opt(self->r.b, SOL_SOCKET, SO_SNDBUF);
		as_before(before);
	}
	tx.stop = true;
	EXPECT_EQ(0, stream_join(&tx));
}

/* Also when the other half of the socket has still work to do. */
TEST_F(trace, of_one_half)
{
	struct marks before = marks_of(&self->r);
	uint64_t back;

	begun(spl_forward(self->s, self->r.b, self->r.a, SPL_ALL, NULL, &back));
	begun(spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, NULL, &self->token));
	flows_at_once();
	stop();
	ASSERT_EQ(0, spl_cancel(self->s, back));
	ends(back, SPL_CANCELED, 0, 0);
	as_before(before);
}

/* Where recv(MSG_PEEK) looks is not where the stream begins. */
NEEDS(trace, peek_offset, NEEDS_USER | NEEDS_PLAIN);
TEST_F(trace, peek_offset)
{
	char look[8];

	if (set_opt(self->r.a, SOL_SOCKET, SO_PEEK_OFF, 0))
		SKIP(return, "no SO_PEEK_OFF on this kind of socket: %s", strerror(errno));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 20));
	ASSERT_EQ(0, wait_queued(self->r.a, 20));
	ASSERT_EQ(4, recv(self->r.a, look, 4, MSG_PEEK));
	begun(spl_forward(self->s, self->r.a, self->r.b, 10, NULL, &self->token));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10));
	ends(self->token, SPL_DONE, 0, 10);
	EXPECT_LE(0, get_opt(self->r.a, SOL_SOCKET, SO_PEEK_OFF));
	EXPECT_EQ(0, take(self->r.a, SEED, 10, 10));
}

/* A reset is the caller's to see, too, after an operation that had no more to read. */
NEEDS(trace, error_of_the_source, NEEDS_TCP_CLIENT | NEEDS_USER);
TEST_F(trace, error_of_the_source)
{
	char byte;

	begun(spl_forward(self->s, self->r.a, self->r.b, 10, NULL, &self->token));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ends(self->token, SPL_DONE, 0, 10);
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	poll_fd(self->r.a, POLLIN, WAIT_MS);
	EXPECT_EQ(-1, recv(self->r.a, &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ(ECONNRESET, errno);
}

/* SO_LINGER is about the caller's close(), not about ours: nothing here waits for a peer that does not read. */
static int lingering(const struct relay *r)
{
	struct linger lin = { .l_onoff = 1, .l_linger = 5 };
	int64_t n = stuff(r->b, BACK);

	return n < 0 ? n : setsockopt(r->b, SOL_SOCKET, SO_LINGER, &lin, sizeof(lin)) ? -errno : 0;
}

TEST_F(trace, linger_of_what_was_given)
{
	uint64_t began;

	ASSERT_EQ(0, lingering(&self->r));
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	began = now_ms();
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ends(self->token, SPL_CANCELED, 0, 0);
	EXPECT_GT(2000, now_ms() - began);
}

/* The caller has closed what it lent: the last reference is ours. */
TEST_F(trace, linger_of_what_was_lent)
{
	uint64_t began;

	ASSERT_EQ(0, lingering(&self->r));
	begun(spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, NULL, &self->token));
	/* not the last reference: this close() does not linger */
	close_fd(&self->r.a);
	close_fd(&self->r.b);
	began = now_ms();
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ends(self->token, SPL_CANCELED, 0, 0);
	EXPECT_GT(2000, now_ms() - began);
}

SUITE_MAIN
