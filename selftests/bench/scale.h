/* SPDX-License-Identifier: GPL-2.0 */
/*
 * scale.h: private header of the program that measures how the module scales and behaves. It runs in a guest, as root,
 * and holds both ends of all connections itself.
 */
#ifndef SCALE_H
#define SCALE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libsplice.h"

/* scale.c */
void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...);
double now(void);				/* seconds */
/* A line of the report, and a member of its JSON; limit: what it is at most to be, 0: any. */
void figure(const char *key, double value, const char *unit, double limit);
void least(const char *key, double value, const char *unit, double limit);	/* at least */
void remark(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* scale_kernel.c: what the kernel says of itself */
struct slab {
	char name[32];
	unsigned long objects, bytes;		/* in use; of pages */
};

struct usage {
	struct slab slabs[512];
	unsigned int n_slabs;
	long slab, unreclaimable, vmalloc, percpu, stacks, tables, available;	/* KB */
};

struct counters { uint64_t ops, bytes, inlined, worker, missed, blocked, nomem; };

void usage_take(struct usage *u);		/* when all is freed that is going to be */
void usage_print(const struct usage *from, const struct usage *to, unsigned int n);
struct counters counters_take(void);
struct counters counters_since(const struct counters *from);
void pin(int cpu);

/* scale_path.c: client c <-> a, b <-> server s */
struct path { int c, a, b, s; };

void paths_prepare(unsigned int n);		/* limits, ports and listeners for so many */
void paths_take_share(unsigned int who);	/* of the listeners, in a process of its own: 0 or 1 */
void path_open(struct path *p);
int path_direct(int fds[2]);			/* one connection; fds[1] accepted */
uint64_t path_splice(struct spl *s, struct path *p);	/* joins a and b; they are closed then */
void path_close(struct path *p);
void talk(int from, int to, size_t len);
void set_nodelay(int fd);
struct spl *kmod_open(void);

/* a measurement each */
void memory_run(int argc, char **argv);
void end_run(int argc, char **argv);
void latency_run(int argc, char **argv);
void loop_run(int argc, char **argv);
void duplex_run(int argc, char **argv);
void churn_run(int argc, char **argv);

#endif /* SCALE_H */
