// SPDX-License-Identifier: GPL-2.0
/* The callbacks of a socket while one of its halves is busy: put in, run, and taken out. */
#include <net/tcp.h>

#include "sksplice.h"

static void sksplice_data_ready(struct sock *sk);
static void sksplice_error_report(struct sock *sk);

/*
 * Does it wait for room, or may it be about to? What is sent without the sink's slock can find none,
 * and room be made, before it says BLOCKED.
 */
static bool sksplice_flow_waits(const struct sksplice_flow *flow)
{
	enum sksplice_state state = READ_ONCE(flow->state);

	return state == SKSPLICE_STATE_BLOCKED ||
	       (flow->op->generic && state == SKSPLICE_STATE_RUNNING);
}

/*
 * Context: any callback. NULL: a socket that was given back while this callback was on its way;
 * its pointers were restored before sk_user_data was cleared. What has become another kind since, and
 * has a wait queue's entry where the saved callbacks are, does not have these pointers again: no
 * socket becomes plain TCP.
 */
static struct sksplice_sock *sksplice_sock_of(const struct sock *sk)
{
	struct sksplice_sock *ss = rcu_dereference_sk_user_data(sk);

	/* Somebody else's by now? Uninstall restores the pointers before it clears user_data. */
	smp_rmb();
	return READ_ONCE(sk->sk_error_report) == sksplice_error_report ? ss : NULL;
}

/*
 * Context: source's slock held in the receive softirq, or the socket owned (backlog processing
 * in release_sock(), BH on). Only the first may pump here.
 */
static void sksplice_data_ready(struct sock *sk)
{
	struct sksplice_sock *ss;
	struct sksplice_flow *flow;

	rcu_read_lock();
	ss = sksplice_sock_of(sk);
	flow = ss ? READ_ONCE(ss->rx) : NULL;
	if (flow && !sk->sk_lock.owned)
		sksplice_pump_inline(flow);
	else if (flow)
		sksplice_pump_kick(flow);
	else if (ss)
		ss->data_ready(sk);
	rcu_read_unlock();
}

/*
 * Context: sink's slock held or socket owned; also from inside our own send, when the state is
 * RUNNING. A send that was short of memory is BLOCKED too, and has a timer besides. Once there
 * is room nobody but us is to be told: the half is busy.
 */
static void sksplice_write_space(struct sock *sk)
{
	struct sksplice_sock *ss;
	struct sksplice_flow *flow;

	rcu_read_lock();
	ss = sksplice_sock_of(sk);
	flow = ss ? READ_ONCE(ss->tx) : NULL;
	if (flow && sk_stream_is_writeable(sk)) {
		if (sk->sk_socket)
			clear_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
		if (sksplice_flow_waits(flow))
			sksplice_pump_kick(flow);
	} else if (ss && !flow) {
		ss->write_space(sk);
	}
	rcu_read_unlock();
}

/*
 * Any context. Under ss->lock, since sk_error_report also comes from transmit completions, without
 * the slock: a flow that is found here is not given back before it was kicked.
 */
static void sksplice_kick_both(struct sksplice_sock *ss)
{
	unsigned long flags;

	spin_lock_irqsave(&ss->lock, flags);
	if (ss->rx)
		sksplice_pump_urge(ss->rx);
	if (ss->tx && ss->tx != ss->rx)
		sksplice_pump_urge(ss->tx);
	spin_unlock_irqrestore(&ss->lock, flags);
}

static bool sksplice_flow_is_plain(const struct sksplice_flow *flow)
{
	return !flow || !(flow->op->generic || flow->extra);
}

/*
 * Context: as write_space. Can it be left to data_ready? TCP calls that right after this, in the
 * same receive, when the peer's FIN came; that we sent ours, or that the peer acknowledged it, says
 * nothing to a flow that waits for no acknowledgment. Whatever breaks a connection sets an error.
 * The FIN of a shutdown() that was on its way when the sink was taken is not ours: that flow would
 * wait for a source that has nothing more to say.
 */
static bool sksplice_change_is_tame(const struct sock *sk, const struct sksplice_sock *ss)
{
	const struct sksplice_flow *tx = READ_ONCE(ss->tx);

	if (!sksplice_flow_is_plain(READ_ONCE(ss->rx)) || !sksplice_flow_is_plain(tx))
		return false;
	if (tx && sksplice_flow_live(tx) && READ_ONCE(tx->state) != SKSPLICE_STATE_RUNNING &&
	    sksplice_tcp_sink_over(ss))
		return false;
	if (READ_ONCE(sk->sk_err) || READ_ONCE(ss->err))
		return false;
	return sock_flag(sk, SOCK_DONE) || sk->sk_state == TCP_FIN_WAIT1 ||
	       sk->sk_state == TCP_FIN_WAIT2;
}

/* Context: as write_space. The end of a connection concerns both halves; users are told too. */
static void sksplice_state_change(struct sock *sk)
{
	struct sksplice_sock *ss;

	rcu_read_lock();
	ss = sksplice_sock_of(sk);
	if (ss) {
		if (!sksplice_change_is_tame(sk, ss))
			sksplice_kick_both(ss);
		ss->state_change(sk);
	}
	rcu_read_unlock();
}

/*
 * Context: any, also without a lock, and then mostly without an error: the error queue has
 * something. Keeps an error: getsockopt(SO_ERROR) clears it in the socket.
 */
static void sksplice_error_report(struct sock *sk)
{
	int err = READ_ONCE(sk->sk_err);
	struct sksplice_sock *ss;

	rcu_read_lock();
	ss = sksplice_sock_of(sk);
	if (ss) {
		if (err) {
			WRITE_ONCE(ss->err, err);
			sksplice_kick_both(ss);
		}
		ss->error_report(sk);
	}
	rcu_read_unlock();
}

/*
 * Under the lock of the socket's wait queue, in any context. Wakes of a socket whose callbacks are
 * not ours: kTLS has its own below them, and other families call them without a lock that we could
 * hold. Coexists with whoever else waits. No key: the end of something.
 */
static int sksplice_wake(struct wait_queue_entry *wait, unsigned int mode, int sync, void *key)
{
	struct sksplice_sock *ss = container_of(wait, struct sksplice_sock, wait);
	__poll_t what = key_to_poll(key);
	bool all = !what || (what & (EPOLLERR | EPOLLHUP | EPOLLRDHUP));
	unsigned long flags;

	spin_lock_irqsave(&ss->lock, flags);
	if (ss->rx && (all || ((what & EPOLLIN) && !test_bit(SKSPLICE_RUN_BLOCKED, &ss->rx->run))))
		sksplice_pump_kick(ss->rx);
	if (ss->tx && (all || ((what & EPOLLOUT) && sksplice_flow_waits(ss->tx))))
		sksplice_pump_kick(ss->tx);
	spin_unlock_irqrestore(&ss->lock, flags);
	return 0;
}

/* slock and sk_callback_lock held. */
static void sksplice_callback_put(struct sksplice_sock *ss)
{
	struct sock *sk = ss->sk;

	if (!ss->proto->callbacks) {
		rcu_assign_sk_user_data(sk, ss);
		init_waitqueue_func_entry(&ss->wait, sksplice_wake);
		add_wait_queue(sk_sleep(sk), &ss->wait);
		return;
	}
	ss->data_ready = sk->sk_data_ready;
	ss->write_space = sk->sk_write_space;
	ss->state_change = sk->sk_state_change;
	ss->error_report = sk->sk_error_report;
	sksplice_tcp_occupy(sk, true);
	rcu_assign_sk_user_data(sk, ss);
	WRITE_ONCE(sk->sk_data_ready, sksplice_data_ready);
	WRITE_ONCE(sk->sk_write_space, sksplice_write_space);
	WRITE_ONCE(sk->sk_state_change, sksplice_state_change);
	WRITE_ONCE(sk->sk_error_report, sksplice_error_report);
}

/* slock held. Replaces the socket's callbacks; refuses one that is somebody's already. */
int sksplice_callback_install(struct sksplice_sock *ss)
{
	struct sock *sk = ss->sk;
	int ret = -EBUSY;

	sksplice_assert_slock(sk);
	write_lock(&sk->sk_callback_lock);
	if (!rcu_dereference_raw(__sk_user_data(sk))) {
		sksplice_callback_put(ss);
		ret = 0;
	}
	write_unlock(&sk->sk_callback_lock);
	return ret;
}

/*
 * slock held, no flow left. Callbacks run under the slock or with the socket owned, and we have
 * the one and exclude the other: none is running. Except error_report, which may come without:
 * for it are the order of the stores and the grace period. Who waits on the queue is woken under its
 * lock, which taking it off takes, too.
 */
void sksplice_callback_uninstall(struct sksplice_sock *ss)
{
	struct sock *sk = ss->sk;

	sksplice_assert_slock(sk);
	write_lock(&sk->sk_callback_lock);
	if (ss->proto->callbacks) {
		WRITE_ONCE(sk->sk_data_ready, ss->data_ready);
		WRITE_ONCE(sk->sk_write_space, ss->write_space);
		WRITE_ONCE(sk->sk_state_change, ss->state_change);
		WRITE_ONCE(sk->sk_error_report, ss->error_report);
	} else {
		remove_wait_queue(sk_sleep(sk), &ss->wait);
	}
	rcu_assign_sk_user_data(sk, NULL);
	if (ss->proto->callbacks)
		sksplice_tcp_occupy(sk, false);
	write_unlock(&sk->sk_callback_lock);
}
