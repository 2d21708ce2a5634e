/* SPDX-License-Identifier: GPL-2.0 */
/*
 * relay.h: private header of the relays to compare with. They are what an expert would write for this task alone: one
 * thread, two descriptors and nothing else for an idle connection, no system call whose answer is known. splice and
 * copy stand on edge-triggered epoll, uring on io_uring. They have no idle limit, no statistics and no events.
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
	char *rest;			/* copy: holds it; only while held > 0 */
	size_t at;			/* of the held in rest */
};

struct conn {
	struct end client, server;
	struct way up, down;
	bool queued;			/* has had its turn, and has more to do */
	bool dead;
	TAILQ_ENTRY(conn) next;
};

enum moved { MOVED_ALL, MOVED_MORE, MOVED_FAILED };

/* Moves what can be moved now, but not for ever: MOVED_MORE wants to be called again. */
struct mover {
	const char *name;
	enum moved (*move)(struct way *w);
	void (*release)(struct way *w);
};

extern const struct mover splice_mover, copy_mover;

/* relay_conn.c */
void conn_accept(int epoll, int listener);
void conn_event(struct end *e, uint32_t events);
bool conn_run_queued(void);	/* true: there are still some */
void conn_bury(void);
extern const struct mover *mover;
extern struct sockaddr_in relay_target;

/* relay.c */
void __attribute__((noreturn)) relay_stop(const char *what, int error);

/* relay_uring.c */
void __attribute__((noreturn)) uring_loop(int *listeners, unsigned int n);

#endif /* BENCH_RELAY_H */
