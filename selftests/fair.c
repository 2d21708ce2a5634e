// SPDX-License-Identifier: GPL-2.0
/* fair.c: many operations of one context: none waits for another one's peer. */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(fair) {
	struct spl *s;
	struct relay r;		/* the one that is in nobody's way */
	uint64_t token;
};

FIXTURE_VARIANT(fair) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

VARIANT(fair, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);
VARIANT(fair, kmod_unix, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX);
VARIANT(fair, kmod_tls2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_TLS_TO_TCP);
USER_SOCKETS(fair);
USER_LOSSLESS(fair);
VARIANT(fair, user_tls2tcp, .engine = SPL_ENGINE_USER, .net = NET_TLS_TO_TCP);

FIXTURE_SETUP(fair)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(fair)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define spliced(r, tok)									\
	do {										\
		begun(spl_splice_pair(self->s, (r)->a, (r)->b, NULL, tok));		\
		(r)->a = (r)->b = -1;							\
	} while (0)

/* A sink that nobody reads: others run to their end, and so does it when somebody reads. */
TEST_F_TIMEOUT(fair, one_is_stuck, 120)
{
	enum { COUNT = 4 };
	struct stream stuck = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	struct stream tx[COUNT], rx[COUNT];
	uint64_t last, len = bulk(variant->net, scaled(4000000)), token[COUNT];
	struct relay r[COUNT];
	int64_t rest;
	int i;

	spliced(&self->r, &self->token);
	ASSERT_EQ(0, stream_send(&stuck));
	ASSERT_EQ(0, stream_stuck(&stuck, 500));
	last = stuck.done;
	for (i = 0; i < COUNT; i++) {
		ASSERT_EQ(0, relay_open(r + i, variant->net));
		spliced(r + i, token + i);
		tx[i] = (struct stream){ .fd = r[i].c, .seed = i, .len = len, .fin = true };
		rx[i] = (struct stream){ .fd = r[i].s, .seed = i, .len = SPL_ALL };
		ASSERT_EQ(0, stream_send(tx + i));
		ASSERT_EQ(0, stream_recv(rx + i));
	}
	for (i = 0; i < COUNT; i++) {
		EXPECT_EQ(0, stream_join(tx + i));
		EXPECT_EQ(0, stream_join(rx + i));
		EXPECT_EQ(len, rx[i].done);
		ASSERT_EQ(0, fin(&r[i].s));
		ends(token[i], SPL_EOF, 0, len);
		relay_close(r + i);
	}
	EXPECT_EQ(last, stuck.done);
	stuck.stop = stuck.fin = true;
	rest = take_rest(self->r.s, SEED, 0);
	EXPECT_EQ(0, stream_join(&stuck));
	EXPECT_EQ((int64_t)stuck.done, rest);
}

/* Small messages beside streams that would fill the context's time. */
TEST_F_TIMEOUT(fair, messages_beside_bulk, 120)
{
	enum { COUNT = 3 };
	struct stream tx[COUNT], rx[COUNT];
	unsigned int i, rounds = bulk(variant->net, scaled(200)) + 20;
	uint64_t worst = 0, began, sum = 0, token;
	struct relay r[COUNT];

	for (i = 0; i < COUNT; i++) {
		ASSERT_EQ(0, relay_open(r + i, variant->net));
		spliced(r + i, &token);
		tx[i] = (struct stream){ .fd = r[i].c, .seed = i, .len = SPL_ALL, .fin = true };
		rx[i] = (struct stream){ .fd = r[i].s, .seed = i, .len = SPL_ALL };
		ASSERT_EQ(0, stream_send(tx + i));
		ASSERT_EQ(0, stream_recv(rx + i));
	}
	spliced(&self->r, &self->token);
	for (i = 0; i < rounds; i++) {
		began = now_us();
		ASSERT_EQ(0, put(self->r.c, SEED, i * 64, 64));
		ASSERT_EQ(0, take(self->r.s, SEED, i * 64, 64));
		ASSERT_EQ(0, put(self->r.s, BACK, i * 64, 64));
		ASSERT_EQ(0, take(self->r.c, BACK, i * 64, 64));
		began = now_us() - began;
		worst = worst > began ? worst : began;
		sum += began;
	}
	TH_LOG("round trip beside bulk us: mean %llu, worst %llu",
	       (unsigned long long)(sum / rounds), (unsigned long long)worst);
	EXPECT_GT(1000000, sum / rounds);
	for (i = 0; i < COUNT; i++)
		tx[i].stop = true;
	for (i = 0; i < COUNT; i++) {
		EXPECT_EQ(0, stream_join(tx + i));
		EXPECT_EQ(0, stream_join(rx + i));
		EXPECT_EQ(tx[i].done, rx[i].done);
		EXPECT_LT(0, rx[i].done);
		relay_close(r + i);
	}
}

/* The limit of one that rests, among many that always have something to do. */
TEST_F_TIMEOUT(fair, idle_among_busy, 60)
{
	enum { MOST = 80 };
	uint64_t began, token, sent = 0, count = bulk(variant->net, MOST);
	struct relay r[MOST];
	struct spl_event ev;
	static char buf[4096];
	int i, n = 0;

	for (i = 0; i < count; i++) {
		ASSERT_EQ(0, relay_open(r + i, variant->net));
		begun(spl_forward(self->s, r[i].a, r[i].b, SPL_ALL, NULL, &token));
	}
	begun(spl_forward(self->s, self->r.a, self->r.b, SPL_ALL, OPTS(.idle_ms = 300), &self->token));
	began = now_ms();
	while (!n && now_ms() - began < 5000) {
		for (i = 0; i < count; i++) {
			sent += send(r[i].c, buf, 100, MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
			recv(r[i].s, buf, sizeof(buf), MSG_DONTWAIT);
		}
		n = spl_next(self->s, &ev, 0);
	}
	ASSERT_EQ(1, n);
	EXPECT_EQ(self->token, ev.token);
	EXPECT_EQ(SPL_IDLE, ev.cause);
	EXPECT_LE(count, sent);
	EXPECT_GT(3000, now_ms() - began);
	for (i = 0; i < count; i++)
		relay_close(r + i);
}

SUITE_MAIN
