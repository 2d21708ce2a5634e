/* SPDX-License-Identifier: GPL-2.0 */
/* sockmap_way.h: what the tests of the sockmap's sk_skb mode have in common. */
#ifndef SELFTESTS_SOCKMAP_WAY_H
#define SELFTESTS_SOCKMAP_WAY_H

#include <pthread.h>
#include <stdbool.h>
#include "../libsplice/sockmap_skb.h"

#define SEED 1
#define BACK 2

/* One direction, and a thread that does for it what an engine would. */
struct way {
	int source, sink;
	struct sockmap_flow *flow;	/* NULL: none has begun, or it has ended */
	struct sockmap_status st;
	volatile bool stop;
	bool driven;
	pthread_t thread;
};

int way_begin(struct way *w);
int way_begin_n(struct way *w, uint64_t n);
void way_let_run(struct way *w);
void *way_drive(void *w);		/* what the thread does, until stop or the flow is over */
void way_halt(struct way *w);		/* waits until the flow is over */
void way_stop(struct way *w);		/* does not */
int way_end(struct way *w);		/* when all that was taken is with the sink */
void way_free(struct way *w);
uint64_t way_taken_by(const struct way *w);	/* as of st */
int way_until_taken(struct way *w, uint64_t n);	/* nobody else drives */

#endif /* SELFTESTS_SOCKMAP_WAY_H */
