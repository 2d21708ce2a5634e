// SPDX-License-Identifier: GPL-2.0
/* ktls_record.c: the stream is cut into records, which may be empty, damaged, or not yet all there. */
#include "harness.h"
#include "nl.h"

#include <sys/resource.h>

#define SEED 1
#define BACK 2

FIXTURE(ktls_record) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct spl_event ev;
	uint16_t version;
	int cipher[2];		/* what is written to the first is to be had encrypted from the second */
};

FIXTURE_VARIANT(ktls_record) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

VARIANT(ktls_record, kmod_tls, .engine = SPL_ENGINE_KMOD, .net = NET_TLS);
VARIANT(ktls_record, kmod_tls12, .engine = SPL_ENGINE_KMOD, .net = NET_TLS12);
VARIANT(ktls_record, user_tls, .engine = SPL_ENGINE_USER, .net = NET_TLS);
VARIANT(ktls_record, user_tls12, .engine = SPL_ENGINE_USER, .net = NET_TLS12);
VARIANT(ktls_record, user_tls_lossless, .engine = SPL_ENGINE_USER, .net = NET_TLS, .require = SPL_CAP_LOSSLESS);

FIXTURE_SETUP(ktls_record)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	self->version = variant->net == NET_TLS12 ? TLS_1_2_VERSION : TLS_1_3_VERSION;
	self->cipher[0] = self->cipher[1] = -1;
}

FIXTURE_TEARDOWN(ktls_record)
{
	spl_close(self->s);
	relay_close(&self->r);
	close_fd(&self->cipher[0]);
	close_fd(&self->cipher[1]);
}

#define forward(n, ...)									\
	begun(spl_forward(self->s, self->r.a, self->r.b, n, OPTS(__VA_ARGS__), &self->token))

#define failed(why, err)								\
	do {										\
		ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));		\
		EXPECT_EQ(why, self->ev.cause) {					\
			TH_LOG("ended %s: %s", spl_cause_name(self->ev.cause), strerror(self->ev.error)); \
		}									\
		EXPECT_EQ(err, self->ev.error) {					\
			TH_LOG("ended %s: %s", spl_cause_name(self->ev.cause), strerror(self->ev.error)); \
		}									\
	} while (0)

/* n ends anywhere in a record, and the next byte is the caller's. */
TEST_F_TIMEOUT(ktls_record, n_within_a_record, 60)
{
	static const unsigned int n[] = { 1, 2, 100, 8191, 16383, 16384, 16385, 20000, 32767 };
	static uint8_t bytes[2 * TLS_RECORD];
	unsigned int i;

	pattern_fill(bytes, sizeof(bytes), SEED, 0);
	for (i = 0; i < 2 * ARRAY_SIZE(n); i++) {
		unsigned int len = n[i / 2];

		if (i % 2)
			forward(len, .flags = 0);
		ASSERT_EQ(0, tls_put(self->r.c, TLS_DATA, bytes, TLS_RECORD));
		ASSERT_EQ(0, tls_put(self->r.c, TLS_DATA, bytes + TLS_RECORD, TLS_RECORD));
		if (i % 2 == 0)
			forward(len, .flags = 0);
		failed(SPL_DONE, 0);
		EXPECT_EQ(len, self->ev.bytes);
		EXPECT_EQ(0, take(self->r.s, SEED, 0, len));
		EXPECT_EQ(0, take(self->r.a, SEED, len, sizeof(bytes) - len));
		ASSERT_EQ(1, _metadata->passed) {
			TH_LOG("n=%u", len);
		}
	}
	EXPECT_EQ(0, at_quiet(self->r.s));
}

/* The caller has looked at some records, and read a part of one: they are decrypted already, and the stream goes on there. */
TEST_F(ktls_record, begun_by_the_caller)
{
	char look[40000];

	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, wait_queued(self->r.a, 50000));
	ASSERT_EQ((ssize_t)sizeof(look), recv(self->r.a, look, sizeof(look), MSG_PEEK | MSG_WAITALL));
	forward(10000, .flags = 0);
	failed(SPL_DONE, 0);
	ASSERT_EQ(0, take(self->r.a, SEED, 10000, 7));
	forward(SPL_ALL, .flags = 0);
	ASSERT_EQ(0, fin(&self->r.c));
	failed(SPL_EOF, 0);
	EXPECT_EQ(39993, self->ev.bytes);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10000));
	EXPECT_EQ(0, take(self->r.s, SEED, 10007, 39993));
}

/* A delimiter in as many records as it has bytes. */
TEST_F(ktls_record, delimiter_over_records)
{
	static const char text[] = "GET / HTTP/1.1\r\n\r\nbody";
	unsigned int cut, i, len = sizeof(text) - 1;

	for (cut = 1; cut < 7; cut++) {
		forward(SPL_ALL, .delim = "\r\n\r\n", .delim_len = 4);
		for (i = 0; i < len; i += cut)
			ASSERT_EQ(0, tls_put(self->r.c, TLS_DATA, text + i, i + cut > len ? len - i : cut));
		failed(SPL_DELIM, 0);
		EXPECT_EQ(len - 4, self->ev.bytes);
		EXPECT_EQ(0, take_bytes(self->r.s, text, len - 4));
		EXPECT_EQ(0, take_bytes(self->r.a, "body", 4));
	}
}

/* A record of the inner type that its last byte which is not zero says: what is before it is the data, what is after it padding. */
static int put_padded(int fd, const char *data, size_t len, size_t padding)
{
	char inner[1024] = { 0 };

	memcpy(inner, data, len);
	inner[len] = TLS_DATA;
	return tls_put(fd, 0, inner, len + 1 + padding);
}

/* Records may be padded, and may have nothing but padding in them: that is no end. */
NEEDS(ktls_record, empty_records, NEEDS_TLS13);
TEST_F_TIMEOUT(ktls_record, empty_records, 60)
{
	unsigned int i, before;

	for (before = 0; before < 2; before++) {
		if (!before)
			forward(20, .flags = 0);
		for (i = 0; i < 20; i++) {
			ASSERT_EQ(0, put_padded(self->r.c, "", 0, i * 3));
			ASSERT_EQ(0, put_padded(self->r.c, "x", i % 2, i));
			if (i % 2 == 0)
				ASSERT_EQ(0, tls_put(self->r.c, TLS_DATA, "y", 1));
		}
		if (before)
			forward(20, .flags = 0);
		failed(SPL_DONE, 0);
		EXPECT_EQ(0, take_bytes(self->r.s, "yxyxyxyxyxyxyxyxyxyx", 20));
		EXPECT_EQ(0, at_quiet(self->r.s));
		ASSERT_EQ(0, alive(self->r.c, self->r.a));
	}
	/* nothing but those */
	forward(SPL_ALL, .flags = 0);
	for (i = 0; i < 20; i++)
		ASSERT_EQ(0, put_padded(self->r.c, "", 0, 0));
	EXPECT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10));
	ASSERT_EQ(0, put_padded(self->r.c, "", 0, 0));
	ASSERT_EQ(0, fin(&self->r.c));
	failed(SPL_EOF, 0);
	EXPECT_EQ(10, self->ev.bytes);
}

#define by_hand()									\
	ASSERT_EQ(0, tls_by_hand(&self->r, self->version, self->cipher))

#define encrypted(seed, count)								\
	({										\
		int __len;								\
		pattern_fill(plain, count, seed, 0);					\
		__len = tls_cipher(self->cipher, self->version, TLS_DATA, plain, count, wire); \
		ASSERT_LT(0, __len);							\
		__len;									\
	})

static uint8_t plain[TLS_RECORD], wire[TLS_RECORD + 256];

/* It does not decrypt: what came before it is delivered, nothing of it. */
TEST_F(ktls_record, damaged)
{
	int len;

	by_hand();
	forward(SPL_ALL, .flags = 0);
	len = encrypted(SEED, 5000);
	ASSERT_EQ(0, put_bytes(self->r.c, wire, len));
	len = encrypted(BACK, 3000);
	wire[len / 2] ^= 1;
	ASSERT_EQ(0, put_bytes(self->r.c, wire, len));
	failed(SPL_SOURCE_FAILED, EBADMSG);
	EXPECT_EQ(5000, self->ev.bytes);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 5000));
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* There is nothing to go on with: the other side is told, also of a kept pair. */
TEST_F(ktls_record, damaged_in_a_pair)
{
	unsigned int keep;
	int len;

	for (keep = 0; keep < 2; keep++) {
		by_hand();
		begun(spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(.flags = keep ? SPL_F_KEEP : 0),
				      &self->token));
		if (!keep)
			self->r.a = self->r.b = -1;
		len = encrypted(SEED, 1);
		wire[len - 1] ^= 0x80;
		ASSERT_EQ(0, put_bytes(self->r.c, wire, len));
		failed(SPL_SOURCE_FAILED, EBADMSG);
		EXPECT_EQ(0, self->ev.bytes);
		EXPECT_EQ(0, keep ? at_cut_by(variant->engine, self->r.b, self->r.s) : at_reset(self->r.s));
		relay_close(&self->r);
		close_fd(&self->cipher[0]);
		close_fd(&self->cipher[1]);
		ASSERT_EQ(0, relay_open(&self->r, variant->net));
	}
}

/* Not TLS at all. */
TEST_F(ktls_record, plaintext)
{
	by_hand();
	forward(SPL_ALL, .flags = 0);
	ASSERT_EQ(0, put_bytes(self->r.c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_EQ(SPL_SOURCE_FAILED, self->ev.cause);
	EXPECT_TRUE(self->ev.error == EINVAL || self->ev.error == EBADMSG || self->ev.error == EMSGSIZE) {
		TH_LOG("%s", strerror(self->ev.error));
	}
	EXPECT_EQ(0, self->ev.bytes);
	EXPECT_EQ(0, at_quiet(self->r.s));
}

/* Part of a record is nothing yet: it costs nothing to wait for the rest, and to stop waiting loses nothing. */
TEST_F_TIMEOUT(ktls_record, half, 60)
{
	struct spl_stat st;
	int len, part;

	by_hand();
	for (part = 1; part < 16000; part = part * 7 + 1) {
		len = encrypted(SEED, 16000);
		forward(SPL_ALL, .flags = 0);
		ASSERT_EQ(0, put_bytes(self->r.c, wire, part));
		EXPECT_EQ(0, no_event(self->s));
		ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
		EXPECT_EQ(0, st.bytes);
		EXPECT_EQ(SPL_WANTS_READ, st.wants);
		ASSERT_EQ(0, spl_cancel(self->s, self->token));
		failed(SPL_CANCELED, 0);
		EXPECT_EQ(0, self->ev.bytes);
		forward(15999, .flags = 0);
		ASSERT_EQ(0, put_bytes(self->r.c, wire + part, len - part));
		failed(SPL_DONE, 0);
		EXPECT_EQ(0, take(self->r.s, SEED, 0, 15999));
		EXPECT_EQ(0, take(self->r.a, SEED, 15999, 1));
		ASSERT_EQ(1, _metadata->passed) {
			TH_LOG("%d bytes of the record", part);
		}
	}
}

static uint64_t cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000ull + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

NEEDS(ktls_record, half_costs_nothing, NEEDS_KMOD);
TEST_F(ktls_record, half_costs_nothing)
{
	int64_t runs;
	uint64_t cpu;
	struct nl nl;

	by_hand();
	ASSERT_LT(0, encrypted(SEED, 16000));
	ASSERT_EQ(0, nl_open(&nl));
	forward(SPL_ALL, .flags = 0);
	ASSERT_EQ(0, put_bytes(self->r.c, wire, 9000));
	sleep_ms(100);
	runs = stat_now(&nl, SKSPLICE_A_STAT_WORKER);
	cpu = cpu_us();
	EXPECT_EQ(0, spl_next(self->s, &self->ev, 500));
	EXPECT_GT(100000, cpu_us() - cpu);
	EXPECT_GT(50, stat_now(&nl, SKSPLICE_A_STAT_WORKER) - runs);
	nl_close(&nl);
}

/* The peer goes in the middle of a record: that was never a part of the stream. */
TEST_F(ktls_record, cut_off)
{
	int len;

	by_hand();
	forward(SPL_ALL, .flags = 0);
	len = encrypted(SEED, 700);
	ASSERT_EQ(0, put_bytes(self->r.c, wire, len));
	len = encrypted(BACK, 700);
	ASSERT_EQ(0, put_bytes(self->r.c, wire, len - 1));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	EXPECT_TRUE(self->ev.cause == SPL_EOF || self->ev.cause == SPL_SOURCE_FAILED);
	EXPECT_EQ(700, self->ev.bytes);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 700));
	EXPECT_EQ(0, at_quiet(self->r.s));
}

/* Byte by byte on the wire. */
TEST_F_TIMEOUT(ktls_record, in_small_pieces, 60)
{
	int len, i;

	by_hand();
	ASSERT_EQ(0, nodelay(self->r.c));
	forward(300, .flags = 0);
	len = encrypted(SEED, 301);
	for (i = 0; i < len; i++)
		ASSERT_EQ(0, put_bytes(self->r.c, wire + i, 1));
	failed(SPL_DONE, 0);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 300));
	EXPECT_EQ(0, take(self->r.a, SEED, 300, 1));
}

/* Keys for one half only; the other one is as TCP left it, and neither source nor sink. */
#define one_half(side, peer, half)							\
	do {										\
		int __fds[2];								\
		ASSERT_EQ(0, tcp_pair(NET_V4, false, __fds));				\
		ASSERT_EQ(0, tls_attach(__fds[0]));					\
		ASSERT_EQ(0, tls_attach(__fds[1]));					\
		ASSERT_EQ(0, tls_keys(__fds[1], self->version, true, half));		\
		ASSERT_EQ(0, tls_keys(__fds[0], self->version, false, (half) ^ TLS_BOTH)); \
		close_fd(&self->r.peer);						\
		close_fd(&self->r.side);						\
		self->r.peer = __fds[0];						\
		self->r.side = __fds[1];						\
	} while (0)

TEST_F(ktls_record, receives_only)
{
	one_half(a, c, TLS_RECEIVES);
	forward(SPL_ALL, .flags = SPL_F_SHUTDOWN);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 40000));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 40000));
	ASSERT_EQ(0, fin(&self->r.c));
	failed(SPL_EOF, 0);
	EXPECT_EQ(0, at_eof(self->r.s));
}

TEST_F(ktls_record, sends_only)
{
	one_half(b, s, TLS_SENDS);
	forward(SPL_ALL, .flags = SPL_F_SHUTDOWN);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 40000));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 40000));
	ASSERT_EQ(0, fin(&self->r.c));
	failed(SPL_EOF, 0);
	EXPECT_EQ(0, tls_take(self->r.s, TLS_ALERT, "\1\0", 2));
	EXPECT_EQ(0, at_eof(self->r.s));
}

/* What has no keys yet is still in its handshake. */
NEEDS(ktls_record, half_without_keys, NEEDS_KMOD);
TEST_F(ktls_record, half_without_keys)
{
	struct spl_opts *connecting = OPTS(.flags = SPL_F_CONNECTING);

	one_half(a, c, TLS_RECEIVES);
	one_half(b, s, TLS_SENDS);
	EXPECT_EQ(-EINPROGRESS, spl_forward(self->s, self->r.b, self->r.a, 1, NULL, &self->token));
	EXPECT_EQ(-EINPROGRESS, spl_forward(self->s, self->r.b, self->r.a, 1, connecting, &self->token));
	EXPECT_EQ(-EINPROGRESS, spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	EXPECT_EQ(-EINPROGRESS, spl_send(self->s, self->r.a, "x", 1, NULL, &self->token));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	forward(10, .flags = 0);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	failed(SPL_DONE, 0);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10));
}

/* New keys would put the socket's own calls back: not while one of its halves is busy. */
NEEDS(ktls_record, keys_for_a_busy_socket, SPL_CAP_EXCLUSIVE);
TEST_F(ktls_record, keys_for_a_busy_socket)
{
	char byte;

	one_half(a, c, TLS_RECEIVES);
	forward(20, .flags = 0);
	EXPECT_EQ(-EBUSY, tls_keys(self->r.a, self->version, true, TLS_SENDS));
	EXPECT_EQ(-1, recv(self->r.a, &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ(EBUSY, errno);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 20));
	failed(SPL_DONE, 0);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 20));
	EXPECT_EQ(0, tls_keys(self->r.a, self->version, true, TLS_SENDS));
	EXPECT_EQ(0, tls_keys(self->r.c, self->version, false, TLS_RECEIVES));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
}

/* Plain TCP that becomes TLS while it is busy would leave its bytes to nobody. */
NEEDS(ktls_record, becomes_tls, SPL_CAP_EXCLUSIVE);
TEST_F(ktls_record, becomes_tls)
{
	struct relay plain_one;

	ASSERT_EQ(0, relay_open(&plain_one, NET_V4));
	begun(spl_forward(self->s, plain_one.a, plain_one.b, 10, NULL, &self->token));
	EXPECT_EQ(-EBUSY, tls_attach(plain_one.a));
	EXPECT_EQ(-EBUSY, tls_attach(plain_one.b));
	ASSERT_EQ(0, put(plain_one.c, SEED, 0, 10));
	failed(SPL_DONE, 0);
	EXPECT_EQ(0, take(plain_one.s, SEED, 0, 10));
	EXPECT_EQ(0, tls_attach(plain_one.a));
	relay_close(&plain_one);
}

SUITE_MAIN
