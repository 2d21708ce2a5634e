// SPDX-License-Identifier: GPL-2.0
/* adopt.c: another process takes over the event of a splice, and what the first does then is nothing to it. */
#include "harness.h"

#define SEED 1
#define UNPRIVILEGED "net/sksplice/unprivileged"

FIXTURE(adopt) {
	struct spl *s, *next;
	struct relay r;
	uint64_t token;
};

FIXTURE_VARIANT(adopt) {
	enum spl_engine engine;
	enum net net;
};

VARIANT(adopt, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);
VARIANT(adopt, kmod_unix, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX);
VARIANT(adopt, kmod_tls2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_TLS_TO_TCP);

FIXTURE_SETUP(adopt)
{
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	ASSERT_EQ(0, engine_open(&self->next, variant->engine));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(adopt)
{
	spl_close(self->s);
	spl_close(self->next);
	relay_close(&self->r);
}

#define pair(...)									\
	do {										\
		begun(spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(__VA_ARGS__), &self->token)); \
		self->r.a = self->r.b = -1;						\
	} while (0)

/* The one event, in the context that adopted. */
#define ends_there(tok, why, count)							\
	do {										\
		struct spl_event __ev;							\
		ASSERT_EQ(0, event_of(self->next, tok, &__ev));				\
		EXPECT_EQ(why, __ev.cause);						\
		EXPECT_EQ((uint64_t)(count), __ev.bytes);				\
		EXPECT_EQ(77, __ev.user_data);						\
	} while (0)

static int both_fin(struct relay *r)
{
	int err = fin(&r->c);

	return err ? err : fin(&r->s);
}

TEST_F(adopt, gets_the_event)
{
	uint64_t until = now_ms() + WAIT_MS;
	struct spl_stat st;

	pair(.user_data = 77);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 100));
	ASSERT_EQ(0, spl_adopt(self->next, self->token)) {
		TH_LOG("%s", spl_strerror_last(self->next));
	}
	/* a worker counts them when it has sent them, which the reader may be told before */
	do {
		ASSERT_EQ(0, spl_stat(self->next, self->token, &st));
	} while (st.bytes != 100 && now_ms() < until);
	EXPECT_EQ(100, st.bytes);
	ASSERT_EQ(0, put(self->r.c, SEED, 100, 100));
	ASSERT_EQ(0, take(self->r.s, SEED, 100, 100));
	ASSERT_EQ(0, both_fin(&self->r));
	ends_there(self->token, SPL_EOF, 200);
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, no_event(self->next));
}

/* What it was before has no hold on it any more. */
TEST_F(adopt, leaves_the_first)
{
	pair(.user_data = 77);
	ASSERT_EQ(0, spl_adopt(self->next, self->token));
	EXPECT_EQ(-ENOENT, spl_cancel(self->s, self->token));
	spl_close(self->s);
	self->s = NULL;
	EXPECT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, spl_cancel(self->next, self->token));
	ends_there(self->token, SPL_CANCELED, 1);
}

/* Whoever began it may be gone for long. */
TEST_F(adopt, orphan)
{
	int pipe_fds[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(pipe_fds));
	pid = fork();
	if (!pid) {
		struct spl *s;
		uint64_t token;

		_exit(engine_open(&s, variant->engine) ||
		      spl_splice_pair(s, self->r.a, self->r.b, OPTS(.user_data = 77), &token) ||
		      write(pipe_fds[1], &token, sizeof(token)) != sizeof(token));
	}
	ASSERT_EQ(0, reap(pid));
	ASSERT_EQ(sizeof(self->token), read(pipe_fds[0], &self->token, sizeof(self->token)));
	close_fd(&self->r.a);
	close_fd(&self->r.b);
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	ASSERT_EQ(0, spl_adopt(self->next, self->token));
	ASSERT_EQ(0, both_fin(&self->r));
	ends_there(self->token, SPL_EOF, 1);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

/* To and fro; it is the one's which had it last. */
TEST_F(adopt, on_and_on)
{
	int i;

	pair(.user_data = 77);
	for (i = 0; i < 101; i++) {
		struct spl *to = i % 2 ? self->s : self->next;

		ASSERT_EQ(0, spl_adopt(to, self->token));
		ASSERT_EQ(-EINVAL, spl_adopt(to, self->token));
	}
	ASSERT_EQ(0, both_fin(&self->r));
	ends_there(self->token, SPL_EOF, 0);
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(-ENOENT, spl_adopt(self->s, self->token));
}

TEST_F(adopt, refused)
{
	struct spl_event ev;

	EXPECT_EQ(-ENOENT, spl_adopt(self->next, 0x7777777777));
	EXPECT_LT(0, strlen(spl_strerror_last(self->next)));
	begun(spl_forward(self->s, self->r.a, self->r.b, 10, NULL, &self->token));
	EXPECT_EQ(-EINVAL, spl_adopt(self->next, self->token));
	EXPECT_EQ(-EINVAL, spl_adopt(self->s, self->token));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(-ENOENT, spl_adopt(self->next, self->token));
	pair();
	EXPECT_EQ(-EINVAL, spl_adopt(self->s, self->token));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(-ENOENT, spl_adopt(self->next, self->token));
}

/* Not of another user, who may splice. */
TEST_F(adopt, another_user)
{
	long before;
	pid_t pid;

	ASSERT_EQ(0, sysctl_get(UNPRIVILEGED, &before));
	ASSERT_EQ(0, sysctl_set(UNPRIVILEGED, 1));
	pair(.user_data = 77);
	pid = fork();
	if (!pid) {
		struct spl *s;

		_exit(drop_privileges() || engine_open(&s, variant->engine) ||
		      spl_adopt(s, self->token) != -ENOENT);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(0, sysctl_set(UNPRIVILEGED, before));
	ASSERT_EQ(0, spl_adopt(self->next, self->token));
	ASSERT_EQ(0, both_fin(&self->r));
	ends_there(self->token, SPL_EOF, 0);
}

struct grabber {
	struct spl *s;
	uint64_t token;
	int ret;
	pthread_t thread;
};

static void *grab(void *data)
{
	struct grabber *g = data;

	g->ret = spl_adopt(g->s, g->token);
	return NULL;
}

/* Adopted by two while it ends: whoever comes too late is told, and the event comes once. */
TEST_F_TIMEOUT(adopt, while_it_ends, 60)
{
	unsigned int i, rounds = bulk(variant->net, scaled(300)), events, adopted = 0;
	struct grabber g[2];
	struct spl_event ev;
	struct spl *third;

	ASSERT_EQ(0, engine_open(&third, variant->engine));
	for (i = 0; i < rounds; i++) {
		relay_close(&self->r);
		ASSERT_EQ(0, relay_open(&self->r, variant->net));
		pair();
		g[0] = (struct grabber){ .s = self->next, .token = self->token };
		g[1] = (struct grabber){ .s = third, .token = self->token };
		ASSERT_EQ(0, pthread_create(&g[0].thread, NULL, grab, &g[0]));
		ASSERT_EQ(0, pthread_create(&g[1].thread, NULL, grab, &g[1]));
		if (i % 2)
			usleep(i % 7 * 30);
		ASSERT_EQ(0, both_fin(&self->r));
		pthread_join(g[0].thread, NULL);
		pthread_join(g[1].thread, NULL);
		ASSERT_TRUE(g[0].ret == 0 || g[0].ret == -ENOENT);
		ASSERT_TRUE(g[1].ret == 0 || g[1].ret == -ENOENT);
		adopted += !g[0].ret + !g[1].ret;
		for (events = 0; !events; ) {
			events += spl_next(self->s, &ev, 0) == 1;
			events += spl_next(self->next, &ev, 10) == 1;
			events += spl_next(third, &ev, 0) == 1;
		}
		ASSERT_EQ(1, events);
		EXPECT_EQ(SPL_EOF, ev.cause);
	}
	EXPECT_EQ(0, no_event(self->s) + no_event(self->next) + no_event(third));
	TH_LOG("adopted %u times in %u rounds", adopted, rounds);
	EXPECT_LT(0, adopted);
	spl_close(third);
}

/* Whether the owner is there, going or gone: it lives on, and its event comes. */
TEST_F_TIMEOUT(adopt, while_the_owner_goes, 60)
{
	unsigned int i, rounds = bulk(variant->net, scaled(200));
	struct spl *first;
	struct grabber g;

	for (i = 0; i < rounds; i++) {
		relay_close(&self->r);
		ASSERT_EQ(0, relay_open(&self->r, variant->net));
		ASSERT_EQ(0, engine_open(&first, variant->engine));
		begun(spl_splice_pair(first, self->r.a, self->r.b, OPTS(.user_data = 77), &self->token));
		self->r.a = self->r.b = -1;
		g = (struct grabber){ .s = self->next, .token = self->token };
		ASSERT_EQ(0, pthread_create(&g.thread, NULL, grab, &g));
		if (i % 2)
			usleep(i % 7 * 30);
		spl_close(first);
		pthread_join(g.thread, NULL);
		ASSERT_EQ(0, g.ret);
		ASSERT_EQ(0, alive(self->r.c, self->r.s));
		ASSERT_EQ(0, both_fin(&self->r));
		ends_there(self->token, SPL_EOF, 1);
		ASSERT_EQ(1, _metadata->passed);
	}
}

SUITE_MAIN
