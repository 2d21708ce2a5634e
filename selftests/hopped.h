/* SPDX-License-Identifier: GPL-2.0 */
/* hopped.h: the fixture of what is tried of local mode: a relay whose four ends are this process's, and the counts of before. */
#ifndef SELFTESTS_HOPPED_H
#define SELFTESTS_HOPPED_H

#include "harness.h"
#include "probe.h"
#include "../bpf/local.h"

#define SEED	7
#define MB	(1u << 20)

FIXTURE(sockmap) {
	struct spl *s;
	struct relay r;
	uint64_t before[LOCAL_COUNTS];
};

FIXTURE_VARIANT(sockmap) {
	enum spl_engine engine;
	enum net net;
};

SOCKMAP_SOCKETS(sockmap);

FIXTURE_SETUP(sockmap)
{
	ASSERT_EQ(0, engine_open(&self->s, variant->engine)) {
		TH_LOG("%s", spl_strerror_last(NULL));
	}
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	ASSERT_EQ(LOCAL_COUNTS, spl_sockmap_counts(self->before, LOCAL_COUNTS));
}

FIXTURE_TEARDOWN(sockmap)
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

#define forward(n)	begun(spl_forward(self->s, self->r.a, self->r.b, n, NULL, &token))

#endif /* SELFTESTS_HOPPED_H */
