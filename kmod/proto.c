// SPDX-License-Identifier: GPL-2.0
/*
 * The kinds of sockets that can be ends. Plain TCP to plain TCP is tcp.c's own; all other pairs
 * go the generic way, and of each of their ends this file knows how to look at its next bytes, to
 * send to it, to take bytes from it and to end it: by the calls of its own family, without the
 * hooks of a security module, which were asked when the operation began.
 *
 * All calls here but those with a slock in their comment sleep: context is the operation's run,
 * its mutex held, and neither slock.
 */
#include <linux/uio.h>
#include <net/af_unix.h>
#include <net/tcp.h>

#include "compat.h"
#include "sksplice.h"

/* ---- plain TCP as one end of a generic flow */

static ssize_t sksplice_plain_peek(struct sksplice_flow *flow, void *buf, size_t len)
{
	struct msghdr msg = { };

	return sksplice_proto_recv(flow->src, &msg, buf, len, MSG_PEEK);
}

static const struct sksplice_proto sksplice_proto_tcp = {
	.tcp = true,
	.callbacks = true,
	.admit = sksplice_tcp_admit,
	.peek = sksplice_plain_peek,
};

/* ---- which one */

/*
 * A hint without the slock, certain with it: a socket becomes kTLS by its user. NULL: no kind that
 * is known.
 */
const struct sksplice_proto *sksplice_proto_of(const struct sock *sk)
{
	if (sk->sk_type != SOCK_STREAM)
		return NULL;
	switch (sk->sk_family) {
	case AF_INET:
	case AF_INET6:
		if (sk->sk_protocol != IPPROTO_TCP)
			return NULL;
		return sksplice_tls_is(sk) ? &sksplice_proto_tls : &sksplice_proto_tcp;
	case AF_UNIX:
		return &sksplice_proto_unix;
	case AF_VSOCK:
		return IS_ENABLED(CONFIG_VSOCKETS) ? &sksplice_proto_vsock : NULL;
	}
	return NULL;
}

/* A hint, as above. Can tcp.c move bytes from or to it? */
bool sksplice_proto_fast(const struct sock *sk)
{
	return sksplice_proto_of(sk) == &sksplice_proto_tcp;
}

/* ---- what all of them do alike */

/*
 * A call may take the socket's error with it, which is not ours: whoever gets the socket back is
 * to find it as well.
 */
static void sksplice_proto_keep_error(struct sock *sk, int before, int ret)
{
	if (ret == -ECONNRESET || (before && ret == -before))
		cmpxchg(&sk->sk_err, 0, -ret);
}

/*
 * @msg: with room for control messages, or zero. @buf: NULL: the bytes go nowhere. 0: end of stream.
 * Never waits for bytes.
 */
ssize_t sksplice_proto_recv(struct sksplice_sock *ss, struct msghdr *msg, void *buf, size_t len,
			    int flags)
{
	struct kvec vec = { .iov_base = buf, .iov_len = len };
	int err = READ_ONCE(ss->sk->sk_err);
	int ret;

	if (buf)
		iov_iter_kvec(&msg->msg_iter, ITER_DEST, &vec, 1, len);
	else
		iov_iter_discard(&msg->msg_iter, ITER_DEST, len);
	ret = sksplice_ops_real(ss->ops)->recvmsg(ss->sock, msg, len, flags | MSG_DONTWAIT);
	sksplice_proto_keep_error(ss->sk, err, ret);
	return ret;
}

/* @msg: with control messages, or zero. What was accepted, or an errno. */
ssize_t sksplice_proto_sendmsg(struct sksplice_sock *ss, struct msghdr *msg, const void *buf,
			       size_t len)
{
	struct kvec vec = { .iov_base = (void *)buf, .iov_len = len };
	int err = READ_ONCE(ss->sk->sk_err);
	int ret;

	msg->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
	iov_iter_kvec(&msg->msg_iter, ITER_SOURCE, &vec, 1, len);
	ret = sksplice_ops_real(ss->ops)->sendmsg(ss->sock, msg, len);
	sksplice_proto_keep_error(ss->sk, err, ret);
	if (ret > 0)
		sksplice_add(copied, ret);
	return ret;
}

ssize_t sksplice_proto_send(struct sksplice_flow *flow, const void *buf, size_t len)
{
	struct sksplice_sock *ss = flow->dst;
	struct msghdr msg = { };

	sksplice_assert_run(flow);
	if (ss->proto->send)
		return ss->proto->send(flow, buf, len);
	return sksplice_proto_sendmsg(ss, &msg, buf, len);
}

/*
 * Takes @len bytes that were peeked at. They are there: nobody else reads. 0, or an errno: somebody
 * else did.
 */
int sksplice_proto_consume(struct sksplice_sock *ss, size_t len)
{
	int tries = 4;

	while (len) {
		struct msghdr msg = { };
		ssize_t n = sksplice_proto_recv(ss, &msg, NULL, len, 0);

		/* AF_UNIX says so once where an urgent byte was */
		if (n <= 0 && !(n == -EAGAIN && --tries))
			return -EBUSY;
		if (n > 0)
			len -= n;
	}
	return 0;
}

/*
 * Ends the stream to the sink. 0, or something must go before: -EAGAIN, and there is no room for it
 * yet, or there is no memory.
 */
int sksplice_proto_finish(struct sksplice_flow *flow)
{
	struct sksplice_sock *ss = flow->dst;
	int ret;

	sksplice_assert_run(flow);
	ret = ss->proto->finish ? ss->proto->finish(flow) : 0;
	if (ret)
		return ret;
	sksplice_ops_real(ss->ops)->shutdown(ss->sock, SHUT_WR);
	return 0;
}

/* Has it let go of all that it accepted, so that the socket can be closed? */
bool sksplice_proto_settled(const struct sksplice_sock *ss)
{
	return !ss->proto->settled || ss->proto->settled(ss->sk);
}

/* Why no byte that this socket is sent will ever get anywhere, or 0. A hint without the slock. */
int sksplice_proto_sink_broken(const struct sksplice_sock *ss)
{
	int err = sksplice_tcp_error(ss);

	if (!err && ss->proto->tcp && sksplice_tcp_sink_over(ss))
		err = EPIPE;
	return err;
}

/* Why the stream from it will not come to its end, or 0. A hint without the slock. */
int sksplice_proto_source_broken(const struct sksplice_sock *ss)
{
	if (ss->proto->broken)
		return ss->proto->broken(ss);
	return ss->proto->tcp ? sksplice_tcp_broken(ss) : sksplice_tcp_error(ss);
}

/* slock held. */
bool sksplice_proto_source_over(const struct sksplice_sock *ss)
{
	const struct sock *sk = ss->sk;

	sksplice_assert_slock(sk);
	if (ss->proto == &sksplice_proto_tcp)
		return sksplice_tcp_source_over(ss);
	if (READ_ONCE(sk->sk_err) || sk->sk_state == TCP_CLOSE)
		return true;
	if (!(sk->sk_shutdown & RCV_SHUTDOWN) && !sock_flag(sk, SOCK_DONE))
		return false;
	return ss->proto->drained ? ss->proto->drained(sk) :
	       skb_queue_empty_lockless(&sk->sk_receive_queue);
}

/*
 * A hint without the slock, to be asked for before the bytes are looked at: will no more come than
 * are there then?
 */
bool sksplice_proto_ended(const struct sksplice_sock *ss)
{
	const struct sock *sk = ss->sk;
	bool ended = (READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN) || sock_flag(sk, SOCK_DONE);

	if (IS_ENABLED(CONFIG_VSOCKETS) && sk->sk_family == AF_VSOCK)
		ended |= sksplice_vsock_ended(sk);
	smp_rmb();	/* bytes go before the end in all families */
	return ended;
}

/* slock held. */
bool sksplice_proto_sink_over(const struct sksplice_sock *ss)
{
	sksplice_assert_slock(ss->sk);
	if (ss->proto->tcp)
		return sksplice_tcp_sink_over(ss);
	return READ_ONCE(ss->sk->sk_err) || ss->sk->sk_state == TCP_CLOSE ||
	       (ss->sk->sk_shutdown & SEND_SHUTDOWN);
}

/*
 * What its peer has not acknowledged of what this flow sent. kTLS sends by itself what TCP did
 * not take at once, so there it is all that TCP has, but for the FIN. Elsewhere nothing is
 * acknowledged.
 */
u32 sksplice_proto_unacked(const struct sksplice_flow *flow)
{
	const struct sock *sk = sksplice_dst(flow);
	u32 end;

	if (!flow->dst->proto->tcp)
		return 0;
	if (flow->dst->proto == &sksplice_proto_tcp)
		return sksplice_tcp_unacked(sk, READ_ONCE(flow->write_seq));
	end = READ_ONCE(tcp_sk(sk)->write_seq);
	if (READ_ONCE(sk->sk_shutdown) & SEND_SHUTDOWN)
		end--;
	return sksplice_tcp_unacked(sk, end) + !sksplice_proto_settled(flow->dst);
}

/* Are these the two sockets of one connection? A hint read without locks. */
bool sksplice_proto_mirror(const struct sock *a, const struct sock *b)
{
	if (a == b || a->sk_family == AF_UNIX || b->sk_family == AF_UNIX)
		return a != b && a->sk_family == b->sk_family && READ_ONCE(unix_peer(a)) == b;
	if (IS_ENABLED(CONFIG_VSOCKETS) && (a->sk_family == AF_VSOCK || b->sk_family == AF_VSOCK))
		return a->sk_family == b->sk_family && sksplice_vsock_mirror(a, b);
	return sksplice_tcp_mirror(a, b);
}

/*
 * Context: process, may sleep in lock_sock() unless the family has none there. As the peers see it
 * this did not end well. Those without a reset see the end of both directions.
 */
void sksplice_proto_abort(struct sksplice_sock *ss, int error)
{
	if (ss->proto->tcp)
		tcp_abort(ss->sk, error);
	else
		sksplice_ops_real(ss->ops)->shutdown(ss->sock, SHUT_RDWR);
}
