// SPDX-License-Identifier: GPL-2.0
/* scale_latency.c: every single round trip of 64 B, directly and through a pair. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scale.h"

#define SIZE 64
#define SHOWN 20
#define TIMES 3			/* the median: no round trip may take longer */

struct trip { double us, at; unsigned int number; };

static pid_t start_echo(int fd)
{
	pid_t pid = fork();
	char buf[SIZE];

	if (pid)
		return pid;
	while (recv(fd, buf, SIZE, MSG_WAITALL) == SIZE && send(fd, buf, SIZE, 0) == SIZE)
		;
	_exit(0);
}

/* It has a copy of the client's descriptor, and so sees no end. */
static void stop_echo(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void make_trips(int fd, struct trip *trips, unsigned int n)
{
	double began = now(), from, to;
	char buf[SIZE] = { 0 };
	unsigned int i;

	for (i = 0; i < n; i++) {
		from = now();
		if (send(fd, buf, SIZE, 0) != SIZE || recv(fd, buf, SIZE, MSG_WAITALL) != SIZE)
			die("round trip %u fails", i);
		to = now();
		trips[i] = (struct trip){ .us = (to - from) * 1e6, .at = from - began, .number = i };
	}
}

static int by_length(const void *a, const void *b)
{
	double x = ((const struct trip *)a)->us, y = ((const struct trip *)b)->us;

	return (x > y) - (x < y);
}

static void report(const char *what, struct trip *trips, unsigned int n, double limit)
{
	double first = trips[0].us, median;
	unsigned int i, late = 0;
	char key[80];

	/* the first is the exception */
	qsort(trips + 1, n - 1, sizeof(*trips), by_length);
	median = trips[1 + (n - 1) / 2].us;
	for (i = 1; i < n; i++)
		late += trips[i].us > TIMES * median;
	snprintf(key, sizeof(key), "%s: median", what);
	figure(key, median, "us", 0);
	snprintf(key, sizeof(key), "%s: 99.9th percentile", what);
	figure(key, trips[(unsigned int)(0.999 * n)].us, "us", 0);
	snprintf(key, sizeof(key), "%s: largest, of the median", what);
	figure(key, trips[n - 1].us / median, "times", limit);
	snprintf(key, sizeof(key), "%s: round trips above %d times the median", what, TIMES);
	figure(key, late, "", 0);
	remark("  the first took %.1f us; the largest %d of the others (us, at second, number):", first, SHOWN);
	for (i = 0; i < SHOWN && i < n - 1; i++)
		remark("    %10.1f  %9.4f  %7u", trips[n - 1 - i].us, trips[n - 1 - i].at, trips[n - 1 - i].number);
}

static void direct(struct trip *trips, unsigned int n)
{
	int fds[2];
	pid_t pid;

	if (path_direct(fds))
		die("no connection");
	pid = start_echo(fds[1]);
	close(fds[1]);
	make_trips(fds[0], trips, n);
	report("direct", trips, n, 0);
	close(fds[0]);
	stop_echo(pid);
}

static void through(struct trip *trips, unsigned int n)
{
	struct spl *s = kmod_open();
	struct counters c;
	struct path p;
	pid_t pid;

	path_open(&p);
	path_splice(s, &p);
	pid = start_echo(p.s);
	c = counters_take();
	make_trips(p.c, trips, n);
	c = counters_since(&c);
	report("kmod", trips, n, TIMES);
	least("share of runs inline", (double)c.inlined / (double)(c.inlined + c.worker), "", 0.95);
	least("runs inline, of the messages", (double)c.inlined / (2.0 * n), "", 0.95);
	remark("  runs inline %llu, in the worker %llu, missed %llu, blocked %llu; %u messages", (unsigned long long)c.inlined,
	       (unsigned long long)c.worker, (unsigned long long)c.missed, (unsigned long long)c.blocked, 2 * n);
	stop_echo(pid);
	path_close(&p);
	spl_close(s);
}

void latency_run(int argc, char **argv)
{
	unsigned int n = argc > 0 ? (unsigned int)strtoul(argv[0], NULL, 10) : 100000;
	struct trip *trips = calloc(n, sizeof(*trips));

	if (n < 100)
		die("at least 100 round trips");
	/* neither page faults nor what boots still do are the module's */
	for (unsigned int i = 0; i < n; i++)
		trips[i].number = i;
	paths_prepare(16);
	sleep(3);
	direct(trips, n);
	through(trips, n);
	free(trips);
}
