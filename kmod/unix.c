// SPDX-License-Identifier: GPL-2.0
/* AF_UNIX streams as ends of a generic flow. */
#include <linux/pid.h>
#include <linux/socket.h>
#include <net/af_unix.h>

#include "compat.h"
#include "sksplice.h"

/* No message of a stream has as many bytes. */
#define SKSPLICE_UNIX_MESSAGE SZ_64K

/* slock held. As unix_poll() sees it. */
static bool sksplice_unix_writeable(const struct sock *sk)
{
	return (refcount_read(&sk->sk_wmem_alloc) << 2) <= READ_ONCE(sk->sk_sndbuf);
}

static int sksplice_unix_admit_source(struct socket *sock, const char **why)
{
	struct sock *sk = sock->sk;

	if (sksplice_wants_creds(sk))
		return SKSPLICE_REFUSE(why, -EOPNOTSUPP,
				       "the source wants credentials (SO_PASSCRED), which would be lost");
	/* who reads already is not reached by what we put in the way */
	if (mutex_is_locked(&unix_sk(sk)->iolock))
		return SKSPLICE_REFUSE(why, -EBUSY, "a thread reads from the socket");
	return 0;
}

static int sksplice_unix_admit(struct socket *sock, int want, const char **why)
{
	struct sock *sk = sock->sk;
	int ret;

	sksplice_assert_slock(sk);
	if (READ_ONCE(sk->sk_state) == TCP_LISTEN)
		return SKSPLICE_REFUSE(why, -EOPNOTSUPP, "the socket is listening");
	if (READ_ONCE(sk->sk_state) != TCP_ESTABLISHED)
		return SKSPLICE_REFUSE(why, -ENOTCONN, "the socket is not connected");
	ret = want & SKSPLICE_WANT_RX ? sksplice_unix_admit_source(sock, why) : 0;
	if (ret || !(want & SKSPLICE_WANT_TX))
		return ret;
	if (READ_ONCE(sk->sk_err) || READ_ONCE(sk->sk_shutdown) & SEND_SHUTDOWN)
		return SKSPLICE_REFUSE(why, -ENOTCONN, "the sink was shut down for writing");
	if ((want & SKSPLICE_WANT_ROOM) && !sksplice_unix_writeable(sk)) {
		set_bit(SOCK_NOSPACE, &sock->flags);
		return SKSPLICE_REFUSE(why, -EAGAIN, "the sink has no room");
	}
	return 0;
}

/*
 * How many bytes the first messages have that fit into @room as wholes. *@plain: no descriptors come
 * with any of these. More is asked for than there is room: else the kernel goes on to descriptors
 * that come with later bytes, and says that they did not fit.
 */
static size_t sksplice_unix_fit(struct sksplice_sock *ss, size_t room, bool *plain)
{
	struct msghdr msg = { };
	ssize_t n = sksplice_proto_recv(ss, &msg, NULL, room, 2 * SKSPLICE_UNIX_MESSAGE, MSG_PEEK);

	*plain = !(msg.msg_flags & MSG_CTRUNC);
	return n > 0 ? n : 0;
}

/*
 * Of @n bytes at the head, those before the first with descriptors. Only looking tells, again and
 * again, which is done while some are in the queue: the flow ends at them.
 */
static ssize_t sksplice_unix_before(struct sksplice_sock *ss, size_t n)
{
	size_t good = 0, bad = SKSPLICE_UNIX_MESSAGE + 1, len = 0;
	bool plain;

	/* into no room fits no message: said of something else, such as credentials */
	sksplice_unix_fit(ss, 0, &plain);
	if (!plain)
		return n;
	while (bad - good > 1) {
		size_t half = good + (bad - good) / 2;
		size_t fits = sksplice_unix_fit(ss, half, &plain);

		if (plain) {
			good = half;
			len = fits;
		} else {
			bad = half;
		}
	}
	return len ? min(len, n) : -EPROTO;
}

/* Descriptors come with some of the bytes and would be lost with them. */
static ssize_t sksplice_unix_peek(struct sksplice_flow *flow, void *buf, size_t len)
{
	struct msghdr msg = { };
	ssize_t n = sksplice_proto_recv(flow->src, &msg, buf, len, len, MSG_PEEK);

	return n > 0 && (msg.msg_flags & MSG_CTRUNC) ? sksplice_unix_before(flow->src, n) : n;
}

/*
 * The kernel puts a sender's credentials to the bytes, also for receivers that ask for them only
 * later. We send from a kernel thread, which is root and nobody: they are to be those of who began
 * the operation, and his process's number as long as that is his.
 */
static ssize_t sksplice_unix_send(struct sksplice_flow *flow, const void *buf, size_t len)
{
	const struct sksplice_generic *g = flow->op->generic;
	union {
		struct cmsghdr hdr;
		u8 room[CMSG_SPACE(sizeof(struct ucred))];
	} control = { };
	struct ucred *creds = CMSG_DATA(&control.hdr);
	struct msghdr msg = { .msg_control = &control, .msg_controllen = sizeof(control) };
	bool alive;
	ssize_t n;

	rcu_read_lock();
	alive = pid_task(g->tgid, PIDTYPE_TGID);
	rcu_read_unlock();
	control.hdr.cmsg_level = SOL_SOCKET;
	control.hdr.cmsg_type = SCM_CREDENTIALS;
	control.hdr.cmsg_len = CMSG_LEN(sizeof(*creds));
	creds->pid = alive ? pid_nr(g->tgid) : task_tgid_nr(current);
	creds->uid = from_kuid(&init_user_ns, g->uid);
	creds->gid = from_kgid(&init_user_ns, g->gid);
	n = sksplice_proto_sendmsg(flow->dst, &msg, buf, len);
	if (n != -ESRCH)
		return n;
	/* he went meanwhile */
	creds->pid = task_tgid_nr(current);
	msg = (struct msghdr){ .msg_control = &control, .msg_controllen = sizeof(control) };
	return sksplice_proto_sendmsg(flow->dst, &msg, buf, len);
}

const struct sksplice_proto sksplice_proto_unix = {
	.admit = sksplice_unix_admit,
	.peek = sksplice_unix_peek,
	.send = sksplice_unix_send,
};
