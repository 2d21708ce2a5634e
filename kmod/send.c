// SPDX-License-Identifier: GPL-2.0
/*
 * Our own sender. Not skb_send_sock_locked(): it passes no MSG_NOSIGNAL, so a dead sink would
 * send SIGPIPE to whatever task the softirq interrupted, and it pushes every fragment.
 */
#include <linux/uio.h>
#include <net/tcp.h>

#include "batch.h"
#include "compat.h"
#include "sksplice.h"

#define SKSPLICE_MSG_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)

/*
 * Where copied bytes go, of all sinks that are sent to on this processor. A sink may not use the
 * fragment of the task that was interrupted; one of its own would be 32 KiB for each socket that
 * ever had a byte to copy. Used with BH off, and never by two: a send does not begin inside another.
 * Where BH off does not keep others away, and for a sink that may use the memory reserves, whose
 * pages would make receivers drop what others send from them, it stays with the sink's own.
 */
static DEFINE_PER_CPU(struct page_frag, sksplice_frag);

/* Module exit: nobody sends any more. What was sent has its own references. */
void sksplice_send_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct page_frag *frag = per_cpu_ptr(&sksplice_frag, cpu);

		if (frag->page)
			put_page(frag->page);
	}
}

/*
 * Sink's slock held, BH off, not owned: the backlog is empty, so that sk_flush_backlog() inside
 * does not take the lock again; sk_allocation is atomic, so nothing inside sleeps.
 */
static ssize_t sksplice_sendmsg(struct sock *sk, struct msghdr *msg)
{
	struct page_frag *frag = this_cpu_ptr(&sksplice_frag), own = sk->sk_frag;
	ssize_t sent;

	sksplice_assert_slock(sk);
	lockdep_assert(in_softirq());
	if (IS_ENABLED(CONFIG_PREEMPT_RT) || (sk->sk_allocation & __GFP_MEMALLOC))
		return tcp_sendmsg_locked(sk, msg, msg_data_left(msg));
	sk->sk_frag = *frag;
	sent = tcp_sendmsg_locked(sk, msg, msg_data_left(msg));
	*frag = sk->sk_frag;
	sk->sk_frag = own;
	return sent;
}

/* As above. */
static ssize_t sksplice_send_batch(struct sock *sk, struct sksplice_batch *batch, int flags)
{
	struct msghdr msg = { .msg_flags = SKSPLICE_MSG_FLAGS | flags };

	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, batch->vec, batch->nr, batch->len);
	return sksplice_sendmsg(sk, &msg);
}

/* As above. Bytes of ours, which need not be in pages that could be handed on. */
ssize_t sksplice_tcp_send_bytes(struct sock *sk, const void *data, size_t len)
{
	struct msghdr msg = { .msg_flags = SKSPLICE_MSG_FLAGS };
	struct kvec vec = { .iov_base = (void *)data, .iov_len = len };
	ssize_t sent;

	iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, &vec, 1, len);
	sent = sksplice_sendmsg(sk, &msg);
	if (sent > 0)
		sksplice_add(copied, sent);
	return sent;
}

#ifdef SKSPLICE_HAVE_SPLICE_PAGES
static ssize_t sksplice_sendpages(struct sock *sk, struct sksplice_batch *batch, int flags)
{
	return sksplice_send_batch(sk, batch, flags | MSG_SPLICE_PAGES);
}
#else
/*
 * As above. All but the last go without a push; a call that falls short pushes what is queued
 * by itself (wait_for_space in do_tcp_sendpages()).
 */
static ssize_t sksplice_sendpages(struct sock *sk, struct sksplice_batch *batch, int flags)
{
	ssize_t sent = 0, ret = 0;
	unsigned int i;

	sksplice_assert_slock(sk);
	for (i = 0; i < batch->nr; i++) {
		const struct bio_vec *v = &batch->vec[i];
		bool last = i == batch->nr - 1;

		/* A push may have chosen another route; the fallback for such would kmap(). */
		if (!(sk->sk_route_caps & NETIF_F_SG)) {
			ret = -EAGAIN;
			break;
		}
		ret = tcp_sendpage_locked(sk, v->bv_page, v->bv_offset, v->bv_len,
					  SKSPLICE_MSG_FLAGS | flags |
					  (last ? 0 : MSG_MORE | MSG_SENDPAGE_NOTLAST));
		if (ret <= 0)
			break;
		sent += ret;
		if (ret < v->bv_len)
			break;
	}
	return sent ? sent : ret;
}
#endif

/*
 * Sink's slock held, BH off, not owned. Returns what the sink accepted, perhaps less than the
 * batch, or an errno. With @more the last partial segment may wait for the next call.
 */
ssize_t sksplice_tcp_send(struct sock *sk, struct sksplice_batch *batch, bool more)
{
	int flags = more ? MSG_MORE : 0;
	ssize_t sent;

	if (batch->copy)
		sent = sksplice_send_batch(sk, batch, flags);
	else
		sent = sksplice_sendpages(sk, batch, flags);
	if (sent <= 0)
		return sent;
	if (batch->copy)
		sksplice_add(copied, sent);
	else
		sksplice_add(zerocopy, sent);
	return sent;
}
