/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Private header of the module: its objects, who may touch which member under what lock, and an
 * index of the functions of each file.
 *
 * Words. An *end* is one half of a socket: the readable half is a source, the writable half a
 * sink. A *flow* moves bytes from one source to one sink. An *operation* (op) is what the user
 * started and what gets one token and one completion: one flow, or two for a pair. A send is one
 * flow without a source: its bytes come with it.
 *
 * Locks, outermost first. A letter after a member says what protects it.
 *   owner->lock (w)  spinlock, BH: an owner's lists
 *   slock of a socket (s)  always with BH off and the socket not owned by a user. Two are held
 *       only by the pump: the inline path holds the source's (the receive path took it) and only
 *       tries the sink's; the worker takes both in the order of their addresses. So nobody who
 *       waits for one of ours holds another out of order.
 *   sk_callback_lock  write-held only to set or clear sk_user_data
 *   sksplice_sock->lock (k)  spinlock, IRQ, inside any slock: sk_error_report comes from transmit
 *       completions too, which hold nothing
 *   op->lock (o)  spinlock, BH: how an operation ended. Nothing of ours is taken inside it.
 *   op->generic->mutex  outside of all that are named here: a run of a generic flow
 *   users_lock  spinlock, BH, leaf: the table of users
 *   op_naming, ops_lock  mutexes of op.c and ops.c, taken by a request that holds none of these
 *   sksplice_runners.lock  spinlock, IRQ, nothing of ours inside: flows that wait for a runner
 * Other letters:
 *   c  constant from creation to the last reference
 *   u  user->lock, spinlock, BH: generic flows that wait for their turn
 *   S  the slocks of both sockets of the operation, which each run of any of its flows holds; of
 *      a generic one its mutex instead
 *   r  READ_ONCE/WRITE_ONCE, one writer (under the lock that follows), any reader
 *   a  atomic
 * What calls lock_sock(), where a user can keep one waiting for ever, are tcp_abort() in teardown.c and
 * the families' calls in generic runs; nobody waits for these.
 */
#ifndef _SKSPLICE_H
#define _SKSPLICE_H

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "uapi/sksplice.h"
#include "stats.h"

struct sksplice_op;
struct sksplice_flow;
struct sksplice_sock;
struct sksplice_framer;

/*
 * A kind of socket, as the generic way sees it; see proto.c. Calls sleep, in a run of the flow;
 * but for admit and drained, with the slock, and settled, a hint without it.
 */
struct sksplice_proto {
	bool tcp;	/* there is a tcp_sock: sequence numbers, Nagle, keepalive, resets */
	bool callbacks;	/* plain TCP: ours stand in for the socket's; else we wait as any reader would */
	int (*admit)(struct socket *sock, int want, const char **why);
	/* bytes that are left where they are; 0: end of stream; -EAGAIN; or why no more will come */
	ssize_t (*peek)(struct sksplice_flow *flow, void *buf, size_t len);
	/* what is behind @len bytes, all there are: 0: end; -errno; 1: nothing; or NULL */
	int (*behind)(struct sksplice_flow *flow, void *buf, size_t len);
	ssize_t (*send)(struct sksplice_flow *flow, const void *buf, size_t len);	/* NULL: plainly */
	int (*finish)(struct sksplice_flow *flow);	/* what goes before the FIN; -EAGAIN; or NULL */
	bool (*settled)(const struct sock *sk);		/* holds nothing of what it accepted; or NULL */
	bool (*drained)(const struct sock *sk);		/* holds nothing to read; or NULL */
	int (*broken)(const struct sksplice_sock *ss);	/* why a source will not come to its end; or NULL */
};

/*
 * One socket that was taken over: what was replaced in it, and the flows that use its halves.
 * Hangs on sk_user_data from the first flow to the last; freed by RCU, since the callbacks reach
 * it without our locks. The files that keep the socket alive are held by the operations. An idle
 * pair has two: 128 bytes each, as long as nothing is added.
 */
struct sksplice_sock {
	struct sock *sk;				/* c */
	struct socket *sock;				/* c */
	refcount_t refs;
	spinlock_t lock;			/* k: for callbacks that come without the slock */
	struct sksplice_flow *rx;			/* s+k: the flow that this socket is the source of */
	struct sksplice_flow *tx;			/* s+k: the flow that it is the sink of */
	int err;					/* r(s): the last hard error reported */
	bool keepalive;					/* s: switched on by us */
	union {
		struct {
			int rcvlowat;			/* s: saved for rx */
			int peek_off;			/* s: saved for rx */
			gfp_t allocation;		/* s: saved for tx */
			u8 nonagle;			/* s: saved for tx */
			bool use_task_frag;		/* s: saved for tx */
		};
		struct rcu_head rcu;			/* after the last reference: see sock_put() */
	};
	const struct sksplice_ops *ops;			/* c: tables for the original proto_ops */
	const struct proto_ops *table;			/* s: the one that we put there last */
	const struct sksplice_proto *proto;		/* c */
	union {
		struct {				/* proto->callbacks: those saved */
			void (*data_ready)(struct sock *sk);	/* c */
			void (*write_space)(struct sock *sk);	/* c */
			void (*state_change)(struct sock *sk);	/* c */
			void (*error_report)(struct sock *sk);	/* c */
		};
		wait_queue_entry_t wait;		/* c: else we wait as any reader would */
	};
};

/* Bits of flow->run. The source's slock serialises runs, so "running" needs no bit of its own. */
enum sksplice_run_bit {
	SKSPLICE_RUN_KICKED,	/* the worker or a runner is queued at once; more kicks need do nothing */
	SKSPLICE_RUN_BLOCKED,	/* the sink was full: arrivals need not try before it has room */
	SKSPLICE_RUN_AGAIN,	/* wants a run when this one is over; generic: when the other flow's is */
	SKSPLICE_RUN_STREAM,	/* a runner had it: teardown must ask there, too */
	SKSPLICE_RUN_NOW,	/* a runner has it; under the runners' lock */
	SKSPLICE_RUN_QUEUED,	/* the worker was queued, some time: teardown must ask there */
};

/*
 * One direction. States and transitions, all in flow.c:
 *   CLOSING  not begun: both ends are taken, or being taken, no byte may move
 *   IDLE -> RUNNING -> IDLE | BLOCKED    in each run of the pump
 *   BLOCKED -> RUNNING                   room in the sink
 *   any -> DONE                          end of stream, limit, failure, or the operation ends
 *   any -> BLOCKED                       all is sent, the operation waits for acknowledgments
 */
struct sksplice_flow {
	struct sksplice_op *op;				/* c */
	struct sksplice_sock *src;			/* c from attach to release; a reference; of a send dst */
	struct sksplice_sock *dst;			/* c from attach to release; a reference */
	unsigned long run;				/* a: bits SKSPLICE_RUN_* */
	enum sksplice_state state;			/* r(s of src) */
	u32 copied_seq;					/* s of src: where we left the source */
	u32 write_seq;					/* s of dst: where we left the sink */
	u32 reply_seq;					/* s of src: the source's own write_seq then */
	bool back;					/* c: second flow of a pair */
	u8 streak;					/* r(s of src): see pump.c */
	u8 retries;					/* r: lossy; who runs it out of line */
	bool eof;					/* r(S): generic: the source's end was seen */
	bool notified;					/* S: generic: the sink was told of it in its own way */
	struct sksplice_extra *extra;			/* c until release; the operation's, mostly NULL */
	u64 bytes;					/* r(s of src): accepted by the sink */
	u64 left;					/* s of src: until the limit; of records see framer.c */
	u64 runs_inline;				/* r(s of src) */
	u64 runs_worker;				/* r(s of src) */
	u64 missed;					/* r: lossy */
	struct delayed_work work;
	struct list_head ready;				/* the runners' lock: see runner.c */
};

/* How far an operation with more to it than moving bytes has come; see extra.c. */
enum sksplice_phase {
	SKSPLICE_PHASE_CONNECTING,	/* the sink is not connected yet, nothing moves */
	SKSPLICE_PHASE_RUNNING,		/* the prefix, the bytes of a send, bytes from the source */
	SKSPLICE_PHASE_SUFFIX,		/* no byte of a source will move, the suffix is not sent */
	SKSPLICE_PHASE_DRAINING,	/* all is sent, not all of it is acknowledged */
};

/* Bytes of the operation itself, to be sent; the memory is charged to who asked for it. */
struct sksplice_insert {
	u8 *bytes;					/* S; NULL: there are none, or none any more */
	size_t len;					/* c */
	size_t off;					/* S: accepted by the sink */
};

/* What most operations do without. Its bytes are 192 KiB at most. */
struct sksplice_extra {
	enum sksplice_phase phase;			/* r(S) */
	enum sksplice_cause cause;			/* S: of SUFFIX and DRAINING, how it will end */
	u32 owed;					/* S until DRAINING, then op work: unacknowledged */
	struct sksplice_insert first;			/* prefix, and the bytes of a send */
	struct sksplice_insert last;			/* suffix */
	size_t uncounted;				/* c: bytes of first that are the prefix */
	bool fresh;					/* S: the sink was taken in SYN_SENT */
	u8 delim_len;					/* c: 0: none */
	u8 matched;					/* S: bytes of it that the last accepted ones are */
	u8 matching;					/* S: the same after the batch */
	u8 delim[SKSPLICE_DELIM_MAX];			/* c */
	struct sksplice_framer *framer;			/* c: NULL: none; its own */
};

/* Of a flow whose user has all his generic runs, or had. */
struct sksplice_turn {
	struct list_head node;				/* u: on user->waiting */
	struct sksplice_flow *flow;			/* c */
	bool come;					/* u */
};

/* What operations have whose ends are not both plain TCP; see generic.c. */
struct sksplice_generic {
	struct mutex mutex;
	struct pid *tgid;				/* c: who began it; a reference */
	kuid_t uid;					/* c */
	kgid_t gid;					/* c */
	struct task_struct *worker;			/* r(S): in a run; to be compared only */
	const struct sksplice_flow *last;		/* S: all is sent, only what it sent goes out */
	struct sksplice_turn turn[2];			/* until phase two: of flow[] */
};

/* What a completion tells besides the bytes, which the flows have counted. */
struct sksplice_event {
	enum sksplice_cause cause;
	u32 error;
	u32 ended;
	u32 unacked;
};

struct sksplice_op {
	u64 token;					/* c */
	u64 user_data;					/* c */
	enum sksplice_kind kind;			/* c */
	u32 flags;					/* c: SKSPLICE_F_* */
	u32 idle_ms;					/* c */
	u32 pid;					/* c */
	refcount_t refs;
	spinlock_t lock;
	unsigned int units;				/* c until phase three: what counts against a limit */
	u8 nr_flows;					/* c: 1, or 2 for a pair */
	u8 retries;					/* op work only */
	u8 detached;					/* creator until begun, then op work: sockets given back */
	bool resetting;					/* op work only: moved to the queue for resets */
	bool begun;					/* o: teardown may be queued */
	bool ending;					/* r(o): somebody said how it ends */
	bool reclaim;					/* o: the files go to a reclaimer */
	bool abandoned;					/* c: failed to begin; nothing happened */
	bool orphan;					/* r(w): owner is gone */
	bool gone;					/* r: released, no kernel state is left: op_gone() */
	struct net *net;				/* c: of the source; a reference until release */
	struct sksplice_generic *generic;		/* c until release; NULL: all is plain TCP */
	struct sksplice_user *user;			/* c: whose limit it counts against */
	struct sksplice_owner *owner;			/* who gets the completion; may be dead; see adopt.c */
	struct file *file[2];				/* o: 0 source, NULL of a send, 1 sink; NULL once released */
	struct list_head owner_node;			/* w: on owner->ops, then on owner->events */
	union {
		struct list_head bury_node;		/* owner_orphan() only, which has a reference */
		struct llist_node soon_node;		/* lazy pairs, which that leaves alone: teardown_soon() */
		struct rcu_head rcu;			/* after the last reference */
	};
	unsigned long started;				/* c: jiffies */
	unsigned long moved;				/* r: jiffies when a byte last moved, or was acknowledged */
	struct sksplice_event event;			/* o until ending, then op work only */
	struct delayed_work work;			/* idle limit, then teardown */
	struct sksplice_flow flow[];			/* nr_flows; see op_init() */
};

/* A netlink socket that gets completions. */
struct sksplice_owner {
	u32 id;						/* c */
	u32 portid;					/* c */
	kuid_t uid;					/* c */
	struct user_namespace *user_ns;			/* c: held */
	struct sock *sk;				/* c: held */
	refcount_t refs;
	spinlock_t lock;
	bool dead;					/* w */
	u8 retries;					/* w, or one delivery */
	struct list_head ops;				/* w: live operations */
	struct list_head events;			/* w: ended, not delivered; each holds its op */
	struct delayed_work work;			/* delivers what did not fit */
	struct llist_head soon;				/* lazy pairs that have ended; see teardown_soon() */
	struct delayed_work soon_work;			/* tears these down; has a reference */
	struct rcu_head rcu;
};

/* A refusal: the errno, and the sentence for extack. */
#define SKSPLICE_REFUSE(why, err, text) ({ *(why) = (text); (err); })

/* How a run of the pump ended. */
enum sksplice_verdict {
	SKSPLICE_EMPTY,		/* nothing to read now */
	SKSPLICE_FULL,		/* the sink has no room: BLOCKED is set */
	SKSPLICE_MORE,		/* the budget is spent, there is more to move */
	SKSPLICE_NOMEM,		/* no memory to send with: nothing will wake us, try later */
	SKSPLICE_MISSED,	/* a socket was locked or owned: try later */
	SKSPLICE_STOPPED,	/* the flow is over, or has not begun */
	SKSPLICE_DEFER,		/* inline only: what comes next is the worker's */
	SKSPLICE_GO,		/* inside a run only: it goes on */
};

static inline struct sock *sksplice_src(const struct sksplice_flow *flow)
{
	return flow->src->sk;
}

static inline struct sock *sksplice_dst(const struct sksplice_flow *flow)
{
	return flow->dst->sk;
}

/* The precondition of most of what touches a socket. */
static inline void sksplice_assert_slock(const struct sock *sk)
{
	lockdep_assert_held(&sk->sk_lock.slock);
	WARN_ON_ONCE(sk->sk_lock.owned);
}

/* Both slocks held, or the mutex: the precondition of all that a run does. */
static inline void sksplice_assert_run(const struct sksplice_flow *flow)
{
	if (flow->op->generic) {
		lockdep_assert_held(&flow->op->generic->mutex);
		return;
	}
	sksplice_assert_slock(sksplice_src(flow));
	sksplice_assert_slock(sksplice_dst(flow));
}

/* main.c */
extern struct workqueue_struct *sksplice_generic_wq;
extern struct workqueue_struct *sksplice_pump_wq, *sksplice_op_wq, *sksplice_reset_wq;

/* op.c */
int sksplice_op_init(void);
struct sksplice_op *sksplice_op_alloc(enum sksplice_kind kind, u64 limit);
int sksplice_op_attach(struct sksplice_op *op, const char **why);
int sksplice_op_name(struct sksplice_op *op);
void sksplice_op_exit(void);
void sksplice_op_start(struct sksplice_op *op);
void sksplice_op_abandon(struct sksplice_op *op);
bool sksplice_op_end(struct sksplice_op *op, enum sksplice_cause cause, int error);
int sksplice_op_reclaim(struct sksplice_op *op, struct file *file[2]);
void sksplice_op_gone(struct sksplice_op *op);
int sksplice_op_wait(struct sksplice_op *op, unsigned long deadline);
struct sksplice_op *sksplice_op_get(u64 token);
struct sksplice_op *sksplice_op_next(unsigned long *token);
void sksplice_op_put(struct sksplice_op *op);
bool sksplice_op_owns(const struct sksplice_op *op);
bool sksplice_op_sends(const struct sksplice_op *op);
bool sksplice_op_closes(const struct sksplice_op *op);
u32 sksplice_op_count(void);
u64 sksplice_op_bytes_back(const struct sksplice_op *op);
u64 sksplice_op_quiet(const struct sksplice_op *op);
void sksplice_op_forget(struct sksplice_op *op);
int sksplice_op_flush(struct net *net, u32 *count);

/* teardown.c */
bool sksplice_teardown_unreach(struct sksplice_op *op);
void sksplice_teardown_soon(struct sksplice_op *op);
void sksplice_teardown_some(struct work_struct *work);
void sksplice_teardown_work(struct work_struct *work);

/* flow.c */
void sksplice_flow_init(struct sksplice_flow *flow, struct sksplice_op *op, u64 limit);
void sksplice_flow_begin(struct sksplice_flow *flow);
void sksplice_flow_run(struct sksplice_flow *flow);
void sksplice_flow_stall(struct sksplice_flow *flow, enum sksplice_verdict v);
void sksplice_flow_moved(struct sksplice_flow *flow, size_t bytes);
enum sksplice_verdict sksplice_flow_eof(struct sksplice_flow *flow);
enum sksplice_verdict sksplice_flow_done(struct sksplice_flow *flow, enum sksplice_cause cause);
enum sksplice_verdict sksplice_flow_end(struct sksplice_flow *flow, enum sksplice_cause cause);
void sksplice_flow_drain(struct sksplice_flow *flow);
void sksplice_flow_fail(struct sksplice_flow *flow, bool source, int error);
void sksplice_flow_stop(struct sksplice_flow *flow);
bool sksplice_flow_live(const struct sksplice_flow *flow);

/* end.c */
bool sksplice_sock_trylock(struct sock *sk);
void sksplice_sock_unlock(struct sock *sk);
void sksplice_sock_put(struct sksplice_sock *ss);
int sksplice_end_attach(struct socket *sock, struct sksplice_flow *rx, struct sksplice_flow *tx,
			const char **why);
bool sksplice_end_detach(struct sksplice_sock *ss, struct sksplice_op *op);
bool sksplice_end_intact(const struct sksplice_sock *ss);
int sksplice_end_writeable(struct socket *sock, const char **why);

/* callback.c */
int sksplice_callback_install(struct sksplice_sock *ss);
void sksplice_callback_uninstall(struct sksplice_sock *ss);

/* ops.c */
enum { SKSPLICE_BUSY_RX = 1 << 0, SKSPLICE_BUSY_TX = 1 << 1 };
const struct sksplice_ops *sksplice_ops_prepare(struct socket *sock);
const struct proto_ops *sksplice_ops_real(const struct sksplice_ops *set);
bool sksplice_ops_ours(const struct socket *sock);
bool sksplice_ops_swap(struct sksplice_sock *ss, int from, int to);
void sksplice_ops_drain(void);

/* pump.c */
void sksplice_pump_kick(struct sksplice_flow *flow);
void sksplice_pump_urge(struct sksplice_flow *flow);
void sksplice_pump_inline(struct sksplice_flow *flow);
void sksplice_pump_turn(struct sksplice_flow *flow);
void sksplice_pump_worker(struct work_struct *work);
void sksplice_pump_now(struct sksplice_flow *flow);

/* runner.c */
int sksplice_runner_init(void);
void sksplice_runner_queue(struct sksplice_flow *flow);
void sksplice_runner_cancel(struct sksplice_flow *flow);
void sksplice_runner_exit(void);

/* tcp.c */
enum sksplice_want {
	SKSPLICE_WANT_RX	= 1 << 0,
	SKSPLICE_WANT_TX	= 1 << 1,
	SKSPLICE_WANT_CONNECTING = 1 << 2,	/* or it is not connected yet */
	SKSPLICE_WANT_ROOM	= 1 << 3,	/* for bytes, if it is connected */
};
void sksplice_tcp_occupy(struct sock *sk, bool take);
int sksplice_tcp_admit(struct socket *sock, int want, const char **why);
int sksplice_tcp_admit_state(struct sock *sk, int want, const char **why);
bool sksplice_tcp_connecting(const struct sock *sk);
int sksplice_tcp_error(const struct sksplice_sock *ss);
int sksplice_tcp_broken(const struct sksplice_sock *ss);
bool sksplice_tcp_mirror(const struct sock *a, const struct sock *b);
bool sksplice_tcp_sink_intruded(const struct sksplice_flow *flow);
bool sksplice_tcp_source_intruded(struct sksplice_flow *flow);
bool sksplice_tcp_source_over(const struct sksplice_sock *ss);
bool sksplice_tcp_sink_over(const struct sksplice_sock *ss);
u32 sksplice_tcp_unacked(const struct sock *sk, u32 end);
enum sksplice_verdict sksplice_tcp_ready(struct sksplice_flow *flow);
enum sksplice_verdict sksplice_tcp_sink_ready(struct sksplice_flow *flow);
enum sksplice_verdict sksplice_tcp_sent(struct sksplice_flow *flow, ssize_t sent, size_t len);
enum sksplice_verdict sksplice_tcp_move(struct sksplice_flow *flow, size_t budget, bool worker);
enum sksplice_verdict sksplice_tcp_pump(struct sksplice_flow *flow, size_t budget, bool worker);

/* extra.c */
int sksplice_extra_new(struct sksplice_op *op, const size_t len[3]);
unsigned int sksplice_extra_units(const struct sksplice_op *op);
void sksplice_extra_free(struct sksplice_op *op);
void sksplice_extra_attached(struct sksplice_flow *flow);
enum sksplice_verdict sksplice_extra_pump(struct sksplice_flow *flow, size_t budget, bool worker);
enum sksplice_verdict sksplice_extra_finish(struct sksplice_flow *flow, enum sksplice_cause cause);
bool sksplice_extra_in(const struct sksplice_op *op, enum sksplice_phase phase);
bool sksplice_extra_drains(struct sksplice_op *op);
void *sksplice_extra_spent(struct sksplice_flow *flow);

/* generic.c */
int sksplice_generic_new(struct sksplice_op *op);
void sksplice_generic_free(struct sksplice_op *op);
enum sksplice_verdict sksplice_generic_sink_ready(struct sksplice_flow *flow);
enum sksplice_verdict sksplice_generic_ready(struct sksplice_flow *flow);
enum sksplice_verdict sksplice_generic_sent(struct sksplice_flow *flow, ssize_t sent, size_t len);
enum sksplice_verdict sksplice_generic_move(struct sksplice_flow *flow, size_t budget);
enum sksplice_verdict sksplice_generic_settle(struct sksplice_flow *flow);
struct sksplice_turn *sksplice_generic_turn(const struct sksplice_flow *flow);
enum sksplice_verdict sksplice_generic_run(struct sksplice_flow *flow, void **spent);
bool sksplice_generic_stop(struct sksplice_op *op);

/* proto.c */
const struct sksplice_proto *sksplice_proto_of(const struct sock *sk);
bool sksplice_proto_fast(const struct sock *sk);
ssize_t sksplice_proto_recv(struct sksplice_sock *ss, struct msghdr *msg, void *buf, size_t len,
			    int flags);
ssize_t sksplice_proto_sendmsg(struct sksplice_sock *ss, struct msghdr *msg, const void *buf,
			       size_t len);
ssize_t sksplice_proto_send(struct sksplice_flow *flow, const void *buf, size_t len);
int sksplice_proto_consume(struct sksplice_sock *ss, size_t len);
int sksplice_proto_finish(struct sksplice_flow *flow);
bool sksplice_proto_settled(const struct sksplice_sock *ss);
int sksplice_proto_sink_broken(const struct sksplice_sock *ss);
int sksplice_proto_source_broken(const struct sksplice_sock *ss);
bool sksplice_proto_source_over(const struct sksplice_sock *ss);
bool sksplice_proto_ended(const struct sksplice_sock *ss);
bool sksplice_proto_sink_over(const struct sksplice_sock *ss);
u32 sksplice_proto_unacked(const struct sksplice_flow *flow);
bool sksplice_proto_mirror(const struct sock *a, const struct sock *b);
void sksplice_proto_abort(struct sksplice_sock *ss, int error);

/* unix.c, tls.c, vsock.c */
extern const struct sksplice_proto sksplice_proto_unix, sksplice_proto_tls, sksplice_proto_vsock;
bool sksplice_tls_is(const struct sock *sk);
bool sksplice_vsock_ended(const struct sock *sk);
bool sksplice_vsock_mirror(const struct sock *a, const struct sock *b);
size_t sksplice_vsock_addr(const struct sock *sk, struct sockaddr_storage *ss, bool local);

/* gather.c */
struct sksplice_batch;
void sksplice_gather(struct sksplice_flow *flow, struct sksplice_batch *batch, size_t max);
int sksplice_gather_copy(struct sock *sk, size_t skip, u8 *to, size_t max);

/* delim.c */
size_t sksplice_delim_find(struct sksplice_extra *x, const u8 *p, size_t len);
void sksplice_delim_took(struct sksplice_extra *x, const u8 *p, size_t sent, size_t len);
bool sksplice_delim_met(const struct sksplice_extra *x);
void sksplice_delim_cut(struct sksplice_extra *x, struct sksplice_batch *batch);
bool sksplice_delim_passed(struct sksplice_extra *x, const struct sksplice_batch *batch,
			   size_t sent);

/* framer.c */
#define SKSPLICE_FRAMER_WINDOW 256	/* what a program gets to see of a record */
struct sksplice_framer *sksplice_framer_new(u32 fd, u64 records, const char **why);
void sksplice_framer_free(struct sksplice_framer *framer);
enum sksplice_verdict sksplice_framer_cut(struct sksplice_flow *flow,
					  struct sksplice_batch *batch);
enum sksplice_verdict sksplice_framer_cut_bytes(struct sksplice_flow *flow, const u8 *bytes,
						size_t *len);
void sksplice_framer_passed(struct sksplice_flow *flow, size_t sent);

/* send.c */
void sksplice_send_exit(void);
ssize_t sksplice_tcp_send_bytes(struct sock *sk, const void *data, size_t len);
ssize_t sksplice_tcp_send(struct sock *sk, struct sksplice_batch *batch, bool more);

/* event.c */
int sksplice_owner_new(struct sock *sk, u32 portid, u32 *id);
struct sksplice_owner *sksplice_owner_get(u32 id);
void sksplice_owner_put(struct sksplice_owner *owner);
u32 sksplice_owner_count(void);
int sksplice_owner_add(struct sksplice_owner *owner, struct sksplice_op *op);
bool sksplice_owner_is_dead(const struct sksplice_owner *owner);
void sksplice_owner_remove(struct sksplice_op *op);
void sksplice_event_start(struct sksplice_op *op);
#define SKSPLICE_DELIVER_MAX 16		/* completions in a message */

bool sksplice_event_add(struct sksplice_op *op);
void sksplice_event_deliver(struct sksplice_owner *owner);
struct sksplice_op *sksplice_event_take(struct sksplice_owner *owner);
void sksplice_event_later(struct sksplice_owner *owner);
void sksplice_event_untake(struct sksplice_owner *owner, struct sksplice_op *op);
int sksplice_event_init(void);
void sksplice_event_exit(void);

/* netlink_new.c */
int sksplice_nl_op_new_doit(struct sk_buff *skb, struct genl_info *info);
int sksplice_nl_writeable_doit(struct sk_buff *skb, struct genl_info *info);

/* adopt.c */
int sksplice_nl_op_adopt_doit(struct sk_buff *skb, struct genl_info *info);

/* netlink.c */
extern struct genl_family sksplice_nl_family;
int sksplice_nl_refuse(struct genl_info *info, int err, const char *why);
struct sk_buff *sksplice_nl_reply(struct genl_info *info, void **hdr, size_t len);
int sksplice_nl_send(struct genl_info *info, struct sk_buff *skb, void *hdr);
struct sksplice_owner *sksplice_nl_owner(struct sk_buff *skb, struct genl_info *info);
struct sksplice_owner *sksplice_nl_owner_of(struct sk_buff *skb, const struct nlattr *attr,
					    const char **why);

/* netlink_ntf.c */
struct sk_buff *sksplice_nl_events(struct list_head *ops, unsigned int n, u32 portid);
struct sk_buff *sksplice_nl_event(struct sksplice_op *op, u32 portid, gfp_t gfp);
struct sk_buff *sksplice_nl_start(struct sksplice_op *op, gfp_t gfp);
int sksplice_nl_event_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);

/* fill.c */
int sksplice_fill_op(struct sk_buff *skb, struct sksplice_op *op);
int sksplice_fill_event(struct sk_buff *skb, const struct sksplice_op *op);
int sksplice_fill_stats(struct sk_buff *skb);

/* policy.c */
extern const struct nla_policy sksplice_policy_none[], sksplice_policy_new[], sksplice_policy_get[],
	sksplice_policy_token[], sksplice_policy_revoke[], sksplice_policy_event[],
	sksplice_policy_flush[], sksplice_policy_writeable[];
int sksplice_policy_init(void);
void sksplice_policy_exit(void);
int sksplice_policy_sender(struct sk_buff *skb, const char **why);
int sksplice_policy_permit(struct sk_buff *skb, struct user_namespace *user_ns,
			   const char **why);
struct sksplice_user *sksplice_user_charge(kuid_t uid, unsigned int units);
void sksplice_user_uncharge(struct sksplice_user *user, unsigned int units);
bool sksplice_user_enter(struct sksplice_flow *flow);
void sksplice_user_leave(struct sksplice_flow *flow);
void sksplice_user_forget(struct sksplice_flow *flow);
kuid_t sksplice_user_uid(const struct sksplice_user *user);

#endif /* _SKSPLICE_H */
