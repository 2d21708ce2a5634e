// SPDX-License-Identifier: GPL-2.0
/*
 * scale_memory.c: many idle pairs. The same sockets are there before and after they become pairs, and all have talked both
 * times; so what the kernel has more of then is the pairs'.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "scale.h"

#define TARGET 1024		/* bytes */
#define FIRST 500		/* pairs that talk before all do: what each takes then must be there for all */

static void open_all(struct path *paths, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		path_open(&paths[i]);
		talk(paths[i].c, paths[i].a, 1);
		talk(paths[i].a, paths[i].c, 1);
		talk(paths[i].b, paths[i].s, 1);
		talk(paths[i].s, paths[i].b, 1);
	}
}

static double splice_all(struct spl *s, struct path *paths, unsigned int n)
{
	double began = now();
	unsigned int i;

	for (i = 0; i < n; i++)
		path_splice(s, &paths[i]);
	return now() - began;
}

static double talk_all(const struct path *paths, unsigned int n)
{
	double began = now();
	unsigned int i;

	for (i = 0; i < n; i++) {
		talk(paths[i].c, paths[i].s, 1);
		talk(paths[i].s, paths[i].c, 1);
	}
	return now() - began;
}

/* What is no slab shows in what is available, which says little of few pairs. false: there is not enough for all. */
static bool first_talk(const struct path *paths, unsigned int some, unsigned int all, const struct usage *before)
{
	static struct usage after;
	double each;

	talk_all(paths, some);
	usage_take(&after);
	each = 1024.0 * (double)(before->available - after.available) / some;
	figure("memory of all kinds that a byte each way takes, each pair", each, "B", TARGET);
	if (each * all < 0.8 * 1024.0 * (double)after.available)
		return true;
	remark("  not enough for all pairs: the others do not talk");
	return false;
}

/* What would tell why. */
static void __attribute__((noreturn)) do_not_end(unsigned int n)
{
	fflush(stdout);
	if (system("splicectl list | head -n 5; ss -tan | cut -c 1-10 | sort | uniq -c; cat /proc/net/softnet_stat; dmesg | tail -n 5"))
		remark("and nothing more is known");
	die("%u pairs do not end", n);
}

/* Until the context has the events of all of them. */
static void take_events(struct spl *s, unsigned int n)
{
	struct spl_event ev;

	while (n) {
		if (spl_next(s, &ev, 30000) != 1)
			do_not_end(n);
		n--;
	}
}

static double close_all(struct spl *s, struct path *paths, unsigned int n)
{
	double began = now();
	unsigned int i;

	for (i = 0; i < n; i++) {
		path_close(&paths[i]);
		/* so that no event waits in the kernel for long */
		if (i % 100 == 99)
			take_events(s, 50);
	}
	take_events(s, n - n / 100 * 50);
	return now() - began;
}

static void report(const struct usage *bare, const struct usage *pairs, unsigned int n)
{
	figure("kernel memory of an idle pair beyond its sockets, slab", 1024.0 * (double)(pairs->slab - bare->slab) / n, "B", TARGET);
	figure("the same, unreclaimable slab + vmalloc + percpu",
	       1024.0 * (double)(pairs->unreclaimable - bare->unreclaimable + pairs->vmalloc - bare->vmalloc +
				 pairs->percpu - bare->percpu) / n, "B", TARGET);
	remark("  made of, each pair:");
	usage_print(bare, pairs, n);
}

void memory_run(int argc, char **argv)
{
	static struct usage empty, bare, fresh, pairs, after;
	unsigned int n = argc > 0 ? (unsigned int)strtoul(argv[0], NULL, 10) : 20000;
	struct path *paths = calloc(n, sizeof(*paths));
	double began;
	struct spl *s;

	paths_prepare(n);
	s = kmod_open();
	usage_take(&empty);
	began = now();
	open_all(paths, n);
	remark("%u pairs", n);
	figure("connections set up, all", now() - began, "s", 0);
	usage_take(&bare);
	figure("kernel memory of four sockets and their descriptors", 1024.0 * (double)(bare.slab - empty.slab) / n, "B", 0);
	figure("pairs set up, all", splice_all(s, paths, n), "s", 0);
	usage_take(&fresh);
	figure("slab of a pair that has not moved a byte yet", 1024.0 * (double)(fresh.slab - bare.slab) / n, "B", 0);
	if (first_talk(paths, n < FIRST ? n : FIRST, n, &fresh))
		figure("a byte each way through all", talk_all(paths, n), "s", 0);
	usage_take(&pairs);
	report(&bare, &pairs, n);
	if (counters_take().ops != n)
		die("%u pairs are not there any more", n - (unsigned int)counters_take().ops);
	figure("pairs ended by closing their clients and servers, all", close_all(s, paths, n), "s", 0);
	usage_take(&after);
	figure("slab that all of it leaves, per pair", 1024.0 * (double)(after.slab - empty.slab) / n, "B", 0);
	if (counters_take().ops)
		die("operations are left over");
	spl_close(s);
	free(paths);
}
