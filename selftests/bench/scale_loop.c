// SPDX-License-Identifier: GPL-2.0
/*
 * scale_loop.c: two pairs, each of which feeds the other, so that bytes go round for ever. What a timer, a fork and a round
 * trip through a third pair take beside that, and how long it takes to end the loop.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "scale.h"

#define TRIES 200
#define LATE 0.1		/* seconds: what makes a machine feel stuck */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double timer(const struct path *p)
{
	struct timespec ms = { .tv_nsec = 1000000 };
	double began = now();

	(void)p;
	nanosleep(&ms, NULL);
	return now() - began - 0.001;
}

static double forking(const struct path *p)
{
	double began = now();
	pid_t pid = fork();

	(void)p;
	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	return now() - began;
}

static double trip(const struct path *p)
{
	double began = now();

	talk(p->c, p->s, 64);
	talk(p->s, p->c, 64);
	return now() - began;
}

static void measure(const char *when, const char *what, double (*one)(const struct path *p), const struct path *p, double limit)
{
	double took[TRIES];
	char key[80];
	unsigned int i;

	for (i = 0; i < TRIES; i++)
		took[i] = one(p);
	qsort(took, TRIES, sizeof(*took), by_value);
	snprintf(key, sizeof(key), "%s: %s, median", when, what);
	figure(key, took[TRIES / 2] * 1e6, "us", 0);
	snprintf(key, sizeof(key), "%s: %s, longest of %d", when, what, TRIES);
	figure(key, took[TRIES - 1] * 1e6, "us", limit * 1e6);
}

static void measure_all(const char *when, const struct path *p, double limit)
{
	measure(when, "a timer of 1 ms is late by", timer, p, limit);
	measure(when, "fork and wait", forking, p, limit);
	measure(when, "64 B round trip through a third pair", trip, p, limit);
}

/* What one pair sends to x[0] the other one has on x[1], and the other way round. The prefix is what goes round. */
static void close_loop(struct spl *s, unsigned int len, uint64_t tokens[2])
{
	char prefix[1 << 16] = { 0 };
	struct spl_opts opts = { .sz = sizeof(opts), .prefix = prefix, .prefix_len = len };
	int x[2], y[2], error;

	if (path_direct(x) || path_direct(y))
		die("no connection");
	error = spl_splice_pair(s, y[1], x[0], NULL, &tokens[0]);
	if (!error)
		error = spl_splice_pair(s, x[1], y[0], &opts, &tokens[1]);
	if (error)
		die("spl_splice_pair: %s: %s", strerror(-error), spl_strerror_last(s));
}

static void take_event(struct spl *s)
{
	struct spl_event ev;

	if (spl_next(s, &ev, 10000) != 1)
		die("the loop does not end");
}

/* An end of one pair ends the other. */
static void end_loop(struct spl *s, const uint64_t tokens[2], bool kill)
{
	double began = now();
	int error = kill ? spl_revoke(s, tokens[0], 0) : spl_cancel(s, tokens[0]);

	if (error)
		die("the loop cannot be ended: %s", strerror(-error));
	take_event(s);
	figure(kill ? "to revoke one pair of the loop, until its event" : "to cancel one pair of the loop, until its event",
	       (now() - began) * 1e6, "us", LATE * 1e6);
	take_event(s);
	figure("until the other one has ended, too", (now() - began) * 1e6, "us", LATE * 1e6);
}

static void go_round(struct spl *s, const struct path *p, unsigned int len, bool kill)
{
	struct counters c = counters_take();
	uint64_t tokens[2];
	double began = now(), took;
	char when[32];

	remark(" %u bytes that go round for ever:", len);
	close_loop(s, len, tokens);
	snprintf(when, sizeof(when), "%u B loop", len);
	measure_all(when, p, LATE);
	c = counters_since(&c);
	took = now() - began;
	figure("loop: runs", (double)(c.inlined + c.worker) / took, "1/s", 0);
	figure("loop: share of runs inline", (double)c.inlined / (double)(c.inlined + c.worker), "", 0);
	figure("loop: moved", (double)c.bytes / took / 1e6, "MB/s", 0);
	end_loop(s, tokens, kill);
}

void loop_run(int argc, char **argv)
{
	unsigned int len = argc > 0 ? (unsigned int)strtoul(argv[0], NULL, 10) : 64;
	struct spl *s = kmod_open();
	struct path p;

	paths_prepare(16);
	path_open(&p);
	path_splice(s, &p);
	sleep(3);
	measure_all("idle", &p, 0);
	go_round(s, &p, len, true);
	go_round(s, &p, 65536, true);
	go_round(s, &p, len, false);
	if (counters_take().ops != 1)
		die("operations are left over");
	path_close(&p);
	spl_close(s);
}
