// SPDX-License-Identifier: GPL-2.0
/*
 * load: traffic through a relay, and what it costs. See usage().
 *
 * Three processes: a server, a client, and their parent, which sleeps, samples the counters and the relay's entry
 * in /proc, and prints one JSON object. The parent's end takes the others with it. Exits 1 when anything was
 * lost, late or wrong; the object then has "error" and no figure.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define GRACE_MS 5000	/* for the ends of all connections to arrive */

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void say_why(struct job *job, const char *fmt, va_list ap)
{
	int no = 0;

	if (atomic_compare_exchange_strong(&job->sh->failed, &no, 1))
		vsnprintf(job->sh->error, sizeof(job->sh->error), fmt, ap);
}

void fail(struct job *job, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_why(job, fmt, ap);
	va_end(ap);
}

/* Of the client or the server: its connections end with it. */
void die(struct job *job, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_why(job, fmt, ap);
	va_end(ap);
	_exit(1);
}

/* Until all connections have said that they are ready. 0, or -1 after fail(). */
int wait_ready(struct job *job, unsigned int ms)
{
	uint64_t until = now_ns() + ms * 1000000ull;

	while (atomic_load(&job->sh->ready) < job->conns) {
		if (atomic_load(&job->sh->failed))
			return -1;
		if (now_ns() > until) {
			fail(job, "%u of %u connections in %u ms", atomic_load(&job->sh->ready), job->conns, ms);
			return -1;
		}
		usleep(2000);
	}
	return 0;
}

static void pin(const struct job *job)
{
	cpu_set_t set;

	if (job->cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(job->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static pid_t start(struct job *job, void (*run)(struct job *job))
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	pin(job);
	run(job);
	_exit(0);
}

/* Waits for a child to end well; kills it when the time is over. */
static void end(struct job *job, pid_t pid, const char *name, uint64_t until)
{
	int status = 0;

	while (!waitpid(pid, &status, WNOHANG)) {
		if (now_ns() > until || atomic_load(&job->sh->failed)) {
			fail(job, "the %s does not see the end of its connections", name);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return;
		}
		usleep(1000);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail(job, "the %s ended with status %x", name, status);
}

static int run(struct job *job)
{
	pid_t server = start(job, job->mode->server), client = start(job, job->mode->client);
	uint64_t until;

	if (server < 0 || client < 0)
		fail(job, "fork: %s", strerror(errno));
	else
		job->mode->watch(job);
	atomic_store(&job->sh->phase, PHASE_STOP);
	until = now_ns() + GRACE_MS * 1000000ull;
	if (client > 0)
		end(job, client, "client", until);
	if (server > 0)
		end(job, server, "server", until);
	if (!atomic_load(&job->sh->failed) && atomic_load(&job->sh->sent) != atomic_load(&job->sh->received))
		fail(job, "%llu bytes sent, %llu received", (unsigned long long)atomic_load(&job->sh->sent),
		     (unsigned long long)atomic_load(&job->sh->received));
	if (!atomic_load(&job->sh->failed))
		return 0;
	printf("{\"error\": \"%s\"}\n", job->sh->error);
	return 1;
}

static const struct mode *find_mode(const char *name)
{
	static const struct mode *const modes[] = {
		&bulk_mode, &rr_mode, &conn_mode, &pairs_mode, &verify_mode, &half_mode,
		&hold_modes[0], &hold_modes[1], &hold_modes[2], &hold_modes[3],
	};
	unsigned int i;

	for (i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		if (!strcmp(modes[i]->name, name))
			return modes[i];
	return NULL;
}

static void __attribute__((noreturn)) usage(void)
{
	fputs("load MODE [-c CONNECTIONS] [-s SIZE] [-w WRITE] [-W WARM_MS] [-t MS] [-n SLICES] [-p RELAY_PID] [-k CPU] [-b] LISTEN CONNECT\n"
	      "LISTEN, CONNECT: ADDRESS:PORT[,ADDRESS:PORT...] of the server, and where the client goes\n"
	      "MS: of a slice; of several the time that each of what was done took is printed, too\n"
	      "  bulk    one way, WRITE bytes at a time, bytes counted; -b: the server reads them, and does not discard them unread\n"
	      "  rr      round trips of SIZE bytes, stamped\n"
	      "  conn    connect, round trip, close; CONNECTIONS at a time\n"
	      "  pairs   one round trip each, then rest: memory of the relay\n"
	      "  verify  4 connections, contents both ways at once\n"
	      "  half    one side ends first and still gets all of the other's\n"
	      "  idle, stalled, stalled-closed, half-closed\n"
	      "          bring connections into that state, print \"ready\", stay until stdin ends\n", stderr);
	exit(2);
}

static void parse(struct job *job, int argc, char **argv)
{
	int option, n;

	job->mode = argc > 1 ? find_mode(argv[1]) : NULL;
	if (!job->mode)
		usage();
	optind = 2;
	while ((option = getopt(argc, argv, "c:s:w:W:t:n:p:k:b")) != -1) {
		switch (option) {
		case 'c': job->conns = (unsigned int)strtoul(optarg, NULL, 10); break;
		case 's': job->size = strtoul(optarg, NULL, 10); break;
		case 'w': job->write = strtoul(optarg, NULL, 10); break;
		case 'W': job->warm_ms = (unsigned int)strtoul(optarg, NULL, 10); break;
		case 'n': job->slices = (unsigned int)strtoul(optarg, NULL, 10); break;
		case 't': job->ms = (unsigned int)strtoul(optarg, NULL, 10); break;
		case 'p': job->relay = (pid_t)strtol(optarg, NULL, 10); break;
		case 'k': job->cpu = (int)strtol(optarg, NULL, 10); break;
		case 'b': job->reads = true; break;
		default: usage();
		}
	}
	if (argc - optind != 2 || !job->conns || job->conns > LOAD_CONNS || job->size < 16 || job->size > 1 << 20)
		usage();
	if (!job->write || job->write > LOAD_WRITE || !job->slices || job->slices > LOAD_SLICES ||
	    (job->mode == &bulk_mode && job->slices > 1 && job->conns > 1))
		usage();
	n = parse_addrs(argv[optind], job->listen);
	job->n_listen = n < 0 ? 0 : (unsigned int)n;
	n = parse_addrs(argv[optind + 1], job->to);
	job->n_to = n < 0 ? 0 : (unsigned int)n;
	if (!job->n_listen || !job->n_to)
		usage();
}

int main(int argc, char **argv)
{
	static struct job job = { .conns = 1, .size = 64, .write = LOAD_WRITE, .ms = 1000, .warm_ms = 150, .slices = 1, .cpu = -1 };
	unsigned int i;

	parse(&job, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	raise_limit();
	job.sh = mmap(NULL, sizeof(*job.sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (job.sh == MAP_FAILED) {
		perror("load: mmap");
		return 1;
	}
	sem_init(&job.sh->drained, 1, 0);
	sem_init(&job.sh->go, 1, 0);
	for (i = 0; i < job.n_listen; i++) {
		job.listeners[i] = open_listener(&job.listen[i]);
		if (job.listeners[i] < 0) {
			printf("{\"error\": \"cannot listen: %s\"}\n", strerror(errno));
			return 1;
		}
	}
	return run(&job);
}
