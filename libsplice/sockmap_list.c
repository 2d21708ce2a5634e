// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The list of this process's splices: see listed.h. It is a convenience: where it cannot be had, nothing else is missing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "sockmap_list.h"

static struct {
	pthread_mutex_t lock;
	unsigned int users;
	pid_t owner;
	int map;
	struct spl_listed *records;	/* NULL: there is no list */
	uint16_t next;			/* where to look for a place */
	char pin[128];
} list = { .lock = PTHREAD_MUTEX_INITIALIZER };

#define SIZE (SPL_LISTED_MOST * sizeof(struct spl_listed))

/* ---- the map */

static bool name_pin(void)
{
	uint64_t started = sockmap_listed_started(getpid()), ns = sockmap_listed_namespace();

	snprintf(list.pin, sizeof(list.pin), SPL_LISTED_DIR "/%llu-%d-%llu", (unsigned long long)ns, getpid(), (unsigned long long)started);
	return started && ns;
}

static bool make_map(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);

	list.map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "libsplice", sizeof(uint32_t), sizeof(struct spl_listed), SPL_LISTED_MOST, &opts);
	if (list.map < 0)
		return false;
	list.records = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, list.map, 0);
	if (list.records != MAP_FAILED)
		return true;
	list.records = NULL;
	close(list.map);
	return false;
}

static void unmake(void)
{
	munmap(list.records, SIZE);
	close(list.map);
	list.records = NULL;
}

static void make(void)
{
	if ((mkdir(SPL_LISTED_DIR, 0700) && errno != EEXIST) || !sockmap_listed_sweep() || !name_pin() || !make_map())
		return;
	list.next = 1;
	/* one of this name is of this process as well, from before an exec */
	if (bpf_obj_pin(list.map, list.pin) && (errno != EEXIST || unlink(list.pin) || bpf_obj_pin(list.map, list.pin)))
		unmake();
}

void sockmap_list_get(void)
{
	pthread_mutex_lock(&list.lock);
	if (list.users && list.owner != getpid()) {
		if (list.records)
			unmake();
		list.users = 0;
	}
	if (!list.users++) {
		list.owner = getpid();
		make();
	}
	pthread_mutex_unlock(&list.lock);
}

void sockmap_list_put(bool inherited)
{
	pthread_mutex_lock(&list.lock);
	if (list.users && inherited == (list.owner != getpid()) && !--list.users && list.records) {
		if (!inherited)
			unlink(list.pin);
		unmake();
	}
	pthread_mutex_unlock(&list.lock);
}

void sockmap_list_ways(int ways)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	if (list.records && !bpf_obj_get_info_by_fd(ways, &info, &len))
		list.records[0].way[0] = info.id;
}

/* ---- the records */

static struct spl_listed *take_place(void)
{
	struct spl_listed *r = NULL;
	unsigned int i;

	pthread_mutex_lock(&list.lock);
	for (i = 1; i < SPL_LISTED_MOST && list.records && list.owner == getpid() && !r; i++) {
		if (!list.records[list.next].token && !list.records[list.next].began)
			r = &list.records[list.next];
		list.next = list.next + 1 < SPL_LISTED_MOST ? list.next + 1 : 1;
	}
	if (r)
		r->began = 1;
	else if (list.records && list.owner == getpid())
		list.records[0].unlisted++;
	pthread_mutex_unlock(&list.lock);
	return r;
}

static void addresses(struct spl_listed *r, unsigned int i, const struct user_sock *sock)
{
	if (sock->kind != USER_TCP || !user_sock_address(sock->fd, true, &r->local[i]) || !user_sock_address(sock->fd, false, &r->remote[i]))
		return;
	r->local[i].sin6_family = r->remote[i].sin6_family = AF_INET6;
}

static uint8_t state_of(const struct user_op *op, const struct user_flow *flow)
{
	if (flow->over)
		return SPL_LISTED_DONE;
	if (op->phase != USER_RUNNING)
		return op->phase == USER_CONNECTING ? SPL_LISTED_BLOCKED : SPL_LISTED_CLOSING;
	return flow->stalled == SPL_WANTS_WRITE ? SPL_LISTED_BLOCKED :
	       flow->stalled == SPL_WANTS_READ ? SPL_LISTED_IDLE : SPL_LISTED_RUNNING;
}

static void note(struct user_op *op)
{
	struct spl_listed *r = op->record;
	unsigned int i;

	for (i = 0; i < op->flows; i++) {
		r->way[i] = op->flow[i].kernel ? sockmap_skb_number(op->flow[i].kernel) + 1 : 0;
		r->bytes[i] = op->flow[i].bytes;
		r->state[i] = state_of(op, &op->flow[i]);
	}
	r->moved = op->moved;
}

static void add(struct user *u, struct user_op *op)
{
	struct spl_listed *r = op->owns ? take_place() : NULL;

	if (!r)
		return;
	op->record = r;
	r->began = op->began;
	r->pair = op->flows == 2;
	r->mode = u->mover ? SPL_LISTED_SK_SKB : SPL_LISTED_LOCAL;
	addresses(r, 0, op->flow[0].src);
	addresses(r, 1, op->flow[0].dst);
	note(op);
	__atomic_store_n(&r->token, op->public->token, __ATOMIC_RELEASE);
}

/* In a child the record is the parent's. */
static void remove_record(struct user *u, struct user_op *op)
{
	struct spl_listed *r = op->record;

	op->record = NULL;
	if (u->pid != getpid())
		return;
	__atomic_store_n(&r->token, 0, __ATOMIC_SEQ_CST);
	memset(r->local, 0, sizeof(r->local));
	memset(r->remote, 0, sizeof(r->remote));
	__atomic_store_n(&r->began, 0, __ATOMIC_RELEASE);
}

const struct user_book sockmap_book = { .add = add, .note = note, .remove = remove_record };
