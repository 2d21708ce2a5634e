// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The splices that the processes of this machine list: see listed.h. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "../bpf/sockmap.h"
#include "sockmap_list.h"

#define SIZE		(SPL_LISTED_MOST * sizeof(struct spl_listed))
#define WAYS_SIZE	(SOCKMAP_FLOWS * sizeof(struct sockmap_way))

uint64_t sockmap_listed_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) ? 0 : st.st_ino;
}

/* The 22nd word of its stat, the 20th behind the name. */
uint64_t sockmap_listed_started(pid_t pid)
{
	char path[64], line[1024], *word = NULL, *rest;
	FILE *f;
	int i;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fgets(line, sizeof(line), f) && (rest = strrchr(line, ')')))
		for (i = 0, word = strtok_r(rest + 1, " ", &rest); word && i < 19; i++)
			word = strtok_r(NULL, " ", &rest);
	fclose(f);
	return word ? strtoull(word, NULL, 10) : 0;
}

/* Everybody may make it where bpffs lets everybody: somebody else's is none. */
static DIR *open_dir(void)
{
	int fd = open(SPL_LISTED_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct statfs fs;
	struct stat st;

	if (fd < 0)
		return NULL;
	if (!fstatfs(fd, &fs) && fs.f_type == BPF_FS_MAGIC && !fstat(fd, &st) && (!st.st_uid || st.st_uid == geteuid()) &&
	    !(st.st_mode & (S_IWGRP | S_IWOTH)))
		return fdopendir(fd);
	close(fd);
	errno = ENOENT;
	return NULL;
}

/* Whose pin. */
struct owner {
	unsigned long long ns, started;
	int pid;
	uid_t uid;
};

/* Only what is written as we write it. */
static bool parse_name(const char *name, struct owner *o)
{
	char again[NAME_MAX + 1];

	if (sscanf(name, "%llu-%d-%llu", &o->ns, &o->pid, &o->started) != 3 || o->pid <= 0)
		return false;
	snprintf(again, sizeof(again), "%llu-%d-%llu", o->ns, o->pid, o->started);
	return !strcmp(again, name);
}

/*
 * Of a process that we know to be gone? Those of another namespace have other numbers. Of one that we cannot look at we know
 * nothing.
 */
static bool is_dead(const struct owner *o)
{
	uint64_t now;

	if (o->ns != sockmap_listed_namespace())
		return false;
	if (kill(o->pid, 0) && errno == ESRCH)
		return true;
	now = sockmap_listed_started(o->pid);
	return now && now != o->started;
}

bool sockmap_listed_sweep(void)
{
	DIR *dir = open_dir();
	struct dirent *e;
	struct owner o;

	if (!dir)
		return false;
	while ((e = readdir(dir)))
		if (parse_name(e->d_name, &o) && is_dead(&o))
			unlinkat(dirfd(dir), e->d_name, 0);
	closedir(dir);
	return true;
}

/* ---- reading */

static bool is_array(int fd, uint32_t value_size, uint32_t n)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	return !bpf_obj_get_info_by_fd(fd, &info, &len) && info.type == BPF_MAP_TYPE_ARRAY && info.value_size == value_size &&
	       info.max_entries == n;
}

static const struct sockmap_way *map_ways(uint32_t id)
{
	int fd = id ? bpf_map_get_fd_by_id(id) : -1;
	void *ways = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (is_array(fd, sizeof(struct sockmap_way), SOCKMAP_FLOWS))
		ways = mmap(NULL, WAYS_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	return ways == MAP_FAILED ? NULL : ways;
}

/* The kernel counts on while the process does not look. */
static void count_on(struct spl_listed *r, const struct sockmap_way *ways)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		uint64_t taken = r->way[i] && r->way[i] <= SOCKMAP_FLOWS ? ways[r->way[i] - 1].taken : 0;

		if (taken > r->bytes[i])
			r->bytes[i] = taken;
	}
}

/* False: there is none, or it has changed in the meantime. */
static bool copy(const struct spl_listed *from, struct spl_listed *to)
{
	uint64_t token = __atomic_load_n(&from->token, __ATOMIC_ACQUIRE);

	memcpy(to, from, sizeof(*to));
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return token && to->token == token && __atomic_load_n(&from->token, __ATOMIC_RELAXED) == token;
}

/* Of what another process has written nothing is used as it is that could not be. */
static void trim(struct spl_listed *r, const struct owner *o)
{
	unsigned int i;

	r->ns = o->ns;
	r->pid = (uint32_t)o->pid;
	r->uid = o->uid;
	r->pair = !!r->pair;
	for (i = 0; i < 2; i++)
		if (r->local[i].sin6_family != AF_INET6 || r->remote[i].sin6_family != AF_INET6)
			r->local[i].sin6_family = r->remote[i].sin6_family = 0;
}

static int read_unlisted(const struct spl_listed *from, const struct owner *o, struct spl_listed *to)
{
	memset(to, 0, sizeof(*to));
	to->unlisted = __atomic_load_n(&from->unlisted, __ATOMIC_RELAXED);
	trim(to, o);
	return !!to->unlisted;
}

static int read_records(const struct spl_listed *from, const struct owner *o, struct spl_listed **out, int n)
{
	struct spl_listed *all = realloc(*out, ((size_t)n + SPL_LISTED_MOST) * sizeof(*all));
	const struct sockmap_way *ways;
	unsigned int i;

	if (!all)
		return -ENOMEM;
	*out = all;
	ways = map_ways(from[0].way[0]);
	for (i = 1; i < SPL_LISTED_MOST; i++) {
		if (!copy(&from[i], &all[n]))
			continue;
		if (ways)
			count_on(&all[n], ways);
		trim(&all[n], o);
		all[n++].unlisted = 0;
	}
	n += read_unlisted(from, o, &all[n]);
	if (ways)
		munmap((void *)ways, WAYS_SIZE);
	return n;
}

/* What is there by that name has been put there by its owner, who alone may write to the directory besides us and root. */
static bool find_owner(int dir, const char *name, struct owner *o)
{
	struct stat st;

	if (!parse_name(name, o) || is_dead(o) || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return false;
	o->uid = st.st_uid;
	return true;
}

static int read_pin(int dir, const char *name, struct spl_listed **out, int n)
{
	char path[sizeof(SPL_LISTED_DIR) + 1 + NAME_MAX];
	struct spl_listed *from = MAP_FAILED;
	struct owner o;
	int fd;

	if (!find_owner(dir, name, &o))
		return n;
	snprintf(path, sizeof(path), SPL_LISTED_DIR "/%s", name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return errno == EPERM || errno == EACCES ? -EPERM : n;
	/* another version of the library has another map */
	if (is_array(fd, sizeof(struct spl_listed), SPL_LISTED_MOST))
		from = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (from == MAP_FAILED)
		return n;
	n = read_records(from, &o, out, n);
	munmap(from, SIZE);
	return n;
}

int spl_sockmap_listed(struct spl_listed **out)
{
	struct dirent *e;
	bool any = false;
	DIR *dir;
	int n = 0;

	*out = NULL;
	sockmap_listed_sweep();
	dir = open_dir();
	if (!dir)
		return errno == EACCES ? -EPERM : -ENOENT;
	while (n >= 0 && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		any = true;
		n = read_pin(dirfd(dir), e->d_name, out, n);
	}
	closedir(dir);
	if (n < 0) {
		free(*out);
		*out = NULL;
	}
	return n < 0 || any ? n : -ENOENT;
}
