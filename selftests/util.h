/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What every test needs: connected sockets, streams that know each byte's position, waits that
 * end. Helpers return 0 or a negative errno, so that threads may use them; the verdict is the
 * test's own.
 */
#ifndef SELFTESTS_UTIL_H
#define SELFTESTS_UTIL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driven.h"
#include "libsplice.h"

/* Nothing that a test waits for may take longer than this: it is a failure then. */
#define WAIT_MS		20000
/* Long enough to see that something does not happen. */
#define QUIET_MS	60

/* What a relay is made of: client side (c, a) and server side (b, s). */
enum net {
	NET_V4,
	NET_V6,
	NET_MIXED,	/* (c, a) over IPv4, (b, s) over IPv6 */
	NET_MAPPED,	/* a and b are IPv6 sockets that talk IPv4 */
	NET_UNIX,	/* socketpairs */
	NET_TCP_TO_UNIX,
	NET_UNIX_TO_TCP,
	NET_TLS,	/* in the kernel, all four sockets: see tls.h; 1.3 */
	NET_TLS12,
	NET_TLS_TO_TCP,	/* a relay that takes the encryption off */
	NET_TCP_TO_TLS,
	NET_PIPE,	/* one way, from c to s; the ends of the test itself do not block; user space only from here on */
	NET_PIPE_TO_TCP,
	NET_TCP_TO_PIPE,
};

/* time and chance */
bool on_debug_kernel(void);
bool brief_run(void);				/* $SPL_TEST_BRIEF, or a debug kernel: all tests, fewer rounds and variants */
unsigned int scaled(unsigned int n);		/* n / $SPL_TEST_SCALE, /10 in a brief run */
unsigned int bulk(enum net net, unsigned int n);	/* n, or less where every byte is encrypted and decrypted twice */
unsigned int repeats(enum net net, unsigned int n);	/* scaled(n), or less where each waits for an acknowledgement, as TLS does */
uint64_t now_ms(void);
uint64_t now_us(void);
void sleep_ms(unsigned int ms);
uint64_t rnd(uint64_t *state);
unsigned int rnd_below(uint64_t *state, unsigned int n);
size_t rnd_size(uint64_t *state, size_t max);	/* 1..max, small ones as likely as big ones */

/* sockets */
struct relay { int c, a, b, s; };		/* client c <-> a, b <-> s server */
int raise_nofile(unsigned int n);
int tcp_listen(int family, struct sockaddr_storage *addr, socklen_t *len);
int tcp_pair(enum net net, bool server_side, int fds[2]);	/* fds[1] was accepted */
int relay_open(struct relay *r, enum net net);
void relay_close(struct relay *r);
void close_fd(int *fd);
int tcp_reset(int *fd);				/* closes with RST */
int tcp_connecting(int family, int *listening);	/* a socket whose connect has no answer yet */
int fin(int *fd);				/* ends the stream; of a pipe by closing it, of TLS with a close_notify first */
int nodelay(int fd);				/* TCP_NODELAY, of TCP */
int cork(int fd);				/* the next bytes and FIN in one segment, of TCP */
bool is_tcp(int fd);				/* of TLS too */
bool is_fifo(int fd);
int set_opt(int fd, int level, int name, int value);
int get_opt(int fd, int level, int name);	/* value or -errno */
bool fd_open(int fd);
int queued(int fd);				/* bytes ready to be read */
int wait_queued(int fd, int n);			/* until at least n are */
int poll_fd(int fd, short events, int ms);	/* revents, 0, -errno */
int wait_blocked(pid_t tid);			/* until that task sleeps in the kernel */

/* streams: byte `pos` of stream `seed` is always the same one */
void pattern_fill(void *buf, size_t len, uint64_t seed, uint64_t pos);
int pattern_check(const void *buf, size_t len, uint64_t seed, uint64_t pos);
int put(int fd, uint64_t seed, uint64_t pos, size_t len);	/* writes all of it */
ssize_t recv_now(int fd, void *buf, size_t len);	/* recv() that does not wait, and knows how TLS ends */
int put_bytes(int fd, const void *bytes, size_t len);		/* the same, of no stream */
int take_bytes(int fd, const void *bytes, size_t len);		/* reads exactly these */
int64_t stuff(int fd, uint64_t seed);				/* writes until there is no room; count */
int take(int fd, uint64_t seed, uint64_t pos, size_t len);	/* reads and verifies exactly that */
int64_t take_rest(int fd, uint64_t seed, uint64_t pos);		/* to the end; count */
int64_t drain(int fd, uint8_t *buf, size_t max);		/* to the end, unverified; count */
int at_eof(int fd);				/* 0: nothing but the end of stream comes */
int at_reset(int fd);				/* 0: the connection was reset, after any bytes */
int at_cut(int fd);				/* 0: it was reset, or as far as its kind knows no reset, ended */
/* As at_cut() of the peer of an end that is not the engine's to close: TLS refuses to disconnect for user. */
int at_cut_by(enum spl_engine engine, int end, int peer);
int at_quiet(int fd);				/* 0: nothing comes for QUIET_MS */
int at_end(int fd);				/* 0: its peer has gone, or has said its FIN */
int alive(int x, int y);			/* 0: a byte can go both ways between x and y, or as a pipe allows */

struct stream {
	int fd;
	uint64_t seed, pos, len;	/* in: from pos, len bytes; SPL_ALL: to the end, or to stop */
	size_t chunk;			/* in: largest write or read, random up to it */
	bool fin;			/* in: sender: shut down after the last byte */
	unsigned int pause_us;		/* in: sender: now and then a pause up to this long */
	int patience_ms;		/* in: give up after so long without a byte; 0: WAIT_MS */
	volatile bool stop;		/* in: sender: no more */
	volatile uint64_t done;		/* out: bytes moved */
	volatile pid_t tid;		/* out: the thread that does it */
	int err;			/* out: 0 or -errno */
	pthread_t thread;
};
int stream_send(struct stream *st);		/* starts a thread; stream_join() ends it */
int stream_recv(struct stream *st);
int stream_stuck(const struct stream *st, unsigned int ms);	/* until it has moved, and then not for so long */
int stream_join(struct stream *st);		/* err */

/* the engine */
int engine_open(struct spl **s, enum spl_engine engine);
int engine_open_with(struct spl **s, enum spl_engine engine, uint32_t require);
int64_t take_residue(struct spl *s, uint64_t token, uint64_t seed, uint64_t pos);	/* verified; count */
/* What a flow took and did not deliver, then what is still on the source: verified, together len. */
int take_back(struct spl *s, uint64_t token, int source, uint64_t seed, uint64_t pos, uint64_t len);
int event_of(struct spl *s, uint64_t token, struct spl_event *ev);	/* waits for it */
int wait_moved(struct spl *s, uint64_t token, uint64_t bytes);	/* until the operation has moved so many */
int no_event(struct spl *s);			/* 0: none comes for QUIET_MS */
#define OPTS(...) (&(struct spl_opts){ .sz = sizeof(struct spl_opts), __VA_ARGS__ })

/* the machine */
int sysctl_get(const char *name, long *value);	/* name as a path below /proc/sys */
int sysctl_set(const char *name, long value);
int drop_privileges(void);			/* becomes nobody, for good */
int reap(pid_t pid);				/* exit status, -ETIMEDOUT (killed then) */

#define need_cap(s, cap)						\
	do {								\
		if (!(spl_caps(s) & (cap)))				\
			SKIP(return, "engine %s does not promise " #cap,	\
			     spl_engine_name(spl_engine(s)));		\
	} while (0)

#endif /* SELFTESTS_UTIL_H */
