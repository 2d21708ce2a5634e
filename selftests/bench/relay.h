/* SPDX-License-Identifier: GPL-2.0 */
/*
 * relay.h: private header of the relays to compare with. They are what an expert would write for this task alone: one
 * thread, two descriptors and nothing else for an idle connection, no system call whose answer is known. splice and
 * copy stand on edge-triggered epoll, uring on io_uring, sockmap on BPF in the kernel. They have no idle limit, no statistics and no events.
 */
#ifndef BENCH_RELAY_H
#define BENCH_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct conn;

/* A socket; epoll's data pointer. */
struct end {
	int fd;
	bool readable, writable;	/* no EAGAIN since the last edge */
	bool hangup;			/* its peer has ended: a short read proves nothing any more */
	struct conn *conn;
};

/* One direction. */
struct way {
	struct end *from, *to;
	bool over;			/* the end was read, and what came before it is sent */
	bool last;			/* the end was read */
	size_t held;			/* read, not yet sent */
	int pipe[2];			/* splice: holds it; only while held > 0 */
	char *rest;			/* copy, sockmap: holds it; only while held > 0 */
	size_t at;			/* of the held in rest */
	bool plain;			/* sockmap: the kernel redirects no more */
	uint64_t sent;			/* sockmap: of those that were held */
	uint64_t settled;		/* sockmap: nothing waited for the sink when so many bytes had gone to it */
};

struct conn {
	struct end client, server;
	struct way up, down;
	bool queued;			/* has had its turn, and has more to do */
	bool dead;
	unsigned int slot;		/* sockmap: 0: it has none yet */
	TAILQ_ENTRY(conn) next;
};

enum moved { MOVED_ALL, MOVED_MORE, MOVED_LATER, MOVED_FAILED };

/* Moves what can be moved now, but not for ever: MOVED_MORE wants to be called again, MOVED_LATER in a millisecond. */
struct mover {
	const char *name;
	int (*init)(void);		/* a descriptor to be watched; or NULL */
	void (*event)(void);		/* it is readable */
	bool (*begin)(struct conn *c);	/* false: not yet; or NULL */
	enum moved (*move)(struct way *w);
	void (*release)(struct way *w);
};

extern const struct mover splice_mover, copy_mover, sockmap_mover;

/* relay_conn.c */
void conn_accept(int epoll, int listener);
void conn_event(struct end *e, uint32_t events);
int conn_run_queued(void);	/* milliseconds after which it wants to be called again; -1: never */
void conn_bury(void);
extern const struct mover *mover;
extern struct sockaddr_in relay_target;

/* relay.c */
void __attribute__((noreturn)) relay_stop(const char *what, int error);

/* relay_uring.c */
void __attribute__((noreturn)) uring_loop(int *listeners, unsigned int n);

#endif /* BENCH_RELAY_H */
