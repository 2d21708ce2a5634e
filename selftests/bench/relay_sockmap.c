// SPDX-License-Identifier: GPL-2.0
/*
 * relay_sockmap.c: redirection in the kernel by a sockmap; see sockmap.bpf.c for what its programs do.
 *
 * The relay is left with the beginning of a connection; with a way for which too much waits, from then on; and with the end:
 * a sink that is shut down or closed loses all that waits for it, so that must be nothing. No event tells when it is; it is
 * looked at every millisecond.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "relay.h"
#include "relay_sockmap.h"

#define BUFFER (128 << 10)
#define TURNS 16
#define SPARE 64

asm(".pushsection .rodata\n"
    ".balign 8\n"
    "sockmap_object: .incbin \"" SOCKMAP_OBJECT "\"\n"
    "sockmap_object_end:\n"
    ".popsection\n");
extern const char sockmap_object[], sockmap_object_end[];

static int sources, sinks;
static struct sockmap_way *ways;
static struct ring_buffer *stops;
static struct conn *conns[SLOTS];
static unsigned int free_slots[SLOTS], n_free;
static char *spare[SPARE];
static unsigned int n_spare;

/* ---- the programs */

static void attach(struct bpf_object *obj, const char *name, enum bpf_attach_type type)
{
	const struct bpf_program *prog = bpf_object__find_program_by_name(obj, name);

	if (!prog || bpf_prog_attach(bpf_program__fd(prog), sources, type, 0))
		relay_stop(name, errno);
}

/* The relay has a look, and finds it stopped. */
static int stopped(void *arg, void *data, size_t len)
{
	unsigned int key = *(unsigned int *)data;
	struct conn *c = key < 2 * SLOTS ? conns[key / 2] : NULL;

	(void)arg;
	(void)len;
	if (c)
		conn_event(key & 1 ? &c->server : &c->client, EPOLLIN);
	return 0;
}

static void consume(void)
{
	ring_buffer__consume(stops);
}

static int init(void)
{
	struct bpf_object *obj = bpf_object__open_mem(sockmap_object, (size_t)(sockmap_object_end - sockmap_object), NULL);

	if (!obj || bpf_object__load(obj))
		relay_stop("the programs of the sockmap", errno);
	sources = bpf_object__find_map_fd_by_name(obj, "sources");
	sinks = bpf_object__find_map_fd_by_name(obj, "sinks");
	attach(obj, "parser", BPF_SK_SKB_STREAM_PARSER);
	attach(obj, "verdict", BPF_SK_SKB_STREAM_VERDICT);
	ways = mmap(NULL, 2 * SLOTS * sizeof(*ways), PROT_READ | PROT_WRITE, MAP_SHARED,
		    bpf_object__find_map_fd_by_name(obj, "ways"), 0);
	stops = ring_buffer__new(bpf_object__find_map_fd_by_name(obj, "stops"), stopped, NULL, NULL);
	if (ways == MAP_FAILED || !stops)
		relay_stop("the maps of the sockmap", errno);
	/* 0 is the priority of all other sockets: no connection has it */
	for (n_free = 0; n_free < SLOTS - 1; n_free++)
		free_slots[n_free] = SLOTS - 1 - n_free;
	return ring_buffer__epoll_fd(stops);
}

/* ---- connections */

static struct sockmap_way *shared(const struct way *w)
{
	struct conn *c = w->from->conn;

	return &ways[2 * c->slot + (w == &c->down)];
}

static bool enter(int map, const struct end *e, unsigned int key)
{
	unsigned long long fd = (unsigned long long)e->fd;

	return !bpf_map_update_elem(map, &key, &fd, BPF_ANY);
}

static bool number(const struct end *e, unsigned int key)
{
	return !setsockopt(e->fd, SOL_SOCKET, SO_PRIORITY, &key, sizeof(key));
}

static bool take_slot(struct conn *c)
{
	if (!n_free)
		return false;
	c->slot = free_slots[--n_free];
	conns[c->slot] = c;
	memset(&ways[2 * c->slot], 0, 2 * sizeof(*ways));
	return number(&c->client, 2 * c->slot) && number(&c->server, 2 * c->slot + 1);
}

/* As soon as both are connected. A socket whose end has come already cannot enter any more: it is read plainly. */
static bool join(struct conn *c)
{
	unsigned int key = 2 * c->slot;
	bool both;

	if (c->slot)
		return true;
	if (!c->server.writable || !take_slot(c))
		return false;
	key = 2 * c->slot;
	both = enter(sinks, &c->client, key) && enter(sinks, &c->server, key + 1);
	c->up.plain = !both || !enter(sources, &c->client, key);
	c->down.plain = !both || !enter(sources, &c->server, key + 1);
	/* to receive has the kernel look at what came before */
	c->client.readable = c->server.readable = true;
	return true;
}

/* From here on its bytes are read as those of any socket; it stays a sink. */
static void make_plain(struct way *w)
{
	unsigned int key = (unsigned int)(shared(w) - ways);

	bpf_map_delete_elem(sources, &key);
	w->plain = true;
	w->from->readable = true;
}

/* ---- bytes */

static bool take_buffer(struct way *w)
{
	w->rest = n_spare ? spare[--n_spare] : malloc(BUFFER);
	return w->rest;
}

static void give_buffer(struct way *w)
{
	if (w->rest && n_spare < SPARE)
		spare[n_spare++] = w->rest;
	else
		free(w->rest);
	w->rest = NULL;
}

enum waiting { WAITING_NOTHING, WAITING_SOME, WAITING_FOR_EVER };

/* Whether redirected bytes wait for the sink: it has not taken what both halves gave it. */
static enum waiting waiting(struct way *w)
{
	uint64_t due = __atomic_load_n(&shared(w)->redirected, __ATOMIC_ACQUIRE) + w->sent;
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (due == w->settled)
		return WAITING_NOTHING;
	if (getsockopt(w->to->fd, IPPROTO_TCP, TCP_INFO, &info, &len) || info.tcpi_state == BPF_TCP_CLOSE)
		return WAITING_FOR_EVER;
	if (info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes < due)
		return WAITING_SOME;
	w->settled = due;
	return WAITING_NOTHING;
}

static bool drain(struct way *w)
{
	ssize_t n = send(w->to->fd, w->rest + w->at, w->held, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN)
		return false;
	if (n < (ssize_t)w->held)
		w->to->writable = false;
	if (n <= 0)
		return true;
	w->at += (size_t)n;
	w->held -= (size_t)n;
	w->sent += (size_t)n;
	w->settled += (size_t)n;
	if (!w->held)
		give_buffer(w);
	return true;
}

/* false: it failed */
static bool fetch(struct way *w)
{
	ssize_t n;

	if (!take_buffer(w))
		return false;
	n = recv(w->from->fd, w->rest, BUFFER, MSG_DONTWAIT);
	if (n <= 0)
		give_buffer(w);
	if (n < 0 && errno != EAGAIN)
		return false;
	w->last = !n;
	w->at = 0;
	w->held = n > 0 ? (size_t)n : 0;
	return true;
}

static enum moved later(struct way *w)
{
	w->from->readable = true;
	return MOVED_LATER;
}

static enum moved fetched_nothing(struct way *w)
{
	w->from->readable = false;
	/* the end has come, and the kernel still has to redirect what is before it; nothing will tell when it has */
	return w->from->hangup && !w->plain ? later(w) : MOVED_ALL;
}

/* What it fetches comes behind all that was redirected. */
static enum moved move(struct way *w)
{
	enum waiting some;
	unsigned int turn;

	if (!w->plain && __atomic_load_n(&shared(w)->stopped, __ATOMIC_ACQUIRE))
		make_plain(w);
	for (turn = 0; turn < TURNS; turn++) {
		some = w->held || w->last ? waiting(w) : WAITING_NOTHING;
		if (some == WAITING_SOME)
			return later(w);
		if (some == WAITING_FOR_EVER || (w->held && w->to->writable && !drain(w)))
			return MOVED_FAILED;
		if (w->held || w->last || !w->from->readable)
			return MOVED_ALL;
		if (!fetch(w))
			return MOVED_FAILED;
		if (!w->held && !w->last)
			return fetched_nothing(w);
	}
	return MOVED_MORE;
}

/* Both sockets are closed, and so out of the maps, before anybody takes the slot again. */
static void release(struct way *w)
{
	struct conn *c = w->from->conn;

	give_buffer(w);
	w->held = 0;
	if (w != &c->up || !c->slot)
		return;
	conns[c->slot] = NULL;
	free_slots[n_free++] = c->slot;
}

const struct mover sockmap_mover = {
	.name = "sockmap", .init = init, .event = consume, .begin = join, .move = move, .release = release,
};
