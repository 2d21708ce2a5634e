// SPDX-License-Identifier: GPL-2.0
/* The loop of the relay: epoll, timers, signals, the end. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "../libsplice/probe.h"
#include "relay.h"

#define STARVED_MS	100
#define LOG_LINES	20		/* in one second: a dead target must not fill the disk */

uint64_t relay_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static bool log_allowed(struct relay *r)
{
	uint64_t second = relay_now() / 1000;

	if (second != r->log_second) {
		if (r->log_hidden)
			fprintf(stderr, "relay: %" PRIu64 " more messages\n", r->log_hidden);
		r->log_second = second;
		r->log_lines = r->log_hidden = 0;
	}
	if (r->log_lines++ < LOG_LINES)
		return true;
	r->log_hidden++;
	return false;
}

/* A message of this level; none under --quiet. Under --verbose all are wanted, else only so many a second. */
void relay_log(struct relay *r, enum relay_talk level, const char *fmt, ...)
{
	va_list ap;

	if (r->opts->talk < level || (r->opts->talk != TALK_VERBOSE && !log_allowed(r)))
		return;
	fputs("relay: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int relay_watch(struct relay *r, struct watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	return epoll_ctl(r->epoll, EPOLL_CTL_ADD, w->fd, &ev) ? -errno : 0;
}

void relay_rewatch(struct relay *r, struct watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	epoll_ctl(r->epoll, EPOLL_CTL_MOD, w->fd, &ev);
}

/* Before a descriptor is given away: the engine keeps its file open, and epoll would keep it too. */
void relay_unwatch(struct relay *r, struct watch *w)
{
	epoll_ctl(r->epoll, EPOLL_CTL_DEL, w->fd, NULL);
}

/* No descriptors, as errno says: nothing is accepted for a moment, or until some are closed. Said once a second. */
void relay_starved(struct relay *r, const char *call)
{
	int error = errno;
	uint64_t now = relay_now();

	if (!r->starved_said || now - r->starved_said >= 1000) {
		relay_log(r, TALK_NORMAL, "%s: %s; new connections wait", call, strerror(error));
		r->starved_said = now;
	}
	r->starved_until = now + STARVED_MS;
}

static void turn(struct relay *r, bool *now, bool on, struct listener *l, size_t n)
{
	if (on == *now)
		return;
	*now = on;
	for (size_t i = 0; i < n; i++)
		if (l[i].watch.fd >= 0)
			relay_rewatch(r, &l[i].watch, on ? EPOLLIN : 0);
}

/* Turns the listening sockets on and off, so that a client who cannot be taken does not wake us. */
static void update_accepting(struct relay *r)
{
	turn(r, &r->accepting, !r->draining && !r->starved_until && relay_has_room(r),
	     r->opts->listeners, r->opts->n_listeners);
	turn(r, &r->answering, !r->starved_until && r->n_scrapes < RELAY_SCRAPES, &r->opts->metrics, 1);
}

static void begin_drain(struct relay *r)
{
	struct relay_options *o = r->opts;

	for (size_t i = 0; i < o->n_listeners; i++) {
		relay_accept_rest(r, &o->listeners[i].watch);
		relay_listener_close(&o->listeners[i]);
	}
	r->draining = true;
	r->drain_until = relay_now() + o->drain_ms;
	if (o->talk != TALK_QUIET && r->count.active + r->count.connecting)
		fprintf(stderr, "relay: waiting for connections to end: %" PRIu64 "\n", r->count.active + r->count.connecting);
}

static void signals_ready(struct relay *r, struct watch *w, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)events;
	while (read(w->fd, &info, sizeof(info)) == sizeof(info)) {
		if (r->draining)
			r->stop = true;
		else
			begin_drain(r);
	}
}

static void sooner(uint64_t *when, uint64_t other)
{
	if (other < *when)
		*when = other;
}

/* How long to wait for epoll: until the first of the deadlines. */
static int wait_ms(const struct relay *r)
{
	uint64_t when = UINT64_MAX, now;

	if (!TAILQ_EMPTY(&r->attempts))
		sooner(&when, TAILQ_FIRST(&r->attempts)->deadline);
	if (!TAILQ_EMPTY(&r->scrapes))
		sooner(&when, TAILQ_FIRST(&r->scrapes)->deadline);
	if (r->starved_until)
		sooner(&when, r->starved_until);
	if (r->draining)
		sooner(&when, r->drain_until);
	if (when == UINT64_MAX)
		return -1;
	now = relay_now();
	if (when <= now)
		return 0;
	return when - now > 60000 ? 60000 : (int)(when - now);
}

static void run_timers(struct relay *r)
{
	uint64_t now;

	if (TAILQ_EMPTY(&r->attempts) && TAILQ_EMPTY(&r->scrapes) && !r->starved_until && !r->draining)
		return;
	now = relay_now();
	relay_expire_attempts(r, now);
	relay_expire_scrapes(r, now);
	if (r->starved_until && r->starved_until <= now)
		r->starved_until = 0;
	if (r->draining && (r->drain_until <= now || !(r->count.active + r->count.connecting)))
		r->stop = true;
}

static int add_signals(struct relay *r)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	r->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	r->signals.ready = signals_ready;
	return r->signals.fd < 0 ? -errno : relay_watch(r, &r->signals, EPOLLIN);
}

/* Where of late no second event was there none is asked for: epoll says when there is. */
static void engine_ready(struct relay *r, struct watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	if (r->singly) {
		r->singly--;
		relay_take_events(r, 0, true);
	} else if (relay_take_events(r, 0, false) <= 1) {
		r->singly = RELAY_SINGLY;
	}
}

static int add_all(struct relay *r)
{
	struct relay_options *o = r->opts;
	int error;

	/* an engine that moves the bytes here does the waiting, too: no set within a set for each message */
	r->engine.fd = spl_own_fd(r->spl);
	r->engine.ready = engine_ready;
	error = r->engine.fd < 0 ? spl_also(r->spl, r->epoll) : relay_watch(r, &r->engine, EPOLLIN);
	spl_plain(r->spl);
	spl_lazy(r->spl);
	if (!error)
		error = add_signals(r);
	for (size_t i = 0; i < o->n_listeners && !error; i++) {
		o->listeners[i].watch.ready = relay_accept_clients;
		error = relay_watch(r, &o->listeners[i].watch, EPOLLIN);
	}
	if (!error && o->metrics.watch.fd >= 0) {
		o->metrics.watch.ready = relay_metrics_ready;
		error = relay_watch(r, &o->metrics.watch, EPOLLIN);
	}
	r->accepting = r->answering = true;
	return error;
}

static void announce(const struct relay_options *o)
{
	char text[ADDR_TEXT];

	if (o->metrics.watch.fd >= 0)
		printf("metrics on %s\n", addr_format(&o->metrics.addr, text));
	for (size_t i = 0; i < o->n_listeners; i++)
		printf("listening on %s\n", addr_format(&o->listeners[i].addr, text));
	fflush(stdout);
}

static int loop(struct relay *r)
{
	struct epoll_event ready[RELAY_BATCH];
	int n;

	while (!r->stop && !r->broken) {
		update_accepting(r);
		if (r->engine.fd < 0)
			relay_take_events(r, wait_ms(r), false);
		n = epoll_wait(r->epoll, ready, RELAY_BATCH, r->engine.fd < 0 ? 0 : wait_ms(r));
		if (n < 0 && errno != EINTR)
			return -errno;
		/* nobody frees the watch of another: each of the batch is still there when its turn comes */
		for (int i = 0; i < n; i++) {
			struct watch *w = ready[i].data.ptr;

			if (w->fd >= 0)
				w->ready(r, w, ready[i].events);
		}
		run_timers(r);
	}
	return r->broken ? -EIO : 0;
}

/* Runs until told to end. The listeners are open, the engine too. 0 or -errno. */
int relay_run(struct relay *r)
{
	int error;

	r->signals.fd = r->spare = -1;
	TAILQ_INIT(&r->attempts);
	LIST_INIT(&r->carried);
	TAILQ_INIT(&r->scrapes);
	r->began = relay_now();
	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (r->epoll < 0)
		return -errno;
	relay_reserve(r, true);
	error = add_all(r);
	if (!error) {
		announce(r->opts);
		error = loop(r);
	}
	relay_metrics_release(r);
	relay_conn_release(r);
	if (r->signals.fd >= 0)
		close(r->signals.fd);
	relay_reserve(r, false);
	close(r->epoll);
	return error;
}
