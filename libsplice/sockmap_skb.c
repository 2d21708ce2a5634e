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

#include "sockmap_flow.h"
#include "sockmap_maps.h"
#include "sockmap_tcp.h"

#define TURNS	16
#define CHUNK	65536

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
static ssize_t push(int source)
{
	char byte;

	return recv(source, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
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
		err = sockmap_flow_join(f);
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

/* No more bytes: of a source that has failed it is no end, though the error has been taken from the socket before. */
static void no_more(struct sockmap_flow *f)
{
	if (f->source_error && f->source_error != EPIPE)
		source_failed(f, f->source_error);
	else
		over(f, SOCKMAP_EOF, 0);
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
			no_more(f);
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

/*
 * While the kernel reads the source: is it at its end? A socket that has closed is in no map any more. Before the end there
 * may be bytes that a worker is to read, if they came while somebody had the socket; nothing tells when it has.
 */
static void look_at_source(struct sockmap_flow *f, unsigned int state)
{
	ssize_t n;

	f->source_events = POLLIN | POLLRDHUP | POLLPRI;
	if (sockmap_tcp_open(state))
		return;
	n = push(f->source);
	if (!n) {
		f->phase = SOCKMAP_ENDING;
	} else if (n > 0) {
		sockmap_flow_leave(f);
		f->phase = SOCKMAP_PLAIN;
	} else if (errno != EAGAIN) {
		source_failed(f, errno);
	} else {
		f->soon = true;
		f->source_events = 0;
	}
}

static bool has_room(const struct sockmap_flow *f)
{
	struct pollfd room = { .fd = f->sink, .events = POLLOUT };

	return poll(&room, 1, 0) > 0;
}

static void fill(const struct sockmap_flow *f, struct sockmap_status *st)
{
	st->phase = f->phase;
	st->error = f->error ? f->error : f->source_error;
	st->bytes = accepted(f);
	st->backlog = taken(f) - st->bytes;
	st->source_events = f->source_events;
	st->sink_events = f->sink_events;
	st->tick = f->soon;
	if (f->phase >= SOCKMAP_EOF || !st->backlog || f->phase == SOCKMAP_MOVING)
		return;
	/* It is not for lack of room that it has not taken all: soon. */
	st->tick = has_room(f);
	st->source_events = 0;
	st->sink_events = st->tick ? 0 : POLLOUT;
}

static void step(struct sockmap_flow *f)
{
	uint32_t stopped = __atomic_load_n(&f->way->stopped, __ATOMIC_ACQUIRE);
	struct tcp_info source, sink;

	f->source_events = f->sink_events = 0;
	f->soon = false;
	if (sockmap_tcp_info(f->source, &source) || sockmap_tcp_info(f->sink, &sink)) {
		over(f, SOCKMAP_SINK_FAILED, EBADF);
		return;
	}
	if (f->phase == SOCKMAP_MOVING && (stopped || sockmap_tcp_urgent(f->source))) {
		sockmap_flow_leave(f);
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
		no_more(f);
	else if (!f->way->stop)
		pump(f);
}

/* The source has been reset, while bytes wait for a sink that takes none: who knows for how long. EPIPE is behind an end. */
static void look_for_failure(struct sockmap_flow *f)
{
	struct tcp_info info;

	if (f->phase != SOCKMAP_PLAIN || sockmap_tcp_info(f->source, &info) || info.tcpi_state != SOCKMAP_TCP_CLOSE ||
	    taken(f) == accepted(f) || has_room(f))
		return;
	if (!f->source_error)
		f->source_error = sockmap_tcp_error(f->source);
	if (f->source_error && f->source_error != EPIPE)
		source_failed(f, f->source_error);
}

static void advance(struct sockmap_flow *f, struct sockmap_status *st)
{
	if (f->phase < SOCKMAP_EOF)
		step(f);
	fill(f, st);
}

void sockmap_skb_run(struct sockmap_flow *f, struct sockmap_status *st)
{
	look_for_failure(f);
	advance(f, st);
}

/* ---- ending */

/* What has been read since the beginning, but for a FIN, which counts as a byte. A reset without one is told as such. */
static int read_since(const struct sockmap_flow *f, uint64_t *count)
{
	struct tcp_info before, after;
	int err;

	do {
		if ((err = sockmap_tcp_info(f->source, &before)) || (err = sockmap_tcp_read(f->source, count)) ||
		    (err = sockmap_tcp_info(f->source, &after)))
			return err;
	} while (before.tcpi_state != after.tcpi_state);
	*count -= f->source_at;
	if (!sockmap_tcp_open(after.tcpi_state) && *count)
		--*count;
	return 0;
}

/* Whether the kernel has read more than it gave to the sink. */
static bool bytes_lost(struct sockmap_flow *f)
{
	uint64_t now;
	int err = read_since(f, &now);

	if (err)
		f->source_error = -err;
	return !err && !sockmap_tcp_urgent(f->source) && now > taken(f);
}

/* Has something come of which the parser has not been told? At an end only a look says so, and tells it. */
static bool unheard(struct sockmap_flow *f)
{
	struct pollfd there = { .fd = f->source, .events = POLLIN };
	struct tcp_info info;

	if (sockmap_tcp_info(f->source, &info))
		return false;
	if (sockmap_tcp_open(info.tcpi_state))
		return poll(&there, 1, 0) > 0;
	if (push(f->source) >= 0)
		return false;
	/* the socket tells its error once */
	if (errno != EAGAIN && !f->source_error)
		f->source_error = errno;
	return errno == EAGAIN;
}

/*
 * After this a parser takes nothing any more, and one that runs has ended: the kernel's own answer waits for it. Another may be
 * on its way, if bytes have come while somebody had the socket: then it is to find out first, and to stop by itself. False: it
 * has not yet.
 */
static bool stop(struct sockmap_flow *f)
{
	__atomic_store_n(&f->way->stop, 1, __ATOMIC_SEQ_CST);
	if (f->phase != SOCKMAP_MOVING || !unheard(f))
		return true;
	if (__atomic_load_n(&f->way->stopped, __ATOMIC_ACQUIRE) || sockmap_tcp_urgent(f->source))
		return true;
	push(f->source);
	return false;
}

static void take_out(struct sockmap_flow *f)
{
	if (f->phase != SOCKMAP_MOVING)
		return;
	sockmap_flow_leave(f);
	f->phase = SOCKMAP_PLAIN;
	f->lost = bytes_lost(f);
}

int sockmap_skb_end(struct sockmap_flow *f, struct sockmap_status *st)
{
	bool lost, heard = stop(f);

	if (heard)
		take_out(f);
	advance(f, st);
	if (st->phase == SOCKMAP_MOVING) {
		st->tick = true;
		return -EAGAIN;
	}
	if (st->phase < SOCKMAP_EOF && st->backlog)
		return -EAGAIN;
	lost = f->lost || f->way->lost;
	sockmap_flow_part(f);
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
	sockmap_flow_forget(f);
}

uint64_t sockmap_skb_drop(struct sockmap_flow *f)
{
	uint64_t backlog, bytes;

	stop(f);
	take_out(f);
	/* before the count: until then the sink gets more */
	bpf_map_delete_elem(sockmap_maps.targets, &f->number);
	bytes = sockmap_skb_bytes(f, &backlog);
	sockmap_flow_part(f);
	return bytes;
}
