// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * sockmap_skb.c: the life of a flow that the kernel moves; see bpf/sockmap.bpf.c.
 *
 * Taking a socket out of the map is what loses bytes. Of a sink, all that waits for it: so first nothing waits. Of a source
 * whose parser runs at that moment in a worker: the kernel takes the programs away under it. A parser that has stopped by itself
 * runs no more, and so it is asked to stop first; but it hears that only when something arrives. What remains is a
 * source that is silent until the moment of its removal, and whether that one has lost bytes is counted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <netinet/in.h>

#include <bpf/bpf.h>

#include "../bpf/sockmap.h"
#include "sockmap_maps.h"
#include "sockmap_skb.h"
#include "sockmap_tcp.h"

#define TURNS	16
#define CHUNK	65536

struct sockmap_flow {
	__u32 number;
	int source, sink;
	struct sockmap_end from, to;
	struct sockmap_way *way;
	uint64_t limit;
	uint64_t source_at;	/* bytes that had been read from the source when the flow began */
	uint64_t sink_at;	/* and written to the sink */
	uint64_t pumped;	/* moved by pump() */
	bool in_kernel;		/* the source is in its map */
	bool sink_parsed;	/* the sink has been a source since it is one: its parser cannot be started again */
	bool lost;
	enum sockmap_phase phase;
	int error, source_error;
	short source_events, sink_events;
};

static struct sockmap_flow *flows[SOCKMAP_FLOWS];

/* ---- the maps */

/* The flow that has the other half of that end's socket, or NULL. Under the lock of the maps. */
static struct sockmap_flow *flow_back(const struct sockmap_end *end)
{
	struct sockmap_end other = { .cookie = end->cookie, .half = !end->half };
	__u32 number;

	return bpf_map_lookup_elem(sockmap_maps.ends, &other, &number) ? NULL : flows[number];
}

static int claim(const struct sockmap_end *end, __u32 number)
{
	if (!bpf_map_update_elem(sockmap_maps.ends, end, &number, BPF_NOEXIST))
		return 0;
	return errno == EEXIST ? -EBUSY : -errno;
}

static int enter(int map, __u32 number, int fd)
{
	__u64 value = (__u64)fd;

	return bpf_map_update_elem(map, &number, &value, BPF_NOEXIST) ? -errno : 0;
}

static int take_number(struct sockmap_flow *f)
{
	static __u32 next;
	__u32 i;

	for (i = 0; i < SOCKMAP_FLOWS && flows[next]; i++)
		next = (next + 1) % SOCKMAP_FLOWS;
	if (flows[next])
		return -ENFILE;
	f->number = next;
	flows[next] = f;
	next = (next + 1) % SOCKMAP_FLOWS;
	f->way = &sockmap_maps.ways[f->number];
	memset(f->way, 0, sizeof(*f->way));
	f->way->limit = f->limit;
	return 0;
}

/* What two directions cannot share. */
static int way_back_allows(const struct sockmap_flow *f)
{
	const struct sockmap_flow *of_source = flow_back(&f->from), *of_sink = flow_back(&f->to);

	if (f->limit != SOCKMAP_ALL && (of_source || of_sink))
		return -EOPNOTSUPP;
	if ((of_source && (of_source->limit != SOCKMAP_ALL || of_source->sink_parsed)) ||
	    (of_sink && of_sink->limit != SOCKMAP_ALL))
		return -EOPNOTSUPP;
	return 0;
}

/* The sink first: what comes has a place to go to from the beginning. */
static int join(struct sockmap_flow *f)
{
	int err = way_back_allows(f);

	if (err || (err = take_number(f)))
		return err;
	if ((err = claim(&f->from, f->number)))
		goto number;
	if ((err = claim(&f->to, f->number)))
		goto from;
	if ((err = enter(sockmap_maps.targets, f->number, f->sink)))
		goto to;
	if ((err = enter(sockmap_maps.sources, f->number, f->source)))
		goto sink;
	f->in_kernel = true;
	return 0;
sink:
	bpf_map_delete_elem(sockmap_maps.targets, &f->number);
to:
	bpf_map_delete_elem(sockmap_maps.ends, &f->to);
from:
	bpf_map_delete_elem(sockmap_maps.ends, &f->from);
number:
	flows[f->number] = NULL;
	return err;
}

/* The source's bytes are read as ever from here on. */
static void leave_kernel(struct sockmap_flow *f)
{
	struct sockmap_flow *back;
	int error;

	if (!f->in_kernel)
		return;
	sockmap_maps_lock();
	bpf_map_delete_elem(sockmap_maps.sources, &f->number);
	back = flow_back(&f->from);
	if (back)
		back->sink_parsed = true;
	sockmap_maps_unlock();
	f->in_kernel = false;
	error = sockmap_tcp_error(f->source);
	if (error)
		f->source_error = error;
}

static void part(struct sockmap_flow *f)
{
	leave_kernel(f);
	sockmap_maps_lock();
	bpf_map_delete_elem(sockmap_maps.targets, &f->number);
	bpf_map_delete_elem(sockmap_maps.ends, &f->from);
	bpf_map_delete_elem(sockmap_maps.ends, &f->to);
	flows[f->number] = NULL;
	sockmap_maps_unlock();
	free(f);
}

/* ---- beginning */

static int look_at_ends(struct sockmap_flow *f)
{
	struct tcp_info info;
	int err;

	if (!sockmap_tcp_plain(f->source) || !sockmap_tcp_plain(f->sink))
		return -EOPNOTSUPP;
	if ((err = sockmap_tcp_name(f->source, SOCKMAP_SOURCE, &f->from)) || (err = sockmap_tcp_name(f->sink, SOCKMAP_SINK, &f->to)))
		return err;
	if (f->from.cookie == f->to.cookie)
		return -EOPNOTSUPP;
	if ((err = sockmap_tcp_read(f->source, &f->source_at)) || (err = sockmap_tcp_written(f->sink, &f->sink_at)) ||
	    (err = sockmap_tcp_info(f->sink, &info)))
		return err;
	return info.tcpi_state == SOCKMAP_TCP_ESTABLISHED ? 0 : -EOPNOTSUPP;
}

/* The parser has only heard of what comes from now on: to receive has the kernel look at what came before. */
static void push(int source)
{
	char byte;

	recv(source, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

int sockmap_skb_begin(int source, int sink, uint64_t n, struct sockmap_flow **out)
{
	struct sockmap_flow *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return -ENOMEM;
	f->source = source;
	f->sink = sink;
	f->limit = n;
	err = sockmap_maps_inherited() ? -EOPNOTSUPP : look_at_ends(f);
	if (!err) {
		sockmap_maps_lock();
		err = join(f);
		sockmap_maps_unlock();
		if (err != -EBUSY && err != -ENFILE && err != -ENOMEM && err)
			err = -EOPNOTSUPP;
	}
	if (err) {
		free(f);
		return err;
	}
	push(source);
	*out = f;
	return 0;
}

/* ---- running */

static uint64_t taken(const struct sockmap_flow *f)
{
	return __atomic_load_n(&f->way->taken, __ATOMIC_ACQUIRE) + f->pumped;
}

static void over(struct sockmap_flow *f, enum sockmap_phase phase, int error)
{
	f->phase = phase;
	f->error = error;
	f->source_events = f->sink_events = 0;
}

static void source_failed(struct sockmap_flow *f, int error)
{
	over(f, SOCKMAP_SOURCE_FAILED, f->source_error ? f->source_error : error);
}

static uint64_t accepted(const struct sockmap_flow *f)
{
	uint64_t all = taken(f), now;

	if (sockmap_tcp_written(f->sink, &now))
		return 0;
	now -= f->sink_at;
	return now < all ? now : all;
}

/* One portion; the source keeps it until the sink has it. false: no more for now, or it is over. */
static bool pump_once(struct sockmap_flow *f, char *chunk)
{
	uint64_t left = f->limit - taken(f);
	ssize_t n, sent;
	int error;

	if (!left) {
		over(f, SOCKMAP_DONE, 0);
		return false;
	}
	n = recv(f->source, chunk, left < CHUNK ? left : CHUNK, MSG_PEEK | MSG_DONTWAIT);
	if (n <= 0) {
		if (!n)
			over(f, SOCKMAP_EOF, 0);
		else if (errno == EAGAIN)
			f->source_events = POLLIN | POLLRDHUP;
		else
			source_failed(f, errno);
		return false;
	}
	sent = send(f->sink, chunk, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0) {
		if (errno == EAGAIN)
			f->sink_events = POLLOUT;
		else
			over(f, SOCKMAP_SINK_FAILED, errno);
		return false;
	}
	f->pumped += (uint64_t)sent;
	error = sockmap_tcp_consume(f->source, (size_t)sent);
	if (error)
		source_failed(f, -error);
	return !error;
}

static void pump(struct sockmap_flow *f)
{
	char chunk[CHUNK];
	int turn;

	f->source_events = POLLIN | POLLRDHUP;
	for (turn = 0; turn < TURNS; turn++)
		if (!pump_once(f, chunk))
			return;
}

/* While the kernel reads the source: is it at its end? A socket that has closed is in no map any more. */
static void look_at_source(struct sockmap_flow *f, unsigned int state)
{
	ssize_t n;
	char byte;

	f->source_events = POLLIN | POLLRDHUP | POLLPRI;
	if (sockmap_tcp_open(state))
		return;
	n = recv(f->source, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (!n) {
		f->phase = SOCKMAP_ENDING;
	} else if (n > 0) {
		leave_kernel(f);
		f->phase = SOCKMAP_PLAIN;
	} else if (errno != EAGAIN) {
		source_failed(f, errno);
	}
}

static void fill(const struct sockmap_flow *f, struct sockmap_status *st)
{
	struct pollfd room = { .fd = f->sink, .events = POLLOUT };

	st->phase = f->phase;
	st->error = f->error ? f->error : f->source_error;
	st->bytes = accepted(f);
	st->backlog = taken(f) - st->bytes;
	st->source_events = f->source_events;
	st->sink_events = f->sink_events;
	st->tick = false;
	if (f->phase >= SOCKMAP_EOF || !st->backlog || f->phase == SOCKMAP_MOVING)
		return;
	/* It is not for lack of room that it has not taken all: soon. */
	st->tick = poll(&room, 1, 0) > 0;
	st->source_events = 0;
	st->sink_events = st->tick ? 0 : POLLOUT;
}

static void step(struct sockmap_flow *f)
{
	uint32_t stopped = __atomic_load_n(&f->way->stopped, __ATOMIC_ACQUIRE);
	struct tcp_info source, sink;

	f->source_events = f->sink_events = 0;
	if (sockmap_tcp_info(f->source, &source) || sockmap_tcp_info(f->sink, &sink)) {
		over(f, SOCKMAP_SINK_FAILED, EBADF);
		return;
	}
	if (f->phase == SOCKMAP_MOVING && (stopped || sockmap_tcp_urgent(f->source))) {
		leave_kernel(f);
		f->phase = SOCKMAP_PLAIN;
	}
	if (f->phase == SOCKMAP_MOVING)
		look_at_source(f, source.tcpi_state);
	if (f->phase >= SOCKMAP_EOF)
		return;
	if (sink.tcpi_state == SOCKMAP_TCP_CLOSE || f->way->lost) {
		int error = sockmap_tcp_error(f->sink);

		over(f, SOCKMAP_SINK_FAILED, error ? error : EPIPE);
		return;
	}
	if (f->phase == SOCKMAP_MOVING || taken(f) != accepted(f))
		return;
	if (f->phase == SOCKMAP_ENDING)
		over(f, SOCKMAP_EOF, 0);
	else if (!f->way->stop)
		pump(f);
}

void sockmap_skb_run(struct sockmap_flow *f, struct sockmap_status *st)
{
	if (f->phase < SOCKMAP_EOF)
		step(f);
	fill(f, st);
}

/* ---- ending */

/* Whether the kernel has read more than it gave to the sink. */
static bool bytes_lost(struct sockmap_flow *f)
{
	struct tcp_info info;
	uint64_t now;
	int err;

	if (sockmap_tcp_info(f->source, &info))
		return false;
	if ((err = sockmap_tcp_read(f->source, &now))) {
		f->source_error = -err;
		return false;
	}
	if (!sockmap_tcp_open(info.tcpi_state))
		return false;	/* a FIN is in these figures */
	return !sockmap_tcp_urgent(f->source) && now - f->source_at > taken(f);
}

/*
 * After this a parser takes nothing any more, and one that runs has ended: the kernel's own answer waits for it. Another may be
 * on its way, if bytes have come while somebody had the socket: then it is to find out first, and to stop by itself. False: it
 * has not yet.
 */
static bool stop(struct sockmap_flow *f)
{
	struct pollfd there = { .fd = f->source, .events = POLLIN };
	struct tcp_info info;

	__atomic_store_n(&f->way->stop, 1, __ATOMIC_SEQ_CST);
	if (f->phase != SOCKMAP_MOVING || sockmap_tcp_info(f->source, &info) || !sockmap_tcp_open(info.tcpi_state))
		return true;
	if (__atomic_load_n(&f->way->stopped, __ATOMIC_ACQUIRE) || poll(&there, 1, 0) <= 0 || sockmap_tcp_urgent(f->source))
		return true;
	push(f->source);
	return false;
}

static void take_out(struct sockmap_flow *f)
{
	if (f->phase != SOCKMAP_MOVING)
		return;
	leave_kernel(f);
	f->phase = SOCKMAP_PLAIN;
	f->lost = bytes_lost(f);
}

int sockmap_skb_end(struct sockmap_flow *f, struct sockmap_status *st)
{
	bool lost, heard = stop(f);

	if (heard)
		take_out(f);
	sockmap_skb_run(f, st);
	if (st->phase == SOCKMAP_MOVING) {
		st->tick = true;
		return -EAGAIN;
	}
	if (st->phase < SOCKMAP_EOF && st->backlog)
		return -EAGAIN;
	lost = f->lost || f->way->lost;
	part(f);
	return lost ? -EIO : 0;
}

uint64_t sockmap_skb_bytes(const struct sockmap_flow *f, uint64_t *backlog)
{
	uint64_t bytes = accepted(f);

	*backlog = taken(f) - bytes;
	return bytes;
}

uint32_t sockmap_skb_number(const struct sockmap_flow *f)
{
	return f->number;
}

void sockmap_skb_forget(struct sockmap_flow *f)
{
	if (flows[f->number] == f)
		flows[f->number] = NULL;
	free(f);
}

uint64_t sockmap_skb_drop(struct sockmap_flow *f)
{
	uint64_t backlog, bytes;

	stop(f);
	take_out(f);
	/* before the count: until then the sink gets more */
	bpf_map_delete_elem(sockmap_maps.targets, &f->number);
	bytes = sockmap_skb_bytes(f, &backlog);
	part(f);
	return bytes;
}
