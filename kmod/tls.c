// SPDX-License-Identifier: GPL-2.0
/*
 * kTLS sockets as ends of a generic flow. What is no data, alerts and what is left of the
 * handshake, is nothing that a sink could be sent: it ends the flow as what it is, and stays where
 * it is for whoever gets the socket back.
 */
#include <linux/socket.h>
#include <net/inet_connection_sock.h>
#include <net/strparser.h>
#include <net/tcp.h>
#include <net/tls.h>

#include "compat.h"
#include "sksplice.h"

/* RFC 8446, 4 and 5.1 and 6 */
#define SKSPLICE_TLS_ALERT		21
#define SKSPLICE_TLS_HANDSHAKE		22
#define SKSPLICE_TLS_DATA		23
#define SKSPLICE_TLS_CLOSE_NOTIFY	0
#define SKSPLICE_TLS_TICKET		4
#define SKSPLICE_TLS_KEY_UPDATE		24

/* Records passed over in one look. */
#define SKSPLICE_TLS_ROUNDS 32

/* A hint without the slock. */
bool sksplice_tls_is(const struct sock *sk)
{
	const struct tcp_ulp_ops *ulp = READ_ONCE(inet_csk(sk)->icsk_ulp_ops);

	return IS_ENABLED(CONFIG_TLS) && ulp && !strcmp(ulp->name, "tls");
}

static int sksplice_tls_admit(struct socket *sock, int want, const char **why)
{
	const struct tls_context *ctx = tls_get_ctx(sock->sk);

	sksplice_assert_slock(sock->sk);
	if (ctx->rx_conf > TLS_HW || ctx->tx_conf > TLS_HW)
		return SKSPLICE_REFUSE(why, -EOPNOTSUPP, "TLS in the network card is not supported");
	if ((want & SKSPLICE_WANT_RX) && ctx->rx_conf == TLS_BASE)
		return SKSPLICE_REFUSE(why, -EINPROGRESS, "the TLS source has no keys yet (TLS_RX)");
	if ((want & SKSPLICE_WANT_TX) && ctx->tx_conf == TLS_BASE)
		return SKSPLICE_REFUSE(why, -EINPROGRESS, "the TLS sink has no keys yet (TLS_TX)");
	return sksplice_tcp_admit_state(sock->sk, want, why);
}

/* What a record that is no data means, which begins with these bytes; 0: end of stream. */
static int sksplice_tls_meaning(u8 type, const u8 *p, ssize_t n)
{
	if (type == SKSPLICE_TLS_ALERT && n >= 2)
		return p[1] == SKSPLICE_TLS_CLOSE_NOTIFY ? 0 : -ECONNABORTED;
	if (type == SKSPLICE_TLS_HANDSHAKE && n >= 1 && p[0] == SKSPLICE_TLS_KEY_UPDATE)
		return -EKEYEXPIRED;
	return -EPROTO;
}

/* As sksplice_proto_recv(). *@type: of the record, or records of one type; 0: there is none. */
static ssize_t sksplice_tls_recv(struct sksplice_sock *ss, void *buf, size_t len, int flags,
				 u8 *type)
{
	union {
		struct cmsghdr hdr;
		u8 room[CMSG_SPACE(sizeof(u8))];
	} control = { };
	struct msghdr msg = { .msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t n = sksplice_proto_recv(ss, &msg, buf, len, flags);

	*type = 0;
	if (msg.msg_controllen != sizeof(control) && control.hdr.cmsg_level == SOL_TLS &&
	    control.hdr.cmsg_type == TLS_GET_RECORD_TYPE)
		*type = *(u8 *)CMSG_DATA(&control.hdr);
	return n;
}

/*
 * Records that are empty stay behind when they were only looked at, charged to nobody, and a peer can
 * send any number of them. The lock is for a thread that was on its way into recv() before we came.
 */
static bool sksplice_tls_drop_empty(const struct sksplice_sock *ss)
{
	struct tls_sw_context_rx *sw = tls_get_ctx(ss->sk)->priv_ctx_rx;
	struct sk_buff *skb, *next;
	bool any = false;

	lock_sock(ss->sk);
	skb_queue_walk_safe(&sw->rx_list, skb, next) {
		if (strp_msg(skb)->full_len)
			continue;
		__skb_unlink(skb, &sw->rx_list);
		consume_skb(skb);
		any = true;
	}
	release_sock(ss->sk);
	return any;
}

/* What is left of the record that is next, after it was looked at. */
static size_t sksplice_tls_left(const struct sksplice_sock *ss)
{
	const struct tls_sw_context_rx *sw = tls_get_ctx(ss->sk)->priv_ctx_rx;
	struct sk_buff *skb;
	size_t left;

	lock_sock(ss->sk);
	skb = skb_peek(&sw->rx_list);
	left = skb ? strp_msg(skb)->full_len : 0;
	release_sock(ss->sk);
	return left;
}

/* A ticket for another session: of no use to anybody once both ends are the operation's. */
static bool sksplice_tls_skip(const struct sksplice_flow *flow, u8 type, const u8 *p)
{
	size_t left = sksplice_tls_left(flow->src);

	return type == SKSPLICE_TLS_HANDSHAKE && p[0] == SKSPLICE_TLS_TICKET && left &&
	       sksplice_op_closes(flow->op) &&
	       sksplice_tls_recv(flow->src, NULL, left, 0, &type) == left;
}

/*
 * A hint. A peer that closed has said its FIN, and answers with a reset what comes later, such as the
 * close_notify that the end of the other direction became. All of its stream is there, but kTLS looks
 * at the error first.
 */
static bool sksplice_tls_reset_late(const struct sock *sk)
{
	return READ_ONCE(sk->sk_err) == EPIPE && sock_flag(sk, SOCK_DONE);
}

/* As recv(MSG_PEEK). *@again: nothing but empty records was there, or only what was before them. */
static ssize_t sksplice_tls_look(struct sksplice_sock *ss, void *buf, size_t len, u8 *type,
				 bool *again)
{
	bool late = sksplice_tls_reset_late(ss->sk) && cmpxchg(&ss->sk->sk_err, EPIPE, 0) == EPIPE;
	ssize_t n = sksplice_tls_recv(ss, buf, len, MSG_PEEK, type);
	bool empty = sksplice_tls_drop_empty(ss);

	if (late)
		cmpxchg(&ss->sk->sk_err, 0, EPIPE);
	/* the end of what is empty looks like the end of all */
	*again = !n && *type == SKSPLICE_TLS_DATA && empty;
	return n;
}

/* A peer can send what is passed over faster than it is: a run does so many, then comes another. */
static ssize_t sksplice_tls_peek(struct sksplice_flow *flow, void *buf, size_t len)
{
	int rounds = SKSPLICE_TLS_ROUNDS;

	while (rounds--) {
		u8 type, head[4];
		bool again;
		ssize_t n = sksplice_tls_look(flow->src, buf, len, &type, &again);

		if (again)
			continue;
		if (n < 0 || !type)
			return n;
		if (type == SKSPLICE_TLS_DATA)
			return n ? n : -EAGAIN;
		/* no other record may be empty */
		if (n)
			n = sksplice_tls_recv(flow->src, head, sizeof(head), MSG_PEEK, &type);
		if (n <= 0)
			return n ? n : -EPROTO;
		if (!sksplice_tls_skip(flow, type, head))
			return sksplice_tls_meaning(type, head, n);
	}
	sksplice_pump_kick(flow);
	return -EAGAIN;
}

/* A record behind the data that was looked at has been decrypted with it, and is kept with it. */
static int sksplice_tls_behind(struct sksplice_flow *flow, void *buf, size_t len)
{
	const struct tls_sw_context_rx *sw = tls_get_ctx(sksplice_src(flow))->priv_ctx_rx;
	struct sk_buff *skb;
	int ret = 1;

	lock_sock(sksplice_src(flow));
	skb_queue_walk(&sw->rx_list, skb) {
		u8 p[2], type = ((struct sk_skb_cb *)skb->cb)->tls.control;
		int n = min(strp_msg(skb)->full_len, 2);

		if (type == SKSPLICE_TLS_DATA)
			continue;
		if (skb_copy_bits(skb, strp_msg(skb)->offset, p, n))
			n = 0;
		ret = sksplice_tls_meaning(type, p, n);
		break;
	}
	release_sock(sksplice_src(flow));
	return ret;
}

/*
 * No more than TCP has room for: what it does not take TLS keeps, and closing the socket would
 * lose it. When it can be written to there is room for a third of its buffer, at the least.
 */
static ssize_t sksplice_tls_send(struct sksplice_flow *flow, const void *buf, size_t len)
{
	struct sock *sk = sksplice_dst(flow);
	struct msghdr msg = { };

	if (!sk_stream_is_writeable(sk)) {
		set_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
		smp_mb__after_atomic();	/* as in poll: room that was made before is seen */
		if (!sk_stream_is_writeable(sk))
			return -EAGAIN;
	}
	len = min_t(size_t, len, max(sk_stream_wspace(sk) / 2, 1));
	return sksplice_proto_sendmsg(flow->dst, &msg, buf, len);
}

/* All that TLS accepted, TCP has: else closing or shutting down would lose it. */
static bool sksplice_tls_settled(const struct sock *sk)
{
	const struct tls_context *ctx = tls_get_ctx(sk);
	const struct tls_sw_context_tx *sw = ctx->priv_ctx_tx;

	if (sk->sk_err || ctx->tx_conf == TLS_BASE)
		return true;
	if (READ_ONCE(ctx->partially_sent_record))
		return false;
	return ctx->tx_conf != TLS_SW || list_empty_careful(&sw->tx_list);
}

/* slock held. Nothing is left to read. A hint: who owns the socket may be decrypting. */
static bool sksplice_tls_drained(const struct sock *sk)
{
	const struct tls_context *ctx = tls_get_ctx(sk);
	const struct tls_sw_context_rx *sw = ctx->priv_ctx_rx;

	return skb_queue_empty_lockless(&sk->sk_receive_queue) &&
	       (ctx->rx_conf == TLS_BASE || skb_queue_empty_lockless(&sw->rx_list));
}

/* The peer is told that this is the end, and not that the connection was cut; then comes the FIN. */
static int sksplice_tls_finish(struct sksplice_flow *flow)
{
	static const u8 alert[2] = { 1, SKSPLICE_TLS_CLOSE_NOTIFY };	/* a warning */
	union {
		struct cmsghdr hdr;
		u8 room[CMSG_SPACE(sizeof(u8))];
	} control = { };
	struct msghdr msg = { .msg_control = &control, .msg_controllen = sizeof(control) };
	struct sock *sk = sksplice_dst(flow);
	ssize_t n = sizeof(alert);

	control.hdr.cmsg_level = SOL_TLS;
	control.hdr.cmsg_type = TLS_SET_RECORD_TYPE;
	control.hdr.cmsg_len = CMSG_LEN(sizeof(u8));
	*(u8 *)CMSG_DATA(&control.hdr) = SKSPLICE_TLS_ALERT;
	if (!flow->notified)
		n = sksplice_proto_sendmsg(flow->dst, &msg, alert, sizeof(alert));
	if (n == -EAGAIN || n == -ENOMEM || n == -ENOBUFS)
		return n;
	flow->notified = true;
	if (sksplice_tls_settled(sk))
		return 0;
	set_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
	smp_mb__after_atomic();
	return sksplice_tls_settled(sk) ? 0 : -EAGAIN;
}

/* A hint. Why its stream will not come to its end, or 0. */
static int sksplice_tls_broken(const struct sksplice_sock *ss)
{
	return sksplice_tls_reset_late(ss->sk) ? 0 : sksplice_tcp_broken(ss);
}

const struct sksplice_proto sksplice_proto_tls = {
	.tcp = true,
	.admit = sksplice_tls_admit,
	.peek = sksplice_tls_peek,
	.behind = sksplice_tls_behind,
	.send = sksplice_tls_send,
	.finish = sksplice_tls_finish,
	.settled = sksplice_tls_settled,
	.drained = sksplice_tls_drained,
	.broken = sksplice_tls_broken,
};
