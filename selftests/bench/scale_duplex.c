// SPDX-License-Identifier: GPL-2.0
/* scale_duplex.c: bulk one way, then both ways at once, directly, through a pair, and through the relay on splice(2). */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scale.h"

#define PIECE (128 << 10)
#define RELAY "/bench/build/bench/relay"
#define RELAY_PORT 7500
#define ROUNDS 3
#define WARM_US 300000

enum kind { DIRECT, KMOD, SPLICE, KINDS };

static const char *const names[KINDS] = { "direct", "kmod", "splice" };

/* One way: its sender and its receiver. */
struct stream { int from, to; _Atomic uint64_t done; pthread_t threads[2]; };

static void *sender(void *arg)
{
	static const char piece[PIECE];
	struct stream *st = arg;

	while (send(st->from, piece, PIECE, MSG_NOSIGNAL) > 0)
		;
	return NULL;
}

static void *receiver(void *arg)
{
	struct stream *st = arg;
	ssize_t n;

	while ((n = recv(st->to, NULL, 1 << 20, MSG_TRUNC)) > 0)
		st->done += (uint64_t)n;
	return NULL;
}

static void start(struct stream *st)
{
	if (pthread_create(&st->threads[0], NULL, sender, st) || pthread_create(&st->threads[1], NULL, receiver, st))
		die("no thread");
}

static void join(struct stream *st)
{
	pthread_join(st->threads[0], NULL);
	pthread_join(st->threads[1], NULL);
}

/* ---- ways to get there */

static int listen_at(unsigned int port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (void *)&addr, sizeof(addr)) || listen(fd, 8))
		die("listen: %s", strerror(errno));
	return fd;
}

static int connect_to(unsigned int port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int i, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	for (i = 0; i < 500; i++, usleep(10000))
		if (!connect(fd, (void *)&addr, sizeof(addr)))
			return fd;
	die("the relay does not listen");
}

static pid_t start_relay(unsigned int port)
{
	char from[32], to[32];
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(from, sizeof(from), "127.0.0.1:%u", port);
	snprintf(to, sizeof(to), "127.0.0.1:%u", port + 1);
	execl(RELAY, RELAY, "splice", from, to, NULL);
	_exit(127);
}

static pid_t open_through(enum kind kind, unsigned int port, struct spl *s, int fds[2])
{
	struct path p;
	int listener;
	pid_t pid;

	if (kind == DIRECT && path_direct(fds))
		die("no connection");
	if (kind == KMOD) {
		path_open(&p);
		path_splice(s, &p);
		fds[0] = p.c;
		fds[1] = p.s;
	}
	if (kind != SPLICE)
		return 0;
	listener = listen_at(port + 1);
	pid = start_relay(port);
	fds[0] = connect_to(port);
	fds[1] = accept(listener, NULL, NULL);
	close(listener);
	return pid;
}

/* ---- measurements */

struct result { double one, up, down; struct counters c; };

static double gb(uint64_t bytes, double seconds)
{
	return (double)bytes / seconds / 1e9;
}

static void measure(enum kind kind, bool both, unsigned int port, struct spl *s, double seconds, struct result *r)
{
	struct counters c = counters_take();
	struct stream up = { 0 }, down = { 0 };
	uint64_t from[2];
	double began;
	int fds[2];
	pid_t pid = open_through(kind, port, s, fds);

	up.from = down.to = fds[0];
	up.to = down.from = fds[1];
	start(&up);
	if (both)
		start(&down);
	usleep(WARM_US);
	from[0] = up.done;
	from[1] = down.done;
	began = now();
	usleep((useconds_t)(seconds * 1e6));
	from[0] = up.done - from[0];
	from[1] = down.done - from[1];
	seconds = now() - began;
	*(both ? &r->up : &r->one) = gb(from[0], seconds);
	r->down = gb(from[1], seconds);
	r->c = counters_since(&c);
	shutdown(fds[0], SHUT_RDWR);
	shutdown(fds[1], SHUT_RDWR);
	join(&up);
	if (both)
		join(&down);
	close(fds[0]);
	close(fds[1]);
	if (pid) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), by_value);
	return values[ROUNDS / 2];
}

static void print_counters(const struct counters *c)
{
	remark("    runs inline %llu, in the worker %llu, missed (a lock was taken) %llu, sink full %llu, %.0f B a run",
	       (unsigned long long)c->inlined, (unsigned long long)c->worker, (unsigned long long)c->missed,
	       (unsigned long long)c->blocked, (double)c->bytes / (double)(c->inlined + c->worker + 1));
}

void duplex_run(int argc, char **argv)
{
	double seconds = argc > 0 ? strtod(argv[0], NULL) : 1;
	double one[KINDS][ROUNDS], sum[KINDS][ROUNDS], both[KINDS];
	struct spl *s = kmod_open();
	struct result r = { 0 };
	unsigned int round, kind;
	char key[80];

	paths_prepare(64);
	sleep(3);
	for (round = 0; round < ROUNDS; round++)
		for (kind = 0; kind < KINDS; kind++) {
			unsigned int port = RELAY_PORT + 4 * (round * KINDS + kind);

			measure(kind, false, port, s, seconds, &r);
			if (kind == KMOD)
				print_counters(&r.c);
			measure(kind, true, port + 2, s, seconds, &r);
			one[kind][round] = r.one;
			sum[kind][round] = r.up + r.down;
			remark("  %-6s one way %.3f GB/s; both: there %.3f, back %.3f GB/s", names[kind], r.one, r.up, r.down);
			if (kind == KMOD)
				print_counters(&r.c);
		}
	for (kind = 0; kind < KINDS; kind++) {
		snprintf(key, sizeof(key), "%s: one way", names[kind]);
		figure(key, median(one[kind]), "GB/s", 0);
		snprintf(key, sizeof(key), "%s: both ways together", names[kind]);
		both[kind] = median(sum[kind]);
		figure(key, both[kind], "GB/s", 0);
	}
	least("kmod: both ways together, of splice's", both[KMOD] / both[SPLICE], "times", 1);
	least("kmod: one way, of splice's", median(one[KMOD]) / median(one[SPLICE]), "times", 1);
	spl_close(s);
}
