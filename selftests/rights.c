// SPDX-License-Identifier: GPL-2.0
/* rights.c: who may splice, and how much of it. */
#include "harness.h"

#define SEED 1
#define UNPRIVILEGED "net/sksplice/unprivileged"
#define MAX_OPS "net/sksplice/max_ops"
#define MAX_OPS_PER_USER "net/sksplice/max_ops_per_user"

FIXTURE(rights) {
	struct spl *s;
	struct relay r;
	long unprivileged, max_ops, max_ops_per_user;
};

FIXTURE_SETUP(rights)
{
	ASSERT_EQ(0, sysctl_get(UNPRIVILEGED, &self->unprivileged));
	ASSERT_EQ(0, sysctl_get(MAX_OPS, &self->max_ops));
	ASSERT_EQ(0, sysctl_get(MAX_OPS_PER_USER, &self->max_ops_per_user));
	ASSERT_EQ(0, engine_open(&self->s, SPL_ENGINE_KMOD));
	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
}

FIXTURE_TEARDOWN(rights)
{
	EXPECT_EQ(0, sysctl_set(UNPRIVILEGED, self->unprivileged));
	EXPECT_EQ(0, sysctl_set(MAX_OPS, self->max_ops));
	EXPECT_EQ(0, sysctl_set(MAX_OPS_PER_USER, self->max_ops_per_user));
	spl_close(self->s);
	relay_close(&self->r);
}

/* As nobody, on a context of its own; spl_open() may be what refuses. The errno. */
static int try_as_nobody(const struct relay *r)
{
	struct spl_event ev;
	uint64_t token;
	struct spl *s;
	int err = drop_privileges();

	if (err)
		return 200;
	err = engine_open(&s, SPL_ENGINE_KMOD);
	if (err)
		return -err;
	err = spl_forward(s, r->a, r->b, 10, NULL, &token);
	if (err)
		return strlen(spl_strerror_last(s)) ? -err : 201;
	if (put(r->c, SEED, 0, 11) || event_of(s, token, &ev) || ev.cause != SPL_DONE)
		return 202;
	return take(r->s, SEED, 0, 10) || take(r->a, SEED, 10, 1) ? 203 : 0;
}

static int in_child(int (*f)(const struct relay *r), const struct relay *r)
{
	pid_t pid = fork();

	if (!pid)
		_exit(f(r));
	return reap(pid);
}

TEST_F(rights, nobody)
{
	ASSERT_EQ(0, sysctl_set(UNPRIVILEGED, 0));
	EXPECT_EQ(EPERM, in_child(try_as_nobody, &self->r));
	EXPECT_EQ(0, alive(self->r.a, self->r.c));
}

TEST_F(rights, nobody_when_allowed)
{
	ASSERT_EQ(0, sysctl_set(UNPRIVILEGED, 1));
	EXPECT_EQ(0, in_child(try_as_nobody, &self->r));
}

/* A context that root opened is no licence for who has it now. */
static struct spl *inherited;

static int try_inherited(const struct relay *r)
{
	uint64_t token;

	if (drop_privileges())
		return 200;
	return -spl_forward(inherited, r->a, r->b, 10, NULL, &token);
}

TEST_F(rights, inherited_context)
{
	inherited = self->s;
	EXPECT_EQ(EPERM, in_child(try_inherited, &self->r));
	EXPECT_EQ(0, alive(self->r.a, self->r.c));
}

static int set_as_nobody(const struct relay *r)
{
	(void)r;
	if (drop_privileges())
		return 200;
	return -sysctl_set(UNPRIVILEGED, 1);
}

TEST_F(rights, sysctl_is_root_s)
{
	EXPECT_EQ(EACCES, in_child(set_as_nobody, &self->r));
}

/* n operations are allowed, one more is not; the end of one makes room for one. */
#define full_at(n)								\
	do {									\
		uint64_t __token[n];						\
		struct relay __r[n + 1];					\
		struct spl_event __ev;						\
		int __i;							\
		for (__i = 0; __i < n + 1; __i++) {				\
			ASSERT_EQ(0, relay_open(__r + __i, NET_V4));		\
		}								\
		for (__i = 0; __i < n; __i++) {					\
			ASSERT_EQ(0, spl_forward(self->s, __r[__i].a, __r[__i].b, 1, NULL, \
						 __token + __i));		\
		}								\
		EXPECT_EQ(-ENFILE, spl_forward(self->s, __r[n].a, __r[n].b, 1, NULL, \
					       __token));			\
		EXPECT_LT(0, strlen(spl_strerror_last(self->s)));		\
		EXPECT_EQ(-ENFILE, spl_splice_pair(self->s, __r[n].a, __r[n].b, NULL, \
						   __token));			\
		EXPECT_EQ(0, alive(__r[n].a, __r[n].c));			\
		ASSERT_EQ(0, spl_cancel(self->s, __token[1]));			\
		ASSERT_EQ(0, event_of(self->s, __token[1], &__ev));		\
		EXPECT_EQ(0, spl_forward(self->s, __r[n].a, __r[n].b, 1, NULL, __token + 1)); \
	} while (0)

TEST_F(rights, limit_per_user)
{
	ASSERT_EQ(0, sysctl_set(MAX_OPS_PER_USER, 3));
	full_at(3);
}

TEST_F(rights, limit)
{
	ASSERT_EQ(0, sysctl_set(MAX_OPS, 3));
	full_at(3);
}

/* What has to be kept for an operation counts as well, one for each 4 KiB. */
TEST_F(rights, limit_of_bytes)
{
	char *suffix = calloc(1, 65536);
	struct relay r[2];
	uint64_t token[2];
	struct spl_event ev;
	int i;

	ASSERT_NE(NULL, suffix);
	ASSERT_EQ(0, sysctl_set(MAX_OPS_PER_USER, 20));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, relay_open(r + i, NET_V4));
#define with_suffix(i)									\
	spl_forward(self->s, r[i].a, r[i].b, 1, OPTS(.suffix = suffix, .suffix_len = 65536), token + (i))
	ASSERT_EQ(0, with_suffix(0));
	EXPECT_EQ(-ENFILE, with_suffix(1));
	ASSERT_EQ(0, spl_forward(self->s, r[1].a, r[1].b, 1, NULL, token + 1));
	ASSERT_EQ(0, spl_cancel(self->s, token[1]));
	ASSERT_EQ(0, event_of(self->s, token[1], &ev));
	ASSERT_EQ(0, spl_cancel(self->s, token[0]));
	ASSERT_EQ(0, event_of(self->s, token[0], &ev));
	EXPECT_EQ(0, with_suffix(1));
#undef with_suffix
	for (i = 0; i < 2; i++)
		relay_close(r + i);
	free(suffix);
}

/* Completions that nobody fetches count against who left them lying. */
TEST_F(rights, unread_events_count)
{
	uint64_t token;
	int i, ret = 0;

	ASSERT_EQ(0, sysctl_set(MAX_OPS_PER_USER, 2000));
	for (i = 0; i < 10000 && !ret; i += !ret)
		ret = spl_forward(self->s, self->r.a, self->r.b, 0, NULL, &token);
	/* a library that fetches them by itself keeps them in its own memory: that is fine too */
	EXPECT_TRUE(ret == 0 || ret == -ENFILE) {
		TH_LOG("round %d: %d", i, ret);
	}
	EXPECT_LE(2000, i);
}

SUITE_MAIN
