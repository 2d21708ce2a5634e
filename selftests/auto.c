// SPDX-License-Identifier: GPL-2.0
/* auto.c: which engine spl_open() takes, what that one promises, and the sentence about those it passed over. */
#include "harness.h"

#define SEED 1
#define ALL_CAPS (SPL_CAP_EXACT | SPL_CAP_LOSSLESS | SPL_CAP_EXCLUSIVE | SPL_CAP_SURVIVES |	\
		  SPL_CAP_ADMIN | SPL_CAP_ZEROCOPY)

FIXTURE(auto) {
	struct spl *s;
};

/* The engine that AUTO must take here. */
FIXTURE_VARIANT(auto) {
	enum spl_engine engine;
	uint32_t caps, optional;
};

VARIANT(auto, kmod_any, .engine = SPL_ENGINE_KMOD, .caps = ALL_CAPS);
VARIANT(auto, user_any, .engine = SPL_ENGINE_USER, .caps = SPL_CAP_EXACT, .optional = SPL_CAP_LOSSLESS);

FIXTURE_SETUP(auto)
{
	ASSERT_EQ(0, unsetenv("SPL_ENGINE"));
}

FIXTURE_TEARDOWN(auto)
{
	if (self->s)
		spl_close(self->s);
}

#define open_with(...)	\
	spl_open(&self->s, &(struct spl_open_opts){ .sz = sizeof(struct spl_open_opts), __VA_ARGS__ })

#define opened(call)									\
	ASSERT_EQ(0, call) {								\
		TH_LOG("%s", spl_strerror_last(NULL));					\
	}

#define refused(err, call)								\
	do {										\
		EXPECT_EQ(-(err), call);						\
		EXPECT_NULL(self->s);							\
		EXPECT_LT(0, strlen(spl_strerror_last(NULL)));				\
	} while (0)

TEST_F(auto, takes_the_best)
{
	opened(spl_open(&self->s, NULL));
	EXPECT_EQ(variant->engine, spl_engine(self->s));
	EXPECT_EQ(variant->caps, spl_caps(self->s));
}

/* What it opened works. */
TEST_F(auto, and_it_works)
{
	struct spl_event ev;
	uint64_t token;
	struct relay r;

	opened(spl_open(&self->s, NULL));
	ASSERT_EQ(0, relay_open(&r, NET_V4));
	ASSERT_EQ(0, put(r.c, SEED, 0, 11));
	begun(spl_forward(self->s, r.a, r.b, 10, NULL, &token));
	ASSERT_EQ(1, spl_next(self->s, &ev, WAIT_MS));
	EXPECT_EQ(SPL_DONE, ev.cause);
	EXPECT_EQ(0, take(r.s, SEED, 0, 10));
	relay_close(&r);
}

TEST_F(auto, by_name)
{
	opened(open_with(.engine = variant->engine));
	EXPECT_EQ(variant->engine, spl_engine(self->s));
}

TEST_F(auto, by_environment)
{
	ASSERT_EQ(0, setenv("SPL_ENGINE", spl_engine_name(variant->engine), 1));
	opened(spl_open(&self->s, NULL));
	EXPECT_EQ(variant->engine, spl_engine(self->s));
}

/* An empty one says nothing; auto is what it is anyway. */
TEST_F(auto, environment_without_a_word)
{
	ASSERT_EQ(0, setenv("SPL_ENGINE", "", 1));
	opened(spl_open(&self->s, NULL));
	EXPECT_EQ(variant->engine, spl_engine(self->s));
	spl_close(self->s);
	self->s = NULL;
	ASSERT_EQ(0, setenv("SPL_ENGINE", "auto", 1));
	opened(spl_open(&self->s, NULL));
	EXPECT_EQ(variant->engine, spl_engine(self->s));
}

TEST_F(auto, environment_with_a_wrong_word)
{
	ASSERT_EQ(0, setenv("SPL_ENGINE", "fastest", 1));
	refused(EINVAL, spl_open(&self->s, NULL));
	EXPECT_NE(NULL, strstr(spl_strerror_last(NULL), "fastest"));
}

/* The program knows what it wants. */
TEST_F(auto, program_over_environment)
{
	ASSERT_EQ(0, setenv("SPL_ENGINE", "sockmap", 1));
	opened(open_with(.engine = variant->engine));
	EXPECT_EQ(variant->engine, spl_engine(self->s));
}

/* One that cannot be had is not replaced by another. */
TEST_F(auto, environment_is_an_order)
{
	ASSERT_EQ(0, setenv("SPL_ENGINE", "sockmap", 1));
	/* which it cannot do without a cgroup */
	refused(EOPNOTSUPP, open_with(.require = SPL_CAP_LOSSLESS));
}

NEEDS(auto, module_is_not_here, NEEDS_USER);
TEST_F(auto, module_is_not_here)
{
	int err = open_with(.engine = SPL_ENGINE_KMOD);

	EXPECT_TRUE(err == -EOPNOTSUPP || err == -EPERM) {
		TH_LOG("%d", err);
	}
	EXPECT_NULL(self->s);
	EXPECT_LT(0, strlen(spl_strerror_last(NULL)));
	ASSERT_EQ(0, setenv("SPL_ENGINE", "kmod", 1));
	EXPECT_EQ(err, spl_open(&self->s, NULL));
	EXPECT_LT(0, strlen(spl_strerror_last(NULL)));
}

/* Why the better one was passed over can be asked after the one that was taken. */
NEEDS(auto, sentence_says_why, NEEDS_USER);
TEST_F(auto, sentence_says_why)
{
	char why[256];

	EXPECT_NE(0, open_with(.engine = SPL_ENGINE_KMOD));
	snprintf(why, sizeof(why), "%s", spl_strerror_last(NULL));
	opened(spl_open(&self->s, NULL));
	EXPECT_STREQ(why, spl_strerror_last(NULL));
}

/* A cgroup alone does not make AUTO try sockmap, whose local mode is no gain; with the bypass it does, and tells what it found. */
NEEDS(auto, cgroup_needs_the_bypass, NEEDS_USER);
TEST_F(auto, cgroup_needs_the_bypass)
{
	opened(open_with(.cgroup = "/is/not/there"));
	EXPECT_EQ(SPL_ENGINE_USER, spl_engine(self->s));
	EXPECT_NULL(strstr(spl_strerror_last(NULL), "/is/not/there"));
	spl_close(self->s);
	opened(open_with(.flags = SPL_OPEN_BYPASS));
	EXPECT_EQ(SPL_ENGINE_USER, spl_engine(self->s));
	EXPECT_NULL(strstr(spl_strerror_last(NULL), "sockmap"));
	spl_close(self->s);
	opened(open_with(.cgroup = "/is/not/there", .flags = SPL_OPEN_BYPASS));
	EXPECT_EQ(SPL_ENGINE_USER, spl_engine(self->s));
	EXPECT_NE(NULL, strstr(spl_strerror_last(NULL), "/is/not/there"));
}

TEST_F(auto, promises)
{
	uint32_t cap;

	for (cap = 1; cap & ALL_CAPS; cap <<= 1) {
		if ((variant->caps | variant->optional) & cap) {
			opened(open_with(.engine = variant->engine, .require = cap));
			EXPECT_EQ(variant->caps | cap, spl_caps(self->s));
			spl_close(self->s);
			self->s = NULL;
			continue;
		}
		refused(EOPNOTSUPP, open_with(.engine = variant->engine, .require = cap));
		refused(EOPNOTSUPP, open_with(.require = cap));
	}
}

static unsigned int count_fds(void)
{
	unsigned int n = 0;
	int fd;

	for (fd = 0; fd < 1024; fd++)
		n += fd_open(fd);
	return n;
}

/* Those that a program which is executed would get. */
static unsigned int count_heirs(void)
{
	unsigned int n = 0;
	int fd;

	for (fd = 0; fd < 1024; fd++)
		n += fd_open(fd) && !(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	return n;
}

/* All that a context opens goes with it, and nothing of it goes to a program that is executed. */
TEST_F(auto, leaves_no_descriptor)
{
	unsigned int before = count_fds(), heirs = count_heirs(), i;
	struct spl_event ev;
	uint64_t token;
	struct relay r;

	for (i = 0; i < 5; i++) {
		opened(spl_open(&self->s, NULL));
		ASSERT_EQ(0, relay_open(&r, NET_V4));
		begun(spl_splice_pair(self->s, r.a, r.b, OPTS(.idle_ms = 100000), &token));
		r.a = r.b = -1;
		ASSERT_EQ(0, put(r.c, SEED, 0, 1000));
		ASSERT_EQ(0, spl_next(self->s, &ev, 10));
		EXPECT_EQ(heirs, count_heirs());
		EXPECT_EQ(0, spl_cancel(self->s, token));
		spl_close(self->s);
		relay_close(&r);
	}
	self->s = NULL;
	EXPECT_EQ(before, count_fds());
}

/* Without a single descriptor to be had it is refused, and nothing has changed; not half of it. */
NEEDS(auto, out_of_descriptors, NEEDS_USER);
TEST_F(auto, out_of_descriptors)
{
	int fds[64], n, left, err;
	struct spl_event ev;
	uint64_t token;
	struct relay r;

	opened(spl_open(&self->s, NULL));
	ASSERT_EQ(0, relay_open(&r, NET_V4));
	ASSERT_EQ(0, put(r.c, SEED, 0, 100));
	ASSERT_EQ(0, wait_queued(r.a, 100));
	ASSERT_EQ(0, raise_nofile(count_fds() + 20));
	for (n = 0; n < 64 && (fds[n] = dup(0)) >= 0; n++)
		;
	ASSERT_GT(64, n);
	/* one more can be had each time, until it is enough */
	for (left = n; left > 0; close(fds[--left])) {
		err = spl_splice_pair(self->s, r.a, r.b, NULL, &token);
		if (!err)
			break;
		EXPECT_EQ(-EMFILE, err);
		EXPECT_EQ(true, fd_open(r.a) && fd_open(r.b));
		EXPECT_EQ(100, queued(r.a));
		/* what was free is free again */
		err = dup(0);
		EXPECT_EQ(left < n, err >= 0);
		close(err);
	}
	EXPECT_EQ(0, err);
	while (left > 0)
		close(fds[--left]);
	r.a = r.b = -1;
	EXPECT_EQ(0, spl_next(self->s, &ev, 10));
	EXPECT_EQ(0, take(r.s, SEED, 0, 100));
	relay_close(&r);
}

SUITE_MAIN
