// SPDX-License-Identifier: GPL-2.0
/* ktls.c: what TLS adds to a stream: records that are no data, and an end that is said. Records as such: ktls_record.c. */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(ktls) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct spl_event ev;
};

FIXTURE_VARIANT(ktls) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

VARIANT(ktls, kmod_tls, .engine = SPL_ENGINE_KMOD, .net = NET_TLS);
VARIANT(ktls, kmod_tls12, .engine = SPL_ENGINE_KMOD, .net = NET_TLS12);
VARIANT(ktls, user_tls, .engine = SPL_ENGINE_USER, .net = NET_TLS);
VARIANT(ktls, user_tls12, .engine = SPL_ENGINE_USER, .net = NET_TLS12);
VARIANT(ktls, user_tls_lossless, .engine = SPL_ENGINE_USER, .net = NET_TLS, .require = SPL_CAP_LOSSLESS);

FIXTURE_SETUP(ktls)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(ktls)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define forward(n, ...)									\
	begun(spl_forward(self->s, self->r.a, self->r.b, n, OPTS(__VA_ARGS__), &self->token))

#define pair(...)									\
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(__VA_ARGS__), &self->token))

#define give()										\
	do {										\
		pair(.flags = 0);							\
		self->r.a = self->r.b = -1;						\
	} while (0)

#define event()	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev))

#define failed(why, err)								\
	do {										\
		event();								\
		EXPECT_EQ(why, self->ev.cause) {					\
			TH_LOG("ended %s: %s", spl_cause_name(self->ev.cause), strerror(self->ev.error)); \
		}									\
		EXPECT_EQ(err, self->ev.error) {					\
			TH_LOG("ended %s: %s", spl_cause_name(self->ev.cause), strerror(self->ev.error)); \
		}									\
	} while (0)

/* Records that are no data, and how a flow ends that has one before it. */
static const struct record {
	const char *name;
	uint8_t type;
	const char *bytes;
	size_t len;
	int error;		/* 0: the end of the stream */
	bool breaks;		/* what KEEP does not keep */
} records[] = {
	{ "close_notify", TLS_ALERT, "\1\0", 2, 0, false },
	{ "handshake_failure", TLS_ALERT, "\2\50", 2, ECONNABORTED, true },
	{ "user_canceled", TLS_ALERT, "\1\132", 2, ECONNABORTED, true },
	{ "KeyUpdate", TLS_HANDSHAKE, "\30\0\0\1\1", 5, EKEYEXPIRED, false },
	{ "NewSessionTicket", TLS_HANDSHAKE, "\4\0\0\4tick", 8, EPROTO, false },
	{ "HelloRequest", TLS_HANDSHAKE, "\0\0\0\0", 4, EPROTO, false },
	{ "ChangeCipherSpec", TLS_CCS, "\1", 1, EPROTO, false },
	{ "heartbeat", 24, "\1\0\0", 3, EPROTO, false },
};

#define KEY_UPDATE	(&records[3])

/* There is no KeyUpdate in TLS 1.2: a kernel that knows what it is waits for keys that it does not take then. */
#define can_have(rec)	((rec)->error != EKEYEXPIRED || variant->net != NET_TLS12 || !tls_rekeys())

/* One half gets new keys after a KeyUpdate, where the kernel wants them. */
static int new_keys(const struct record *rec, int fd, bool server, int half)
{
	return rec->error == EKEYEXPIRED && tls_rekeys() ? tls_keys(fd, TLS_1_3_VERSION, server, half) : 0;
}

/* A forward of this many bytes of data and that record: it ends as what it is, and leaves it to the caller. */
#define forward_up_to(rec, data, before)						\
	do {										\
		uint64_t __pos = 0;							\
		if (!can_have(rec))							\
			break;								\
		if (!(before))								\
			forward(SPL_ALL, .flags = 0);					\
		if (data)								\
			ASSERT_EQ(0, put(self->r.c, SEED, 0, data));			\
		ASSERT_EQ(0, tls_put(self->r.c, (rec)->type, (rec)->bytes, (rec)->len));	\
		ASSERT_EQ(0, new_keys(rec, self->r.c, false, TLS_SENDS));		\
		ASSERT_EQ(0, put(self->r.c, BACK, 0, 300));				\
		if (before) {								\
			ASSERT_EQ(0, wait_queued(self->r.a, data));			\
			forward(SPL_ALL, .flags = 0);					\
		}									\
		failed((rec)->error ? SPL_SOURCE_FAILED : SPL_EOF, (rec)->error);	\
		EXPECT_EQ(data, self->ev.bytes);					\
		EXPECT_EQ(0, take(self->r.s, SEED, __pos, data));			\
		EXPECT_EQ(0, at_quiet(self->r.s));					\
		/* the record is there, and what came after it */			\
		EXPECT_EQ(0, tls_take(self->r.a, (rec)->type, (rec)->bytes, (rec)->len)) {	\
			TH_LOG("%s after %d bytes", (rec)->name, (int)(data));		\
		}									\
		EXPECT_EQ(0, new_keys(rec, self->r.a, true, TLS_RECEIVES));		\
		EXPECT_EQ(0, take(self->r.a, BACK, 0, 300));				\
		EXPECT_EQ(0, alive(self->r.b, self->r.s));				\
		EXPECT_EQ(0, alive(self->r.c, self->r.a));				\
		ASSERT_EQ(1, _metadata->passed) {					\
			TH_LOG("%s after %d bytes", (rec)->name, (int)(data));		\
		}									\
	} while (0)

TEST_F_TIMEOUT(ktls, record_at_the_head, 60)
{
	unsigned int i;

	for (i = 0; i < 2 * ARRAY_SIZE(records); i++)
		forward_up_to(&records[i / 2], 0, i % 2);
}

TEST_F_TIMEOUT(ktls, record_after_data, 60)
{
	unsigned int i;

	for (i = 0; i < 2 * ARRAY_SIZE(records); i++)
		forward_up_to(&records[i / 2], 50000, i % 2);
}

/* n bytes were wanted and had: what follows is nobody's failure. */
TEST_F(ktls, record_behind_n)
{
	const struct record *rec;

	for (rec = records; rec < records + ARRAY_SIZE(records); rec++) {
		if (!can_have(rec))
			continue;
		forward(500, .flags = 0);
		ASSERT_EQ(0, put(self->r.c, SEED, 0, 500));
		ASSERT_EQ(0, tls_put(self->r.c, rec->type, rec->bytes, rec->len));
		failed(SPL_DONE, 0);
		EXPECT_EQ(0, take(self->r.s, SEED, 0, 500));
		EXPECT_EQ(0, tls_take(self->r.a, rec->type, rec->bytes, rec->len));
		EXPECT_EQ(0, new_keys(rec, self->r.c, false, TLS_SENDS));
		EXPECT_EQ(0, new_keys(rec, self->r.a, true, TLS_RECEIVES));
		ASSERT_EQ(1, _metadata->passed) {
			TH_LOG("%s", rec->name);
		}
	}
}

/* The caller goes on with both connections where the record says nothing against it. */
TEST_F_TIMEOUT(ktls, record_in_a_kept_pair, 60)
{
	const struct record *rec;

	for (rec = records + 1; rec < records + ARRAY_SIZE(records); rec++) {
		if (!can_have(rec))
			continue;
		pair(.flags = SPL_F_KEEP);
		ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
		ASSERT_EQ(0, tls_put(self->r.c, rec->type, rec->bytes, rec->len));
		failed(SPL_SOURCE_FAILED, rec->error);
		EXPECT_EQ(100, self->ev.bytes);
		EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
		if (rec->breaks) {
			EXPECT_EQ(0, at_cut_by(variant->engine, self->r.b, self->r.s));
			EXPECT_EQ(0, at_cut_by(variant->engine, self->r.a, self->r.c));
			relay_close(&self->r);
			ASSERT_EQ(0, relay_open(&self->r, variant->net));
		} else {
			EXPECT_EQ(0, tls_take(self->r.a, rec->type, rec->bytes, rec->len));
			EXPECT_EQ(0, new_keys(rec, self->r.c, false, TLS_SENDS));
			EXPECT_EQ(0, new_keys(rec, self->r.a, true, TLS_RECEIVES));
			EXPECT_EQ(0, alive(self->r.c, self->r.a));
			EXPECT_EQ(0, alive(self->r.b, self->r.s));
		}
		ASSERT_EQ(1, _metadata->passed) {
			TH_LOG("%s", rec->name);
		}
	}
}

/* Of the way back it is the sink that has failed. */
TEST_F(ktls, record_on_the_way_back)
{
	const struct record *rec = can_have(KEY_UPDATE) ? KEY_UPDATE : KEY_UPDATE + 1;

	pair(.flags = SPL_F_KEEP);
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 100));
	ASSERT_EQ(0, tls_put(self->r.s, rec->type, rec->bytes, rec->len));
	failed(SPL_SINK_FAILED, rec->error);
	EXPECT_EQ(100, self->ev.bytes_back);
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 100));
	EXPECT_EQ(0, tls_take(self->r.b, rec->type, rec->bytes, rec->len));
	EXPECT_EQ(0, new_keys(rec, self->r.s, true, TLS_SENDS));
	EXPECT_EQ(0, new_keys(rec, self->r.b, false, TLS_RECEIVES));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* Nobody is left to read it: both connections are reset. */
TEST_F_TIMEOUT(ktls, record_in_a_pair, 60)
{
	static const unsigned int which[] = { 1, 3, 5, 6 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(which); i++) {
		const struct record *rec = records + which[i];

		give();
		ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
		ASSERT_EQ(0, take(self->r.s, SEED, 0, 100));
		ASSERT_EQ(0, tls_put(self->r.c, rec->type, rec->bytes, rec->len));
		failed(SPL_SOURCE_FAILED, rec->error);
		EXPECT_EQ(0, at_reset(self->r.s));
		EXPECT_EQ(0, at_reset(self->r.c));
		relay_close(&self->r);
		ASSERT_EQ(0, relay_open(&self->r, variant->net));
	}
}

/* A server of TLS 1.3 sends them when it likes; to a pair that owns its ends they are of no use. */
TEST_F(ktls, tickets_are_skipped)
{
	unsigned int i;

	give();
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, tls_put(self->r.s, TLS_HANDSHAKE, "\4\0\0\4tick", 8));
		if (i == 2)
			ASSERT_EQ(0, tls_put(self->r.s, TLS_HANDSHAKE, "\4\0\0\4tock", 8));
		ASSERT_EQ(0, put(self->r.s, BACK, i * 100, 100));
	}
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 500));
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, tls_put(self->r.s, TLS_HANDSHAKE, "\4\0\0\4last", 8));
	ASSERT_EQ(0, fin(&self->r.s));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(0, at_eof(self->r.c));
	failed(SPL_EOF, 0);
	EXPECT_EQ(501, self->ev.bytes_back);
}

/* The peer of a sink is told that the stream has ended, and was not cut. */
#define said_its_end(fd)								\
	do {										\
		char __byte;								\
		EXPECT_EQ(0, tls_take(fd, TLS_ALERT, "\1\0", 2));			\
		EXPECT_LT(0, poll_fd(fd, POLLIN, WAIT_MS));				\
		EXPECT_EQ(0, recv(fd, &__byte, 1, MSG_DONTWAIT));			\
	} while (0)

TEST_F(ktls, end_is_said)
{
	give();
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5000));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 5000));
	said_its_end(self->r.s);
	/* the other direction lives on */
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 5000));
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 5000));
	ASSERT_EQ(0, fin(&self->r.s));
	said_its_end(self->r.c);
	failed(SPL_EOF, 0);
	EXPECT_EQ(5000, self->ev.bytes);
	EXPECT_EQ(5000, self->ev.bytes_back);
}

/* Of a forward only when that is asked for; close_notify alone is the end of its source as well. */
TEST_F(ktls, end_is_said_when_asked)
{
	forward(SPL_ALL, .flags = 0);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 500));
	ASSERT_EQ(0, tls_close_notify(self->r.c));
	failed(SPL_EOF, 0);
	EXPECT_EQ(SPL_END_SOURCE, self->ev.ended);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 500));
	EXPECT_EQ(0, at_quiet(self->r.s));
	forward(SPL_ALL, .flags = SPL_F_SHUTDOWN);
	failed(SPL_EOF, 0);
	said_its_end(self->r.s);
	EXPECT_EQ(0, tls_take(self->r.a, TLS_ALERT, "\1\0", 2));
	/* the other halves work */
	EXPECT_EQ(0, put(self->r.s, BACK, 0, 10));
	EXPECT_EQ(0, take(self->r.b, BACK, 0, 10));
}

/* A stream that ends without saying so has ended; the caller of a forward can tell. */
TEST_F(ktls, end_that_is_not_said)
{
	char byte;

	forward(SPL_ALL, .flags = 0);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 500));
	ASSERT_EQ(0, shutdown(self->r.c, SHUT_WR));
	failed(SPL_EOF, 0);
	EXPECT_EQ(500, self->ev.bytes);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 500));
	EXPECT_EQ(0, recv(self->r.a, &byte, 1, MSG_DONTWAIT));
	give();
	said_its_end(self->r.s);
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	said_its_end(self->r.c);
	failed(SPL_EOF, 0);
}

/* Nothing is lost when the end comes while there is no room for it, nor for the rest of a record. */
TEST_F_TIMEOUT(ktls, end_at_a_full_sink, 60)
{
	/* six records and some: much more than the sink holds; through buffers of 8 kB they take a second */
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = 100000, .fin = true };

	ASSERT_EQ(0, set_opt(self->r.b, SOL_SOCKET, SO_SNDBUF, 8192));
	ASSERT_EQ(0, set_opt(self->r.s, SOL_SOCKET, SO_RCVBUF, 8192));
	give();
	ASSERT_EQ(0, stream_send(&tx));
	sleep_ms(500);
	ASSERT_EQ(0, take(self->r.s, SEED, 0, tx.len));
	ASSERT_EQ(0, stream_join(&tx));
	said_its_end(self->r.s);
	ASSERT_EQ(0, fin(&self->r.s));
	failed(SPL_EOF, 0);
	EXPECT_EQ(tx.len, self->ev.bytes);
}

/* The sink is full within a record: what was accepted comes, nothing else, and the rest is there. */
TEST_F_TIMEOUT(ktls, cancelled_within_a_record, 100)
{
	unsigned int i, rounds = scaled(20) + 3;
	uint64_t pos = 0, seen = 0, state = 7;
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	int64_t held;

	ASSERT_EQ(0, set_opt(self->r.b, SOL_SOCKET, SO_SNDBUF, 8192));
	ASSERT_EQ(0, set_opt(self->r.s, SOL_SOCKET, SO_RCVBUF, 8192));
	ASSERT_EQ(0, stream_send(&tx));
	for (i = 0; i < rounds; i++) {
		forward(SPL_ALL, .flags = 0);
		usleep(30000 + rnd_below(&state, 10000));
		ASSERT_EQ(0, spl_cancel(self->s, self->token));
		failed(SPL_CANCELED, 0);
		seen += self->ev.bytes;
		ASSERT_EQ(0, take(self->r.s, SEED, pos, self->ev.bytes)) {
			TH_LOG("round %u", i);
		}
		pos += self->ev.bytes;
		held = take_residue(self->s, self->token, SEED, pos);
		ASSERT_LE(0, held);
		pos += held;
		/* not even the border of a record */
		ASSERT_EQ(0, take(self->r.a, SEED, pos, 1000 + i));
		pos += 1000 + i;
	}
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_LT(0, seen);
	tx.stop = true;
	ASSERT_EQ(0, tcp_reset(&self->r.a));
	stream_join(&tx);
}

SUITE_MAIN
