// SPDX-License-Identifier: GPL-2.0
/* vsock streams as ends of a generic flow. Not in a kernel without them: see the end of proto.c. */
#include <linux/module.h>
#include <net/af_vsock.h>

#include "compat.h"
#include "sksplice.h"

/* Not every transport knows MSG_PEEK. */
static bool sksplice_vsock_blind(const struct vsock_sock *vsk)
{
	const struct module *module = vsk->transport ? vsk->transport->module : NULL;

	return module && !strcmp(module->name, "hv_sock");
}

/* Of room it tells nothing without its own lock: a send is taken, and waits for it here. */
static int sksplice_vsock_admit(struct socket *sock, int want, const char **why)
{
	struct sock *sk = sock->sk;

	sksplice_assert_slock(sk);
	if (sk->sk_state == TCP_LISTEN)
		return SKSPLICE_REFUSE(why, -EOPNOTSUPP, "the socket is listening");
	if (sk->sk_state == TCP_SYN_SENT)
		return want & SKSPLICE_WANT_CONNECTING ? 0 :
		       SKSPLICE_REFUSE(why, -EINPROGRESS, "the socket is still connecting");
	if (sk->sk_state != TCP_ESTABLISHED || sk->sk_err)
		return SKSPLICE_REFUSE(why, -ENOTCONN, "the socket is not connected");
	if ((want & SKSPLICE_WANT_RX) && sksplice_vsock_blind(vsock_sk(sk)))
		return SKSPLICE_REFUSE(why, -EOPNOTSUPP, "Hyper-V sockets cannot be looked into");
	if ((want & SKSPLICE_WANT_TX) && (sk->sk_shutdown & SEND_SHUTDOWN ||
					  vsock_sk(sk)->peer_shutdown & RCV_SHUTDOWN))
		return SKSPLICE_REFUSE(why, -ENOTCONN, "the sink was shut down for writing");
	return 0;
}

/* Once it is over in both directions it says that it is not connected, also at the stream's end. */
static ssize_t sksplice_vsock_peek(struct sksplice_flow *flow, void *buf, size_t len)
{
	const struct sock *sk = sksplice_src(flow);
	struct msghdr msg = { };
	ssize_t n = sksplice_proto_recv(flow->src, &msg, buf, len, MSG_PEEK);

	return n == -ENOTCONN && !READ_ONCE(sk->sk_err) &&
	       (READ_ONCE(vsock_sk(sk)->peer_shutdown) & SEND_SHUTDOWN) ? 0 : n;
}

/* Its queue is the transport's: what is left is found out by looking, in a run. */
static bool sksplice_vsock_drained(const struct sock *sk)
{
	return false;
}

const struct sksplice_proto sksplice_proto_vsock = {
	.admit = sksplice_vsock_admit,
	.peek = sksplice_vsock_peek,
	.drained = sksplice_vsock_drained,
};

/* Any context: they do not change. Returns how much of @ss it is. */
size_t sksplice_vsock_addr(const struct sock *sk, struct sockaddr_storage *ss, bool local)
{
	const struct vsock_sock *vsk = vsock_sk(sk);

	memcpy(ss, local ? &vsk->local_addr : &vsk->remote_addr, sizeof(vsk->local_addr));
	return sizeof(vsk->local_addr);
}

/* A hint, without the slock. */
bool sksplice_vsock_ended(const struct sock *sk)
{
	return READ_ONCE(vsock_sk(sk)->peer_shutdown) & SEND_SHUTDOWN;
}

/* The same: addresses are stable. */
bool sksplice_vsock_mirror(const struct sock *a, const struct sock *b)
{
	const struct vsock_sock *x = vsock_sk(a), *y = vsock_sk(b);

	return x->local_addr.svm_port == y->remote_addr.svm_port &&
	       x->local_addr.svm_cid == y->remote_addr.svm_cid &&
	       y->local_addr.svm_port == x->remote_addr.svm_port &&
	       y->local_addr.svm_cid == x->remote_addr.svm_cid;
}
