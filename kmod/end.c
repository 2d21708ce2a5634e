// SPDX-License-Identifier: GPL-2.0
/*
 * Taking over the halves of a socket and giving them back: save, replace and restore side by
 * side, as in drivers/net/ovpn/tcp.c.
 */
#include <linux/module.h>
#include <linux/wait.h>
#include <net/tcp.h>

#include "sksplice.h"

/* Ticks that set-up is patient with a user who owns the socket. */
#define SKSPLICE_LOCK_TRIES 10

/*
 * Context: process, nothing held. True: the slock is held with BH off and no user owns the
 * socket. Never waits for an owner, who may sit on a page fault for ever.
 */
bool sksplice_sock_trylock(struct sock *sk)
{
	local_bh_disable();
	bh_lock_sock(sk);
	if (!sk->sk_lock.owned)
		return true;
	sksplice_sock_unlock(sk);
	return false;
}

void sksplice_sock_unlock(struct sock *sk)
{
	bh_unlock_sock(sk);
	local_bh_enable();
}

/*
 * One reference while installed, one from each flow of which it is an end: a flow's worker may
 * lock the sockets after one of them was given back, until the operation has canceled it.
 *
 * ss->rcu lies over what was saved of the halves: that is used under the slock by who takes a half or
 * gives one back, and with the last reference there is no half left. What a callback may still look
 * at, one that found @ss before it was uninstalled, is not there: lock, rx, tx, err, the saved callbacks.
 */
void sksplice_sock_put(struct sksplice_sock *ss)
{
	if (ss && refcount_dec_and_test(&ss->refs))
		kfree_rcu(ss, rcu);
}

/* slock held. Sets one of ss->rx and ss->tx; NULL: nobody finds that flow any more. */
static void sksplice_sock_set(struct sksplice_sock *ss, struct sksplice_flow **half,
			      struct sksplice_flow *flow)
{
	unsigned long flags;

	sksplice_assert_slock(ss->sk);
	if (flow)
		refcount_inc(&ss->refs);
	spin_lock_irqsave(&ss->lock, flags);
	WRITE_ONCE(*half, flow);
	spin_unlock_irqrestore(&ss->lock, flags);
}

static int sksplice_sock_busy(const struct sksplice_sock *ss)
{
	return (ss->rx ? SKSPLICE_BUSY_RX : 0) | (ss->tx ? SKSPLICE_BUSY_TX : 0);
}

/* slock held. Are the calls on the busy halves still refused, or did somebody swap the table? */
bool sksplice_end_intact(const struct sksplice_sock *ss)
{
	return READ_ONCE(ss->sock->ops) == ss->table;
}

static bool sksplice_flow_waits_as(const struct sksplice_flow *flow, const void *task)
{
	return flow && flow->op->generic && READ_ONCE(flow->op->generic->worker) == task;
}

/* slock held. Somebody queues for the lock, who is not the other half's own generic run. */
static bool sksplice_sock_has_waiter(struct sock *sk, const struct sksplice_sock *ss)
{
	struct wait_queue_head *wq = &sk->sk_lock.wq;
	struct wait_queue_entry *entry;
	unsigned long flags;
	bool found = false;

	/* who does so does it under the slock, and we hold that: no barrier is needed */
	if (!waitqueue_active(wq))
		return false;
	spin_lock_irqsave(&wq->lock, flags);
	list_for_each_entry(entry, &wq->head, entry)
		found |= !ss || !(sksplice_flow_waits_as(ss->rx, entry->private) ||
				  sksplice_flow_waits_as(ss->tx, entry->private));
	spin_unlock_irqrestore(&wq->lock, flags);
	return found;
}

/*
 * slock held. A thread that is inside recv() or send() already is not reached by swapping
 * sock->ops and would steal bytes. It sleeps in sk_wait_data() or sk_stream_wait_memory(), both
 * with woken_wake_function, in AF_UNIX with autoremove_wake_function, or queues for the lock.
 * Pollers are not of that kind.
 */
static bool sksplice_sock_has_sleeper(struct sock *sk, const struct sksplice_sock *ss)
{
	struct wait_queue_head *wq = sk_sleep(sk);
	struct wait_queue_entry *entry;
	unsigned long flags;
	bool found;

	sksplice_assert_slock(sk);
	found = sksplice_sock_has_waiter(sk, ss);
	spin_lock_irqsave(&wq->lock, flags);
	list_for_each_entry(entry, &wq->head, entry)
		found |= entry->func == woken_wake_function ||
			 entry->func == autoremove_wake_function;
	spin_unlock_irqrestore(&wq->lock, flags);
	return found;
}

/*
 * slock held. A low-water mark would hold bytes back that can move now, and an offset would have
 * us look elsewhere than at the first.
 */
static void sksplice_source_take(struct sksplice_sock *ss, struct sksplice_flow *flow)
{
	struct sock *sk = ss->sk;

	sksplice_assert_slock(sk);
	ss->rcvlowat = sk->sk_rcvlowat;
	ss->peek_off = READ_ONCE(sk->sk_peek_off);
	WRITE_ONCE(sk->sk_rcvlowat, 1);
	if (ss->peek_off >= 0)
		WRITE_ONCE(sk->sk_peek_off, -1);
	if (ss->proto->tcp)
		flow->copied_seq = tcp_sk(sk)->copied_seq;
	flow->src = ss;
	sksplice_sock_set(ss, &ss->rx, flow);
}

/* slock held. */
static void sksplice_source_give_back(struct sksplice_sock *ss)
{
	sksplice_assert_slock(ss->sk);
	WRITE_ONCE(ss->sk->sk_rcvlowat, ss->rcvlowat);
	/* as reading does, it goes back by what is not there any more */
	if (ss->peek_off >= 0)
		WRITE_ONCE(ss->sk->sk_peek_off,
			   ss->peek_off - min_t(u64, ss->peek_off, ss->rx->bytes));
	sksplice_sock_set(ss, &ss->rx, NULL);
}

/* slock held. Neither Nagle nor a cork may hold back what can move now. */
static void sksplice_tcp_sink_take(struct sksplice_sock *ss, struct sksplice_flow *flow)
{
	struct tcp_sock *tp = tcp_sk(ss->sk);

	sksplice_assert_slock(ss->sk);
	ss->nonagle = tp->nonagle;
	tp->nonagle = (tp->nonagle & ~TCP_NAGLE_CORK) | TCP_NAGLE_OFF;
	flow->write_seq = tp->write_seq;
}

/*
 * slock held. We send from softirq, so memory must come without sleeping, and never from the
 * page fragment of whatever task was interrupted: GFP_ATOMIC alone does not see to that. Generic
 * flows send as any process does.
 */
static void sksplice_sink_take(struct sksplice_sock *ss, struct sksplice_flow *flow)
{
	struct sock *sk = ss->sk;

	sksplice_assert_slock(sk);
	ss->allocation = sk->sk_allocation;
	ss->use_task_frag = sk->sk_use_task_frag;
	if (!flow->op->generic) {
		sk->sk_allocation = (sk->sk_allocation & __GFP_MEMALLOC) | GFP_ATOMIC;
		sk->sk_use_task_frag = false;
	}
	if (ss->proto->tcp)
		sksplice_tcp_sink_take(ss, flow);
	flow->dst = ss;
	sksplice_sock_set(ss, &ss->tx, flow);
	/* A send is run under the one slock, like an echo, but the other half is not its own. */
	if (sksplice_op_sends(flow->op)) {
		refcount_inc(&ss->refs);
		flow->src = ss;
	}
	sksplice_extra_attached(flow);
}

/* slock held. */
static void sksplice_sink_give_back(struct sksplice_sock *ss)
{
	struct sock *sk = ss->sk;

	sksplice_assert_slock(sk);
	sk->sk_allocation = ss->allocation;
	sk->sk_use_task_frag = ss->use_task_frag;
	if (ss->proto->tcp)
		tcp_sk(sk)->nonagle = ss->nonagle;
	sksplice_sock_set(ss, &ss->tx, NULL);
}

/*
 * slock held. When the only descriptors are ours nobody else will notice that a peer is gone.
 * Switched off again when the socket is given back.
 */
static void sksplice_sock_keepalive(struct sksplice_sock *ss, bool on)
{
	struct sock *sk = ss->sk;

	sksplice_assert_slock(sk);
	if (!ss->proto->tcp || on == ss->keepalive || (on && sock_flag(sk, SOCK_KEEPOPEN)))
		return;
	sk->sk_prot->keepalive(sk, on);
	sock_valbool_flag(sk, SOCK_KEEPOPEN, on);
	ss->keepalive = on;
}

/* slock held. Ours, from an earlier operation on the other half? */
static struct sksplice_sock *sksplice_end_owner(const struct socket *sock)
{
	struct sock *sk = sock->sk;

	sksplice_assert_slock(sk);
	if (!sksplice_ops_ours(sock))
		return NULL;
	return rcu_dereference_protected(__sk_user_data(sk), lockdep_is_held(&sk->sk_lock.slock));
}

/* slock held. May the halves in @want be taken? Changes nothing. */
static int sksplice_end_check(struct socket *sock, const struct sksplice_sock *ss, int want,
			      const char **why)
{
	const struct sksplice_proto *proto = sksplice_proto_of(sock->sk);
	int had = ss ? sksplice_sock_busy(ss) : 0;
	int ret;

	sksplice_assert_slock(sock->sk);
	if (had & want & (SKSPLICE_BUSY_RX | SKSPLICE_BUSY_TX))
		return SKSPLICE_REFUSE(why, -EBUSY, "the end is copying already");
	if (!proto)
		return SKSPLICE_REFUSE(why, -EPROTONOSUPPORT, "unknown kind of socket");
	ret = proto->admit(sock, want, why);
	if (!ret && sksplice_sock_has_sleeper(sock->sk, ss))
		return SKSPLICE_REFUSE(why, -EBUSY, "a thread is blocked in a call on the socket");
	return ret;
}

/* What these flows want of their socket. Only a sink may be connecting, also one of a pair. */
static int sksplice_end_wants(const struct sksplice_flow *rx, const struct sksplice_flow *tx)
{
	int want = (rx ? SKSPLICE_WANT_RX : 0) | (tx ? SKSPLICE_WANT_TX : 0);

	if (tx && !tx->back && (!rx || rx->back) && (tx->op->flags & SKSPLICE_F_CONNECTING))
		want |= SKSPLICE_WANT_CONNECTING;
	if (tx && sksplice_op_sends(tx->op))
		want |= SKSPLICE_WANT_ROOM;
	return want;
}

/* slock held. Everything that can refuse comes before anything that changes the socket. */
static int sksplice_end_take(struct sksplice_sock *fresh, struct sksplice_flow *rx,
			     struct sksplice_flow *tx, const char **why)
{
	struct sksplice_sock *ss = sksplice_end_owner(fresh->sock);
	int had = ss ? sksplice_sock_busy(ss) : 0;
	int want = (rx ? SKSPLICE_BUSY_RX : 0) | (tx ? SKSPLICE_BUSY_TX : 0);
	int ret = sksplice_end_check(fresh->sock, ss, sksplice_end_wants(rx, tx), why);

	if (ret)
		return ret;
	if (!(rx ? : tx)->op->generic && !sksplice_proto_fast(fresh->sk))
		return SKSPLICE_REFUSE(why, -EBUSY, "the socket has become another kind meanwhile");
	if (!ss) {
		ss = fresh;
		ss->proto = sksplice_proto_of(ss->sk);
		if (sksplice_callback_install(ss))
			return SKSPLICE_REFUSE(why, -EBUSY, "another kernel user has the socket");
	}
	if (!sksplice_ops_swap(ss, had, had | want)) {
		if (ss == fresh)
			sksplice_callback_uninstall(ss);
		return SKSPLICE_REFUSE(why, -EBUSY, "another kernel user changed the socket");
	}
	if (sksplice_op_closes(rx ? rx->op : tx->op))
		sksplice_sock_keepalive(ss, true);
	if (rx)
		sksplice_source_take(ss, rx);
	if (tx)
		sksplice_sink_take(ss, tx);
	return ss == fresh ? 0 : 1;
}

/*
 * Context: process, nothing held. 0: the slock is held. A socket that somebody owns all the time
 * is refused rather than waited for.
 */
static int sksplice_sock_lock(struct socket *sock, const char **why)
{
	int tries, most = SKSPLICE_LOCK_TRIES;

	/* a generic run of the other half comes and goes */
	if (sksplice_ops_ours(sock))
		most *= 5;
	for (tries = 0; tries < most; tries++) {
		if (sksplice_sock_trylock(sock->sk))
			return 0;
		schedule_timeout_killable(1);
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return SKSPLICE_REFUSE(why, -EBUSY, "the socket is in use by a call");
}

/* Context: process. Refuses before anything is allocated, or counted, for the socket's kind; see end_plain(). */
static int sksplice_end_admit(struct socket *sock, int want, const char **why)
{
	struct sksplice_sock *ss;
	int ret = sksplice_sock_lock(sock, why);

	if (ret)
		return ret;
	ss = sksplice_end_owner(sock);
	ret = sksplice_end_check(sock, ss, want, why);
	sksplice_sock_unlock(sock->sk);
	return ret;
}

/* Context: process, nothing held. What a send would be refused with. */
int sksplice_end_writeable(struct socket *sock, const char **why)
{
	return sksplice_end_admit(sock, SKSPLICE_WANT_TX | SKSPLICE_WANT_ROOM, why);
}

static struct sksplice_sock *sksplice_sock_alloc(struct socket *sock)
{
	struct sksplice_sock *ss = kzalloc(sizeof(*ss), GFP_KERNEL_ACCOUNT);

	if (!ss)
		return NULL;
	refcount_set(&ss->refs, 1);
	spin_lock_init(&ss->lock);
	ss->sk = sock->sk;
	ss->sock = sock;
	return ss;
}

/*
 * Of TCP without an upper layer protocol nothing is counted: what is refused is refused when it is to be
 * taken, as all is. Should it get one meanwhile, that is refused then, too.
 */
static bool sksplice_end_plain(const struct sock *sk)
{
	return sksplice_proto_fast(sk) && !READ_ONCE(inet_csk(sk)->icsk_ulp_ops);
}

/*
 * Context: process, nothing held. Takes the halves of @sock for which a flow is given, both or
 * neither. The caller holds the socket's file for as long as they are attached.
 */
int sksplice_end_attach(struct socket *sock, struct sksplice_flow *rx, struct sksplice_flow *tx,
			const char **why)
{
	struct sksplice_sock *fresh;
	int ret = 0;

	if (!sksplice_end_plain(sock->sk))
		ret = sksplice_end_admit(sock, sksplice_end_wants(rx, tx), why);
	if (ret)
		return ret;
	fresh = sksplice_sock_alloc(sock);
	if (!fresh)
		return -ENOMEM;
	fresh->ops = sksplice_ops_prepare(sock);
	ret = fresh->ops ? sksplice_sock_lock(sock, why) :
	      SKSPLICE_REFUSE(why, -EPROTONOSUPPORT, "unknown kind of socket");
	if (!ret) {
		ret = sksplice_end_take(fresh, rx, tx, why);
		sksplice_sock_unlock(sock->sk);
	}
	if (ret)
		sksplice_sock_put(fresh);
	return ret < 0 ? ret : 0;
}

/* slock held. One that is still connecting has not begun to be a sink. */
static bool sksplice_sink_over(const struct sksplice_sock *ss, const struct sksplice_op *op)
{
	return sksplice_proto_sink_over(ss) &&
	       !(sksplice_extra_in(op, SKSPLICE_PHASE_CONNECTING) &&
		 sksplice_tcp_connecting(ss->sk));
}

/* slock held. What the completion tells of this socket, read at the last moment we have it. */
static void sksplice_end_report(struct sksplice_sock *ss, struct sksplice_op *op, bool rx, bool tx)
{
	struct sksplice_event *ev = &op->event;
	bool is_sink = op->nr_flows == 1 ? tx : ss == op->flow[0].dst;
	bool is_source = op->nr_flows == 1 ? rx : ss == op->flow[0].src;
	bool over = (rx && ss->rx->eof) || sksplice_proto_source_over(ss);

	if (is_source && over)
		ev->ended |= SKSPLICE_END_SOURCE;
	if (is_sink && (op->nr_flows == 1 ? sksplice_sink_over(ss, op) : over))
		ev->ended |= SKSPLICE_END_SINK;
	if (tx && !ss->tx->back && !sksplice_extra_in(op, SKSPLICE_PHASE_CONNECTING))
		ev->unacked = sksplice_proto_unacked(ss->tx);
}

/*
 * Context: process, nothing held. Phase one of teardown for one socket of @op: afterwards no
 * callback and no run of the pump can find the operation's flows through it. False: a user owns
 * the socket, try again later; nothing was changed. Wakes whoever polled a busy half.
 */
bool sksplice_end_detach(struct sksplice_sock *ss, struct sksplice_op *op)
{
	struct sock *sk = ss->sk;
	int had, left;
	bool rx, tx;

	if (!sksplice_sock_trylock(sk))
		return false;
	rx = ss->rx && ss->rx->op == op;
	tx = ss->tx && ss->tx->op == op;
	had = sksplice_sock_busy(ss);
	sksplice_end_report(ss, op, rx, tx);
	if (rx) {
		sksplice_flow_stop(ss->rx);
		sksplice_source_give_back(ss);
	}
	if (tx && sksplice_op_sends(op))
		sksplice_flow_stop(ss->tx);
	if (tx)
		sksplice_sink_give_back(ss);
	left = sksplice_sock_busy(ss);
	sksplice_ops_swap(ss, had, left);
	if (!left) {
		sksplice_sock_keepalive(ss, false);
		sksplice_callback_uninstall(ss);
	}
	sk->sk_state_change(sk);
	sksplice_sock_unlock(sk);
	if (!left)
		sksplice_sock_put(ss);
	return true;
}
