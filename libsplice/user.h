/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/*
 * Private to the user engine: its objects, and an index of the functions shared between its
 * files, under the name of the file that holds them.
 *
 * An operation has one flow, or two if it is a pair; a flow reads one user_sock and writes another;
 * a user_sock is one file, watched once, whichever of its halves are in use. All belong to one context
 * and its thread, but for the table of busy ends, which is the process's (user_busy.c).
 */
#ifndef SPL_USER_H
#define SPL_USER_H

#include <netinet/in.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "engine.h"

#define USER_BUFFER	65536	/* bytes of one recv */

enum user_half { USER_RX = 1 << 0, USER_TX = 1 << 1 };

enum user_kind {
	USER_TCP,
	USER_UNIX,
	USER_STREAM,		/* another kind of stream socket */
	USER_PIPE,
};

/* What epoll, edge-triggered, has said of a file and no call has refuted yet. */
enum user_ready {
	USER_READABLE	= 1 << 0,
	USER_WRITABLE	= 1 << 1,
	USER_HUP	= 1 << 2,	/* the end is near: only EAGAIN or 0 proves the source empty */
	USER_ERROR	= 1 << 3,
};

struct user_flow;

/* A file of which at least one half is an end. */
struct user_sock {
	struct user_sock *chain;	/* in the table of busy ends, by inode; later in user->dead */
	struct user *user;
	dev_t dev;
	ino_t ino;
	int fd;				/* the caller's, until user_sock_hold() makes it ours */
	uint8_t kind, ready, halves;
	bool held : 1;			/* fd is our duplicate, in the epoll set */
	bool connecting : 1;
	bool was_reset : 1;
	bool plain : 1;			/* its options are those of a new socket */
	bool nagle : 1;			/* as sink: TCP_NODELAY was not looked at yet */
	bool first : 1;			/* nothing is unacknowledged: Nagle lets the next write pass */
	/* what we changed for the time being */
	bool nodelay : 1;
	bool uncorked : 1;
	bool unpeeked : 1;		/* SO_PEEK_OFF was peek_off */
	bool pure : 1;			/* TCP's alone: in nobody's sockmap */
	bool both : 1;			/* a FIFO opened for both: one file, two entries */
	/* on the engine sockmap */
	bool learned : 1;		/* redirected bytes may come, which splice() and FIONREAD do not see */
	bool hops : 1;			/* its sends may be redirected */
	bool retried : 1;		/* a send failed for no lasting reason */
	uint8_t late : 3;		/* its peer, on this host, was not learned: it is looked for at so many writes more */
	/* under busy.lock, while others may use the file */
	uint8_t nonblock;		/* O_NONBLOCK was not set */
	uint8_t shut;			/* its peer was told the end */
	int lent;			/* the caller's descriptor, once held */
	int peek_off;
	int lowat;			/* SO_RCVLOWAT before; 0: as it was */
	uint32_t room;			/* of one that hops: bytes until the peer is looked at again */
	uint32_t wait;			/* until its peer has read some of that: place in user->waits, from 1; 0: not there */
	_Atomic int error;		/* that a call has taken from the socket, where nobody else will see it */
	struct user_flow *rx, *tx;
	struct user_tls *tls;		/* NULL: not kTLS */
};

struct user_pipe {
	SLIST_ENTRY(user_pipe) free;
	int fd[2];
	size_t size, len;		/* bytes it may hold, and holds */
};

/* What is known of a descriptor that is to be an end. */
enum user_how {
	USER_MAY_CONNECT = 1 << 0,	/* it need not be connected yet */
	USER_PLAIN	 = 1 << 1,	/* a new socket, on which nothing was set */
};

/* Why the pump stopped. */
enum user_verdict {
	USER_MORE,			/* its share is used up */
	USER_WANTS_READ,
	USER_WANTS_WRITE,
	USER_OVER,			/* the flow has come to an end, or its operation has */
};

/* One direction. */
struct user_flow {
	struct user_op *op;
	struct user_sock *src, *dst;	/* src is NULL for a send */
	TAILQ_ENTRY(user_flow) run;
	struct spl_bytes *out;		/* to be sent before anything else is read */
	struct user_pipe *pipe;		/* with bytes that the sink did not take yet; else NULL */
	uint64_t bytes, left;
	uint64_t sender;		/* cookie of the socket whose bytes may bypass us; 0: none */
	uint64_t crossed;		/* so many of bytes have */
	uint8_t stalled;		/* enum spl_wants, for spl_stat() */
	uint8_t streak;			/* full reads in a row; in bulk, small ones */
	struct sockmap_flow *kernel;	/* moves the bytes; NULL: the engine does */
	uint8_t matched;		/* bytes of the delimiter that the last vetted bytes end with */
	uint32_t vetted;		/* of the source's next bytes: looked at, and part of the flow */
	bool counted : 1;		/* out came from the source */
	bool queued : 1;		/* to be run */
	bool bulk : 1;			/* through a pipe */
	bool shut : 1;			/* we have shut the sink down */
	bool over : 1;			/* end of stream, all delivered and passed on */
	bool eof : 1;			/* the source is at its end */
	bool closing : 1;		/* which the sink will be told as soon as it can be */
	bool found : 1;			/* the vetted bytes end with the delimiter */
	bool delimited : 1;		/* it has passed */
	bool held : 1;			/* what bypasses us must not, for we may have bytes */
	bool offered : 1;		/* to the kernel, where op->kernel */
};

enum user_phase { USER_CONNECTING, USER_RUNNING, USER_SUFFIX, USER_DRAINING, USER_LEAVING, USER_ENDED };

struct user_op {
	struct spl_op *public;		/* NULL: leaving, and the event has been collected */
	TAILQ_ENTRY(user_op) done;	/* ended: its event waits for user_collect(); leaving, after that */
	struct user_timer {
		uint64_t due;		/* CLOCK_MONOTONIC, ms */
		uint32_t place;		/* in user->timers, from 1; 0: not there */
	} timer;
	void *record;			/* of u->book; NULL: none */
	uint64_t began, moved;		/* ms; moved: when a byte last did */
	uint64_t user_data;
	struct spl_bytes *suffix;
	uint32_t idle_ms, flags;
	uint32_t lead;			/* of a send: bytes of the prefix */
	uint8_t kind, phase, flows;
	uint8_t cause;			/* once it is known: SUFFIX, DRAINING */
	uint8_t delim_len;
	uint8_t drain_ms;		/* how long until the next look, while draining or closing */
	uint32_t unacked;		/* at the last look */
	bool owns : 1;			/* a splice */
	bool handed_back : 1;		/* reclaimed: the sockets live on */
	bool timed : 1;			/* a timer is reserved */
	bool prefixed : 1;		/* a prefix has been sent within the first attempt */
	bool our_failure : 1;		/* neither end failed, we cannot go on */
	bool intact : 1;		/* what comes next is nothing for a sink: kept ends go on as they are */
	bool peek : 1;			/* bytes that are copied stay on the source until the sink has them */
	bool pipes : 1;			/* and pipes may be used */
	bool bypassed : 1;		/* perhaps, by some bytes */
	bool kernel : 1;		/* the kernel may move its bytes */
	unsigned char delim[SPL_DELIM_MAX];
	struct spl_event ev;
	struct user_flow flow[];
};

TAILQ_HEAD(user_flows, user_flow);
TAILQ_HEAD(user_ops, user_op);
SLIST_HEAD(user_pipes, user_pipe);

/* What another engine does besides. */
struct user_hop {
	void (*begin)(struct user_sock *sock, unsigned int halves);
	void (*end)(struct user_sock *sock);	/* of one that hops */
	void (*again)(struct user_sock *sock);	/* of one that is late: it is going to be written to */
	/* of one that hops: what of it may be sent, in so many messages at most; 0: tick() tells when */
	size_t (*room)(struct user_sock *sock, size_t len, size_t msgs);
	ssize_t (*failed)(struct user_sock *sock, ssize_t n);	/* a send of one that hops; 0: try again, else how it failed */
	void (*tick)(struct user *u);
};

/* Of a pair without a limit, whose bytes may go without us. */
struct user_bypass {
	void (*begin)(struct user_op *op);
	bool (*hold)(struct user_flow *flow, bool held);	/* nothing is to overtake what it takes; false: as before */
	void (*look)(struct user_op *op);	/* brings its figures up to date */
	void (*end)(struct user_op *op);	/* they are final, and nothing bypasses us any more */
};

/* Has the kernel move the bytes of a flow. */
struct user_mover {
	int (*admit)(struct user *u, struct user_op *op);	/* its ends are attached; sets op->kernel, or refuses */
	enum user_verdict (*run)(struct user *u, struct user_flow *flow);	/* or the engine is to, if flow->kernel is NULL then */
	uint64_t (*look)(struct user *u, struct user_flow *flow);	/* brings its figures up to date; what waits for the sink */
	bool (*leave)(struct user *u, struct user_flow *flow);	/* takes nothing more; false: some waits still, try again */
	void (*drop)(struct user *u, struct user_flow *flow, bool inherited);	/* at once */
	int (*error)(int fd);			/* takes its error, or 0, while the kernel sends there */
};

/* Writes down which splices there are, for others to read. */
struct user_book {
	void (*add)(struct user *u, struct user_op *op);	/* may set op->record */
	void (*note)(struct user_op *op);			/* of one with a record, as do the rest */
	void (*remove)(struct user *u, struct user_op *op);
};

struct user {
	struct spl *spl;
	const struct user_hop *hop;	/* NULL: on the engine user */
	const struct user_bypass *bypass;	/* NULL: nobody asked for it */
	const struct user_mover *mover;	/* NULL: nobody but the engine moves anything */
	const struct user_book *book;	/* NULL: there is none */
	struct sockmap_attachment *attachment;
	struct sockmap_ports *ports;
	struct sockmap_waits *waits;
	bool splices;			/* into a socket that hops, too */
	int epoll;
	int asked_for;			/* the caller's descriptor, for the sentence of a refusal */
	pid_t pid;			/* whose context it is: a child has a copy that must not touch the files */
	int timerfd;			/* -1 as long as nothing was ever timed */
	uint64_t alarm;			/* what timerfd is set to, ms; 0: not set */
	uint64_t now;			/* ms, as of the beginning of this round */
	size_t watched;			/* files in the epoll set */
	size_t full;			/* full rounds until all that was ready has been seen */
	struct user_flows run;
	size_t runs;			/* flows in it */
	struct user_ops done;
	struct user_ops leaving;	/* of no concern to anybody but their sinks */
	struct user_sock *dead;		/* freed when no event of this round can name them */
	struct user_pipes pipes;
	unsigned int pipes_free;
	struct user_op **timers;	/* heap, the earliest at 1 */
	uint32_t timers_len, timers_room, timers_reserved;
	struct {
		bool on;		/* SIGPIPE is blocked by us, until the end of the round */
		bool raised;		/* and we have raised it */
		bool before;		/* it was blocked by the program already */
		bool pending;		/* and pending */
	} hush;
	struct user_pipe *scratch;	/* for looking into a pipe without taking from it */
	unsigned char buf[USER_BUFFER];
};

/* user_busy.c */
void user_busy_opened(void);
void user_busy_closed(void);
int user_busy_take(struct user *u, int fd, unsigned int halves, struct user_sock **out);
int user_busy_check_file(struct user *u, int fd, int r);
void user_busy_note(struct user_sock *sock, int error);
void user_busy_note_shut(struct user_sock *sock);
bool user_busy_written(const struct user_sock *sock);
bool user_busy_same(const struct user_sock *sock, int fd);
void user_busy_release(struct user_sock *sock, unsigned int halves);

/* engine_user.c */
int user_open(struct spl *s);
void user_close(struct spl *s);

/* engine_sockmap.c */
int sockmap_open(struct spl *s);
void sockmap_close(struct spl *s);

/* user_sock.c */
bool user_sock_address(int fd, bool local, struct sockaddr_in6 *out);
int user_sock_admit(struct user_sock *sock, unsigned int half, unsigned int how);
int user_sock_mirror(struct user *u, struct user_sock *source, struct user_sock *sink);
short user_sock_poll(const struct user_sock *sock, short events);
bool user_sock_source_over(struct user_sock *sock);
bool user_sock_sink_over(const struct user_sock *sock);
int user_sock_hold(struct user_sock *sock);
bool user_sock_over(const struct user_sock *sock);
int user_sock_error(struct user_sock *sock);
int user_sock_connected(struct user_sock *sock);
uint32_t user_sock_unacked(const struct user_sock *sock, bool shut);
int user_sock_shutdown(struct user_sock *sock);
void user_sock_reset(struct user_sock *sock, bool stays);
int user_sock_dup(const struct user_sock *sock);
void user_sock_forget(struct user_sock *sock, unsigned int halves);
void user_sock_put(struct user_sock *sock, unsigned int halves, bool close_for_good);

/* user_option.c */
int user_option_get(int fd, int level, int name);
bool user_option_set(int fd, int level, int name, int value);
void user_option_prepare(struct user_sock *source, struct user_sock *sink, bool peek);
void user_option_unnagle(struct user_sock *sock);
bool user_option_nonblock(struct user_sock *sock, bool make);
void user_option_block(struct user_sock *sock);
void user_option_restore(struct user_sock *sock, unsigned int halves);

/* user_unix.c */
bool user_unix_mirror(const struct user_sock *a, const struct user_sock *b);

/* user_tls.c */
int user_tls_find(struct user_sock *sock);
const char *user_tls_admit(struct user_sock *sock, unsigned int half);
ssize_t user_tls_head(struct user *u, struct user_sock *sock, bool private);
bool user_tls_closed(const struct user_sock *sock);
bool user_tls_readable(struct user_sock *sock);
void user_tls_sent(struct user_sock *sock, size_t n);
bool user_tls_settled(struct user_sock *sock);
int user_tls_finish(struct user_sock *sock);

/* user_io.c */
ssize_t user_io_read(struct user_sock *sock, void *buf, size_t len);
ssize_t user_io_recvmsg(struct user_sock *sock, struct msghdr *msg, int flags);
ssize_t user_io_peek(struct user *u, struct user_sock *sock, size_t len);
int user_io_consume(struct user *u, struct user_sock *sock, size_t len);
ssize_t user_io_look(struct user_sock *sock);
bool user_io_is_pure(struct user_sock *sock);
ssize_t user_io_write(struct user_sock *sock, const void *buf, size_t len);
ssize_t user_io_sendmsg(struct user_sock *sock, struct msghdr *msg);
ssize_t user_io_splice_in(struct user_sock *from, struct user_pipe *to, size_t len);
ssize_t user_io_splice_out(struct user_pipe *from, struct user_sock *to);
void user_io_hush(struct user *u);
void user_io_unhush(struct user *u);

/* user_rights.c */
ssize_t user_rights_peek(struct user_sock *sock, void *buf, size_t len);

/* user_pipe.c */
struct user_pipe *user_pipe_get(struct user *u);
void user_pipe_put(struct user *u, struct user_pipe *p);
void user_pipe_free_all(struct user *u);

/* user_delim.c */
size_t user_delim_find(const struct user_op *op, unsigned int *matched, const unsigned char *p, size_t len,
		       bool *found);

/* user_stall.c */
enum user_verdict user_stall_empty(struct user_flow *flow);
enum user_verdict user_stall_full(struct user_flow *flow);
enum user_verdict user_stall_short(struct user_flow *flow);
bool user_stall_proven(struct user_sock *src);
enum user_verdict user_stall_read(struct user *u, struct user_flow *flow, ssize_t n, size_t *share);
enum user_verdict user_stall_write(struct user *u, struct user_flow *flow, ssize_t n);

/* user_flow.c */
struct spl_bytes *user_bytes_new(size_t len);
void user_flow_queue(struct user *u, struct user_flow *flow);
void user_flow_unqueue(struct user *u, struct user_flow *flow);
enum user_verdict user_flow_run(struct user *u, struct user_flow *flow);
bool user_flow_holds(const struct user_flow *flow);
struct spl_bytes *user_flow_release(struct user *u, struct user_flow *flow);

/* user_op.c */
int user_op_new(struct user *u, const struct spl_request *req, struct user_op **out);
void user_op_free(struct user *u, struct user_op *op);
int user_op_take_end(struct user *u, int fd, unsigned int halves, unsigned int how, struct user_sock **out);
int user_op_attach(struct user *u, struct user_op *op, const struct spl_request *req);
void user_op_detach(struct user_op *op, bool close_for_good);
void user_op_disown(struct user *u, struct user_op *op);

/* user_phase.c */
int user_phase_begin(struct user *u, struct user_op *op);
void user_phase_connected(struct user *u, struct user_op *op);
void user_phase_source_broke(struct user *u, struct user_flow *flow);
void user_phase_eof(struct user *u, struct user_flow *flow);
void user_phase_finish(struct user *u, struct user_op *op, enum spl_cause cause);
void user_phase_fail(struct user *u, struct user_op *op, const struct user_sock *end, int error);
void user_phase_balk(struct user *u, struct user_flow *flow, int error);
void user_phase_end(struct user *u, struct user_op *op, enum spl_cause cause, int error);
void user_phase_suffixed(struct user *u, struct user_op *op);
void user_phase_describe(struct user_op *op, enum spl_cause cause, int error, bool resetting);
void user_phase_release(struct user *u, struct user_op *op);
void user_phase_drop(struct user *u, struct user_op *op);
void user_phase_reset(struct user_op *op);
void user_phase_look_later(struct user *u, struct user_op *op);
void user_phase_timed(struct user *u, struct user_op *op);
void user_phase_look_by(struct user *u, struct user_op *op, uint64_t due);

/* user_leave.c */
void user_leave(struct user *u, struct user_op *op);
void user_leave_timed(struct user *u, struct user_op *op);
void user_leave_all(struct user *u);
bool user_leave_kernel(struct user *u, struct user_op *op);

/* user_timer.c */
uint64_t user_timer_now(void);
int user_timer_reserve(struct user *u);
void user_timer_unreserve(struct user *u);
void user_timer_set(struct user *u, struct user_op *op, uint64_t due);
void user_timer_stop(struct user *u, struct user_op *op);
void user_timer_run(struct user *u);
void user_timer_arm(struct user *u);

#endif /* SPL_USER_H */
