// SPDX-License-Identifier: GPL-2.0
/* AF_UNIX streams as ends of a generic flow. */
#include <linux/pid.h>
#include <linux/socket.h>
#include <net/af_unix.h>

#include "compat.h"
#include "sksplice.h"

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
 * Bytes in the queue before the first that descriptors come with, at most @max or a little more.
 * *@more: such do come. Only we take from the queue. An urgent byte counts if reading gives it.
 */
static size_t sksplice_unix_plain(struct sock *sk, size_t max, bool *more)
{
	struct sk_buff_head *queue = &sk->sk_receive_queue;
	struct sk_buff *skb;
	unsigned long flags;
	size_t len = 0;

	*more = false;
	spin_lock_irqsave(&queue->lock, flags);
	skb_queue_walk(queue, skb) {
		*more = sksplice_unix_cb(skb)->fp;
		if (*more || len >= max)
			break;
		if (skb != sksplice_unix_oob(sk) || sock_flag(sk, SOCK_URGINLINE))
			len += skb->len - sksplice_unix_cb(skb)->consumed;
	}
	spin_unlock_irqrestore(&queue->lock, flags);
	return len;
}

/*
 * Descriptors come with some of the bytes and would be lost with them: the flow ends there. No more
 * is looked at than was seen to be without: they may be coming just now.
 */
static ssize_t sksplice_unix_peek(struct sksplice_flow *flow, void *buf, size_t len)
{
	int rounds = 4;
	ssize_t n;

	while (rounds--) {
		struct msghdr msg = { };
		bool more;
		size_t plain = sksplice_unix_plain(sksplice_src(flow), len, &more);

		if (!plain && more)
			return -EPROTO;
		n = sksplice_proto_recv(flow->src, &msg, buf, min(len, max_t(size_t, plain, 1)),
					MSG_PEEK);
		/* nothing was there, and now is */
		if (n <= 0 || plain)
			return n;
		if (sksplice_unix_plain(sksplice_src(flow), 1, &more) && !more)
			return n;
	}
	sksplice_pump_kick(flow);
	return -EAGAIN;
}

/* There are more bytes, and peek does not give them: they come with descriptors. */
static int sksplice_unix_behind(struct sksplice_flow *flow, void *buf, size_t len)
{
	bool more;

	return sksplice_unix_plain(sksplice_src(flow), len + 1, &more) <= len && more ? -EPROTO : 1;
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
	.behind = sksplice_unix_behind,
	.send = sksplice_unix_send,
};
