// SPDX-License-Identifier: GPL-2.0
/* The request that starts an operation: everything is checked before anything is changed. */
#include <linux/file.h>
#include <linux/socket.h>
#include <net/genetlink.h>
#include <net/tcp.h>

#include "sksplice.h"

static int sksplice_nl_lsm_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)
{
	return 0;
}

static int sksplice_nl_lsm_recvmsg(struct socket *sock, struct msghdr *msg, size_t len, int flags)
{
	return 0;
}

static const struct proto_ops sksplice_nl_lsm_ops = {
	.sendmsg = sksplice_nl_lsm_sendmsg,
	.recvmsg = sksplice_nl_lsm_recvmsg,
};

/*
 * The LSM's hooks are not exported; sock_sendmsg() and sock_recvmsg() run them with the sender's
 * credentials. On a stand-in with the same sock and calls that do nothing: the real ones would
 * wait for the socket's owner, and consume its error.
 */
static int sksplice_nl_lsm(const struct socket *sock, bool rx, bool tx, const char **why)
{
	struct socket probe = {
		.state = sock->state, .type = sock->type, .flags = sock->flags,
		.file = sock->file, .sk = sock->sk, .ops = &sksplice_nl_lsm_ops,
	};
	struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
	int ret = 0;

	if (tx)
		ret = sock_sendmsg(&probe, &msg);
	if (rx && !ret)
		ret = sock_recvmsg(&probe, &msg, MSG_PEEK | MSG_DONTWAIT);
	return ret ? SKSPLICE_REFUSE(why, ret, "the security policy forbids it") : 0;
}

/* What does not need the socket's lock. */
static int sksplice_nl_admit(struct sk_buff *skb, struct socket *sock, bool rx, bool tx,
			     const char **why)
{
	struct sock *sk = sock->sk;
	int ret;

	if (sock->type != SOCK_STREAM)
		return SKSPLICE_REFUSE(why, -EPROTONOSUPPORT, "not a stream socket");
	if (sk->sk_protocol == IPPROTO_MPTCP)
		return SKSPLICE_REFUSE(why, -EPROTONOSUPPORT, "MPTCP sockets are not supported");
	if (!sksplice_proto_of(sk))
		return SKSPLICE_REFUSE(why, -EPROTONOSUPPORT,
				       "not a TCP, AF_UNIX or vsock socket");
	ret = sksplice_policy_permit(skb, sock_net(sk)->user_ns, why);
	if (ret)
		return ret;
	return sksplice_nl_lsm(sock, rx, tx, why);
}

/* The files behind SOURCE_FD and SINK_FD, which the operation then holds. */
static int sksplice_nl_files(struct genl_info *info, struct sksplice_op *op, const char **why)
{
	static const int attr[2] = { SKSPLICE_A_SOURCE_FD, SKSPLICE_A_SINK_FD };
	int i, err;

	for (i = sksplice_op_sends(op) ? 1 : 0; i < 2; i++) {
		struct socket *sock = sockfd_lookup(nla_get_u32(info->attrs[attr[i]]), &err);

		if (!sock)
			return SKSPLICE_REFUSE(why, err, err == -EBADF ? "not an open descriptor" :
					       "not a socket");
		op->file[i] = sock->file;
	}
	return 0;
}

/* Checks both sockets and that they make sense together. */
static int sksplice_nl_ends(struct sk_buff *skb, struct sksplice_op *op, const char **why)
{
	struct socket *a, *b = sock_from_file(op->file[1]);
	bool pair = op->nr_flows == 2;
	int ret;

	if (sksplice_op_sends(op)) {
		op->net = get_net(sock_net(b->sk));
		return sksplice_nl_admit(skb, b, false, true, why);
	}
	a = sock_from_file(op->file[0]);
	ret = sksplice_nl_admit(skb, a, true, pair, why);
	if (!ret)
		ret = sksplice_nl_admit(skb, b, pair, true, why);
	if (ret)
		return ret;
	if (pair && a->sk == b->sk)
		return SKSPLICE_REFUSE(why, -EINVAL, "a pair needs two sockets");
	if (sksplice_proto_mirror(a->sk, b->sk))
		return SKSPLICE_REFUSE(why, -ELOOP, "the two sockets of one connection");
	op->net = get_net(sock_net(a->sk));
	return 0;
}

static int sksplice_nl_options(struct genl_info *info, struct sksplice_op *op, const char **why)
{
	if (info->attrs[SKSPLICE_A_FLAGS])
		op->flags = nla_get_u32(info->attrs[SKSPLICE_A_FLAGS]);
	if (!sksplice_op_owns(op) && (op->flags & SKSPLICE_F_KEEP))
		return SKSPLICE_REFUSE(why, -EINVAL, "a forward or a send always keeps");
	if (sksplice_op_sends(op) && (op->flags & SKSPLICE_F_SHUTDOWN))
		return SKSPLICE_REFUSE(why, -EINVAL, "a send has no source that could end");
	if ((op->flags & SKSPLICE_F_LAZY) &&
	    (op->kind != SKSPLICE_KIND_PAIR || (op->flags & SKSPLICE_F_KEEP)))
		return SKSPLICE_REFUSE(why, -EINVAL, "only a pair that closes its sockets may be lazy");
	if (info->attrs[SKSPLICE_A_IDLE_MS])
		op->idle_ms = nla_get_u32(info->attrs[SKSPLICE_A_IDLE_MS]);
	if (info->attrs[SKSPLICE_A_USER_DATA])
		op->user_data = nla_get_u64(info->attrs[SKSPLICE_A_USER_DATA]);
	op->pid = task_tgid_nr(current);
	return 0;
}

/* All pieces of one attribute, to @to unless that is NULL; how many bytes they are. */
static size_t sksplice_nl_pieces(const struct genl_info *info, int type, u8 *to)
{
	const struct nlattr *attr;
	size_t len = 0;
	int left;

	nlmsg_for_each_attr(attr, info->nlhdr, GENL_HDRLEN, left) {
		if (nla_type(attr) != type)
			continue;
		if (to)
			memcpy(to + len, nla_data(attr), nla_len(attr));
		len += nla_len(attr);
	}
	return len;
}

/* In the order in which they are kept, and sent. */
static const int sksplice_nl_inserts[3] = {
	SKSPLICE_A_PREFIX, SKSPLICE_A_DATA, SKSPLICE_A_SUFFIX,
};

static int sksplice_nl_measure(struct genl_info *info, struct sksplice_op *op, size_t len[3],
			       const char **why)
{
	int i;

	for (i = 0; i < 3; i++) {
		len[i] = 0;
		if (info->attrs[sksplice_nl_inserts[i]])
			len[i] = sksplice_nl_pieces(info, sksplice_nl_inserts[i], NULL);
		if (len[i] > SKSPLICE_INSERT_MAX)
			return SKSPLICE_REFUSE(why, -EINVAL,
					       "more than 64 KiB of prefix, suffix or data");
	}
	if (info->attrs[SKSPLICE_A_DATA] && !sksplice_op_sends(op))
		return SKSPLICE_REFUSE(why, -EINVAL, "data is for a send");
	if (info->attrs[SKSPLICE_A_DELIM] && op->kind != SKSPLICE_KIND_FORWARD)
		return SKSPLICE_REFUSE(why, -EINVAL, "a delimiter is for a forward");
	if (info->attrs[SKSPLICE_A_FRAMER] && op->kind != SKSPLICE_KIND_FORWARD)
		return SKSPLICE_REFUSE(why, -EINVAL, "a framer is for a forward");
	if (info->attrs[SKSPLICE_A_FRAMER] && info->attrs[SKSPLICE_A_DELIM])
		return SKSPLICE_REFUSE(why, -EINVAL, "a framer and a delimiter exclude each other");
	return 0;
}

/* n of a forward, in bytes or in records; U64_MAX: there is none. */
static u64 sksplice_nl_n(const struct genl_info *info)
{
	return info->attrs[SKSPLICE_A_LIMIT] ? nla_get_u64(info->attrs[SKSPLICE_A_LIMIT]) : U64_MAX;
}

static int sksplice_nl_framer(const struct genl_info *info, struct sksplice_extra *x,
			      const char **why)
{
	struct sksplice_framer *framer;

	framer = sksplice_framer_new(nla_get_u32(info->attrs[SKSPLICE_A_FRAMER]),
				     sksplice_nl_n(info), why);
	if (IS_ERR(framer))
		return PTR_ERR(framer);
	x->framer = framer;
	return 0;
}

/* What few operations have; without any of it there is no sksplice_extra. */
static int sksplice_nl_extra(struct genl_info *info, struct sksplice_op *op, const char **why)
{
	const struct nlattr *delim = info->attrs[SKSPLICE_A_DELIM];
	bool framed = info->attrs[SKSPLICE_A_FRAMER];
	struct sksplice_extra *x;
	size_t len[3];
	int i, ret = sksplice_nl_measure(info, op, len, why);

	if (ret || (!len[0] && !len[2] && !delim && !framed && !sksplice_op_sends(op) &&
		    !(op->flags & (SKSPLICE_F_DRAIN | SKSPLICE_F_CONNECTING))))
		return ret;
	ret = sksplice_extra_new(op, len);
	if (ret)
		return ret;
	x = op->flow[0].extra;
	for (i = 0; i < 3; i++) {
		struct sksplice_insert *in = i < 2 ? &x->first : &x->last;

		if (len[i])
			sksplice_nl_pieces(info, sksplice_nl_inserts[i],
					   in->bytes + (i == 1 ? len[0] : 0));
	}
	if (delim) {
		x->delim_len = nla_len(delim);
		memcpy(x->delim, nla_data(delim), x->delim_len);
	}
	return framed ? sksplice_nl_framer(info, x, why) : 0;
}

/* In bytes. n of a forward may be 0, of records as well; a limit of 0 on a splice is none. */
static u64 sksplice_nl_limit(struct genl_info *info, enum sksplice_kind kind)
{
	u64 limit = sksplice_nl_n(info);

	if (kind == SKSPLICE_KIND_SEND)
		return sksplice_nl_pieces(info, SKSPLICE_A_DATA, NULL);
	if (limit && info->attrs[SKSPLICE_A_FRAMER])
		return U64_MAX;
	return limit || kind == SKSPLICE_KIND_FORWARD ? limit : U64_MAX;
}

/* Can tcp.c move its bytes? */
static bool sksplice_nl_fast(const struct sksplice_op *op)
{
	int i;

	for (i = 0; i < 2; i++)
		if (op->file[i] && !sksplice_proto_fast(sock_from_file(op->file[i])->sk))
			return false;
	return true;
}

/* Everything up to the point where nothing can fail. The caller abandons @op on failure. */
static int sksplice_nl_prepare(struct sk_buff *skb, struct genl_info *info,
			       struct sksplice_op *op, const char **why)
{
	int ret = sksplice_nl_options(info, op, why);

	if (!ret)
		ret = sksplice_nl_extra(info, op, why);
	if (!ret)
		ret = sksplice_nl_files(info, op, why);
	if (!ret)
		ret = sksplice_nl_ends(skb, op, why);
	if (!ret && !sksplice_nl_fast(op))
		ret = sksplice_generic_new(op);
	if (ret)
		return ret;
	op->units = sksplice_extra_units(op);
	op->user = sksplice_user_charge(current_euid(), op->units);
	if (IS_ERR(op->user)) {
		ret = PTR_ERR(op->user);
		op->user = NULL;
		op->units = 0;
		return SKSPLICE_REFUSE(why, ret, "too many operations (net.sksplice.max_ops*)");
	}
	ret = sksplice_op_attach(op, why);
	return ret ? ret : sksplice_op_name(op);
}

/* The answer goes first: what fails after the start could not be undone. */
static int sksplice_nl_commit(struct genl_info *info, struct sksplice_op *op,
			      struct sksplice_owner *owner, const char **why)
{
	struct sk_buff *reply;
	void *hdr;

	if (sksplice_owner_add(owner, op))
		return SKSPLICE_REFUSE(why, -ENOENT, "the owner is gone");
	reply = sksplice_nl_reply(info, &hdr, nla_total_size_64bit(sizeof(op->token)));
	if (!reply)
		return -ENOMEM;
	if (nla_put_u64_64bit(reply, SKSPLICE_A_TOKEN, op->token, SKSPLICE_A_PAD)) {
		nlmsg_free(reply);
		return -EMSGSIZE;
	}
	return sksplice_nl_send(info, reply, hdr);
}

/* What each kind cannot do without, and what a send has no use for. */
static int sksplice_nl_shape(struct genl_info *info)
{
	bool sends;

	if (GENL_REQ_ATTR_CHECK(info, SKSPLICE_A_KIND) ||
	    GENL_REQ_ATTR_CHECK(info, SKSPLICE_A_SINK_FD))
		return sksplice_nl_refuse(info, -EINVAL, "kind or sink missing");
	sends = nla_get_u32(info->attrs[SKSPLICE_A_KIND]) == SKSPLICE_KIND_SEND;
	if (sends && (info->attrs[SKSPLICE_A_SOURCE_FD] || info->attrs[SKSPLICE_A_LIMIT]))
		return sksplice_nl_refuse(info, -EINVAL, "a send has no source and no limit");
	if (!sends && GENL_REQ_ATTR_CHECK(info, SKSPLICE_A_SOURCE_FD))
		return sksplice_nl_refuse(info, -EINVAL, "source missing");
	return 0;
}

int sksplice_nl_op_new_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct sksplice_owner *owner;
	struct sksplice_op *op;
	const char *why = NULL;
	u32 kind;
	int ret = sksplice_nl_shape(info);

	if (ret)
		return ret;
	owner = sksplice_nl_owner(skb, info);
	if (IS_ERR(owner))
		return PTR_ERR(owner);
	kind = nla_get_u32(info->attrs[SKSPLICE_A_KIND]);
	op = sksplice_op_alloc(kind, sksplice_nl_limit(info, kind));
	if (IS_ERR(op)) {
		sksplice_owner_put(owner);
		return PTR_ERR(op);
	}
	ret = sksplice_nl_prepare(skb, info, op, &why);
	if (!ret)
		ret = sksplice_nl_commit(info, op, owner, &why);
	if (ret)
		sksplice_op_abandon(op);
	else
		sksplice_op_start(op);
	sksplice_owner_put(owner);
	return sksplice_nl_refuse(info, ret, why);
}

/* Would a send be taken? Looks at the sink as the start of one does, and takes nothing. */
int sksplice_nl_writeable_doit(struct sk_buff *skb, struct genl_info *info)
{
	const char *why = NULL;
	struct socket *sock;
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, SKSPLICE_A_SINK_FD))
		return sksplice_nl_refuse(info, -EINVAL, "sink missing");
	ret = sksplice_policy_sender(skb, &why);
	if (ret)
		return sksplice_nl_refuse(info, ret, why);
	sock = sockfd_lookup(nla_get_u32(info->attrs[SKSPLICE_A_SINK_FD]), &ret);
	if (!sock)
		return sksplice_nl_refuse(info, ret, ret == -EBADF ? "not an open descriptor" :
					  "not a socket");
	ret = sksplice_nl_admit(skb, sock, false, true, &why);
	if (!ret)
		ret = sksplice_end_writeable(sock, &why);
	sockfd_put(sock);
	return sksplice_nl_refuse(info, ret, why);
}
