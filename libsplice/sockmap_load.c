// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The kernel's part: loaded with the first context of the process and given back with the last one, attached to each cgroup
 * once. What was given back lives on as long as sockets have bytes in it: see anchor() in bpf/local.bpf.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "sockmap.h"
#include "sockmap_object.h"

SOCKMAP_EMBED(sockmap_local, SPL_SOCKMAP);

struct sockmap_attachment {
	struct sockmap_attachment *next;
	struct bpf_link *link;
	size_t users;
	dev_t dev;
	ino_t ino;
};

static struct {
	pthread_mutex_t lock;
	struct bpf_object *object;
	struct sockmap_maps maps;
	struct sockmap_attachment *attachments;
	pid_t owner;		/* its children have descriptors of it all, and none of the sockets is theirs */
	bool tested;		/* it does what it is to do, on this machine */
	bool splices;		/* and takes a pipe as one message */
} loaded = { .lock = PTHREAD_MUTEX_INITIALIZER };

const struct sockmap_maps *sockmap_load_maps(void)
{
	return &loaded.maps;
}

bool sockmap_load_splices(void)
{
	return loaded.splices;
}

static char reason[SOCKMAP_REASON];	/* libbpf's, why not; under loaded.lock */

/* ---- the object. loaded.lock is held in all of these */

static int program_fd(const char *name)
{
	return bpf_program__fd(bpf_object__find_program_by_name(loaded.object, name));
}

static int map_fd(const char *name)
{
	return bpf_object__find_map_fd_by_name(loaded.object, name);
}

static int load_object(void)
{
	int r = sockmap_object_load(sockmap_local, sockmap_local_end, reason, &loaded.object);

	if (r)
		return r;
	loaded.owner = getpid();
	loaded.maps = (struct sockmap_maps) {
		.peers = map_fd("peers"), .sinks = map_fd("sinks"), .hops = map_fd("hops"), .counts = map_fd("counts"),
		.ports = map_fd("ports"), .ways = map_fd("ways"),
		.arm = program_fd("arm"), .engage = program_fd("engage"), .steer = program_fd("steer"),
	};
	/* before the first socket is learned: each takes a reference to what is there then */
	if (bpf_prog_attach(program_fd("anchor"), loaded.maps.peers, BPF_SK_SKB_STREAM_PARSER, 0) ||
	    bpf_prog_attach(program_fd("hop"), loaded.maps.sinks, BPF_SK_MSG_VERDICT, 0) ||
	    bpf_prog_attach(program_fd("bypass"), map_fd("senders"), BPF_SK_MSG_VERDICT, 0))
		return -errno;
	return 0;
}

/* What our own test has moved is not what is asked for. */
static void reset_counts(void)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *none = cpus > 0 ? calloc((size_t)cpus, sizeof(*none)) : NULL;
	uint32_t i;

	for (i = 0; none && i < LOCAL_COUNTS; i++)
		bpf_map_update_elem(loaded.maps.counts, &i, none, BPF_ANY);
	free(none);
}

static void unload(void)
{
	bpf_object__close(loaded.object);
	loaded.object = NULL;
}

/* In a child: closes its copies. Contexts of its parent may have attachments still: those are no more than their memory now. */
static void disown(void)
{
	struct sockmap_attachment *a;

	for (a = loaded.attachments; a; a = a->next) {
		bpf_link__destroy(a->link);
		a->link = NULL;
	}
	loaded.attachments = NULL;
	sockmap_ports_disown();
	unload();
}

static int load_new(struct spl *s)
{
	int r = load_object();

	if (r == -EPERM || r == -EACCES)
		return spl_refuse(s, -EPERM, "the engine sockmap needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (%s)", reason);
	if (r)
		return spl_refuse(s, -EOPNOTSUPP, "the kernel does not take the program: %s: %s", strerror(-r), reason);
	return 0;
}

/* What could not be tried, as another process had the sockets, is tried the next time. */
static int test(struct spl *s)
{
	int r = loaded.tested ? 0 : sockmap_test(s, &loaded.tested, &loaded.splices);

	if (!loaded.attachments)
		reset_counts();
	return r;
}

static int load(struct spl *s)
{
	int r;

	if (loaded.object && loaded.owner != getpid())
		disown();
	r = loaded.object ? 0 : load_new(s);
	if (!r)
		r = test(s);
	if (r && !loaded.attachments)
		unload();
	return r;
}

/* ---- cgroups */

static int open_cgroup(struct spl *s, const char *path, struct stat *st)
{
	struct statfs fs;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return spl_refuse(s, -errno, "the cgroup %.128s: %s", path, strerror(errno));
	if (!fstatfs(fd, &fs) && !fstat(fd, st) && fs.f_type == CGROUP2_SUPER_MAGIC)
		return fd;
	close(fd);
	return spl_refuse(s, -EINVAL, "%.128s is not a directory of a cgroup v2", path);
}

static struct sockmap_attachment *find(const struct stat *st)
{
	struct sockmap_attachment *a = loaded.attachments;

	while (a && (a->dev != st->st_dev || a->ino != st->st_ino))
		a = a->next;
	return a;
}

static int attach(struct spl *s, int cgroup, const struct stat *st, struct sockmap_attachment **out)
{
	struct sockmap_attachment *a = calloc(1, sizeof(*a));
	int r = 0;

	if (!a)
		return spl_refuse(s, -ENOMEM, NULL);
	sockmap_object_listen(reason);
	a->link = bpf_program__attach_cgroup(bpf_object__find_program_by_name(loaded.object, "learn"), cgroup);
	if (!a->link)
		r = -errno;
	sockmap_object_hush();
	if (r) {
		free(a);
		return spl_refuse(s, r, "the program cannot be attached to the cgroup: %s: %s", strerror(-r), reason);
	}
	a->dev = st->st_dev;
	a->ino = st->st_ino;
	a->next = loaded.attachments;
	*out = loaded.attachments = a;
	return 0;
}

static int get(struct spl *s, int cgroup, const struct stat *st, struct sockmap_ports *ports, struct sockmap_attachment **out)
{
	int r = load(s);

	if (r) {
		free(ports);
		return r;
	}
	/* before the first socket is looked at */
	sockmap_ports_add(ports);
	*out = find(st);
	if (!*out)
		r = attach(s, cgroup, st, out);
	if (!r) {
		(*out)->users++;
		return 0;
	}
	sockmap_ports_remove(ports, false);
	if (!loaded.attachments)
		unload();
	return r;
}

/* 0, or a negative errno and the sentence. The ports are taken over in either case. */
int sockmap_load_get(struct spl *s, const char *cgroup, struct sockmap_ports *ports, struct sockmap_attachment **out)
{
	struct stat st;
	int fd = open_cgroup(s, cgroup, &st), r;

	if (fd < 0) {
		free(ports);
		return fd;
	}
	pthread_mutex_lock(&loaded.lock);
	r = get(s, fd, &st, ports, out);
	pthread_mutex_unlock(&loaded.lock);
	close(fd);
	return r;
}

void sockmap_load_put(struct sockmap_attachment *a, struct sockmap_ports *ports, bool inherited)
{
	struct sockmap_attachment **at;

	pthread_mutex_lock(&loaded.lock);
	sockmap_ports_remove(ports, inherited);
	if (!--a->users) {
		for (at = &loaded.attachments; *at && *at != a; at = &(*at)->next)
			;
		if (*at) {
			*at = a->next;
			/* not only our descriptor of it: a child of fork that never looked at it has another */
			if (!inherited)
				bpf_link__detach(a->link);
			bpf_link__destroy(a->link);
			if (!loaded.attachments)
				unload();
		}
		free(a);
	}
	pthread_mutex_unlock(&loaded.lock);
}

/* All processors together. -ENOENT: not loaded. */
int sockmap_load_counts(uint64_t out[LOCAL_COUNTS])
{
	int cpus = libbpf_num_possible_cpus(), r = 0, cpu;
	uint64_t *each = cpus > 0 ? calloc((size_t)cpus, sizeof(*each)) : NULL;
	uint32_t i;

	if (!each)
		return -ENOMEM;
	pthread_mutex_lock(&loaded.lock);
	if (!loaded.object)
		r = -ENOENT;
	for (i = 0; !r && i < LOCAL_COUNTS; i++) {
		r = bpf_map_lookup_elem(loaded.maps.counts, &i, each);
		for (cpu = 0, out[i] = 0; !r && cpu < cpus; cpu++)
			out[i] += each[cpu];
	}
	pthread_mutex_unlock(&loaded.lock);
	free(each);
	return r;
}
