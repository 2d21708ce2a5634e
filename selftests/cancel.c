// SPDX-License-Identifier: GPL-2.0
/* cancel.c: an operation ended early loses nothing: forwarded + still readable = sent. */
#include "harness.h"

#define SEED 1

FIXTURE(cancel) {
	struct spl *s;
	struct relay r;
};

FIXTURE_VARIANT(cancel) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

VARIANT(cancel, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);
VARIANT(cancel, kmod_mixed, .engine = SPL_ENGINE_KMOD, .net = NET_MIXED);
KMOD_UNIX(cancel);
KMOD_TLS(cancel);
KMOD_MORE_TLS(cancel);
USER_SOCKETS(cancel);
USER_PIPES(cancel);
USER_LOSSLESS(cancel);
USER_TLS(cancel);

FIXTURE_SETUP(cancel)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(cancel)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define start(n, token)	\
	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, n, NULL, token)) {	\
		TH_LOG("refused: %s", spl_strerror_last(self->s));			\
	}

/* The caller reads some of what is there on the source; the new position. */
static int64_t read_some(int fd, uint64_t pos, uint64_t *state)
{
	int have = queued(fd), err;
	size_t n;

	if (have <= 0)
		return pos;
	n = rnd_size(state, have);
	err = take(fd, SEED, pos, n);
	return err ? err : (int64_t)(pos + n);
}

/* On one connection, so that a byte too many in a round shows in the next. */
TEST_F_TIMEOUT(cancel, at_any_moment, 400)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL, .chunk = 30000,
			     .pause_us = 1000 };
	unsigned int i, rounds = bulk(variant->net, scaled(1000));
	uint64_t state = 3, pos = 0, seen = 0;
	struct spl_event ev;
	uint64_t token;
	int64_t next;

	/* in each of its rounds user moves all that there is room for */
	if (variant->engine != SPL_ENGINE_KMOD && rounds < scaled(1000))
		rounds /= 4;
	ASSERT_EQ(0, stream_send(&tx));
	for (i = 0; i < rounds; i++) {
		start(SPL_ALL, &token);
		usleep(rnd_below(&state, 2000));
		ASSERT_EQ(0, spl_cancel(self->s, token));
		ASSERT_EQ(0, event_of(self->s, token, &ev));
		ASSERT_EQ(SPL_CANCELED, ev.cause);
		ASSERT_EQ(0, ev.error);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, ev.bytes)) {
			TH_LOG("round %u, %llu bytes", i, (unsigned long long)ev.bytes);
		}
		seen += ev.bytes;
		pos += ev.bytes;
		next = take_residue(self->s, token, SEED, pos);
		ASSERT_LE(0, next);
		EXPECT_TRUE(!next || !(spl_caps(self->s) & SPL_CAP_LOSSLESS));
		pos += next;
		next = read_some(self->r.a, pos, &state);
		ASSERT_LE(0, next) {
			TH_LOG("round %u: the source does not go on at %llu", i,
			       (unsigned long long)pos);
		}
		pos = next;
	}
	tx.stop = true;
	ASSERT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, take(self->r.a, SEED, pos, tx.done - pos));
	EXPECT_EQ(0, at_quiet(self->r.a));
	EXPECT_LT(0, seen);
}

/* The sink is full, nobody reads it: what was accepted comes, the rest stays. */
TEST_F_TIMEOUT(cancel, while_blocked, 120)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL };
	struct spl_event ev;
	uint64_t token;

	start(SPL_ALL, &token);
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_stuck(&tx, 500));
	ASSERT_EQ(0, spl_cancel(self->s, token));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_CANCELED, ev.cause);
	tx.stop = true;
	ASSERT_EQ(0, take(self->r.s, SEED, 0, ev.bytes));
	EXPECT_EQ(0, at_quiet(self->r.s));
	ASSERT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, take_back(self->s, token, self->r.a, SEED, ev.bytes, tx.done - ev.bytes));
}

/* Against the completion: either way one event, and the bytes add up. */
TEST_F_TIMEOUT(cancel, against_completion, 200)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL, .chunk = 3000,
			     .pause_us = 300 };
	unsigned int i, rounds = bulk(variant->net, scaled(1000)), late = 0, most = 400;
	uint64_t state = 9, pos = 0, token;
	struct spl_event ev;
	int64_t held;
	size_t n;
	int ret;

	ASSERT_EQ(0, stream_send(&tx));
	for (i = 0; i < rounds; i++, pos += ev.bytes) {
		n = 1 + rnd_below(&state, 20000);
		start(n, &token);
		usleep(rnd_below(&state, most));
		ret = spl_cancel(self->s, token);
		late += ret == -ENOENT;
		/* to where it takes so long */
		if (!late && most < 400000)
			most *= 2;
		ASSERT_TRUE(ret == 0 || ret == -ENOENT);
		ASSERT_EQ(0, event_of(self->s, token, &ev));
		ASSERT_EQ(ret ? SPL_DONE : SPL_CANCELED, ev.cause);
		ASSERT_TRUE(ret ? ev.bytes == n : ev.bytes <= n);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, ev.bytes));
		held = take_residue(self->s, token, SEED, pos + ev.bytes);
		ASSERT_LE(0, held);
		ASSERT_GE(n, ev.bytes + held);
		pos += held;
	}
	tx.stop = true;
	ASSERT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, take(self->r.a, SEED, pos, tx.done - pos));
	EXPECT_EQ(0, no_event(self->s));
	TH_LOG("%u of %u had ended before", late, rounds);
	EXPECT_LT(0, late);
	EXPECT_GT(rounds, late);
}

TEST_F(cancel, twice)
{
	struct spl_event ev;
	uint64_t token;

	start(SPL_ALL, &token);
	EXPECT_EQ(0, spl_cancel(self->s, token));
	EXPECT_EQ(-ENOENT, spl_cancel(self->s, token));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_CANCELED, ev.cause);
	EXPECT_EQ(-ENOENT, spl_cancel(self->s, token));
	EXPECT_EQ(0, no_event(self->s));
}

TEST_F(cancel, ended)
{
	struct spl_event ev;
	uint64_t token;

	start(3, &token);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 3));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_DONE, ev.cause);
	EXPECT_EQ(-ENOENT, spl_cancel(self->s, token));
	EXPECT_EQ(-ENOENT, spl_revoke(self->s, token, EIO));
}

TEST_F(cancel, unknown)
{
	struct spl_stat st;
	uint64_t token;
	int fds[2];

	start(SPL_ALL, &token);
	EXPECT_EQ(-ENOENT, spl_cancel(self->s, token + 1000));
	EXPECT_EQ(-ENOENT, spl_cancel(self->s, 0));
	EXPECT_EQ(-ENOENT, spl_revoke(self->s, token + 1000, EIO));
	EXPECT_EQ(-ENOENT, spl_reclaim(self->s, token + 1000, fds));
	EXPECT_EQ(-ENOENT, spl_stat(self->s, token + 1000, &st));
	EXPECT_EQ(0, spl_cancel(self->s, token));
}

/* A context knows its own tokens only. */
TEST_F(cancel, of_another_context)
{
	struct spl_event ev;
	struct spl_stat st;
	struct spl *other;
	uint64_t token;

	ASSERT_EQ(0, engine_open(&other, variant->engine));
	start(10, &token);
	EXPECT_EQ(-ENOENT, spl_cancel(other, token));
	EXPECT_EQ(-ENOENT, spl_revoke(other, token, EIO));
	EXPECT_EQ(-ENOENT, spl_stat(other, token, &st));
	EXPECT_EQ(-ENOENT, spl_wait(other, token, &ev, 0));
	spl_close(other);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(SPL_DONE, ev.cause);
	EXPECT_EQ(10, ev.bytes);
}

/* On return of spl_close() the ends are the caller's again. */
NEEDS(cancel, by_close_of_the_context, NEEDS_TWO_WAY);
TEST_F(cancel, by_close_of_the_context)
{
	struct spl_event ev;
	uint64_t token, back;

	start(SPL_ALL, &token);
	ASSERT_EQ(0, spl_forward(self->s, self->r.b, self->r.a, SPL_ALL, NULL, &back));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 100));
	spl_close(self->s);
	self->s = NULL;
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	start(5, &token);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 6));
	ASSERT_EQ(0, event_of(self->s, token, &ev));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 5));
	EXPECT_EQ(0, take(self->r.a, SEED, 5, 1));
}

/* Holds a forward until it is killed; tells by a byte when it runs. */
static void forward_until_killed(const struct relay *r, enum spl_engine engine, int tell)
{
	uint64_t token;
	struct spl *s;

	if (engine_open(&s, engine) || spl_forward(s, r->a, r->b, SPL_ALL, NULL, &token))
		_exit(1);
	if (write(tell, "x", 1) != 1)
		_exit(2);
	for (;;)
		pause();
}

/* kill -9 of the owner gives the ends back to whoever else has them. */
NEEDS(cancel, by_death_of_the_owner, SPL_CAP_EXCLUSIVE);
TEST_F_TIMEOUT(cancel, by_death_of_the_owner, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = bulk(variant->net, 40000000),
			     .fin = true };
	size_t max = tx.len + 1;
	uint8_t *rest = malloc(max);
	uint64_t until;
	int tell[2];
	int64_t own;
	pid_t pid;
	char byte;

	ASSERT_NE(NULL, rest);
	ASSERT_EQ(0, pipe(tell));
	pid = fork();
	if (!pid)
		forward_until_killed(&self->r, variant->engine, tell[1]);
	ASSERT_EQ(1, read(tell[0], &byte, 1));
	EXPECT_EQ(-1, recv(self->r.a, &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ(EBUSY, errno);
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 300000));
	kill(pid, SIGKILL);
	ASSERT_EQ(128 + SIGKILL, reap(pid));
	until = now_ms() + WAIT_MS;
	while (recv(self->r.a, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EBUSY) {
		ASSERT_GT(until, now_ms());
	}
	own = drain(self->r.a, rest, max);
	ASSERT_LE(0, own);
	ASSERT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, pattern_check(rest, own, SEED, tx.len - own));
	ASSERT_EQ(0, shutdown(self->r.b, SHUT_WR));
	EXPECT_EQ((int64_t)tx.len - own - 300000, take_rest(self->r.s, SEED, 300000));
	free(rest);
}

SUITE_MAIN
