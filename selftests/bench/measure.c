// SPDX-License-Identifier: GPL-2.0
/* measure.c: a window of time, what was done in it, and what it cost the relay. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define READY_MS 5000

struct mark {
	uint64_t ns, done, cpu_ns, busy_ns;
	uint64_t next_ns;	/* where the next slice begins: what looking costs is in none */
};

/* What tasks ran on the first processor; 0 where the kernel does not tell. With one processor the rest of the time was idle. */
static uint64_t busy_ns(void)
{
	unsigned long long ns = 0;
	char line[256];
	FILE *f = fopen("/proc/schedstat", "r");

	while (f && !ns && fgets(line, sizeof(line), f))
		if (sscanf(line, "cpu0 %*u %*u %*u %*u %*u %*u %llu", &ns) != 1)
			ns = 0;
	if (f)
		fclose(f);
	return ns;
}

static int mark(struct job *job, struct mark *m)
{
	struct tree_use use = { 0 };

	if (job->relay && tree_cpu(job->relay, &use)) {
		fail(job, "the relay is gone");
		return -1;
	}
	m->busy_ns = busy_ns();
	m->ns = m->next_ns = now_ns();
	m->done = atomic_load(&job->sh->done);
	m->cpu_ns = use.cpu_ns;
	return 0;
}

/*
 * Bulk through buffers of megabytes: what is under way at both ends of a slice must be the same, nothing, for the
 * bytes to be those that the time was spent on.
 */
static int drain(struct job *job)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LOAD_PATIENCE_S;
	atomic_store(&job->sh->phase, PHASE_DRAIN);
	if (!sem_timedwait(&job->sh->drained, &until))
		return 0;
	fail(job, "%llu bytes sent, %llu received", (unsigned long long)atomic_load(&job->sh->sent),
	     (unsigned long long)atomic_load(&job->sh->received));
	return -1;
}

/* The end of a slice and the beginning of the next. */
static int cut(struct job *job, struct mark *m, enum phase next)
{
	bool drained = job->mode == &bulk_mode && job->slices > 1;

	if (drained && drain(job))
		return -1;
	if (mark(job, m))
		return -1;
	atomic_store(&job->sh->phase, next);
	if (drained) {
		m->ns = job->sh->drained_ns;
		m->next_ns = now_ns();
		sem_post(&job->sh->go);
	}
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

/* Nanoseconds for one of what was done, slice by slice; null: nothing was. */
static void print_slices(const struct mark *m, unsigned int n)
{
	unsigned int i;

	fputs(", \"each\": [", stdout);
	for (i = 0; i < n; i++, m++) {
		fputs(i ? ", " : "", stdout);
		if (m[1].done == m->done)
			fputs("null", stdout);
		else
			printf("%.5g", (double)(m[1].ns - m->next_ns) / (double)(m[1].done - m->done));
	}
	putchar(']');
}

/* total: with the warm-up, for whoever counts system calls */
static void print(struct job *job, const struct mark *m)
{
	const struct mark *from = m, *to = m + job->slices;
	struct shared *sh = job->sh;
	double ns = (double)(to->ns - from->ns), done = (double)(to->done - from->done);

	printf("{\"seconds\": %.4f, \"done\": %.0f, \"rate\": %.1f, \"cpu\": %.4f", ns / 1e9, done, done * 1e9 / ns,
	       (double)(to->cpu_ns - from->cpu_ns) / 1e9);
	if (sh->n_samples) {
		qsort(sh->samples, sh->n_samples, sizeof(*sh->samples), by_value);
		printf(", \"p50\": %.2f, \"p99\": %.2f", quantile_us(sh, 0.5), quantile_us(sh, 0.99));
	}
	if (job->slices > 1)
		print_slices(m, job->slices);
	if (to->busy_ns > from->busy_ns)
		printf(", \"busy\": %.4f", (double)(to->busy_ns - from->busy_ns) / ns);
	printf(", \"total\": %.0f}\n", (double)to->done);
}

int watch_rate(struct job *job)
{
	struct mark m[LOAD_SLICES + 1], *last = m + job->slices;
	unsigned int i;

	if (wait_ready(job, READY_MS))
		return -1;
	usleep(job->warm_ms * 1000);
	if (cut(job, &m[0], PHASE_MEASURE))
		return -1;
	for (i = 1; i <= job->slices; i++) {
		usleep(job->ms * 1000);
		if (cut(job, &m[i], i < job->slices ? PHASE_MEASURE : PHASE_WARM))
			return -1;
	}
	if (last->done == m[0].done)
		fail(job, "nothing moved for %u ms", job->ms * job->slices);
	if (atomic_load(&job->sh->failed))
		return -1;
	print(job, m);
	return 0;
}
