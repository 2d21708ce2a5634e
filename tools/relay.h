/* SPDX-License-Identifier: GPL-2.0 */
/* splicectl relay: private header of its files. One thread, one epoll set. */
#ifndef RELAY_H
#define RELAY_H

#include <sys/queue.h>

#include "../libsplice/libsplice.h"
#include "splicectl.h"

#define RELAY_LISTENERS		32
#define RELAY_TARGETS		64	/* addresses behind all --to */
#define RELAY_BATCH		64	/* accepts, or epoll events, before others get their turn */
#define RELAY_SINGLY		16	/* times that a second one is not looked for, where there was none */
#define RELAY_SCRAPES		16	/* requests for metrics at a time */
#define RELAY_CAUSES		(SPL_SINK_FAILED + 1)

struct relay;

/* A descriptor in the epoll set; embedded in whoever is called when it is ready. */
struct watch {
	int fd;				/* -1: not open */
	void (*ready)(struct relay *r, struct watch *w, uint32_t events);
};

struct listener {
	struct watch watch;		/* first */
	struct addr addr;
	unsigned int singly;		/* so many times only one is accepted: of late no second one was there */
};

/* A client whose other side is being connected; ordered by deadline. */
struct attempt {
	struct watch watch;		/* the socket being connected */
	int client;
	struct addr peer;		/* the client's address */
	size_t target;			/* being tried */
	size_t left;			/* targets not tried yet */
	uint64_t deadline;
	TAILQ_ENTRY(attempt) by_deadline;
};

/* A connection that the engine carries: all that is kept of it. */
struct carried {
	uint64_t token;
	uint64_t bytes, bytes_back;	/* as last seen by a scrape: what is reported never shrinks */
	LIST_ENTRY(carried) all;
};

/* One request for the metrics; ordered by deadline. */
struct scrape {
	struct watch watch;
	char *answer;			/* NULL: the request is still being read */
	size_t len, done;
	uint64_t deadline;
	TAILQ_ENTRY(scrape) by_deadline;
	char request[2048];
};

enum relay_talk { TALK_QUIET, TALK_NORMAL, TALK_VERBOSE };

struct relay_options {
	struct listener listeners[RELAY_LISTENERS];
	size_t n_listeners;
	struct addr targets[RELAY_TARGETS];
	size_t n_targets;
	size_t first[RELAY_TARGETS];	/* of each --to: its first address in targets[] */
	size_t n_first;
	struct listener metrics;	/* addr.len 0: none */
	enum spl_engine engine;
	const char *cgroup;		/* of local peers; NULL: none */
	bool bypass;
	enum relay_talk talk;
	bool share;			/* the listening ports with other relays */
	uint32_t idle_ms, connect_ms, drain_ms;
	uint64_t max;			/* open connections; 0: no limit */
};

struct relay {
	struct relay_options *opts;
	struct spl *spl;
	int epoll;
	struct watch signals;
	struct watch engine;		/* its events; -1: the engine does the waiting */
	unsigned int singly;		/* so many times only one event is read */
	int spare;			/* a socket made ahead, of family spare_family; -1: none */
	int spare_family;
	int reserve[2];			/* descriptors kept for the engine; -1: none */
	size_t turn;			/* of the next connection, in opts->first[] */

	bool accepting, answering;	/* whether the listening sockets are looked at */
	bool draining, stop, broken;
	uint64_t starved_until;		/* out of descriptors: no accepting before this; 0: not */
	uint64_t starved_said;		/* when it was last told; 0: never */
	uint64_t drain_until;
	uint64_t began;

	TAILQ_HEAD(, attempt) attempts;
	LIST_HEAD(, carried) carried;
	TAILQ_HEAD(, scrape) scrapes;
	size_t n_scrapes;

	struct {
		uint64_t accepted, connecting, active, ended, unreachable, refused;
		uint64_t bytes, bytes_back;	/* of those that ended */
		uint64_t cause[RELAY_CAUSES];
	} count;
	uint64_t log_second, log_lines, log_hidden;
};

/* relay_loop.c */
uint64_t relay_now(void);		/* milliseconds, monotonic */
int relay_watch(struct relay *r, struct watch *w, uint32_t events);
void relay_rewatch(struct relay *r, struct watch *w, uint32_t events);
void relay_unwatch(struct relay *r, struct watch *w);
void relay_starved(struct relay *r, const char *call);
int relay_run(struct relay *r);
void relay_log(struct relay *r, enum relay_talk level, const char *fmt, ...) PRINTF(3, 4);

/* relay_listen.c */
void relay_keep_alive(int fd, int family);
int relay_listen(struct listener *l, bool shared);
int relay_accept(struct relay *r, struct watch *w, struct addr *peer);
void relay_accept_clients(struct relay *r, struct watch *w, uint32_t events);
void relay_accept_rest(struct relay *r, struct watch *w);
void relay_listener_close(struct listener *l);

/* relay_conn.c */
void relay_reserve(struct relay *r, bool keep);
bool relay_has_room(const struct relay *r);
bool relay_make_spare(struct relay *r);
void relay_connect(struct relay *r, int client, const struct addr *peer);
void relay_expire_attempts(struct relay *r, uint64_t now);
unsigned int relay_take_events(struct relay *r, int timeout_ms, bool one);
void relay_conn_release(struct relay *r);

/* relay_metrics.c */
void relay_metrics_ready(struct relay *r, struct watch *w, uint32_t events);
void relay_expire_scrapes(struct relay *r, uint64_t now);
void relay_metrics_release(struct relay *r);

#endif /* RELAY_H */
