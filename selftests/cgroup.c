// SPDX-License-Identifier: GPL-2.0
/* cgroup.c: see cgroup.h. */
#include "cgroup.h"
#include "util.h"

#include <mntent.h>
#include <sys/stat.h>

static char dir[256], before[512];

static bool join(const char *path)
{
	char file[600];
	int fd;
	bool ok;

	snprintf(file, sizeof(file), "%s/cgroup.procs", path);
	fd = open(file, O_WRONLY);
	ok = fd >= 0 && write(fd, "0", 1) == 1;
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool find_mount(char *out, size_t len)
{
	FILE *f = setmntent("/proc/mounts", "r");
	struct mntent *m;
	bool found = false;

	while (f && !found && (m = getmntent(f))) {
		found = !strcmp(m->mnt_type, "cgroup2");
		if (found)
			snprintf(out, len, "%s", m->mnt_dir);
	}
	if (f)
		endmntent(f);
	return found;
}

/* Where this process is below the mount. */
static bool find_own(char *out, size_t len)
{
	FILE *f = fopen("/proc/self/cgroup", "r");
	char line[400];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		found = !strncmp(line, "0::", 3);
		if (found)
			snprintf(out, len, "%s", line + 3);
	}
	if (f)
		fclose(f);
	return found;
}

const char *cgroup_enter(void)
{
	char mount[100], own[400];

	if (!find_mount(mount, sizeof(mount)) || !find_own(own, sizeof(own)))
		return "no cgroup v2 is mounted";
	snprintf(before, sizeof(before), "%s%s", mount, own);
	snprintf(dir, sizeof(dir), "%s/splice-test-%d", mount, getpid());
	if (mkdir(dir, 0755))
		return "no cgroup can be made here: that needs root";
	if (join(dir))
		return NULL;
	rmdir(dir);
	dir[0] = '\0';
	return "this process cannot change its cgroup";
}

/* The children that have ended may still be there for a moment. */
void cgroup_leave(void)
{
	unsigned int i;

	if (!dir[0] || !join(before))
		return;
	for (i = 0; i < 100 && rmdir(dir) && errno == EBUSY; i++)
		usleep(20000);
	dir[0] = '\0';
}

const char *cgroup_path(void)
{
	return dir[0] ? dir : NULL;
}

int cgroup_outside(int (*fn)(void *arg), void *arg)
{
	int r;

	if (!dir[0] || !join(before))
		return -ENOENT;
	r = fn(arg);
	return join(dir) ? r : -EIO;
}
