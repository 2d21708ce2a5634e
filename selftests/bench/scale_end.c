// SPDX-License-Identifier: GPL-2.0
/* scale_end.c: many idle pairs that end at once: by a flush, with the owner of forwards, with the process that has all. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scale.h"

#define PATIENCE_S 600

/* With a reset, so that no port stays in TIME_WAIT for the next part. */
static void close_hard(int fd)
{
	struct linger now_and_hard = { .l_onoff = 1 };

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_and_hard, sizeof(now_and_hard));
	close(fd);
}

static void close_all(struct path *paths, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		close_hard(paths[i].c);
		close_hard(paths[i].a);
		close_hard(paths[i].b);
		close_hard(paths[i].s);
	}
}

static void open_all(struct path *paths, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		path_open(&paths[i]);
}

static void splice_all(struct spl *s, struct path *paths, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		path_splice(s, &paths[i]);
		talk(paths[i].c, paths[i].s, 64);
		talk(paths[i].s, paths[i].c, 64);
	}
}

/* Until the module has no operation any more; asking takes some milliseconds, in a process of its own. */
static double gone_since(double began)
{
	while (counters_take().ops) {
		if (now() - began > PATIENCE_S)
			die("the operations do not end");
		usleep(1000);
	}
	return now() - began;
}

static void expect_ops(unsigned int n)
{
	if (counters_take().ops != n)
		die("%u operations were begun, %u are there", n, (unsigned int)counters_take().ops);
}

/* Each has its one event, which says why. */
static void take_events(struct spl *s, unsigned int n, enum spl_cause cause)
{
	struct spl_event ev;
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (spl_next(s, &ev, 30000) != 1)
			die("%u events of %u do not come", n - i, n);
		if (ev.cause != cause)
			die("one ended %s", spl_cause_name(ev.cause));
	}
	if (spl_next(s, &ev, 0))
		die("an event too many");
}

static void by_flush(struct path *paths, unsigned int n)
{
	struct spl *s = kmod_open();
	double began;

	open_all(paths, n);
	splice_all(s, paths, n);
	expect_ops(n);
	began = now();
	if (system("splicectl flush --yes > /dev/null"))
		die("splicectl flush fails");
	figure("splicectl flush, until it has ended all pairs", now() - began, "s", 0);
	figure("until the module has none of them", gone_since(began), "s", 0);
	began = now();
	take_events(s, n, SPL_REVOKED);
	figure("their events read", now() - began, "s", 0);
	spl_close(s);
	close_all(paths, n);
}

static void __attribute__((noreturn)) wait_for_death(int ready)
{
	if (write(ready, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static void wait_for_child(int ready[2])
{
	char byte;

	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		die("a process fails");
	close(ready[0]);
}

static void forward_all(struct path *paths, unsigned int n)
{
	struct spl *s = kmod_open();
	uint64_t token;
	unsigned int i;

	for (i = 0; i < n; i++)
		if (spl_forward(s, paths[i].a, paths[i].b, SPL_ALL, NULL, &token) ||
		    spl_forward(s, paths[i].b, paths[i].a, SPL_ALL, NULL, &token))
			die("spl_forward: %s", spl_strerror_last(s));
}

static pid_t begin_child(int ready[2])
{
	pid_t pid;

	if (pipe(ready) || (pid = fork()) < 0)
		die("fork: %s", strerror(errno));
	return pid;
}

static double kill_child(pid_t pid)
{
	double began = now();

	kill(pid, SIGKILL);
	if (waitpid(pid, NULL, 0) != pid)
		die("waitpid");
	return began;
}

/* Two forwards a pair, of sockets that another process has as well and can use again. */
static void by_owner(struct path *paths, unsigned int n)
{
	double began;
	int ready[2];
	pid_t pid;

	open_all(paths, n);
	pid = begin_child(ready);
	if (!pid) {
		forward_all(paths, n);
		wait_for_death(ready[1]);
	}
	wait_for_child(ready);
	expect_ops(2 * n);
	began = kill_child(pid);
	figure("the owner of two forwards a pair is killed: until none is left", gone_since(began), "s", 0);
	talk(paths[0].c, paths[0].a, 64);
	talk(paths[n - 1].b, paths[n - 1].s, 64);
	close_all(paths, n);
}

/* Splices outlive their owner: here it has the clients and servers, too. Else the four sockets alone, which is what that costs. */
static void by_exit(struct path *paths, unsigned int n, bool kmod)
{
	int ready[2];
	pid_t pid = begin_child(ready);
	double began;

	if (!pid) {
		open_all(paths, n);
		if (kmod)
			splice_all(kmod_open(), paths, n);
		wait_for_death(ready[1]);
	}
	wait_for_child(ready);
	expect_ops(kmod ? n : 0);
	began = kill_child(pid);
	figure(kmod ? "who has all pairs' clients and servers is killed: it is gone after" :
	       "who has as many connections without pairs is killed: it is gone after", now() - began, "s", 0);
	if (kmod)
		figure("until no pair is left", gone_since(began), "s", 0);
}

void end_run(int argc, char **argv)
{
	unsigned int n = argc > 0 ? (unsigned int)strtoul(argv[0], NULL, 10) : 20000;
	struct path *paths = calloc(n, sizeof(*paths));

	if (!paths)
		die("no memory");
	paths_prepare(n);
	remark("%u pairs", n);
	by_flush(paths, n);
	by_owner(paths, n);
	by_exit(paths, n, false);
	by_exit(paths, n, true);
	free(paths);
}
