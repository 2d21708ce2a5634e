// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* sockmap_maps.c: the programs of bpf/sockmap.bpf.c, loaded once for a process. They go with the last descriptor. */
#include <errno.h>
#include <pthread.h>
#include <linux/types.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "sockmap_maps.h"
#include "sockmap_object.h"
#include "sockmap_skb.h"

SOCKMAP_EMBED(sockmap_redirects, SOCKMAP_OBJECT);

#define WAYS_SIZE (SOCKMAP_FLOWS * sizeof(struct sockmap_way))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct bpf_object *object;
static unsigned int users;
static pid_t owner;		/* its children have the descriptors, too, and the flows are not theirs */
struct sockmap_skb_maps sockmap_maps;

void sockmap_maps_lock(void)
{
	pthread_mutex_lock(&lock);
}

void sockmap_maps_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

static int attach(struct bpf_object *obj, const char *name, enum bpf_attach_type type)
{
	const struct bpf_program *prog = bpf_object__find_program_by_name(obj, name);

	return bpf_prog_attach(bpf_program__fd(prog), sockmap_maps.sources, type, 0) ? -errno : 0;
}

static int map_fd(const struct bpf_object *obj, const char *name)
{
	return bpf_object__find_map_fd_by_name(obj, name);
}

static int set_up(struct bpf_object *obj)
{
	int err;

	sockmap_maps.sources = map_fd(obj, "sources");
	sockmap_maps.targets = map_fd(obj, "targets");
	sockmap_maps.ends = map_fd(obj, "ends");
	err = attach(obj, "parser", BPF_SK_SKB_STREAM_PARSER);
	if (!err)
		err = attach(obj, "verdict", BPF_SK_SKB_STREAM_VERDICT);
	if (err)
		return err;
	sockmap_maps.ways = mmap(NULL, WAYS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd(obj, "ways"), 0);
	return sockmap_maps.ways == MAP_FAILED ? -errno : 0;
}

/* A kernel that lacks something says so by errors of many kinds. */
static int refusal(int err)
{
	return err == -EPERM || err == -ENOMEM ? err : -EOPNOTSUPP;
}

static int load(void)
{
	char reason[SOCKMAP_REASON];
	struct bpf_object *obj;
	int err = sockmap_object_load(sockmap_redirects, sockmap_redirects_end, reason, &obj);

	if (!err)
		err = set_up(obj);
	if (err) {
		bpf_object__close(obj);
		return refusal(err);
	}
	object = obj;
	owner = getpid();
	return 0;
}

int sockmap_skb_ways(void)
{
	return map_fd(object, "ways");
}

bool sockmap_maps_inherited(void)
{
	return owner != getpid();
}

/* In a child, of its copies. */
static void unload(void)
{
	munmap(sockmap_maps.ways, WAYS_SIZE);
	bpf_object__close(object);
	users = 0;
}

int sockmap_skb_get(void)
{
	int err = 0;

	sockmap_maps_lock();
	if (users && sockmap_maps_inherited())
		unload();
	if (!users)
		err = load();
	if (!err)
		users++;
	sockmap_maps_unlock();
	return err;
}

void sockmap_skb_put(bool inherited)
{
	sockmap_maps_lock();
	if (users && inherited == sockmap_maps_inherited() && !--users)
		unload();
	sockmap_maps_unlock();
}
