// SPDX-License-Identifier: GPL-2.0
/* Connections of the relay: the other side is connected, both are given to the engine, the end is counted. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../libsplice/probe.h"
#include "relay.h"

static void try_targets(struct relay *r, struct attempt *a);

bool relay_has_room(const struct relay *r)
{
	return !r->opts->max || r->count.active + r->count.connecting < r->opts->max;
}

/* Closing resets: the peer learns at once that this did not end well. */
static void abort_socket(struct relay *r, int fd)
{
	struct linger reset = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	r->starved_until = 0;
}

/* The module keeps what it owns alive by itself. */
static int make_socket(const struct relay *r, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0 && spl_engine(r->spl) != SPL_ENGINE_KMOD)
		relay_keep_alive(fd, family);
	return fd;
}

/* Makes the socket that the next connection will need, and waits if there is no descriptor for it. */
bool relay_make_spare(struct relay *r)
{
	if (r->spare >= 0)
		return true;
	r->spare_family = r->opts->targets[r->opts->first[r->turn]].sa.sa_family;
	r->spare = make_socket(r, r->spare_family);
	if (r->spare >= 0)
		return true;
	relay_starved(r, "socket");
	return false;
}

/* The spare one if it fits; else its descriptor makes room for one that does. */
static int take_socket(struct relay *r, int family)
{
	int fd = r->spare;

	r->spare = -1;
	if (fd >= 0 && r->spare_family == family)
		return fd;
	if (fd >= 0)
		close(fd);
	return make_socket(r, family);
}

static void log_unreachable(struct relay *r, const struct attempt *a, int error)
{
	char target[ADDR_TEXT], peer[ADDR_TEXT];

	relay_log(r, TALK_NORMAL, "cannot connect to %s for %s: %s", addr_format(&r->opts->targets[a->target], target),
		  addr_format(&a->peer, peer), strerror(error));
}

/* The end of an attempt: its descriptors are gone, or given away. */
static void forget(struct relay *r, struct attempt *a)
{
	r->count.connecting--;
	free(a);
}

static void give_up(struct relay *r, struct attempt *a)
{
	abort_socket(r, a->client);
	r->count.unreachable++;
	forget(r, a);
}

static void log_carried(struct relay *r, const struct attempt *a, uint64_t token)
{
	char target[ADDR_TEXT], peer[ADDR_TEXT];

	if (r->opts->talk == TALK_VERBOSE)
		relay_log(r, TALK_VERBOSE, "%" PRIu64 " begins: %s to %s", token, addr_format(&a->peer, peer),
			  addr_format(&r->opts->targets[a->target], target));
}

static void refuse(struct relay *r, struct attempt *a, int error)
{
	const char *sentence = error == -ENOMEM ? NULL : spl_strerror_last(r->spl);
	char peer[ADDR_TEXT];

	relay_log(r, TALK_NORMAL, "the engine %s refuses the connection of %s: %s", spl_engine_name(spl_engine(r->spl)),
		  addr_format(&a->peer, peer), sentence && *sentence ? sentence : strerror(-error));
	abort_socket(r, a->client);
	abort_socket(r, a->watch.fd);
	r->count.refused++;
}

/*
 * Descriptors that are there to be given up: an engine may need two for a moment when it takes two over, and no client
 * whom we have accepted is to be sent away for that.
 */
void relay_reserve(struct relay *r, bool keep)
{
	for (size_t i = 0; i < ARRAY_SIZE(r->reserve); i++) {
		if (!keep && r->reserve[i] >= 0)
			close(r->reserve[i]);
		r->reserve[i] = keep ? fcntl(r->epoll, F_DUPFD_CLOEXEC, 0) : -1;
	}
}

static int splice_both(struct relay *r, const struct attempt *a, struct carried *c)
{
	struct spl_opts opts = {
		.sz = sizeof(opts),
		.idle_ms = r->opts->idle_ms,
		.user_data = (uintptr_t)c,
	};
	int error = spl_splice_pair(r->spl, a->client, a->watch.fd, &opts, &c->token);

	if (error != -EMFILE)
		return error;
	relay_reserve(r, false);
	error = spl_splice_pair(r->spl, a->client, a->watch.fd, &opts, &c->token);
	relay_reserve(r, true);
	return error;
}

/* Gives both sides to the engine: 0, and it has the descriptors; -EINPROGRESS: the target is not connected yet. */
static int offer(struct relay *r, struct attempt *a)
{
	struct carried *c = malloc(sizeof(*c));
	int error;

	if (!c)
		return -ENOMEM;
	*c = (struct carried){ 0 };
	error = splice_both(r, a, c);
	if (error) {
		free(c);
		return error;
	}
	LIST_INSERT_HEAD(&r->carried, c, all);
	r->count.active++;
	r->starved_until = 0;
	log_carried(r, a, c->token);
	return 0;
}

/* Until the target answers, or its time is over. */
static int wait_for(struct relay *r, struct attempt *a)
{
	int error = relay_watch(r, &a->watch, EPOLLOUT);

	if (error)
		return -error;
	a->deadline = relay_now() + r->opts->connect_ms;
	TAILQ_INSERT_TAIL(&r->attempts, a, by_deadline);
	return 0;
}

static int socket_error(int fd)
{
	socklen_t len = sizeof(int);
	int error;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) ? errno : error;
}

/*
 * The target has been called. One that is near has answered already, and nothing need be waited for: the engine tells.
 * 0: the attempt waits, or is over and gone; else why this target will not do.
 */
static int hand_over(struct relay *r, struct attempt *a)
{
	int failed, error = offer(r, a);

	if (error == -EINPROGRESS)
		return wait_for(r, a);
	failed = error == -ENOTCONN ? socket_error(a->watch.fd) : 0;
	if (failed)
		return failed;
	if (error)
		refuse(r, a, error);
	forget(r, a);
	return 0;
}

/* Takes the attempt out of the epoll set and the queue. */
static void settle(struct relay *r, struct attempt *a)
{
	TAILQ_REMOVE(&r->attempts, a, by_deadline);
	relay_unwatch(r, &a->watch);
}

/* This target did not do: the next one, or the end. */
static void next_target(struct relay *r, struct attempt *a, int error)
{
	log_unreachable(r, a, error);
	if (a->watch.fd >= 0)
		close(a->watch.fd);
	a->watch.fd = -1;
	a->target = (a->target + 1) % r->opts->n_targets;
	a->left--;
}

static void attempt_ready(struct relay *r, struct watch *w, uint32_t events)
{
	struct attempt *a = (struct attempt *)((char *)w - offsetof(struct attempt, watch));
	int error = events & (EPOLLERR | EPOLLHUP) ? socket_error(w->fd) : 0;

	settle(r, a);
	if (!error)
		error = hand_over(r, a);
	if (!error)
		return;
	next_target(r, a, error);
	try_targets(r, a);
}

/* 0: it is being connected, or is; else this target will not do. */
static int call_target(struct relay *r, struct attempt *a)
{
	const struct addr *to = &r->opts->targets[a->target];

	a->watch.fd = take_socket(r, to->sa.sa_family);
	if (a->watch.fd < 0 || (connect(a->watch.fd, &to->sa, to->len) && errno != EINPROGRESS))
		return errno;
	return 0;
}

/* Goes on with an attempt, which may be gone on return. */
static void try_targets(struct relay *r, struct attempt *a)
{
	int error;

	while (a->left) {
		error = call_target(r, a);
		if (!error)
			error = hand_over(r, a);
		if (!error)
			return;
		next_target(r, a, error);
	}
	give_up(r, a);
}

/* Takes the client over and finds it a target: each --to in turn, on failure those after it. */
void relay_connect(struct relay *r, int client, const struct addr *peer)
{
	struct attempt *a = malloc(sizeof(*a));

	r->count.accepted++;
	if (!a) {
		r->count.refused++;
		abort_socket(r, client);
		return;
	}
	*a = (struct attempt){
		.watch = { .fd = -1, .ready = attempt_ready },
		.client = client,
		.peer = *peer,
		.target = r->opts->first[r->turn],
		.left = r->opts->n_targets,
	};
	r->turn = (r->turn + 1) % r->opts->n_first;
	r->count.connecting++;
	try_targets(r, a);
}

void relay_expire_attempts(struct relay *r, uint64_t now)
{
	struct attempt *a;

	/* one who is tried again goes to the end of the queue, with a later deadline */
	while ((a = TAILQ_FIRST(&r->attempts)) && a->deadline <= now) {
		settle(r, a);
		next_target(r, a, ETIMEDOUT);
		try_targets(r, a);
	}
}

static void log_ended(struct relay *r, const struct spl_event *ev)
{
	char forth[OUT_TEXT], back[OUT_TEXT];

	if (r->opts->talk != TALK_VERBOSE)
		return;
	relay_log(r, TALK_VERBOSE, "%" PRIu64 " ended: %s%s%s, %s forth, %s back", ev->token, spl_cause_name(ev->cause),
		  ev->error ? ": " : "", ev->error ? strerror(ev->error) : "", out_bytes(ev->bytes, forth),
		  out_bytes(ev->bytes_back, back));
}

static void count_end(struct relay *r, const struct spl_event *ev)
{
	struct carried *c = (struct carried *)(uintptr_t)ev->user_data;

	r->count.active--;
	r->count.ended++;
	r->count.bytes += ev->bytes;
	r->count.bytes_back += ev->bytes_back;
	if ((unsigned int)ev->cause < RELAY_CAUSES)
		r->count.cause[ev->cause]++;
	LIST_REMOVE(c, all);
	free(c);
}

/*
 * Waits until something is to be done: by the engine, which does it here, or by us. Counts what
 * has ended since, with one as far as that can be done without asking for another; an engine that
 * cannot tell any more ends the relay. Returns how many ended.
 */
unsigned int relay_take_events(struct relay *r, int timeout_ms, bool one)
{
	unsigned int taken = 0;
	struct spl_event ev;
	int n;

	while ((n = spl_next(r->spl, &ev, timeout_ms)) > 0) {
		timeout_ms = 0;
		taken++;
		log_ended(r, &ev);
		count_end(r, &ev);
		if (one && !spl_pending(r->spl))
			break;
	}
	if (n >= 0 || n == -EINTR || n == -EAGAIN)
		return taken;
	cli_error("the engine reports no more: %s", strerror(-n));
	r->broken = true;
	return taken;
}

/* Sends away who is still being connected; what the engine carries is left to it. */
void relay_conn_release(struct relay *r)
{
	struct attempt *a;
	struct carried *c;

	while ((a = TAILQ_FIRST(&r->attempts))) {
		settle(r, a);
		close(a->watch.fd);
		give_up(r, a);
	}
	while ((c = LIST_FIRST(&r->carried))) {
		LIST_REMOVE(c, all);
		free(c);
	}
	if (r->spare >= 0)
		close(r->spare);
}
