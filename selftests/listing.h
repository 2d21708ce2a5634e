/* SPDX-License-Identifier: GPL-2.0 */
/* listing.h: the fixture of what is tried of the list of splices: a relay, and a bpffs of our own. */
#ifndef SELFTESTS_LISTING_H
#define SELFTESTS_LISTING_H

#include "harness.h"
#include "../libsplice/listed.h"

#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define SEED 1

static void skip(const char *why)
{
	printf("TAP version 13\n1..1\nok 1 all # SKIP %s\n", why);
	exit(0);
}

static void __attribute__((constructor)) want_bpffs(void)
{
	if (geteuid())
		skip("wants root");
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("bpf", "/sys/fs/bpf", "bpf", 0, NULL))
		skip("no bpffs can be mounted here");
}

/* Not engine_open(), which has a thread call the library. */
static int open_it(struct spl **s, const char *cgroup)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = SPL_ENGINE_SOCKMAP, .cgroup = cgroup };

	return spl_open(s, &opts);
}

static inline int pins(void)
{
	DIR *dir = opendir(SPL_LISTED_DIR);
	struct dirent *e;
	int n = 0;

	while (dir && (e = readdir(dir)))
		n += e->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

FIXTURE(sockmap_list) {
	struct spl *s;
	struct relay r;
	struct spl_event ev;
	struct spl_listed *all;
	uint64_t token;
};

FIXTURE_SETUP(sockmap_list)
{
	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
	EXPECT_EQ(-ENOENT, spl_sockmap_listed(&self->all));
}

FIXTURE_TEARDOWN(sockmap_list)
{
	spl_close(self->s);
	relay_close(&self->r);
	free(self->all);
	EXPECT_EQ(0, pins());
}

/* The tool is beside the tests' directory, or where tools are. */
static int splicectl(const char *arguments, char *out, size_t room)
{
	char self[256] = { 0 }, command[1024];
	size_t n = 0;
	FILE *f;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return -errno;
	*strrchr(self, '/') = '\0';
	snprintf(command, sizeof(command), "PATH=%s/..:%s/../..:$PATH splicectl %s", self, self, arguments);
	f = popen(command, "r");
	if (!f)
		return -errno;
	n = fread(out, 1, room - 1, f);
	out[n] = '\0';
	return pclose(f);
}

#endif /* SELFTESTS_LISTING_H */
