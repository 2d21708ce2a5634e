// SPDX-License-Identifier: GPL-2.0
/*
 * What users get to see of a busy end: sock->ops is swapped for a copy of the original table in
 * which the calls on the busy half answer EBUSY at once. Tables live as long as the module, one
 * set per original table. Calls on the free half stay the original's own functions, so no thread
 * ever sleeps in here but in the few that filter by argument; those are counted, for unloading.
 */
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/tcp.h>
#include <net/tcp.h>

#include "compat.h"
#include "sksplice.h"

/*
 * Index: the busy halves, SKSPLICE_BUSY_*; 0 is a copy of the original: a table of a module (kTLS,
 * vsock) goes with it, and another may come to its place.
 */
struct sksplice_ops {
	const struct proto_ops *orig;
	struct proto_ops busy[4];
};

/* inet and inet6, unix and vsock make four, and kTLS has one for each way to do each half. */
static struct sksplice_ops sksplice_ops_sets[32];
static unsigned int sksplice_ops_nr;
static DEFINE_MUTEX(sksplice_ops_lock);

static DEFINE_PER_CPU(long, sksplice_ops_inside);

static void sksplice_ops_enter(void)
{
	this_cpu_inc(sksplice_ops_inside);
}

static void sksplice_ops_leave(void)
{
	this_cpu_dec(sksplice_ops_inside);
}

/*
 * The original table, and the halves that are busy by the one in use. A call may have come in
 * through one of our tables just before it was swapped again: then what is in force now counts.
 */
static const struct proto_ops *sksplice_ops_orig(const struct socket *sock, int *busy)
{
	const struct proto_ops *ops = READ_ONCE(sock->ops);
	unsigned int i, nr = smp_load_acquire(&sksplice_ops_nr);

	*busy = 0;
	for (i = 0; i < nr; i++) {
		const struct sksplice_ops *set = &sksplice_ops_sets[i];

		if (ops > &set->busy[0] && ops <= &set->busy[3]) {
			*busy = ops - &set->busy[0];
			return set->orig;
		}
	}
	return ops;
}

static int sksplice_busy_recvmsg(struct socket *sock, struct msghdr *m, size_t len, int flags)
{
	return -EBUSY;
}

static int sksplice_busy_sendmsg(struct socket *sock, struct msghdr *m, size_t len)
{
	return -EBUSY;
}

static int sksplice_busy_sendmsg_locked(struct sock *sk, struct msghdr *msg, size_t size)
{
	return -EBUSY;
}

#ifdef SKSPLICE_HAVE_SENDPAGE
static ssize_t sksplice_busy_sendpage(struct socket *sock, struct page *page, int offset,
				      size_t size, int flags)
{
	return -EBUSY;
}

static int sksplice_busy_sendpage_locked(struct sock *sk, struct page *page, int offset,
					 size_t size, int flags)
{
	return -EBUSY;
}
#else
static void sksplice_busy_splice_eof(struct socket *sock)
{
}
#endif

static ssize_t sksplice_busy_splice_read(struct socket *sock, loff_t *ppos,
					 struct pipe_inode_info *pipe, size_t len,
					 unsigned int flags)
{
	return -EBUSY;
}

static int sksplice_busy_read_sock(struct sock *sk, read_descriptor_t *desc,
				   sk_read_actor_t actor)
{
	return -EBUSY;
}

static int sksplice_busy_read_skb(struct sock *sk, skb_read_actor_t actor)
{
	return -EBUSY;
}

static int sksplice_busy_set_peek_off(struct sock *sk, int val)
{
	return -EBUSY;
}

static int sksplice_busy_set_rcvlowat(struct sock *sk, int val)
{
	return -EBUSY;
}

/* connect(AF_UNSPEC) disconnects. */
static int sksplice_busy_connect(struct socket *sock, struct sksplice_sockaddr *addr, int len,
				 int flags)
{
	return -EBUSY;
}

/* tcp_poll() for a free source; not that itself, since it sets SOCK_NOSPACE for the sink. */
static __poll_t sksplice_poll_source(struct file *file, struct socket *sock,
				     struct poll_table_struct *wait)
{
	struct sock *sk = sock->sk;
	u8 shutdown = READ_ONCE(sk->sk_shutdown);
	__poll_t mask = 0;

	sock_poll_wait(file, sock, wait);
	if (shutdown == SHUTDOWN_MASK || inet_sk_state_load(sk) == TCP_CLOSE)
		mask |= EPOLLHUP;
	if (shutdown & RCV_SHUTDOWN)
		mask |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
	if (tcp_epollin_ready(sk, sock_rcvlowat(sk, 0, INT_MAX)))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (tcp_sk(sk)->urg_data & TCP_URG_VALID)
		mask |= EPOLLPRI;
	smp_rmb(); /* pairs with smp_wmb() in tcp_reset(), as in tcp_poll() */
	if (READ_ONCE(sk->sk_err) || !skb_queue_empty_lockless(&sk->sk_error_queue))
		mask |= EPOLLERR;
	return mask;
}

static __poll_t sksplice_busy_poll(struct file *file, struct socket *sock,
				   struct poll_table_struct *wait)
{
	const struct proto_ops *orig;
	__poll_t mask = 0;
	int busy;

	sksplice_ops_enter();	/* joining a wait queue may allocate, and sleep */
	orig = sksplice_ops_orig(sock, &busy);
	if (busy == (SKSPLICE_BUSY_RX | SKSPLICE_BUSY_TX))
		sock_poll_wait(file, sock, wait);
	else if (busy == SKSPLICE_BUSY_TX && sksplice_proto_fast(sock->sk))
		mask = sksplice_poll_source(file, sock, wait);
	else
		mask = orig->poll(file, sock, wait);
	if (busy == SKSPLICE_BUSY_RX)
		mask &= ~(EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLPRI);
	else if (busy == SKSPLICE_BUSY_TX)
		mask &= ~(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
	sksplice_ops_leave();
	return mask;
}

static int sksplice_busy_shutdown(struct socket *sock, int how)
{
	const struct proto_ops *orig;
	int busy, ret = -EBUSY;

	sksplice_ops_enter();
	orig = sksplice_ops_orig(sock, &busy);
	if (how < SHUT_RD || how > SHUT_RDWR ||
	    !((how != SHUT_WR && (busy & SKSPLICE_BUSY_RX)) ||
	      (how != SHUT_RD && (busy & SKSPLICE_BUSY_TX))))
		ret = orig->shutdown(sock, how);
	sksplice_ops_leave();
	return ret;
}

/* Options that would change what a run of the pump relies on. */
static bool sksplice_setsockopt_refused(int level, int optname, int busy)
{
	if (level == SOL_TLS)
		return true;
	if (level == SOL_IPV6)
		return optname == IPV6_ADDRFORM;
	if (level != SOL_TCP)
		return false;
	switch (optname) {
	case TCP_ULP:
	case TCP_REPAIR:
	case TCP_REPAIR_QUEUE:
	case TCP_QUEUE_SEQ:
	case TCP_REPAIR_OPTIONS:
	case TCP_REPAIR_WINDOW:
		return true;
	case TCP_CORK:
	case TCP_NODELAY:
		return busy & SKSPLICE_BUSY_TX;
	}
	return false;
}

static int sksplice_busy_setsockopt(struct socket *sock, int level, int optname, sockptr_t optval,
				    unsigned int optlen)
{
	const struct proto_ops *orig;
	int busy, ret = -EBUSY;

	sksplice_ops_enter();
	orig = sksplice_ops_orig(sock, &busy);
	if (!busy || !sksplice_setsockopt_refused(level, optname, busy))
		ret = orig->setsockopt(sock, level, optname, optval, optlen);
	sksplice_ops_leave();
	return ret;
}

/*
 * TCP_ZEROCOPY_RECEIVE consumes. TCP_ULP looks at our occupant without a lock, twice, and may
 * sleep in between.
 */
static bool sksplice_getsockopt_refused(int level, int optname, int busy)
{
	return level == SOL_TCP && (optname == TCP_ULP || (optname == TCP_ZEROCOPY_RECEIVE &&
							   (busy & SKSPLICE_BUSY_RX)));
}

static int sksplice_busy_getsockopt(struct socket *sock, int level, int optname,
				    char __user *optval, int __user *optlen)
{
	const struct proto_ops *orig;
	int busy, ret = -EBUSY;

	sksplice_ops_enter();
	orig = sksplice_ops_orig(sock, &busy);
	if (!busy || !sksplice_getsockopt_refused(level, optname, busy))
		ret = orig->getsockopt(sock, level, optname, optval, optlen);
	sksplice_ops_leave();
	return ret;
}

/* ->owner stays the original's: release does module_put() on it. */
static void sksplice_ops_fill(struct proto_ops *ops, const struct proto_ops *orig, int busy,
			      bool plain)
{
	*ops = *orig;
	ops->poll = sksplice_busy_poll;
	ops->shutdown = sksplice_busy_shutdown;
	ops->connect = sksplice_busy_connect;
	if (orig->setsockopt)
		ops->setsockopt = sksplice_busy_setsockopt;
	if (orig->getsockopt)
		ops->getsockopt = sksplice_busy_getsockopt;
	if (busy & SKSPLICE_BUSY_RX) {
		ops->recvmsg = sksplice_busy_recvmsg;
		ops->splice_read = sksplice_busy_splice_read;
		/* kTLS reads what is below it by its own table */
		if (plain)
			ops->read_sock = sksplice_busy_read_sock;
		ops->read_skb = sksplice_busy_read_skb;
		ops->set_rcvlowat = sksplice_busy_set_rcvlowat;
		ops->set_peek_off = sksplice_busy_set_peek_off;
	}
	if (busy & SKSPLICE_BUSY_TX) {
		ops->sendmsg = sksplice_busy_sendmsg;
		ops->sendmsg_locked = sksplice_busy_sendmsg_locked;
#ifdef SKSPLICE_HAVE_SENDPAGE
		ops->sendpage = sksplice_busy_sendpage;
		ops->sendpage_locked = sksplice_busy_sendpage_locked;
#else
		ops->splice_eof = sksplice_busy_splice_eof;
#endif
	}
}

/* No socket has one of these tables. */
static void sksplice_ops_fill_all(struct sksplice_ops *set, const struct proto_ops *orig,
				  bool plain)
{
	int busy;

	set->orig = orig;
	set->busy[0] = *orig;
	for (busy = 1; busy < ARRAY_SIZE(set->busy); busy++)
		sksplice_ops_fill(&set->busy[busy], orig, busy, plain);
}

/* The calls of the socket's own family. */
const struct proto_ops *sksplice_ops_real(const struct sksplice_ops *set)
{
	return set->orig;
}

/* slock held, else a hint. Is one of its halves busy? */
bool sksplice_ops_ours(const struct socket *sock)
{
	int busy;

	sksplice_ops_orig(sock, &busy);
	return busy;
}

static struct sksplice_ops *sksplice_ops_find(const struct proto_ops *orig)
{
	unsigned int i, nr = smp_load_acquire(&sksplice_ops_nr);

	for (i = 0; i < nr; i++)
		if (sksplice_ops_sets[i].orig == orig)
			return &sksplice_ops_sets[i];
	return NULL;
}

/*
 * Context: process. The tables for a socket; NULL: no room for one more kind of socket. Those of
 * plain TCP are for good: they need neither the lock nor a look at whether another table came to
 * the place of the original. A socket is plain at first or never, so what it had before it was
 * found to be plain is plain TCP's.
 */
const struct sksplice_ops *sksplice_ops_prepare(struct socket *sock)
{
	const struct proto_ops *orig;
	struct sksplice_ops *set;
	bool plain;
	int busy;

	orig = sksplice_ops_orig(sock, &busy);
	smp_rmb();
	plain = sksplice_proto_fast(sock->sk);
	set = plain ? sksplice_ops_find(orig) : NULL;
	if (set)
		return set;
	mutex_lock(&sksplice_ops_lock);
	orig = sksplice_ops_orig(sock, &busy);
	set = sksplice_ops_find(orig);
	if (set && memcmp(&set->busy[0], orig, sizeof(*orig)))
		sksplice_ops_fill_all(set, orig, plain);
	if (!set && sksplice_ops_nr < ARRAY_SIZE(sksplice_ops_sets)) {
		set = &sksplice_ops_sets[sksplice_ops_nr];
		sksplice_ops_fill_all(set, orig, plain);
		smp_store_release(&sksplice_ops_nr, sksplice_ops_nr + 1);
	}
	mutex_unlock(&sksplice_ops_lock);
	return set;
}

static const struct proto_ops *sksplice_ops_for(const struct sksplice_ops *set, int busy)
{
	return busy ? &set->busy[busy] : set->orig;
}

/* slock held. False: somebody else replaced the table meanwhile; it is left alone. */
bool sksplice_ops_swap(struct sksplice_sock *ss, int from, int to)
{
	const struct proto_ops *old = sksplice_ops_for(ss->ops, from);
	const struct proto_ops *table = sksplice_ops_for(ss->ops, to);

	sksplice_assert_slock(ss->sk);
	if (cmpxchg(&ss->sock->ops, old, table) != old)
		return false;
	ss->table = table;
	return true;
}

static long sksplice_ops_count(void)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(sksplice_ops_inside, cpu);
	return sum;
}

/*
 * Module exit, when no socket has one of our tables any more. A task may still be (1) between
 * loading a pointer from a table and the first instruction of our function: gone after a grace
 * period of tasks; (2) asleep in the original under one of our filters: waited for by the count;
 * (3) between the count and the return: gone after another grace period. The last one is for
 * our callbacks, which run under RCU.
 */
void sksplice_ops_drain(void)
{
	synchronize_rcu_tasks();
	while (sksplice_ops_count())
		schedule_timeout_uninterruptible(1);
	synchronize_rcu_tasks();
	synchronize_rcu();
}
