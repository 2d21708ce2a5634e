/* SPDX-License-Identifier: GPL-2.0 */
/* load.h: private header of the load generator. A client and a server process, and one that watches them. */
#ifndef LOAD_H
#define LOAD_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <netinet/in.h>

#define LOAD_ADDRS	8
#define LOAD_CONNS	10000
#define LOAD_SAMPLES	(4 << 20)
#define LOAD_SLICES	64
#define LOAD_WRITE	(128 << 10)
#define LOAD_PATIENCE_S	4	/* nothing moves for so long: it failed */

enum phase { PHASE_WARM, PHASE_MEASURE, PHASE_DRAIN, PHASE_STOP };

/* What the three processes see. */
struct shared {
	_Atomic int phase;
	_Atomic uint64_t done;		/* bytes, round trips or connections; also of the warm-up */
	_Atomic uint64_t sent, received;	/* bulk: all of it, to be compared at the end */
	_Atomic bool paused;		/* bulk, PHASE_DRAIN: the client sends no more; whoever finds all received says so: */
	uint64_t drained_ns;
	sem_t drained, go;		/* "drained" for the parent, then "go" for the client */
	_Atomic unsigned int ready;	/* connections that have begun, or done what they do before they rest */
	char error[160];		/* the first to fail says why */
	_Atomic int failed;
	uint32_t n_samples;		/* written by the client alone */
	uint32_t samples[LOAD_SAMPLES];	/* nanoseconds, of round trips within PHASE_MEASURE */
};

struct job {
	const struct mode *mode;
	struct sockaddr_in listen[LOAD_ADDRS], to[LOAD_ADDRS];
	unsigned int n_listen, n_to;
	unsigned int conns;
	size_t size;			/* of a message */
	size_t write;			/* bulk: of a write */
	unsigned int slices;		/* of the time that is measured */
	unsigned int ms, warm_ms;
	bool reads;			/* bulk: the server, into a buffer */
	pid_t relay;			/* 0: none */
	int cpu;			/* client and server stay on it; -1: anywhere */
	int listeners[LOAD_ADDRS];
	struct shared *sh;
};

struct mode {
	const char *name;
	void (*server)(struct job *job);
	void (*client)(struct job *job);
	int (*watch)(struct job *job);	/* in the parent: prints the result; returns 0, or -1 after fail() */
};

/* load.c */
void fail(struct job *job, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void die(struct job *job, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
uint64_t now_ns(void);
int wait_ready(struct job *job, unsigned int ms);

/* net.c */
int parse_addrs(const char *text, struct sockaddr_in out[LOAD_ADDRS]);
int open_listener(const struct sockaddr_in *addr);
int connect_to(struct job *job, unsigned int i);	/* blocking; TCP_NODELAY */
int start_connect(struct job *job, unsigned int i);	/* without waiting */
void set_patience(int fd);
bool send_all(struct job *job, int fd, const void *buf, size_t len);
int accept_one(struct job *job);			/* blocking */
void raise_limit(void);

/* echo.c: the server of all round trips */
void echo_server(struct job *job);

/* diag.c */
long peer_queue(struct job *job, int fd);

/* measure.c */
int watch_rate(struct job *job);

/* proc.c */
struct tree_use {
	uint64_t cpu_ns;		/* of the processes that are there, and of those the root has waited for */
	uint64_t rss_kb, pss_kb;
	unsigned int processes, pipes, fds;
};
int tree_cpu(pid_t root, struct tree_use *use);
int tree_memory(pid_t root, struct tree_use *use);

/* each in its own file */
extern const struct mode bulk_mode, rr_mode, conn_mode, pairs_mode, verify_mode, half_mode, hold_modes[4];

#endif /* LOAD_H */
