// SPDX-License-Identifier: GPL-2.0
/* oneway.c: splices of one direction: they own a source and a sink, and leave the other halves alone. */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(oneway) {
	struct spl *s;
	struct relay r;
	uint64_t token;
};

FIXTURE_VARIANT(oneway) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_SOCKETS(oneway);
USER_SOCKETS(oneway);
USER_PIPES(oneway);
USER_LOSSLESS(oneway);
USER_TLS(oneway);
VARIANT(oneway, user_pipe_lossless, .engine = SPL_ENGINE_USER, .net = NET_PIPE,
	.require = SPL_CAP_LOSSLESS);

FIXTURE_SETUP(oneway)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(oneway)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* Gives a and b away. */
#define give(opts)									\
	do {										\
		begun(spl_splice(self->s, self->r.a, self->r.b, opts, &self->token));	\
		self->r.a = self->r.b = -1;						\
	} while (0)

#define lend(...)									\
	begun(spl_splice(self->s, self->r.a, self->r.b,					\
			 OPTS(.flags = SPL_F_KEEP, ##__VA_ARGS__), &self->token))

TEST_F_TIMEOUT(oneway, to_the_end, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = bulk(variant->net, 3000000), .fin = true };

	give(NULL);
	ASSERT_EQ(0, stream_send(&tx));
	EXPECT_EQ((int64_t)tx.len, take_rest(self->r.s, SEED, 0));
	EXPECT_EQ(0, stream_join(&tx));
	self->r.c = tx.fd;
	ends(self->token, SPL_EOF, 0, tx.len);
	/* it owned both: they are closed now */
	if (self->r.c >= 0)
		EXPECT_EQ(0, at_end(self->r.c));
}

TEST_F(oneway, all_had_come_before)
{
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 20000));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, wait_queued(self->r.a, 20000));
	give(NULL);
	EXPECT_EQ(20000, take_rest(self->r.s, SEED, 0));
	ends(self->token, SPL_EOF, 0, 20000);
}

NEEDS(oneway, keeps_the_other_half, NEEDS_TWO_WAY);
TEST_F(oneway, keeps_the_other_half)
{
	lend();
	EXPECT_EQ(0, put(self->r.s, BACK, 0, 5000));
	EXPECT_EQ(0, take(self->r.b, BACK, 0, 5000));
	EXPECT_EQ(0, put(self->r.a, BACK, 0, 5000));
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 5000));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5000));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(5000, take_rest(self->r.s, SEED, 0));
	ends(self->token, SPL_EOF, 0, 5000);
	EXPECT_EQ(0, put(self->r.a, BACK, 5000, 10));
	EXPECT_EQ(0, take(self->r.c, BACK, 5000, 10));
}

/* Of what is given away nothing comes back but what is on its way; of what is kept, all of it. */
TEST_F_TIMEOUT(oneway, cancel_while_blocked, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	struct spl_event ev;

	lend();
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_stuck(&tx, 300));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_CANCELED, ev.cause);
	tx.stop = true;
	EXPECT_EQ(0, take(self->r.s, SEED, 0, ev.bytes));
	EXPECT_EQ(0, at_quiet(self->r.s));
	ASSERT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, take_back(self->s, self->token, self->r.a, SEED, ev.bytes, tx.done - ev.bytes));
}

TEST_F_TIMEOUT(oneway, residue_of_what_was_given, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	struct spl_event ev;
	int64_t held, rest;

	give(NULL);
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_stuck(&tx, 300));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_CANCELED, ev.cause);
	held = take_residue(self->s, self->token, SEED, ev.bytes);
	EXPECT_LE(0, held);
	EXPECT_TRUE(!held || !(spl_caps(self->s) & SPL_CAP_LOSSLESS));
	/* each byte is handed out once */
	EXPECT_EQ(0, take_residue(self->s, self->token, SEED, 0));
	rest = take_rest(self->r.s, SEED, 0);
	/* of a closed TLS socket goes what TCP had no room for yet; user cannot see that there is such */
	if (variant->engine == SPL_ENGINE_USER && is_tls(self->r.s)) {
		EXPECT_GE(TLS_RECORD, (int64_t)ev.bytes - rest);
	} else {
		EXPECT_EQ((int64_t)ev.bytes, rest);
	}
	EXPECT_LE(rest, (int64_t)ev.bytes);
	EXPECT_NE(0, stream_join(&tx));
	EXPECT_LE(ev.bytes + held, tx.done);
}

/* Only the event read last still has one. */
TEST_F(oneway, residue_is_of_the_last_event)
{
	uint64_t second;

	lend();
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	EXPECT_EQ(0, take_residue(self->s, self->token, SEED, 0));
	ends(self->token, SPL_CANCELED, 0, 0);
	EXPECT_EQ(0, take_residue(self->s, self->token, SEED, 0));
	begun(spl_forward(self->s, self->r.a, self->r.b, 0, NULL, &second));
	ends(second, SPL_DONE, 0, 0);
	EXPECT_EQ(-ENOENT, take_residue(self->s, self->token, SEED, 0));
	EXPECT_EQ(0, take_residue(self->s, second, SEED, 0));
	EXPECT_EQ(-ENOENT, take_residue(self->s, second + 1000, SEED, 0));
}

/* Sends what a splice took and did not deliver. */
static int send_residue(struct spl *s, uint64_t token, int sink)
{
	static uint8_t buf[1 << 20];
	int n = spl_residue(s, token, buf, sizeof(buf)), off, sent;

	for (off = 0; off < n; off += sent) {
		if (poll_fd(sink, POLLOUT, WAIT_MS) <= 0)
			return -ETIMEDOUT;
		sent = n - off < 4096 ? n - off : 4096;
		sent = write(sink, buf + off, sent);
		if (sent < 0)
			return -errno;
	}
	return n < 0 ? n : 0;
}

/* What the kernel has for a sink it does not give back: it is tried again until the sink has it. */
static int reclaim(struct spl *s, uint64_t token, int fds[2])
{
	uint64_t until = now_ms() + WAIT_MS;
	int r;

	while ((r = spl_reclaim(s, token, fds)) == -EAGAIN && run_now.skb && now_ms() < until)
		sleep_ms(1);
	return r;
}

/* Taken back in mid-stream and given away again: what it held is sent by hand, and no byte is lost. */
TEST_F_TIMEOUT(oneway, reclaims, 200)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL, .pause_us = 500 };
	struct stream rx = { .fd = self->r.s, .seed = SEED, .len = SPL_ALL, .chunk = 30000 };
	unsigned int i, rounds = repeats(variant->net, 100);
	int fds[2] = { self->r.a, self->r.b };
	uint64_t state = 3, token;

	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_recv(&rx));
	/* where others are busy all rounds may be over before it begins */
	while (!tx.done && !tx.err)
		sleep_ms(1);
	for (i = 0; i < rounds && !rx.err && !tx.err; i++) {
		begun(spl_splice(self->s, fds[0], fds[1], NULL, &token));
		usleep(rnd_below(&state, 4000));
		ASSERT_EQ(0, reclaim(self->s, token, fds)) {
			TH_LOG("round %u: %s", i, spl_strerror_last(self->s));
		}
		ASSERT_EQ(0, send_residue(self->s, token, fds[1])) {
			TH_LOG("round %u", i);
		}
		if (i % 2) {
			struct spl_event ev;

			ASSERT_EQ(0, event_of(self->s, token, &ev));
			EXPECT_EQ(SPL_CANCELED, ev.cause);
		}
	}
	begun(spl_splice(self->s, fds[0], fds[1], NULL, &token));
	self->r.a = self->r.b = -1;
	tx.stop = tx.fin = true;
	EXPECT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, stream_join(&rx));
	self->r.c = tx.fd;
	EXPECT_EQ(tx.done, rx.done);
	EXPECT_LT(0, rx.done);
}

/* What the source had sent before it failed is delivered, or at least counted right. */
NEEDS(oneway, source_resets, NEEDS_TCP_CLIENT);
TEST_F(oneway, source_resets)
{
	give(NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 5000));
	ASSERT_EQ(0, tcp_reset(&self->r.c));
	ends(self->token, SPL_SOURCE_FAILED, ECONNRESET, 5000);
	EXPECT_EQ(0, at_cut(self->r.s));
}

TEST_F(oneway, sink_goes)
{
	struct spl_event ev;
	uint64_t pos;
	int n = 0;

	give(NULL);
	close_fd(&self->r.s);
	for (pos = 0; !n && pos < WAIT_MS; pos++) {
		int err = put(self->r.c, SEED, pos, 1);

		/* the sender may be told before we are */
		ASSERT_TRUE(!err || err == -EPIPE || err == -ECONNRESET);
		n = spl_wait(self->s, self->token, &ev, 1);
	}
	ASSERT_EQ(1, n);
	EXPECT_EQ(SPL_SINK_FAILED, ev.cause);
	EXPECT_TRUE(ev.error == EPIPE || ev.error == ECONNRESET) {
		TH_LOG("%s", strerror(ev.error));
	}
}

TEST_F(oneway, revoke)
{
	uint64_t until = now_us() + WAIT_MS * 1000;
	struct spl_stat st;

	give(NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 10));
	/* they may be here before they are counted */
	do {
		ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
	} while ((st.bytes != 10 || st.wants != SPL_WANTS_READ) && now_us() < until);
	EXPECT_EQ(10, st.bytes);
	EXPECT_EQ(SPL_WANTS_READ, st.wants);
	ASSERT_EQ(0, spl_revoke(self->s, self->token, 0));
	EXPECT_EQ(-ENOENT, spl_stat(self->s, self->token, &st));
	EXPECT_EQ(0, at_cut(self->r.s));
	EXPECT_EQ(0, is_tcp(self->r.c) ? at_reset(self->r.c) : at_end(self->r.c));
	ends(self->token, SPL_REVOKED, ECONNRESET, 10);
}

SUITE_MAIN
