/* SPDX-License-Identifier: GPL-2.0 */
/* Counters of the whole module: one set per CPU, summed when somebody asks. */
#ifndef _SKSPLICE_STATS_H
#define _SKSPLICE_STATS_H

#include <linux/percpu.h>
#include <linux/types.h>

/* Every member is a u64; SKSPLICE_A_STAT_* in netlink.c names them in this order. */
struct sksplice_stats {
	u64 started;
	u64 refused;
	u64 ended;
	u64 bytes;
	u64 runs_inline;
	u64 runs_worker;
	u64 missed;
	u64 blocked;
	u64 nomem;
	u64 zerocopy;
	u64 copied;
	u64 events;
	u64 overruns;
	u64 intruded;
};

DECLARE_PER_CPU(struct sksplice_stats, sksplice_stats);

#define sksplice_count(member)		this_cpu_inc(sksplice_stats.member)
#define sksplice_add(member, n)		this_cpu_add(sksplice_stats.member, n)

#endif /* _SKSPLICE_STATS_H */
