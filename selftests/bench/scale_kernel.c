// SPDX-License-Identifier: GPL-2.0
/* scale_kernel.c: what the kernel and the module say of themselves. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scale.h"

#define SETTLE_S 3		/* RCU, work queues, slabs that wait to be freed */
#define SHOWN 12

static void read_meminfo(struct usage *u)
{
	static const char *const names[] = { "Slab", "SUnreclaim", "VmallocUsed", "Percpu", "KernelStack", "PageTables", "MemAvailable" };
	long *const values[] = { &u->slab, &u->unreclaimable, &u->vmalloc, &u->percpu, &u->stacks, &u->tables, &u->available };
	char key[64], text[160];
	unsigned int i;
	long kb;
	FILE *f = fopen("/proc/meminfo", "r");

	while (f && fgets(text, sizeof(text), f))
		for (i = 0; i < sizeof(names) / sizeof(*names); i++)
			if (sscanf(text, "%63[^:]: %ld", key, &kb) == 2 && !strcmp(key, names[i]))
				*values[i] = kb;
	if (f)
		fclose(f);
}

static void read_slabinfo(struct usage *u)
{
	unsigned long active, all, size, per_slab, pages, slabs;
	char text[512], name[64];
	struct slab *s;
	FILE *f = fopen("/proc/slabinfo", "r");

	u->n_slabs = 0;
	while (f && fgets(text, sizeof(text), f)) {
		if (sscanf(text, "%63s %lu %lu %lu %lu %lu : tunables %*u %*u %*u : slabdata %*u %lu",
			   name, &active, &all, &size, &per_slab, &pages, &slabs) != 7 || u->n_slabs == 512)
			continue;
		s = &u->slabs[u->n_slabs++];
		snprintf(s->name, sizeof(s->name), "%.31s", name);
		s->objects = active;
		s->bytes = slabs * pages * (unsigned long)sysconf(_SC_PAGESIZE);
	}
	if (f)
		fclose(f);
}

/* The page size of the process holds for slabs, too. */
void usage_take(struct usage *u)
{
	sleep(SETTLE_S);
	memset(u, 0, sizeof(*u));
	read_meminfo(u);
	read_slabinfo(u);
}

static const struct slab *find(const struct usage *u, const char *name)
{
	unsigned int i;

	for (i = 0; i < u->n_slabs; i++)
		if (!strcmp(u->slabs[i].name, name))
			return &u->slabs[i];
	return NULL;
}

struct gain { const char *name; double bytes, objects; };

static int by_size(const void *a, const void *b)
{
	double x = ((const struct gain *)a)->bytes, y = ((const struct gain *)b)->bytes;

	return (x < y) - (x > y);
}

/* Which caches grew, for each of N. */
void usage_print(const struct usage *from, const struct usage *to, unsigned int n)
{
	struct gain gains[512];
	const struct slab *old;
	unsigned int i;

	for (i = 0; i < to->n_slabs; i++) {
		old = find(from, to->slabs[i].name);
		gains[i] = (struct gain){
			.name = to->slabs[i].name,
			.bytes = ((double)to->slabs[i].bytes - (old ? (double)old->bytes : 0)) / n,
			.objects = ((double)to->slabs[i].objects - (old ? (double)old->objects : 0)) / n,
		};
	}
	qsort(gains, to->n_slabs, sizeof(*gains), by_size);
	for (i = 0; i < SHOWN && i < to->n_slabs && gains[i].bytes >= 1; i++)
		remark("    %-24s %9.1f B  %7.3f objects", gains[i].name, gains[i].bytes, gains[i].objects);
	for (i = to->n_slabs; i-- > 0 && gains[i].bytes <= -1;)
		remark("    %-24s %9.1f B  %7.3f objects", gains[i].name, gains[i].bytes, gains[i].objects);
	remark("    vmalloc %.1f B, percpu %.1f B, stacks %.1f B, page tables %.1f B",
	       1024.0 * (double)(to->vmalloc - from->vmalloc) / n, 1024.0 * (double)(to->percpu - from->percpu) / n,
	       1024.0 * (double)(to->stacks - from->stacks) / n, 1024.0 * (double)(to->tables - from->tables) / n);
}

static uint64_t counter(const char *text, const char *name)
{
	char key[48];
	const char *at;

	snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(text, key);
	if (!at)
		die("splicectl stats does not tell of \"%s\"", name);
	return strtoull(at + strlen(key), NULL, 10);
}

struct counters counters_take(void)
{
	char text[4096];
	FILE *f = popen("splicectl --json stats", "r");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

	if (f)
		pclose(f);
	text[n] = 0;
	return (struct counters){
		.ops = counter(text, "ops"), .bytes = counter(text, "bytes"), .inlined = counter(text, "inline"),
		.worker = counter(text, "worker"), .missed = counter(text, "missed"), .blocked = counter(text, "blocked"),
		.nomem = counter(text, "nomem"),
	};
}

struct counters counters_since(const struct counters *from)
{
	struct counters c = counters_take();

	c.bytes -= from->bytes;
	c.inlined -= from->inlined;
	c.worker -= from->worker;
	c.missed -= from->missed;
	c.blocked -= from->blocked;
	c.nomem -= from->nomem;
	return c;
}

void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}
