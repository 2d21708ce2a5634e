// SPDX-License-Identifier: GPL-2.0
/* scale_churn.c: pairs that are set up, pass 64 B each way and end, by one process, and by two at once. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scale.h"

struct tally { _Atomic bool go, stop; _Atomic unsigned int done[2]; };

static void one(struct spl *s)
{
	struct spl_event ev;
	struct path p;

	path_open(&p);
	if (s) {
		path_splice(s, &p);
		talk(p.c, p.s, 64);
		talk(p.s, p.c, 64);
	} else {
		talk(p.c, p.a, 64);
		talk(p.b, p.s, 64);
	}
	path_close(&p);
	if (s && spl_next(s, &ev, 10000) != 1)
		die("a pair does not end");
}

/* kmod: else the connections alone, which is what can be had at most. */
static void work(struct tally *t, unsigned int who, bool kmod)
{
	struct spl *s = kmod ? kmod_open() : NULL;

	paths_take_share(who);
	pin((int)who);
	while (!t->go)
		usleep(1000);
	while (!t->stop) {
		one(s);
		t->done[who]++;
	}
	if (s)
		spl_close(s);
	_exit(0);
}

static double rate(unsigned int n, double seconds, bool kmod)
{
	struct tally *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int i, from, done;
	double began;

	for (i = 0; i < n; i++)
		if (!fork())
			work(t, i, kmod);
	t->go = true;
	usleep(300000);
	from = t->done[0] + t->done[1];
	began = now();
	usleep((useconds_t)(seconds * 1e6));
	done = t->done[0] + t->done[1] - from;
	seconds = now() - began;
	t->stop = true;
	while (wait(NULL) > 0)
		;
	munmap(t, sizeof(*t));
	return done / seconds;
}

void churn_run(int argc, char **argv)
{
	double seconds = argc > 0 ? strtod(argv[0], NULL) : 3, alone, both, kmod_alone, kmod_both;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		die("wants two processors");
	paths_prepare(1000);
	alone = rate(1, seconds, false);
	kmod_alone = rate(1, seconds, true);
	both = rate(2, seconds, false);
	kmod_both = rate(2, seconds, true);
	figure("two connections, a message each, and their end: one process", alone, "1/s", 0);
	figure("the same with a pair between: one process", kmod_alone, "1/s", 0);
	figure("two connections: two processes", both, "1/s", 0);
	figure("with a pair between: two processes", kmod_both, "1/s", 0);
	figure("two processes of one, connections alone", both / alone, "times", 0);
	figure("two processes of one, with a pair between", kmod_both / kmod_alone, "times", 0);
}
