// SPDX-License-Identifier: GPL-2.0
/*
 * connecting.c: SPL_F_CONNECTING: a sink that is not connected yet. The first SYN of each is dropped, as the listener's
 * queue is full; the second one, after a second, gets the answer.
 */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(connecting) {
	struct spl *s;
	struct relay r;		/* b and s are not used */
	uint64_t token;
	struct spl_event ev;
	int sink, listening;
};

FIXTURE_VARIANT(connecting) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

VARIANT(connecting, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);
VARIANT(connecting, kmod_v6, .engine = SPL_ENGINE_KMOD, .net = NET_V6);
VARIANT(connecting, kmod_unix2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX_TO_TCP);
VARIANT(connecting, kmod_tls2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_TLS_TO_TCP);
SOCKMAP_SOCKETS(connecting);
VARIANT(connecting, user_v4, .engine = SPL_ENGINE_USER, .net = NET_V4);
VARIANT(connecting, user_v6, .engine = SPL_ENGINE_USER, .net = NET_V6);
VARIANT(connecting, user_unix2tcp, .engine = SPL_ENGINE_USER, .net = NET_UNIX_TO_TCP);
VARIANT(connecting, user_tls2tcp, .engine = SPL_ENGINE_USER, .net = NET_TLS_TO_TCP);
VARIANT(connecting, user_v4_lossless, .engine = SPL_ENGINE_USER, .net = NET_V4, .require = SPL_CAP_LOSSLESS);

FIXTURE_SETUP(connecting)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	self->sink = tcp_connecting(variant->net == NET_V6 ? AF_INET6 : AF_INET, &self->listening);
	ASSERT_LE(0, self->sink);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1001));
	ASSERT_EQ(0, wait_queued(self->r.a, 1001));
}

FIXTURE_TEARDOWN(connecting)
{
	spl_close(self->s);
	relay_close(&self->r);
	close_fd(&self->sink);
	close_fd(&self->listening);
}

#define forward(n, ...)									\
	begun(spl_forward(self->s, self->r.a, self->sink, n,				\
			  OPTS(.flags = SPL_F_CONNECTING, ##__VA_ARGS__), &self->token))

#define event()	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev))

/* Room in the queue: takes those who are there, and returns the one that was still to come. */
static int let_in(int listening, int sink)
{
	uint64_t until = now_ms() + WAIT_MS;
	struct sockaddr_storage own, peer;
	socklen_t own_len, peer_len;
	int fd;

	while (now_ms() < until) {
		if (poll_fd(listening, POLLIN, 100) <= 0)
			continue;
		peer_len = sizeof(peer);
		own_len = sizeof(own);
		fd = accept4(listening, (void *)&peer, &peer_len, SOCK_CLOEXEC);
		if (fd < 0 || getsockname(sink, (void *)&own, &own_len))
			return -errno;
		if (own_len == peer_len && !memcmp(&own, &peer, own_len))
			return fd;
		close(fd);
	}
	return -ETIMEDOUT;
}

TEST_F(connecting, starts_when_connected)
{
	struct spl_stat st;

	forward(1000, .prefix = "PROXY", .prefix_len = 5);
	ASSERT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
	EXPECT_EQ(0, st.bytes);
	EXPECT_EQ(SPL_WANTS_WRITE, st.wants);
	/* of TLS it is the encrypted bytes while nobody may look */
	EXPECT_LE(1001, queued(self->r.a));
	self->r.s = let_in(self->listening, self->sink);
	ASSERT_LE(0, self->r.s);
	EXPECT_EQ(0, take_bytes(self->r.s, "PROXY", 5));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	event();
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	EXPECT_EQ(1000, self->ev.bytes);
	EXPECT_EQ(0, take(self->r.a, SEED, 1000, 1));
}

/* Refused: the source is as it was, and the next upstream gets it all. */
TEST_F(connecting, refused)
{
	forward(1000, .prefix = "PROXY", .prefix_len = 5);
	close_fd(&self->listening);
	event();
	EXPECT_EQ(SPL_SINK_FAILED, self->ev.cause);
	EXPECT_EQ(ECONNREFUSED, self->ev.error);
	EXPECT_EQ(0, self->ev.bytes);
	EXPECT_EQ(SPL_END_SINK, self->ev.ended);
	EXPECT_EQ(0, take_residue(self->s, self->token, SEED, 0));
	EXPECT_EQ(1001, queued(self->r.a));
	begun(spl_forward(self->s, self->r.a, self->r.b, 1000,
			  OPTS(.prefix = "PROXY", .prefix_len = 5), &self->token));
	EXPECT_EQ(0, take_bytes(self->r.s, "PROXY", 5));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	event();
	EXPECT_EQ(0, take(self->r.a, SEED, 1000, 1));
}

/* Of a kept pair too: the client knows nothing of it. */
TEST_F(connecting, pair_refused)
{
	begun(spl_splice_pair(self->s, self->r.a, self->sink,
			      OPTS(.flags = SPL_F_CONNECTING | SPL_F_KEEP), &self->token));
	close_fd(&self->listening);
	event();
	EXPECT_EQ(SPL_SINK_FAILED, self->ev.cause);
	EXPECT_EQ(ECONNREFUSED, self->ev.error);
	EXPECT_EQ(0, self->ev.bytes);
	EXPECT_EQ(1001, queued(self->r.a));
	EXPECT_EQ(0, at_quiet(self->r.c));
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 1001));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
}

TEST_F(connecting, pair)
{
	begun(spl_splice_pair(self->s, self->r.a, self->sink, OPTS(.flags = SPL_F_CONNECTING),
			      &self->token));
	self->r.a = self->sink = -1;
	ASSERT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, at_quiet(self->r.c));
	/* which of them is ours the bytes tell; the others close without one */
	while (self->r.s < 0 || poll_fd(self->r.s, POLLIN, 0) <= 0 || queued(self->r.s) <= 0) {
		ASSERT_LT(0, poll_fd(self->listening, POLLIN, WAIT_MS));
		close_fd(&self->r.s);
		self->r.s = accept(self->listening, NULL, NULL);
		ASSERT_LE(0, self->r.s);
		poll_fd(self->r.s, POLLIN, 5000);
	}
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1001));
	EXPECT_EQ(0, alive(self->r.s, self->r.c));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(0, fin(&self->r.s));
	event();
	EXPECT_EQ(SPL_EOF, self->ev.cause);
	EXPECT_EQ(1002, self->ev.bytes);
}

/* The client does not wait for ever. */
TEST_F(connecting, idle)
{
	forward(1000, .idle_ms = 200);
	event();
	EXPECT_EQ(SPL_IDLE, self->ev.cause);
	EXPECT_EQ(0, self->ev.bytes);
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 1001));
}

TEST_F(connecting, cancelled)
{
	forward(1000);
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	event();
	EXPECT_EQ(SPL_CANCELED, self->ev.cause);
	EXPECT_EQ(0, self->ev.ended);
	EXPECT_EQ(0, self->ev.unacked);
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 1001));
	/* the connect is the caller's again, and goes on */
	self->r.s = let_in(self->listening, self->sink);
	ASSERT_LE(0, self->r.s);
	EXPECT_EQ(0, alive(self->sink, self->r.s));
}

/* The half that is free has a call which gives the connect up: that is a failure like others. */
NEEDS(connecting, given_up, NEEDS_KMOD);
TEST_F(connecting, given_up)
{
	forward(1000, .prefix = "PROXY", .prefix_len = 5);
	shutdown(self->sink, SHUT_RD);
	event();
	EXPECT_EQ(SPL_SINK_FAILED, self->ev.cause);
	EXPECT_EQ(ECONNRESET, self->ev.error);
	EXPECT_EQ(0, self->ev.bytes);
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 1001));
}

/* The client has gone before the server came. */
/* The client may go before there is a server for it. */
NEEDS(connecting, source_resets, NEEDS_TCP_CLIENT);
TEST_F(connecting, source_resets)
{
	begun(spl_splice_pair(self->s, self->r.a, self->sink, OPTS(.flags = SPL_F_CONNECTING),
			      &self->token));
	self->r.a = self->sink = -1;
	ASSERT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	event();
	EXPECT_EQ(SPL_SOURCE_FAILED, self->ev.cause);
	EXPECT_EQ(ECONNRESET, self->ev.error);
	EXPECT_EQ(0, self->ev.bytes);
}

TEST_F(connecting, source_at_its_end)
{
	ASSERT_EQ(0, fin(&self->r.c));
	begun(spl_forward(self->s, self->r.a, self->sink, SPL_ALL,
			  OPTS(.flags = SPL_F_CONNECTING | SPL_F_SHUTDOWN), &self->token));
	ASSERT_EQ(0, no_event(self->s));
	self->r.s = let_in(self->listening, self->sink);
	ASSERT_LE(0, self->r.s);
	EXPECT_EQ(1001, take_rest(self->r.s, SEED, 0));
	event();
	EXPECT_EQ(SPL_EOF, self->ev.cause);
}

TEST_F(connecting, send)
{
	begun(spl_send(self->s, self->sink, "hello", 5, OPTS(.flags = SPL_F_CONNECTING),
		       &self->token));
	ASSERT_EQ(0, no_event(self->s));
	self->r.s = let_in(self->listening, self->sink);
	ASSERT_LE(0, self->r.s);
	EXPECT_EQ(0, take_bytes(self->r.s, "hello", 5));
	event();
	EXPECT_EQ(SPL_DONE, self->ev.cause);
}

/* It may be, it need not. */
TEST_F(connecting, is_connected)
{
	begun(spl_forward(self->s, self->r.a, self->r.b, 1000, OPTS(.flags = SPL_F_CONNECTING),
			  &self->token));
	event();
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
}

/* It excuses a sink that was begun, not one that was never. */
TEST_F(connecting, never_begun)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	EXPECT_EQ(-ENOTCONN, spl_forward(self->s, self->r.a, fd, 1000,
					 OPTS(.flags = SPL_F_CONNECTING), &self->token));
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 1001));
	close(fd);
}

SUITE_MAIN
