// SPDX-License-Identifier: GPL-2.0
/*
 * sosplice.c: subjects of the tests that the BSDs have for their SO_SPLICE and that no other program here is about:
 * who pauses, small buffers, who meddles with a copying end. Documentation/testing.md has the whole list.
 */
#include "harness.h"

#include <sys/mman.h>

#define SEED 1
#define BACK 2
#define LEN 251		/* of a short stream */
#define MAX 113		/* a limit in the middle of it */

FIXTURE(sosplice) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct spl_event ev;
};

FIXTURE_VARIANT(sosplice) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_FEW(sosplice);
SOCKMAP_SOCKETS(sosplice);
VARIANT(sosplice, user_v4, .engine = SPL_ENGINE_USER, .net = NET_V4);
VARIANT(sosplice, user_unix, .engine = SPL_ENGINE_USER, .net = NET_UNIX);
VARIANT(sosplice, user_tcp2unix, .engine = SPL_ENGINE_USER, .net = NET_TCP_TO_UNIX);
USER_LOSSLESS(sosplice);
VARIANT(sosplice, user_tls, .engine = SPL_ENGINE_USER, .net = NET_TLS);

FIXTURE_SETUP(sosplice)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(sosplice)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define lend(call, ...)									\
	begun(call(self->s, self->r.a, self->r.b, OPTS(.flags = SPL_F_KEEP, ##__VA_ARGS__), \
		   &self->token))

#define event()										\
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev))

/* ---- who pauses: the client in front of every byte, the relay before it begins, the server before it reads */

enum who { CLIENT, RELAY, SERVER };

static int client_says(struct relay *r, enum who pauses, uint64_t from, uint64_t to)
{
	int err = 0;

	if (pauses != CLIENT)
		return put(r->c, SEED, from, to - from);
	for (; !err && from < to; from++) {
		err = put(r->c, SEED, from, 1);
		sleep_ms(1);
	}
	return err;
}

/* What the splice has left the relay copies by itself, and says the end. Returns how many bytes. */
static int64_t copy_rest(struct relay *r)
{
	uint8_t buf[1000];
	int64_t count = drain(r->a, buf, sizeof(buf));

	return count < 0 || put_bytes(r->b, buf, count) || fin(&r->b) ? -1 : count;
}

/* A short stream and a limit, and what the limit leaves. */
static void limited(struct __test_metadata *_metadata, struct _test_data_sosplice *self, enum who pauses, uint64_t len)
{
	bool all = len <= MAX;

	if (pauses == RELAY) {
		ASSERT_EQ(0, client_says(&self->r, pauses, 0, len));
		ASSERT_EQ(0, fin(&self->r.c));
		sleep_ms(100);
	}
	lend(spl_splice, .max = MAX);
	if (pauses != RELAY) {
		ASSERT_EQ(0, client_says(&self->r, pauses, 0, len));
		ASSERT_EQ(0, fin(&self->r.c));
	}
	if (pauses != SERVER)
		ASSERT_EQ(0, take(self->r.s, SEED, 0, all ? len : MAX));
	event();
	EXPECT_EQ(all ? len : MAX, self->ev.bytes);
	EXPECT_EQ(0, self->ev.error);
	EXPECT_EQ(all ? SPL_EOF : SPL_DONE, self->ev.cause);
	/* an end that came with byte MAX or before has gone to the server already */
	EXPECT_EQ(all ? 0 : len - MAX, copy_rest(&self->r));
	EXPECT_EQ(pauses == SERVER ? len : all ? 0 : len - MAX,
		  take_rest(self->r.s, SEED, pauses == SERVER ? 0 : all ? len : MAX));
}

#define LIMITED(name, who, len)								\
	TEST_F(sosplice, name)								\
	{										\
		limited(_metadata, self, who, len);					\
	}										\
	struct test_need

LIMITED(rest_copied_client_pauses, CLIENT, LEN);
LIMITED(rest_copied_relay_pauses, RELAY, LEN);
LIMITED(rest_copied_server_pauses, SERVER, LEN);
LIMITED(short_of_the_limit_client_pauses, CLIENT, MAX - 50);
LIMITED(short_of_the_limit_relay_pauses, RELAY, MAX - 50);
LIMITED(short_of_the_limit_server_pauses, SERVER, MAX - 50);
LIMITED(nothing_under_a_limit, SERVER, 0);
LIMITED(nothing_under_a_limit_from_before, RELAY, 0);

/* Written and read by the relay itself before and after, on the same two sockets. */
TEST_F(sosplice, before_and_after)
{
	ASSERT_EQ(0, put_bytes(self->r.b, "before", 6));
	ASSERT_EQ(0, put_bytes(self->r.c, "hello", 5));
	ASSERT_EQ(0, take_bytes(self->r.a, "hello", 5));
	lend(spl_splice_pair, .max = 1000);
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 500));
	ASSERT_EQ(0, take(self->r.c, BACK, 0, 500));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1005));
	event();
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	ASSERT_EQ(0, put_bytes(self->r.b, "after", 5));
	ASSERT_EQ(0, put_bytes(self->r.a, "bye", 3));
	EXPECT_EQ(0, take_bytes(self->r.s, "before", 6));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	EXPECT_EQ(0, take_bytes(self->r.s, "after", 5));
	EXPECT_EQ(0, take_bytes(self->r.c, "bye", 3));
	EXPECT_EQ(0, take(self->r.a, SEED, 1000, 5));
}

/* ---- small buffers, and a server that reads late */

static int shrink(int fd, int option)
{
	return set_opt(fd, SOL_SOCKET, option, 4096);
}

static void small(struct __test_metadata *_metadata, struct _test_data_sosplice *self, bool source, bool sink, bool peers)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = scaled(60000), .fin = true };

	if (source)
		ASSERT_EQ(0, shrink(self->r.a, SO_RCVBUF));
	if (sink)
		ASSERT_EQ(0, shrink(self->r.b, SO_SNDBUF));
	if (peers) {
		ASSERT_EQ(0, shrink(self->r.c, SO_SNDBUF));
		ASSERT_EQ(0, shrink(self->r.s, SO_RCVBUF));
	}
	lend(spl_splice);
	ASSERT_EQ(0, stream_send(&tx));
	sleep_ms(300);
	EXPECT_EQ(tx.len, take_rest(self->r.s, SEED, 0));
	ASSERT_EQ(0, stream_join(&tx));
	ends(self->token, SPL_EOF, 0, tx.len);
	/* the end that the splice has seen is there to be seen again */
	EXPECT_EQ(0, at_eof(self->r.a));
}

#define SMALL(name, source, sink, peers)						\
	TEST_F_TIMEOUT(sosplice, name, 100)						\
	{										\
		small(_metadata, self, source, sink, peers);				\
	}										\
	struct test_need

SMALL(small_receive_buffer, true, false, false);
SMALL(small_send_buffer, false, true, false);
SMALL(small_buffers, true, true, true);

/* As much as the buffers hold, then all of it is read: not a byte more or less. */
TEST_F_TIMEOUT(sosplice, filled_and_drained, 100)
{
	int64_t count;

	ASSERT_EQ(0, shrink(self->r.c, SO_SNDBUF));
	ASSERT_EQ(0, shrink(self->r.a, SO_RCVBUF));
	ASSERT_EQ(0, shrink(self->r.b, SO_SNDBUF));
	lend(spl_splice);
	count = stuff(self->r.c, SEED);
	ASSERT_LT(0, count);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, count));
	EXPECT_EQ(0, at_quiet(self->r.s));
	ASSERT_EQ(0, fin(&self->r.c));
	ends(self->token, SPL_EOF, 0, count);
}

/* The client resets while the server has yet to read. */
NEEDS(sosplice, reset_with_full_buffers, NEEDS_TCP);
TEST_F_TIMEOUT(sosplice, reset_with_full_buffers, 60)
{
	ASSERT_EQ(0, shrink(self->r.a, SO_RCVBUF));
	ASSERT_EQ(0, shrink(self->r.b, SO_SNDBUF));
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_LT(0, stuff(self->r.c, SEED));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	event();
	EXPECT_EQ(SPL_SOURCE_FAILED, self->ev.cause);
	EXPECT_EQ(ECONNRESET, self->ev.error);
	EXPECT_EQ(0, at_reset(self->r.s));
}

/* ---- time */

static unsigned int idle_of(enum spl_engine engine)
{
	/* a guest under TCG has its pauses */
	return engine == SPL_ENGINE_KMOD ? 1000 : 400;
}

/* Bytes that come now and then keep it alive; when they stop, so does it, and the next one is the caller's. */
static void trickle(struct __test_metadata *_metadata, struct _test_data_sosplice *self, int from[2], int to[2],
		    unsigned int ms)
{
	uint64_t pos;

	begun(spl_splice(self->s, from[1], to[0], OPTS(.flags = SPL_F_KEEP, .idle_ms = ms), &self->token));
	for (pos = 0; pos < 7; pos++) {
		sleep_ms(ms / 3);
		ASSERT_EQ(0, put(from[0], SEED, pos, 1));
		ASSERT_EQ(0, take(to[1], SEED, pos, 1));
	}
	ends(self->token, SPL_IDLE, 0, 7);
	ASSERT_EQ(0, put(from[0], SEED, pos, 1));
	EXPECT_EQ(0, take(from[1], SEED, pos, 1));
	EXPECT_EQ(0, at_quiet(to[1]));
}

TEST_F(sosplice, idle_trickle)
{
	trickle(_metadata, self, (int[]){ self->r.c, self->r.a }, (int[]){ self->r.b, self->r.s },
		idle_of(variant->engine));
}

TEST_F(sosplice, idle_trickle_back)
{
	trickle(_metadata, self, (int[]){ self->r.s, self->r.b }, (int[]){ self->r.a, self->r.c },
		idle_of(variant->engine));
}

/* A server that says nothing any more, not even that it has room: TCP gives it up, and says why. */
NEEDS(sosplice, sink_times_out, NEEDS_TCP);
TEST_F_TIMEOUT(sosplice, sink_times_out, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };

	ASSERT_EQ(0, set_opt(self->r.b, IPPROTO_TCP, TCP_USER_TIMEOUT, 700));
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, stream_send(&tx));
	event();
	EXPECT_EQ(SPL_SINK_FAILED, self->ev.cause);
	EXPECT_EQ(ETIMEDOUT, self->ev.error);
	EXPECT_EQ(-ECONNRESET, stream_join(&tx));
}

/* The same of the client of a pair, which is a source as well. */
NEEDS(sosplice, source_times_out, NEEDS_TCP);
TEST_F_TIMEOUT(sosplice, source_times_out, 60)
{
	struct stream tx = { .fd = self->r.s, .seed = BACK, .len = SPL_ALL };

	ASSERT_EQ(0, set_opt(self->r.a, IPPROTO_TCP, TCP_USER_TIMEOUT, 700));
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, stream_send(&tx));
	event();
	EXPECT_EQ(SPL_SOURCE_FAILED, self->ev.cause);
	EXPECT_EQ(ETIMEDOUT, self->ev.error);
	EXPECT_EQ(-ECONNRESET, stream_join(&tx));
}

/* ---- who meddles */

/* Another process, with the same sockets, tries to read the one and to write to the other all the while: it cannot. */
static int meddle(struct relay *r, const volatile bool *stop)
{
	unsigned int tries = 0;
	char byte = '!';

	for (; !*stop; tries++) {
		if (recv(r->a, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EBUSY)
			return 2;
		if (send(r->b, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EBUSY)
			return 3;
		if (listen(r->a, 1) >= 0 || errno != EINVAL)
			return 4;
	}
	return tries ? 0 : 5;
}

NEEDS(sosplice, another_process_meddles, SPL_CAP_EXCLUSIVE);
TEST_F_TIMEOUT(sosplice, another_process_meddles, 60)
{
	volatile bool *stop = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = scaled(3000000) };
	pid_t pid;

	ASSERT_NE(MAP_FAILED, (void *)stop);
	lend(spl_splice);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(meddle(&self->r, stop));
	ASSERT_EQ(0, stream_send(&tx));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, tx.len));
	EXPECT_EQ(0, stream_join(&tx));
	*stop = true;
	EXPECT_EQ(0, reap(pid));
	ASSERT_EQ(0, fin(&self->r.c));
	ends(self->token, SPL_EOF, 0, tx.len);
	munmap((void *)stop, 4096);
}

/* The relay has said that it will read no more, and then gives the socket away: what had come is forwarded. */
TEST_F(sosplice, source_was_shut_down)
{
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, wait_queued(self->r.a, 1000));
	ASSERT_EQ(0, shutdown(self->r.a, SHUT_RD));
	lend(spl_splice);
	ends(self->token, SPL_EOF, 0, 1000);
	EXPECT_EQ(1000, take_rest(self->r.s, SEED, 0));
}

/* ---- urgent data that the source wants among the rest: in its place, on the way back as well */

static int urgent(int fd, uint64_t pos)
{
	uint8_t byte;

	pattern_fill(&byte, 1, BACK, pos);
	return send(fd, &byte, 1, MSG_OOB) == 1 ? 0 : -errno;
}

NEEDS(sosplice, urgent_data_back, NEEDS_TCP_SERVER | NEEDS_PLAIN);
TEST_F(sosplice, urgent_data_back)
{
	uint64_t pos;

	ASSERT_EQ(0, set_opt(self->r.b, SOL_SOCKET, SO_OOBINLINE, 1));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 100));
	ASSERT_EQ(0, urgent(self->r.s, 100));
	lend(spl_splice_pair);
	for (pos = 101; pos < 20000; pos += 1001) {
		ASSERT_EQ(0, put(self->r.s, BACK, pos, 1000));
		ASSERT_EQ(0, urgent(self->r.s, pos + 1000));
		sleep_ms(2);
	}
	EXPECT_EQ(0, take(self->r.c, BACK, 0, pos));
	ASSERT_EQ(0, fin(&self->r.s));
	ASSERT_EQ(0, fin(&self->r.c));
	event();
	EXPECT_EQ(SPL_EOF, self->ev.cause);
	EXPECT_EQ(pos, self->ev.bytes_back);
	EXPECT_EQ(0, self->ev.bytes);
}

/* The one connection that is this socket's, among those that keep the queue full. */
static int let_in(int listening, int sink)
{
	struct sockaddr_storage own = { 0 }, peer = { 0 };
	socklen_t own_len = sizeof(own), peer_len = sizeof(peer);
	int fd, tries = 100;

	if (getsockname(sink, (void *)&own, &own_len))
		return -errno;
	for (; tries && poll_fd(listening, POLLIN, WAIT_MS) > 0; tries--) {
		peer_len = sizeof(peer);
		fd = accept4(listening, (void *)&peer, &peer_len, SOCK_CLOEXEC);
		if (fd < 0 || !memcmp(&own, &peer, own_len))
			return fd;
		close(fd);
	}
	return -ETIMEDOUT;
}

/* All of it comes before there is somewhere to send it to. */
NEEDS(sosplice, urgent_before_connected, NEEDS_TCP | NEEDS_PLAIN);
TEST_F(sosplice, urgent_before_connected)
{
	int listening, sink = tcp_connecting(AF_INET, &listening), s;

	ASSERT_LE(0, sink);
	ASSERT_EQ(0, set_opt(self->r.a, SOL_SOCKET, SO_OOBINLINE, 1));
	ASSERT_EQ(0, put(self->r.c, BACK, 0, 500));
	ASSERT_EQ(0, urgent(self->r.c, 500));
	ASSERT_EQ(0, put(self->r.c, BACK, 501, 499));
	begun(spl_splice(self->s, self->r.a, sink, OPTS(.flags = SPL_F_CONNECTING | SPL_F_KEEP), &self->token));
	ASSERT_EQ(0, no_event(self->s));
	s = let_in(listening, sink);
	ASSERT_LE(0, s);
	EXPECT_EQ(0, take(s, BACK, 0, 1000));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(0, at_eof(s));
	ends(self->token, SPL_EOF, 0, 1000);
	close(s);
	close(sink);
	close(listening);
}

SUITE_MAIN
