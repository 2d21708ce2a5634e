// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* sockmap_maps.c: the programs of bpf/sockmap.bpf.c, loaded once for a process. They go with the last descriptor. */
#include <errno.h>
#include <pthread.h>
#include <linux/types.h>
#include <sys/mman.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "sockmap_maps.h"
#include "sockmap_skb.h"

asm(".pushsection .rodata\n"
    ".balign 8\n"
    "sockmap_object: .incbin \"" SOCKMAP_OBJECT "\"\n"
    "sockmap_object_end:\n"
    ".popsection\n");
extern const char sockmap_object[] __attribute__((visibility("hidden")));
extern const char sockmap_object_end[] __attribute__((visibility("hidden")));

#define WAYS_SIZE (SOCKMAP_FLOWS * sizeof(struct sockmap_way))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct bpf_object *object;
static unsigned int users;
struct sockmap_maps sockmap_maps;

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

static int set_up(struct bpf_object *obj)
{
	int err = bpf_object__load(obj);

	if (err)
		return err;
	sockmap_maps.sources = bpf_object__find_map_fd_by_name(obj, "sources");
	sockmap_maps.targets = bpf_object__find_map_fd_by_name(obj, "targets");
	sockmap_maps.ends = bpf_object__find_map_fd_by_name(obj, "ends");
	err = attach(obj, "parser", BPF_SK_SKB_STREAM_PARSER);
	if (!err)
		err = attach(obj, "verdict", BPF_SK_SKB_STREAM_VERDICT);
	if (err)
		return err;
	sockmap_maps.ways = mmap(NULL, WAYS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
				 bpf_object__find_map_fd_by_name(obj, "ways"), 0);
	return sockmap_maps.ways == MAP_FAILED ? -errno : 0;
}

/* A kernel that lacks something says so by errors of many kinds. */
static int refusal(int err)
{
	return err == -EPERM || err == -ENOMEM ? err : -EOPNOTSUPP;
}

static int load(void)
{
	libbpf_print_fn_t told = libbpf_set_print(NULL);
	struct bpf_object *obj = bpf_object__open_mem(sockmap_object, (size_t)(sockmap_object_end - sockmap_object), NULL);
	int err = obj ? set_up(obj) : -errno;

	libbpf_set_print(told);
	if (err) {
		bpf_object__close(obj);
		return refusal(err);
	}
	object = obj;
	return 0;
}

int sockmap_skb_get(void)
{
	int err = 0;

	sockmap_maps_lock();
	if (!users)
		err = load();
	if (!err)
		users++;
	sockmap_maps_unlock();
	return err;
}

void sockmap_skb_put(void)
{
	sockmap_maps_lock();
	if (!--users) {
		munmap(sockmap_maps.ways, WAYS_SIZE);
		bpf_object__close(object);
	}
	sockmap_maps_unlock();
}
