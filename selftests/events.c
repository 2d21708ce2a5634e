// SPDX-License-Identifier: GPL-2.0
/* events.c: each operation has one completion, and no completion is lost. */
#include "harness.h"
#include "nl.h"

#define SEED 1

FIXTURE(events) {
	struct spl *s;
	struct relay r;
};

FIXTURE_VARIANT(events) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

VARIANT(events, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);
VARIANT(events, kmod_unix, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX);
SOCKMAP_SOCKETS(events);
VARIANT(events, user_v4, .engine = SPL_ENGINE_USER, .net = NET_V4);
VARIANT(events, user_unix, .engine = SPL_ENGINE_USER, .net = NET_UNIX);

FIXTURE_SETUP(events)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(events)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/*
 * A forward of nothing: its event stays unread. What ends within the call gives its ends back
 * within the call, so the next one finds them free; what kmod leaves to its worker, a moment later.
 */
static int nothing(struct spl *s, const struct relay *r, uint64_t user_data, uint64_t *token)
{
	bool worker = spl_engine(s) == SPL_ENGINE_KMOD && !is_tcp(r->a);
	uint64_t until = now_ms() + WAIT_MS;
	int err;

	do {
		err = spl_forward(s, r->a, r->b, 0, OPTS(.user_data = user_data), token);
	} while (err == -EBUSY && worker && now_ms() < until);
	return err;
}

/* Reads count events; user_data 0..count-1, each once. */
#define each_once(count)							\
	do {									\
		uint8_t *seen_ = calloc(count, 1);				\
		struct spl_event __ev;						\
		unsigned int __i;						\
		for (__i = 0; __i < (count); __i++) {				\
			ASSERT_EQ(1, spl_next(self->s, &__ev, WAIT_MS)) {	\
				TH_LOG("after %u events", __i);			\
			}							\
			ASSERT_GT((count), __ev.user_data);			\
			ASSERT_EQ(0, seen_[__ev.user_data]);			\
			ASSERT_EQ(SPL_DONE, __ev.cause);			\
			seen_[__ev.user_data] = 1;				\
		}								\
		EXPECT_EQ(0, no_event(self->s));				\
		free(seen_);							\
	} while (0)

/* Nobody reads while thousands complete. */
TEST_F_TIMEOUT(events, thousands_unread, 120)
{
	unsigned int i, count = scaled(5000);
	uint64_t token, last = 0;
	long limit;

	if (variant->engine == SPL_ENGINE_KMOD) {
		ASSERT_EQ(0, sysctl_get("net/sksplice/max_ops_per_user", &limit));
		ASSERT_EQ(0, sysctl_set("net/sksplice/max_ops_per_user", 20000));
	}
	for (i = 0; i < count; i++) {
		ASSERT_EQ(0, nothing(self->s, &self->r, i, &token)) {
			TH_LOG("%u: %s", i, spl_strerror_last(self->s));
		}
		ASSERT_LT(last, token);
		last = token;
	}
	each_once(count);
	if (variant->engine == SPL_ENGINE_KMOD)
		ASSERT_EQ(0, sysctl_set("net/sksplice/max_ops_per_user", limit));
}

/* They complete while the library is not called at all: the receive buffer overruns. */
TEST_F_TIMEOUT(events, overrun, 200)
{
	/* fewer would not fill the module's socket */
	unsigned int i, count = variant->engine == SPL_ENGINE_KMOD ? 1000 : scaled(1000);
	struct relay *r = calloc(count, sizeof(*r));
	int64_t overruns = 0;
	uint64_t token;
	struct nl nl;

	ASSERT_NE(NULL, r);
	ASSERT_EQ(0, raise_nofile(20000));
	for (i = 0; i < count; i++) {
		ASSERT_EQ(0, relay_open(r + i, variant->net));
		ASSERT_EQ(0, spl_forward(self->s, r[i].a, r[i].b, 3, OPTS(.user_data = i),
					 &token)) {
			TH_LOG("%u: %s", i, spl_strerror_last(self->s));
		}
	}
	if (variant->engine == SPL_ENGINE_KMOD) {
		ASSERT_EQ(0, nl_open(&nl));
		overruns = stat_now(&nl, SKSPLICE_A_STAT_OVERRUNS);
	}
	for (i = 0; i < count; i++) {
		ASSERT_EQ(0, put(r[i].c, i, 0, 4));
	}
	for (i = 0; i < count; i++) {
		ASSERT_EQ(0, take(r[i].s, i, 0, 3));
	}
	sleep_ms(300);
	if (variant->engine == SPL_ENGINE_KMOD) {
		EXPECT_LT(overruns, stat_now(&nl, SKSPLICE_A_STAT_OVERRUNS)) {
			TH_LOG("nothing overran: this test showed nothing");
		}
		nl_close(&nl);
	}
	EXPECT_EQ(POLLIN, poll_fd(spl_fd(self->s), POLLIN, 0));
	each_once(count);
	for (i = 0; i < count; i++) {
		EXPECT_EQ(0, take(r[i].a, i, 3, 1));
		relay_close(r + i);
	}
	free(r);
}

/* An overrun must not make the context deaf for what comes after. */
NEEDS(events, after_an_overrun, NEEDS_CHEAP_ENDS);
TEST_F_TIMEOUT(events, after_an_overrun, 200)
{
	unsigned int i, round, count = variant->engine == SPL_ENGINE_KMOD ? 700 : scaled(700);
	struct relay *r = calloc(count, sizeof(*r));
	uint64_t token;

	ASSERT_NE(NULL, r);
	ASSERT_EQ(0, raise_nofile(20000));
	for (i = 0; i < count; i++) {
		ASSERT_EQ(0, relay_open(r + i, variant->net));
	}
	for (round = 0; round < 3; round++) {
		for (i = 0; i < count; i++) {
			ASSERT_EQ(0, spl_forward(self->s, r[i].a, r[i].b, 1,
						 OPTS(.user_data = i), &token));
		}
		for (i = 0; i < count; i++) {
			ASSERT_EQ(0, put(r[i].c, i, round, 1));
		}
		each_once(count);
	}
	for (i = 0; i < count; i++)
		relay_close(r + i);
	free(r);
}

/* It may be readable for nothing, once; who has looked finds it silent. */
static bool settles(struct spl *s)
{
	struct spl_event ev;

	return !poll_fd(spl_fd(s), POLLIN, 0) ||
	       (!spl_next(s, &ev, 0) && !poll_fd(spl_fd(s), POLLIN, 0));
}

TEST_F(events, fd_tells)
{
	struct spl_event ev;
	uint64_t token;
	int fd = spl_fd(self->s);

	ASSERT_LE(0, fd);
	EXPECT_EQ(true, settles(self->s));
	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, 5, NULL, &token));
	EXPECT_EQ(true, settles(self->s));
	EXPECT_EQ(0, poll_fd(fd, POLLIN, QUIET_MS));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5));
	EXPECT_EQ(POLLIN, poll_fd(fd, POLLIN, WAIT_MS));
	ASSERT_EQ(1, spl_next(self->s, &ev, 0));
	EXPECT_EQ(token, ev.token);
	EXPECT_EQ(0, spl_next(self->s, &ev, 0));
	EXPECT_EQ(0, poll_fd(fd, POLLIN, QUIET_MS));
}

/* What spl_wait() had to step over is still told of by the fd and by spl_next(). */
TEST_F(events, wait_leaves_the_others)
{
	struct spl_event ev;
	uint64_t token[3], seen = 0;
	int i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, nothing(self->s, &self->r, i, token + i));
	}
	ASSERT_EQ(1, spl_wait(self->s, token[2], &ev, WAIT_MS));
	EXPECT_EQ(2, ev.user_data);
	EXPECT_EQ(-ENOENT, spl_wait(self->s, token[2], &ev, 0));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(POLLIN, poll_fd(spl_fd(self->s), POLLIN, WAIT_MS));
		ASSERT_EQ(1, spl_next(self->s, &ev, WAIT_MS));
		seen |= 1 << ev.user_data;
	}
	EXPECT_EQ(3, seen);
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, poll_fd(spl_fd(self->s), POLLIN, 0));
}

TEST_F(events, waits_end)
{
	struct spl_event ev;
	uint64_t token, began = now_ms();

	EXPECT_EQ(0, spl_next(self->s, &ev, 0));
	EXPECT_EQ(0, spl_next(self->s, &ev, 100));
	EXPECT_LE(95, now_ms() - began);
	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, 5, NULL, &token));
	began = now_ms();
	EXPECT_EQ(0, spl_wait(self->s, token, &ev, 0));
	EXPECT_EQ(0, spl_wait(self->s, token, &ev, 100));
	EXPECT_LE(95, now_ms() - began);
	EXPECT_EQ(-ENOENT, spl_wait(self->s, token + 5, &ev, 0));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5));
	EXPECT_EQ(1, spl_wait(self->s, token, &ev, WAIT_MS));
}

/* Each context gets its own. */
TEST_F(events, go_to_their_owner)
{
	struct spl_event ev;
	struct spl *other;
	uint64_t mine, theirs;

	ASSERT_EQ(0, engine_open(&other, variant->engine));
	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, 5, OPTS(.user_data = 1), &mine));
	ASSERT_EQ(0, spl_forward(other, self->r.b, self->r.a, 5, OPTS(.user_data = 2), &theirs));
	EXPECT_NE(mine, theirs);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 5));
	ASSERT_EQ(0, put(self->r.s, SEED, 0, 5));
	ASSERT_EQ(1, spl_next(other, &ev, WAIT_MS));
	EXPECT_EQ(theirs, ev.token);
	EXPECT_EQ(2, ev.user_data);
	EXPECT_EQ(0, no_event(other));
	ASSERT_EQ(1, spl_next(self->s, &ev, WAIT_MS));
	EXPECT_EQ(mine, ev.token);
	EXPECT_EQ(0, no_event(self->s));
	spl_close(other);
}

/* The next message of this command that names the token; its attributes. */
static int next_ntf(struct nl *nl, uint8_t cmd, uint64_t token, struct answer *a)
{
	static char buf[NL_BUF];
	uint64_t until = now_ms() + WAIT_MS;
	const struct nlmsghdr *nlh;
	const struct genlmsghdr *g;
	int n;

	while (now_ms() < until) {
		n = nl_receive(nl, buf, 500);
		for (nlh = (void *)buf; mnl_nlmsg_ok(nlh, n); nlh = mnl_nlmsg_next(nlh, &n)) {
			g = mnl_nlmsg_get_payload(nlh);
			a->len = mnl_nlmsg_get_payload_len(nlh) - sizeof(*g);
			memcpy(a->attrs, g + 1, a->len);
			if (nlh->nlmsg_type == nl->family && g->cmd == cmd &&
			    answer_u64(a, SKSPLICE_A_TOKEN) == (int64_t)token)
				return 0;
		}
	}
	return -ETIMEDOUT;
}

NEEDS(events, monitor_sees_start_and_end, SPL_CAP_ADMIN);
TEST_F(events, monitor_sees_start_and_end)
{
	struct spl_event ev;
	struct answer a;
	uint64_t token;
	struct nl nl;

	ASSERT_EQ(0, nl_open(&nl));
	ASSERT_EQ(0, nl_join_monitor(&nl));
	ASSERT_EQ(0, spl_forward(self->s, self->r.a, self->r.b, 5, OPTS(.user_data = 3), &token));
	ASSERT_EQ(0, next_ntf(&nl, SKSPLICE_CMD_START_NTF, token, &a));
	EXPECT_EQ(SKSPLICE_KIND_FORWARD, answer_u64(&a, SKSPLICE_A_KIND));
	EXPECT_NE(NULL, attr_find(a.attrs, a.len, SKSPLICE_A_SOURCE));
	EXPECT_NE(NULL, attr_find(a.attrs, a.len, SKSPLICE_A_SINK));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 6));
	ASSERT_EQ(0, next_ntf(&nl, SKSPLICE_CMD_EVENT_NTF, token, &a));
	EXPECT_EQ(SKSPLICE_CAUSE_DONE, answer_u64(&a, SKSPLICE_A_CAUSE));
	EXPECT_EQ(5, answer_u64(&a, SKSPLICE_A_BYTES));
	nl_close(&nl);
	/* the owner has its own */
	ASSERT_EQ(0, event_of(self->s, token, &ev));
}

SUITE_MAIN
