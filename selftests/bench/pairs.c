// SPDX-License-Identifier: GPL-2.0
/* pairs.c: many connections that have talked once and now rest: what the relay keeps for each. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define READY_MS 15000
#define SETTLE_MS 500

/* One after the other: the peak of what is under way must not count as what is kept. */
static void client(struct job *job)
{
	char *buf = calloc(2, job->size);
	unsigned int i;
	int fd;

	if (!buf)
		die(job, "out of memory");
	memset(buf, 'x', job->size);
	for (i = 0; i < job->conns && atomic_load(&job->sh->phase) != PHASE_STOP; i++) {
		fd = connect_to(job, i);
		send_all(job, fd, buf, job->size);
		if (recv(fd, buf + job->size, job->size, MSG_WAITALL) != (ssize_t)job->size)
			die(job, "connection %u has no reply: %s", i, strerror(errno));
		if (memcmp(buf, buf + job->size, job->size))
			die(job, "a reply is not what was sent");
		atomic_fetch_add(&job->sh->ready, 1);
	}
	while (atomic_load(&job->sh->phase) != PHASE_STOP)
		usleep(10000);
}

static int look(struct job *job, struct tree_use *memory, struct tree_use *cpu)
{
	if (!tree_memory(job->relay, memory) && !tree_cpu(job->relay, cpu))
		return 0;
	fail(job, "the relay is gone");
	return -1;
}

static double per_pair(const struct job *job, uint64_t before, uint64_t after)
{
	return ((double)after - (double)before) / job->conns;
}

static int watch(struct job *job)
{
	struct tree_use before, after, cpu, rested;

	if (look(job, &before, &cpu) || wait_ready(job, READY_MS))
		return -1;
	usleep(SETTLE_MS * 1000);
	if (look(job, &after, &cpu))
		return -1;
	usleep(job->ms * 1000);
	if (tree_cpu(job->relay, &rested) || atomic_load(&job->sh->failed))
		return -1;
	printf("{\"pairs\": %u, \"rss\": %.3f, \"pss\": %.3f, \"pipes\": %d, \"fds\": %.2f, \"processes\": %u, "
	       "\"idle_cpu\": %.4f}\n", job->conns, per_pair(job, before.rss_kb, after.rss_kb),
	       per_pair(job, before.pss_kb, after.pss_kb), (int)after.pipes - (int)before.pipes,
	       per_pair(job, before.fds, after.fds), after.processes,
	       (double)(rested.cpu_ns - cpu.cpu_ns) / 1e6 / job->ms);
	return 0;
}

const struct mode pairs_mode = { .name = "pairs", .server = echo_server, .client = client, .watch = watch };
