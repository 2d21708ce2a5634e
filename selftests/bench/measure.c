// SPDX-License-Identifier: GPL-2.0
/* measure.c: a window of time, what was done in it, and what it cost the relay. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "load.h"

#define READY_MS 5000
#define WARM_MS 150

struct mark { uint64_t ns, done, cpu_ns; };

static int mark(struct job *job, struct mark *m)
{
	struct tree_use use = { 0 };

	if (job->relay && tree_cpu(job->relay, &use)) {
		fail(job, "the relay is gone");
		return -1;
	}
	m->ns = now_ns();
	m->done = atomic_load(&job->sh->done);
	m->cpu_ns = use.cpu_ns;
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double quantile_us(struct shared *sh, double q)
{
	return sh->samples[(uint32_t)(q * (sh->n_samples - 1))] / 1000.0;
}

/* total: with the warm-up, for whoever counts system calls */
static void print(struct job *job, const struct mark *from, const struct mark *to)
{
	struct shared *sh = job->sh;
	double seconds = (double)(to->ns - from->ns) / 1e9, done = (double)(to->done - from->done);

	printf("{\"seconds\": %.4f, \"done\": %.0f, \"rate\": %.1f, \"cpu\": %.4f", seconds, done, done / seconds,
	       (double)(to->cpu_ns - from->cpu_ns) / 1e9);
	if (sh->n_samples) {
		qsort(sh->samples, sh->n_samples, sizeof(*sh->samples), by_value);
		printf(", \"p50\": %.2f, \"p99\": %.2f", quantile_us(sh, 0.5), quantile_us(sh, 0.99));
	}
	printf(", \"total\": %.0f}\n", (double)to->done);
}

int watch_rate(struct job *job)
{
	struct mark from, to;

	if (wait_ready(job, READY_MS))
		return -1;
	usleep(WARM_MS * 1000);
	if (mark(job, &from))
		return -1;
	atomic_store(&job->sh->phase, PHASE_MEASURE);
	usleep(job->ms * 1000);
	atomic_store(&job->sh->phase, PHASE_WARM);
	if (mark(job, &to))
		return -1;
	if (to.done == from.done)
		fail(job, "nothing moved for %u ms", job->ms);
	if (atomic_load(&job->sh->failed))
		return -1;
	print(job, &from, &to);
	return 0;
}
