/* SPDX-License-Identifier: GPL-2.0 */
/* bypassed.h: the fixture of what is tried of the bypass: a relay whose four ends are this process's, and the counts of before. */
#ifndef SELFTESTS_BYPASSED_H
#define SELFTESTS_BYPASSED_H

#include "harness.h"
#include "probe.h"
#include "../bpf/local.h"

#define SEED	7
#define MB	(1u << 20)

FIXTURE(sockmap_bypass) {
	struct spl *s;
	struct relay r;
	uint64_t before[LOCAL_COUNTS];
};

FIXTURE_VARIANT(sockmap_bypass) {
	enum spl_engine engine;
	enum net net;
};

SOCKMAP_SOCKETS(sockmap_bypass);

FIXTURE_SETUP(sockmap_bypass)
{
	setenv("SPL_TEST_BYPASS", "1", true);
	ASSERT_EQ(0, engine_open(&self->s, variant->engine)) {
		TH_LOG("%s", spl_strerror_last(NULL));
	}
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	ASSERT_EQ(LOCAL_COUNTS, spl_sockmap_counts(self->before, LOCAL_COUNTS));
}

FIXTURE_TEARDOWN(sockmap_bypass)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* How often since the set-up. */
static uint64_t counted(const uint64_t *before, enum local_count what)
{
	uint64_t now[LOCAL_COUNTS] = { 0 };

	spl_sockmap_counts(now, LOCAL_COUNTS);
	return now[what] - before[what];
}

#define COUNTED(what) counted(self->before, LOCAL_##what)

/* The relay takes over; its ends are not ours any more. */
#define relayed(opts)								\
	do {									\
		begun(spl_splice_pair(self->s, self->r.a, self->r.b, opts, &token)); \
		self->r.a = self->r.b = -1;					\
	} while (0)

#define reopened()								\
	do {									\
		relay_close(&self->r);						\
		ASSERT_EQ(0, relay_open(&self->r, variant->net));		\
	} while (0)

#define ended_both(why, err, there, back)					\
	do {									\
		struct spl_event __ev;						\
		ASSERT_EQ(0, event_of(self->s, token, &__ev));			\
		EXPECT_EQ(why, __ev.cause);					\
		EXPECT_EQ(err, __ev.error);					\
		EXPECT_EQ((uint64_t)(there), __ev.bytes);			\
		EXPECT_EQ((uint64_t)(back), __ev.bytes_back);			\
	} while (0)

#endif /* SELFTESTS_BYPASSED_H */
