// SPDX-License-Identifier: GPL-2.0
/* proc.c: what /proc says about a process and its descendants. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

#define PROCESSES 16384

struct process { pid_t pid, parent; bool in; };

static struct process all[PROCESSES];
static unsigned int n_all;

/* Fields of /proc/PID/stat count from 3 behind the name, which may hold blanks and brackets. */
static bool read_stat(pid_t pid, unsigned long long field[64])
{
	char path[64], line[1024], *at, *save;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	n = fread(line, 1, sizeof(line) - 1, f);
	fclose(f);
	line[n] = 0;
	at = strrchr(line, ')');
	if (!at)
		return false;
	at = strtok_r(at + 1, " \n", &save);
	for (n = 3; at && n < 64; n++, at = strtok_r(NULL, " \n", &save))
		field[n] = strtoull(at, NULL, 10);
	return n > 17;
}

static void list_processes(void)
{
	unsigned long long field[64];
	DIR *dir = opendir("/proc");
	struct dirent *d;

	n_all = 0;
	while (dir && n_all < PROCESSES && (d = readdir(dir)))
		if (isdigit((unsigned char)*d->d_name) && read_stat(atoi(d->d_name), field))
			all[n_all++] = (struct process){ .pid = atoi(d->d_name), .parent = (pid_t)field[4] };
	if (dir)
		closedir(dir);
}

/* Adds children of those that are in, until there are none more. */
static void mark_tree(pid_t root)
{
	bool more = true;
	unsigned int i, k;

	for (i = 0; i < n_all; i++)
		all[i].in = all[i].pid == root;
	while (more) {
		more = false;
		for (i = 0; i < n_all; i++)
			for (k = 0; k < n_all && !all[i].in; k++)
				if (all[k].in && all[k].pid == all[i].parent)
					all[i].in = more = true;
	}
}

/* utime + stime have the resolution of a tick; schedstat, where it is, counts nanoseconds but no ended thread. */
static uint64_t process_ns(pid_t pid, bool children)
{
	unsigned long long field[64], ns = 0, ticks;
	char path[64];
	FILE *f;

	if (!read_stat(pid, field))
		return 0;
	ticks = field[14] + field[15];
	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	f = field[20] == 1 ? fopen(path, "r") : NULL;
	if (f && fscanf(f, "%llu", &ns) != 1)
		ns = 0;
	if (f)
		fclose(f);
	if (!ns)
		ns = ticks * (1000000000ull / sysconf(_SC_CLK_TCK));
	return children ? ns + (field[16] + field[17]) * (1000000000ull / sysconf(_SC_CLK_TCK)) : ns;
}

int tree_cpu(pid_t root, struct tree_use *use)
{
	unsigned int i;

	memset(use, 0, sizeof(*use));
	list_processes();
	mark_tree(root);
	for (i = 0; i < n_all; i++) {
		if (!all[i].in)
			continue;
		use->processes++;
		use->cpu_ns += process_ns(all[i].pid, all[i].pid == root);
	}
	return use->processes ? 0 : -1;
}

static uint64_t rollup_kb(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void add_rollup(pid_t pid, struct tree_use *use)
{
	char path[64], text[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	f = fopen(path, "r");
	if (!f)
		return;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = 0;
	use->rss_kb += rollup_kb(text, "\nRss:");
	use->pss_kb += rollup_kb(text, "\nPss:");
}

/* A pipe has two ends. */
static void add_fds(pid_t pid, struct tree_use *use, unsigned int *ends)
{
	char path[300], link[64];
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		if (*d->d_name == '.')
			continue;
		use->fds++;
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, d->d_name);
		*ends += readlink(path, link, sizeof(link)) > 5 && !memcmp(link, "pipe:", 5);
	}
	if (dir)
		closedir(dir);
}

int tree_memory(pid_t root, struct tree_use *use)
{
	unsigned int i, ends = 0;

	memset(use, 0, sizeof(*use));
	list_processes();
	mark_tree(root);
	for (i = 0; i < n_all; i++) {
		if (!all[i].in)
			continue;
		use->processes++;
		add_rollup(all[i].pid, use);
		add_fds(all[i].pid, use, &ends);
	}
	use->pipes = (ends + 1) / 2;
	return use->processes ? 0 : -1;
}
