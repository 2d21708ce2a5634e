// SPDX-License-Identifier: GPL-2.0
/* options.c: struct spl_opts: its size may grow and shrink, its content is looked at. */
#include "harness.h"

#define SEED 1

FIXTURE(options) {
	struct spl *s;
	struct relay r;
	uint64_t token;
};

FIXTURE_VARIANT(options) {
	enum spl_engine engine;
	uint32_t require;
};

VARIANT(options, kmod_v4, .engine = SPL_ENGINE_KMOD);
VARIANT(options, sockmap_v4, .engine = SPL_ENGINE_SOCKMAP);
VARIANT(options, user_v4, .engine = SPL_ENGINE_USER);

FIXTURE_SETUP(options)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
}

FIXTURE_TEARDOWN(options)
{
	EXPECT_EQ(0, alive(self->r.a, self->r.c));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
	EXPECT_EQ(0, no_event(self->s));
	spl_close(self->s);
	relay_close(&self->r);
}

#define forward(opts)	spl_forward(self->s, self->r.a, self->r.b, 0, opts, &self->token)
#define splice(opts)	spl_splice(self->s, self->r.a, self->r.b, opts, &self->token)
#define pair(opts)	spl_splice_pair(self->s, self->r.a, self->r.b, opts, &self->token)

#define refused(err, call)						\
	do {								\
		EXPECT_EQ(-(err), call);				\
		EXPECT_LT(0, strlen(spl_strerror_last(self->s)));	\
	} while (0)

#define accepted(opts)							\
	do {								\
		struct spl_event __ev;					\
		ASSERT_EQ(0, forward(opts)) {				\
			TH_LOG("%s", spl_strerror_last(self->s));	\
		}							\
		EXPECT_EQ(0, event_of(self->s, self->token, &__ev));	\
	} while (0)

TEST_F(options, unknown_flag)
{
	unsigned int bit;

	for (bit = 4; bit < 32; bit++) {
		refused(EINVAL, forward(OPTS(.flags = 1u << bit)));
		refused(EINVAL, splice(OPTS(.flags = 1u << bit)));
		refused(EINVAL, pair(OPTS(.flags = 1u << bit)));
	}
}

TEST_F(options, size_too_small)
{
	struct spl_opts opts = { .sz = 0 };

	for (; opts.sz < sizeof(size_t); opts.sz++) {
		refused(EINVAL, forward(&opts));
		refused(EINVAL, pair(&opts));
	}
}

/* An old program's struct ends earlier; what is behind its end is not looked at. */
TEST_F(options, size_of_the_past)
{
	struct spl_opts opts = { .sz = offsetof(struct spl_opts, user_data), .user_data = 7 };
	struct spl_event ev;

	opts.delim_len = 1000000;
	ASSERT_EQ(0, forward(&opts));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(0, ev.user_data);
	opts.sz = sizeof(size_t);
	opts.flags = ~0u;
	accepted(&opts);
}

TEST_F(options, size_of_the_future)
{
	struct { struct spl_opts opts; char more[24]; } grown = { .opts.sz = sizeof(grown) };

	accepted(&grown.opts);
	grown.more[23] = 1;
	refused(EINVAL, forward(&grown.opts));
	refused(EINVAL, splice(&grown.opts));
	refused(EINVAL, pair(&grown.opts));
	grown.more[23] = 0;
	grown.more[0] = 1;
	refused(EINVAL, forward(&grown.opts));
}

TEST_F(options, prefix_and_suffix_too_long)
{
	static char text[(64 << 10) + 1];

	refused(EINVAL, forward(OPTS(.prefix = text, .prefix_len = sizeof(text))));
	refused(EINVAL, forward(OPTS(.suffix = text, .suffix_len = sizeof(text))));
	refused(EINVAL, pair(OPTS(.prefix = text, .prefix_len = sizeof(text))));
	refused(EINVAL, splice(OPTS(.suffix = text, .suffix_len = sizeof(text))));
}

TEST_F(options, delim)
{
	refused(EINVAL, splice(OPTS(.delim = "\n", .delim_len = 1)));
	refused(EINVAL, pair(OPTS(.delim = "\n", .delim_len = 1)));
	refused(EINVAL, forward(OPTS(.delim = "12345678901234567", .delim_len = 17)));
}

/* There need not be one: the shape is looked at first. */
TEST_F(options, framer)
{
	refused(EINVAL, splice(OPTS(.framer = 999)));
	refused(EINVAL, pair(OPTS(.framer = 999)));
	refused(EINVAL, forward(OPTS(.framer = 999, .delim = "\n", .delim_len = 1)));
	refused(EBADF, forward(OPTS(.framer = -1)));
}

/* What a forward has no use for is a mistake, not a wish to be ignored. */
TEST_F(options, of_a_splice)
{
	refused(EINVAL, forward(OPTS(.flags = SPL_F_KEEP)));
	refused(EINVAL, forward(OPTS(.max = 10)));
}

/* What an engine cannot do it says; it never pretends. */
NEEDS(options, not_supported_by_user, NEEDS_USER);
TEST_F(options, not_supported_by_user)
{
	refused(EOPNOTSUPP, forward(OPTS(.framer = 3)));
	EXPECT_EQ(-EOPNOTSUPP, spl_adopt(self->s, 1));
}

SUITE_MAIN
