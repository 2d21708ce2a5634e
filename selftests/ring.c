// SPDX-License-Identifier: GPL-2.0
/*
 * ring.c: a byte that comes back to where it was goes round until somebody ends that. Two forwards make a ring: what c
 * says goes a, b, s and is c's word again.
 */
#include "harness.h"

#define SEED 1
#define RING 5000	/* bytes that go round */

FIXTURE(ring) {
	struct spl *s;
	struct relay r;
	uint64_t token[2];
	struct spl_event ev;
};

FIXTURE_VARIANT(ring) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_FEW(ring);
VARIANT(ring, sockmap_v4, .engine = SPL_ENGINE_SOCKMAP, .net = NET_V4);
VARIANT(ring, user_v4, .engine = SPL_ENGINE_USER, .net = NET_V4);
VARIANT(ring, user_unix, .engine = SPL_ENGINE_USER, .net = NET_UNIX);
VARIANT(ring, user_tcp2unix, .engine = SPL_ENGINE_USER, .net = NET_TCP_TO_UNIX);
USER_LOSSLESS(ring);
VARIANT(ring, user_tls, .engine = SPL_ENGINE_USER, .net = NET_TLS);

FIXTURE_SETUP(ring)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(ring)
{
	spl_close(self->s);
	relay_close(&self->r);
}

static int ring_begin(struct spl *s, struct relay *r, uint64_t token[2])
{
	int err = put(r->c, SEED, 0, RING) ?: wait_queued(r->a, RING);

	return err ?: spl_forward(s, r->a, r->b, SPL_ALL, NULL, &token[0]) ?:
	       spl_forward(s, r->s, r->c, SPL_ALL, NULL, &token[1]);
}

/* How far it has gone, until it is as far as that. */
static int goes_round(struct spl *s, uint64_t token, uint64_t bytes)
{
	uint64_t until = now_ms() + WAIT_MS;
	struct spl_stat st;
	int err;

	do {
		sleep_ms(5);
		err = spl_stat(s, token, &st);
	} while (!err && st.bytes < bytes && now_ms() < until);
	return err ?: st.bytes < bytes ? -ETIMEDOUT : 0;
}

/* What is in the ring when it stands still, and what an engine had in its hands. */
static int64_t ring_bytes(struct spl *s, struct relay *r, uint64_t token)
{
	static char buf[65536];
	int64_t count = 0;
	ssize_t n;

	while ((n = spl_residue(s, token, buf, sizeof(buf))) > 0)
		count += n;
	sleep_ms(QUIET_MS);
	while ((n = recv(r->a, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		count += n;
	while ((n = recv(r->s, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		count += n;
	return count;
}

TEST_F(ring, cancelled)
{
	int64_t held, count;

	begun(ring_begin(self->s, &self->r, self->token));
	ASSERT_EQ(0, goes_round(self->s, self->token[0], 20 * RING));
	ASSERT_EQ(0, spl_cancel(self->s, self->token[1]));
	ASSERT_EQ(0, event_of(self->s, self->token[1], &self->ev));
	EXPECT_EQ(SPL_CANCELED, self->ev.cause);
	EXPECT_LE(19 * RING, self->ev.bytes);
	held = ring_bytes(self->s, &(struct relay){ .a = -1, .s = -1 }, self->token[1]);
	ASSERT_EQ(0, spl_cancel(self->s, self->token[0]));
	ASSERT_EQ(0, event_of(self->s, self->token[0], &self->ev));
	EXPECT_EQ(SPL_CANCELED, self->ev.cause);
	count = ring_bytes(self->s, &self->r, self->token[0]);
	EXPECT_EQ(RING, held + count);
}

TEST_F(ring, revoked)
{
	begun(ring_begin(self->s, &self->r, self->token));
	ASSERT_EQ(0, goes_round(self->s, self->token[1], 20 * RING));
	ASSERT_EQ(0, spl_revoke(self->s, self->token[0], EPERM));
	ASSERT_EQ(0, event_of(self->s, self->token[0], &self->ev));
	EXPECT_EQ(SPL_REVOKED, self->ev.cause);
	EXPECT_EQ(EPERM, self->ev.error);
	ASSERT_EQ(0, event_of(self->s, self->token[1], &self->ev));
	EXPECT_NE(SPL_DONE, self->ev.cause);
}

/* Its owner can be killed, however busy it is; the ends are free then. */
TEST_F(ring, ends_with_its_owner)
{
	uint64_t until;
	struct spl *s;
	pid_t pid = fork();
	int err, status;

	ASSERT_LE(0, pid);
	if (!pid) {
		if (engine_open_with(&s, variant->engine, variant->require) || ring_begin(s, &self->r, self->token))
			_exit(1);
		for (;;)
			pause();
	}
	sleep_ms(300);
	ASSERT_EQ(0, waitpid(pid, &status, WNOHANG));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	until = now_ms() + WAIT_MS;
	do {
		sleep_ms(5);
		err = spl_forward(self->s, self->r.a, self->r.b, 0, NULL, &self->token[0]) ?:
		      spl_forward(self->s, self->r.s, self->r.c, 0, NULL, &self->token[1]);
	} while (err == -EBUSY && now_ms() < until);
	EXPECT_EQ(0, err);
}

SUITE_MAIN
