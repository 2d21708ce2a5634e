// SPDX-License-Identifier: GPL-2.0
/* TCP to TCP: which sockets can be spliced, and the one function that moves bytes. */
#include <linux/module.h>
#include <net/inet_connection_sock.h>
#include <net/ipv6.h>
#include <net/mptcp.h>
#include <net/tcp.h>
#include <net/transp_v6.h>

#include "batch.h"
#include "compat.h"
#include "sksplice.h"

/* What a source may be in: its readable half works, or has worked to the end. */
#define SKSPLICE_SOURCE_STATES (TCPF_ESTABLISHED | TCPF_FIN_WAIT1 | TCPF_FIN_WAIT2 | \
				TCPF_CLOSE_WAIT | TCPF_CLOSING | TCPF_LAST_ACK)
#define SKSPLICE_SINK_STATES (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT)

/* Batches in a run, however small: somebody may be waiting for the locks. */
#define SKSPLICE_ROUNDS 24
/* What is looked through for a delimiter at a time, with the locks held. */
#define SKSPLICE_DELIM_WINDOW SZ_16K

static bool sksplice_tcp_is(const struct sock *sk)
{
	return sk->sk_prot == &tcp_prot ||
	       (IS_ENABLED(CONFIG_IPV6) && sk->sk_prot == &tcpv6_prot);
}

/*
 * Sits in the place of an upper layer protocol for as long as we have the socket. setsockopt is
 * refused while an end is busy, but a call that was inside before, asleep on its argument, would
 * get past that; kTLS would then save our callbacks, and copy our proto_ops for all its sockets.
 * Nobody counts references to these ops: they are taken out again before the last fput.
 */
static const struct tcp_ulp_ops sksplice_tcp_ulp = {
	.name	= "sksplice",
	.owner	= THIS_MODULE,
};

/* slock held. @take: nobody else is there, as admitted. */
void sksplice_tcp_occupy(struct sock *sk, bool take)
{
	struct inet_connection_sock *icsk = inet_csk(sk);

	sksplice_assert_slock(sk);
	if (take)
		WRITE_ONCE(icsk->icsk_ulp_ops, &sksplice_tcp_ulp);
	else if (icsk->icsk_ulp_ops == &sksplice_tcp_ulp)
		WRITE_ONCE(icsk->icsk_ulp_ops, NULL);
}

/* slock held. Still plain TCP that nobody else has put something under or over? */
static bool sksplice_tcp_plain(const struct sock *sk)
{
	return sksplice_tcp_is(sk) && inet_csk(sk)->icsk_ulp_ops == &sksplice_tcp_ulp &&
	       !tcp_sk(sk)->repair &&
	       !sksplice_has_psp(sk);
}

static bool sksplice_in_states(const struct sock *sk, int states)
{
	return (1 << sk->sk_state) & states;
}

static int sksplice_tcp_admit_kind(struct sock *sk, const char **why)
{
	if (sk->sk_state == TCP_LISTEN)
		return SKSPLICE_REFUSE(why, -EOPNOTSUPP, "the socket is listening");
	if (inet_csk(sk)->icsk_ulp_ops && inet_csk(sk)->icsk_ulp_ops != &sksplice_tcp_ulp)
		return SKSPLICE_REFUSE(why, -EOPNOTSUPP,
				       "the socket has an upper layer protocol that is not supported");
	if (sksplice_has_psp(sk))
		return SKSPLICE_REFUSE(why, -EOPNOTSUPP, "PSP sockets are not supported");
	if (tcp_sk(sk)->repair)
		return SKSPLICE_REFUSE(why, -EOPNOTSUPP, "the socket is in repair mode");
	if (!sksplice_tcp_is(sk))
		return SKSPLICE_REFUSE(why, rcu_access_pointer(__sk_user_data(sk)) ? -EBUSY :
				       -EPROTONOSUPPORT, "the socket is not plain TCP any more");
	return 0;
}

/* slock held. No byte is left to read: the queue is empty, or has nothing but the FIN. */
static bool sksplice_tcp_drained(struct sock *sk)
{
	u32 off;
	struct sk_buff *skb = tcp_recv_skb(sk, tcp_sk(sk)->copied_seq, &off);

	sksplice_assert_slock(sk);
	return !skb || off >= skb->len;
}

/* A connection that is over in both directions is a source as long as there are bytes to read. */
static bool sksplice_tcp_leftover(struct sock *sk)
{
	return sk->sk_state == TCP_CLOSE && sock_flag(sk, SOCK_DONE) && !sk->sk_err &&
	       !sksplice_tcp_drained(sk);
}

/* slock held. */
bool sksplice_tcp_connecting(const struct sock *sk)
{
	return sksplice_in_states(sk, TCPF_SYN_SENT | TCPF_SYN_RECV);
}

/* slock held. A deferred connect begins with the user's first send, which cannot come: it is never admitted. */
int sksplice_tcp_admit_state(struct sock *sk, int want, const char **why)
{
	bool rx = want & SKSPLICE_WANT_RX, tx = want & SKSPLICE_WANT_TX;

	if (sksplice_tcp_connecting(sk) && (want & SKSPLICE_WANT_CONNECTING) &&
	    !sksplice_defer_connect(sk))
		return 0;
	if (sksplice_tcp_connecting(sk) || sksplice_defer_connect(sk))
		return SKSPLICE_REFUSE(why, -EINPROGRESS, "the socket is still connecting");
	if (rx && !sksplice_in_states(sk, SKSPLICE_SOURCE_STATES) &&
	    !sksplice_tcp_leftover(sk))
		return SKSPLICE_REFUSE(why, -ENOTCONN, "the source is not connected");
	if (tx && (!sksplice_in_states(sk, SKSPLICE_SINK_STATES) || sk->sk_err))
		return SKSPLICE_REFUSE(why, -ENOTCONN, "the sink is not connected");
	if (tx && (sk->sk_shutdown & SEND_SHUTDOWN))
		return SKSPLICE_REFUSE(why, -ENOTCONN, "the sink was shut down for writing");
	if ((want & SKSPLICE_WANT_ROOM) && !sk_stream_is_writeable(sk)) {
		/* As after every EAGAIN: who waits edge-triggered is told when there is room. */
		set_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
		return SKSPLICE_REFUSE(why, -EAGAIN, "the sink has no room");
	}
	return 0;
}

/* slock held. @want: SKSPLICE_WANT_*. Nothing in the socket has been changed yet, or is here. */
int sksplice_tcp_admit(struct socket *sock, int want, const char **why)
{
	int ret;

	sksplice_assert_slock(sock->sk);
	ret = sksplice_tcp_admit_kind(sock->sk, why);
	return ret ? ret : sksplice_tcp_admit_state(sock->sk, want, why);
}

/* An address as IPv6 sees it, so that a mapped socket compares equal to the IPv4 one it talks to. */
static struct in6_addr sksplice_addr(const struct sock *sk, bool local)
{
	struct in6_addr addr;

#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6)
		return local ? sk->sk_v6_rcv_saddr : sk->sk_v6_daddr;
#endif
	ipv6_addr_set_v4mapped(local ? sk->sk_rcv_saddr : sk->sk_daddr, &addr);
	return addr;
}

static bool sksplice_faces(const struct sock *a, const struct sock *b)
{
	struct in6_addr local = sksplice_addr(a, true), remote = sksplice_addr(b, false);

	return ipv6_addr_equal(&local, &remote) && a->sk_num == ntohs(b->sk_dport);
}

/* Are these the two sockets of one connection? A hint read without locks: addresses are stable. */
bool sksplice_tcp_mirror(const struct sock *a, const struct sock *b)
{
	return a != b && net_eq(sock_net(a), sock_net(b)) && sksplice_faces(a, b) &&
	       sksplice_faces(b, a);
}

/* slock held. The peer's FIN came, or the user shut the half down; not: the connection broke. */
static bool sksplice_tcp_eof(const struct sock *sk)
{
	return sock_flag(sk, SOCK_DONE) ||
	       ((sk->sk_shutdown & RCV_SHUTDOWN) && sk->sk_state != TCP_CLOSE);
}

int sksplice_tcp_error(const struct sksplice_sock *ss)
{
	return READ_ONCE(ss->sk->sk_err) ? : READ_ONCE(ss->err);
}

/* slock held. Why the stream from this socket will not come to its end, or 0. */
int sksplice_tcp_broken(const struct sksplice_sock *ss)
{
	int err = sksplice_tcp_error(ss);

	if (!err && ss->sk->sk_state == TCP_CLOSE && !sock_flag(ss->sk, SOCK_DONE))
		err = ECONNRESET;
	return err;
}

/* slock held. */
bool sksplice_tcp_source_over(const struct sksplice_sock *ss)
{
	return sksplice_tcp_error(ss) || ss->sk->sk_state == TCP_CLOSE ||
	       (sksplice_tcp_drained(ss->sk) && sksplice_tcp_eof(ss->sk));
}

/* slock held. */
bool sksplice_tcp_sink_over(const struct sksplice_sock *ss)
{
	return sksplice_tcp_error(ss) || (ss->sk->sk_shutdown & SEND_SHUTDOWN) ||
	       !sksplice_in_states(ss->sk, SKSPLICE_SINK_STATES);
}

/* Up to where the flow wrote: the FIN's number is none of a byte. Without the slock a hint. */
u32 sksplice_tcp_unacked(const struct sock *sk, u32 end)
{
	u32 una = READ_ONCE(tcp_sk(sk)->snd_una);

	return after(end, una) ? end - una : 0;
}

/*
 * slock held. An urgent byte that the peer wanted out of line is not part of the stream: step
 * over it as recv() does. The receive fast path stays off until the mark is behind us.
 */
static void sksplice_tcp_urgent(struct sksplice_flow *flow)
{
	struct sock *sk = sksplice_src(flow);
	struct tcp_sock *tp = tcp_sk(sk);

	sksplice_assert_slock(sk);
	if (tp->urg_seq == tp->copied_seq && !sock_flag(sk, SOCK_URGINLINE) &&
	    !sksplice_tcp_drained(sk)) {
		tcp_read_done(sk, 1);
		flow->copied_seq = tp->copied_seq;
	}
	if (after(tp->copied_seq, tp->urg_seq)) {
		WRITE_ONCE(tp->urg_data, 0);
		tcp_fast_path_check(sk);
	}
}

/* slock held. Has anybody else written to the sink, or changed what it is? */
bool sksplice_tcp_sink_intruded(const struct sksplice_flow *flow)
{
	const struct sock *dst = sksplice_dst(flow);

	return unlikely(tcp_sk(dst)->write_seq != flow->write_seq ||
			!sksplice_tcp_plain(dst) || !sksplice_end_intact(flow->dst));
}

/*
 * slock held. Has anybody else read from the source, or changed what it is? tcp_check_urg() steps
 * over urgent bytes by itself when the next one comes.
 */
bool sksplice_tcp_source_intruded(struct sksplice_flow *flow)
{
	const struct sock *src = sksplice_src(flow);
	const struct tcp_sock *tp = tcp_sk(src);

	if (unlikely(tp->urg_data) && after(tp->copied_seq, flow->copied_seq) &&
	    !after(tp->copied_seq, tp->urg_seq))
		flow->copied_seq = tp->copied_seq;
	return unlikely(tp->copied_seq != flow->copied_seq ||
			!sksplice_tcp_plain(src) || !sksplice_end_intact(flow->src));
}

static enum sksplice_verdict sksplice_tcp_intruder(struct sksplice_flow *flow, bool source)
{
	sksplice_count(intruded);
	sksplice_flow_fail(flow, source, EBUSY);
	return SKSPLICE_STOPPED;
}

/* Both slocks held. May the sink be written to? Otherwise the flow has failed. */
static bool sksplice_tcp_sink_ok(struct sksplice_flow *flow)
{
	const struct sksplice_sock *dst = flow->dst;

	if (likely(!sksplice_tcp_sink_over(dst)))
		return true;
	sksplice_flow_fail(flow, false, sksplice_tcp_error(dst) ? : EPIPE);
	return false;
}

/*
 * Both slocks held. What shutdown(SHUT_WR) does, without owning the socket: everything in it
 * runs in softirq elsewhere too, and allocates atomically since sk_allocation says so.
 */
static void sksplice_tcp_shutdown(struct sock *sk)
{
	sksplice_assert_slock(sk);
	WRITE_ONCE(sk->sk_shutdown, sk->sk_shutdown | SEND_SHUTDOWN);
	sk->sk_prot->shutdown(sk, SEND_SHUTDOWN);
	sk->sk_state_change(sk);
}

/* Both slocks held, nothing to read. Over, failed, or just empty? */
static enum sksplice_verdict sksplice_tcp_dry(struct sksplice_flow *flow, bool worker)
{
	struct sock *sk = sksplice_src(flow);
	int err = sksplice_tcp_broken(flow->src);

	if (err) {
		sksplice_flow_fail(flow, true, err);
		return SKSPLICE_STOPPED;
	}
	if (!sksplice_tcp_eof(sk))
		return SKSPLICE_EMPTY;
	/* TCP is in the middle of a receive on the source: that is not to be shut down now */
	if (!worker && (flow->extra || sksplice_dst(flow) == sk))
		return SKSPLICE_DEFER;
	if (sksplice_op_owns(flow->op) || (flow->op->flags & SKSPLICE_F_SHUTDOWN))
		sksplice_tcp_shutdown(sksplice_dst(flow));
	return sksplice_flow_eof(flow);
}

/* Both slocks held. The sink accepted @sent of the batch: only now do they leave the source. */
static void sksplice_tcp_accept(struct sksplice_flow *flow, size_t sent)
{
	struct sock *src = sksplice_src(flow);

	tcp_read_done(src, sent);
	flow->copied_seq = tcp_sk(src)->copied_seq;
	WRITE_ONCE(flow->write_seq, tcp_sk(sksplice_dst(flow))->write_seq);
	sksplice_flow_moved(flow, sent);
	if (unlikely(tcp_sk(src)->urg_data))
		sksplice_tcp_urgent(flow);
}

/*
 * Both slocks held. Is that the end of the run, since the sink took nothing, or less than it was
 * given and has no room any more? When it is short and yet there is room, the push inside the
 * send has made it: GO. SOCK_NOSPACE is what makes TCP call write_space; the send has set it, but
 * a push inside may have cleared it since.
 */
enum sksplice_verdict sksplice_tcp_sent(struct sksplice_flow *flow, ssize_t sent, size_t len)
{
	struct sock *dst = sksplice_dst(flow);

	if (likely(sent == (ssize_t)len) || (sent > 0 && sk_stream_memory_free(dst)))
		return SKSPLICE_GO;
	if (sent >= 0 || sent == -EAGAIN || sent == -ENOMEM || sent == -ENOBUFS) {
		if (!sk_stream_memory_free(dst)) {
			set_bit(SOCK_NOSPACE, &dst->sk_socket->flags);
			return SKSPLICE_FULL;
		}
		sksplice_count(nomem);
		return SKSPLICE_NOMEM;
	}
	sksplice_flow_fail(flow, false, READ_ONCE(flow->dst->err) ? : -sent);
	return SKSPLICE_STOPPED;
}

/*
 * Both slocks held. Holding back a partial segment for the next call is safe only while
 * something is in flight: the acknowledgment pushes it, should the next call find no room.
 */
static bool sksplice_tcp_more(const struct sksplice_flow *flow, const struct sksplice_batch *batch,
			      size_t budget)
{
	return batch->more && budget > batch->len && flow->left > batch->len &&
	       tcp_sk(sksplice_dst(flow))->packets_out;
}

/* slock held. GO, or it has failed. */
enum sksplice_verdict sksplice_tcp_sink_ready(struct sksplice_flow *flow)
{
	sksplice_assert_slock(sksplice_dst(flow));
	if (!sksplice_tcp_sink_ok(flow))
		return SKSPLICE_STOPPED;
	if (sksplice_tcp_sink_intruded(flow))
		return sksplice_tcp_intruder(flow, false);
	return SKSPLICE_GO;
}

/* Both slocks held. GO: bytes may be moved; or it has failed. */
enum sksplice_verdict sksplice_tcp_ready(struct sksplice_flow *flow)
{
	sksplice_assert_slock(sksplice_src(flow));
	sksplice_assert_slock(sksplice_dst(flow));
	if (!sksplice_tcp_sink_ok(flow))
		return SKSPLICE_STOPPED;
	if (sksplice_tcp_source_intruded(flow) || sksplice_tcp_sink_intruded(flow))
		return sksplice_tcp_intruder(flow, true);
	if (unlikely(tcp_sk(sksplice_src(flow))->urg_data))
		sksplice_tcp_urgent(flow);
	return SKSPLICE_GO;
}

/* Both slocks held. The next bytes, up to where the flow ends. GO, or the run ends here. */
static enum sksplice_verdict sksplice_tcp_peek(struct sksplice_flow *flow,
					       struct sksplice_batch *batch, size_t max)
{
	/* all of it is looked through, however little the sink then takes */
	if (unlikely(flow->extra) && flow->extra->delim_len)
		max = min_t(size_t, max, SKSPLICE_DELIM_WINDOW);
	sksplice_gather(flow, batch, min_t(u64, max, flow->left));
	if (unlikely(flow->extra))
		sksplice_delim_cut(flow->extra, batch);
	return unlikely(flow->extra) ? sksplice_framer_cut(flow, batch) : SKSPLICE_GO;
}

/*
 * Both slocks held, and ready. Peeks, sends, consumes what was accepted, all under the locks:
 * bytes are never held by us. The inline run (@worker false) leaves the end of the stream to the
 * worker. GO: its last byte is sent, and something follows.
 */
enum sksplice_verdict sksplice_tcp_move(struct sksplice_flow *flow, size_t budget, bool worker)
{
	struct sksplice_batch batch sksplice_uninitialized;
	struct sk_buff_head *queue = &sksplice_src(flow)->sk_receive_queue;
	int rounds = SKSPLICE_ROUNDS;
	enum sksplice_verdict v;

	while (flow->left && budget && rounds--) {
		ssize_t sent;

		if (likely(!flow->extra) && skb_queue_empty(queue))
			return sksplice_tcp_dry(flow, worker);

		v = sksplice_tcp_peek(flow, &batch, budget);
		if (v != SKSPLICE_GO)
			return v;
		if (batch.broken) {
			sksplice_flow_fail(flow, true, EFAULT);
			return SKSPLICE_STOPPED;
		}
		if (!batch.len)
			return sksplice_tcp_dry(flow, worker);
		sent = sksplice_tcp_send(sksplice_dst(flow), &batch,
					 sksplice_tcp_more(flow, &batch, budget));
		if (sent > 0) {
			bool delim = unlikely(flow->extra) &&
				     sksplice_delim_passed(flow->extra, &batch, sent);

			budget -= sent;
			sksplice_tcp_accept(flow, sent);
			if (unlikely(flow->extra))
				sksplice_framer_passed(flow, sent);
			if (delim && flow->left)
				return sksplice_flow_done(flow, SKSPLICE_CAUSE_DELIM);
		}
		v = sksplice_tcp_sent(flow, sent, batch.len);
		if (v != SKSPLICE_GO)
			return v;
	}
	if (flow->left)
		return SKSPLICE_MORE;
	return sksplice_flow_done(flow, SKSPLICE_CAUSE_DONE);
}

/*
 * The pump. Both slocks held (the same one once, for an echo), BH off, neither socket owned.
 */
enum sksplice_verdict sksplice_tcp_pump(struct sksplice_flow *flow, size_t budget, bool worker)
{
	enum sksplice_verdict v;

	if (unlikely(flow->extra))
		return sksplice_extra_pump(flow, budget, worker);
	v = sksplice_tcp_ready(flow);
	return v == SKSPLICE_GO ? sksplice_tcp_move(flow, budget, worker) : v;
}
