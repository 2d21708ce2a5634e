// SPDX-License-Identifier: GPL-2.0
/*
 * The generic netlink family. The policies refuse wrong shapes, the handlers wrong meanings, each
 * with a sentence. No mutex: requests run in parallel and meet in the objects' own locks.
 */
#include <linux/file.h>
#include <linux/module.h>
#include <net/genetlink.h>

#include "compat.h"
#include "sksplice.h"

/* Sets @why, a constant, as the sentence of the answer. NL_SET_ERR_MSG() takes literals only. */
int sksplice_nl_refuse(struct genl_info *info, int err, const char *why)
{
	if (why && info->extack)
		info->extack->_msg = why;
	return err;
}

/* Room for @len bytes of attributes. Far more than is used is cleared, and copied when it is sent. */
struct sk_buff *sksplice_nl_reply(struct genl_info *info, void **hdr, size_t len)
{
	struct sk_buff *skb = genlmsg_new(len, GFP_KERNEL);

	if (!skb)
		return NULL;
	*hdr = genlmsg_put_reply(skb, info, &sksplice_nl_family, 0, info->genlhdr->cmd);
	if (*hdr)
		return skb;
	nlmsg_free(skb);
	return NULL;
}

int sksplice_nl_send(struct genl_info *info, struct sk_buff *skb, void *hdr)
{
	genlmsg_end(skb, hdr);
	return genlmsg_reply(skb, info);
}

/*
 * The owner with this id, if the sender of @skb may act for it: ids are no secret. That is the
 * same user in the same user and network namespaces: a proxy's successor is another process.
 */
struct sksplice_owner *sksplice_nl_owner_of(struct sk_buff *skb, const struct nlattr *id,
					    const char **why)
{
	struct sksplice_owner *owner;
	int ret = sksplice_policy_sender(skb, why);

	if (ret)
		return ERR_PTR(ret);
	if (!id)
		return ERR_PTR(SKSPLICE_REFUSE(why, -EINVAL, "owner missing"));
	owner = sksplice_owner_get(nla_get_u32(id));
	if (owner && uid_eq(owner->uid, current_euid()) && owner->user_ns == current_user_ns() &&
	    net_eq(sock_net(owner->sk), sock_net(NETLINK_CB(skb).sk)))
		return owner;
	if (owner)
		sksplice_owner_put(owner);
	return ERR_PTR(SKSPLICE_REFUSE(why, -ENOENT, "no such owner"));
}

struct sksplice_owner *sksplice_nl_owner(struct sk_buff *skb, struct genl_info *info)
{
	const char *why = NULL;
	struct sksplice_owner *owner;

	owner = sksplice_nl_owner_of(skb, info->attrs[SKSPLICE_A_OWNER], &why);
	if (IS_ERR(owner))
		sksplice_nl_refuse(info, 0, why);
	return owner;
}

/*
 * The operation named in the request. With an OWNER it must be that owner's. Without, the sender
 * is an administrator of the operation's netns.
 */
static struct sksplice_op *sksplice_nl_op(struct sk_buff *skb, struct genl_info *info)
{
	struct sksplice_owner *owner = NULL;
	struct sksplice_op *op;
	bool match;

	if (GENL_REQ_ATTR_CHECK(info, SKSPLICE_A_TOKEN))
		return ERR_PTR(sksplice_nl_refuse(info, -EINVAL, "token missing"));
	if (info->attrs[SKSPLICE_A_OWNER]) {
		owner = sksplice_nl_owner(skb, info);
		if (IS_ERR(owner))
			return ERR_CAST(owner);
	} else if (!netlink_ns_capable(skb, genl_info_net(info)->user_ns, CAP_NET_ADMIN)) {
		return ERR_PTR(sksplice_nl_refuse(info, -EPERM, "needs CAP_NET_ADMIN"));
	}
	op = sksplice_op_get(nla_get_u64(info->attrs[SKSPLICE_A_TOKEN]));
	match = op && !READ_ONCE(op->ending) &&
		(owner ? READ_ONCE(op->owner) == owner : net_eq(op->net, genl_info_net(info)));
	if (owner)
		sksplice_owner_put(owner);
	if (match)
		return op;
	if (op)
		sksplice_op_put(op);
	return ERR_PTR(sksplice_nl_refuse(info, -ENOENT, "no such operation, or it has ended"));
}

static int sksplice_nl_owner_new_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct sk_buff *reply;
	const char *why = NULL;
	void *hdr;
	u32 id;
	int ret = sksplice_policy_sender(skb, &why);

	/* Nobody who may not splice in the socket's netns would have anything to be told. */
	if (!ret)
		ret = sksplice_policy_permit(skb, genl_info_net(info)->user_ns, &why);
	if (ret)
		return sksplice_nl_refuse(info, ret, why);
	reply = sksplice_nl_reply(info, &hdr, NLMSG_GOODSIZE);
	if (!reply)
		return -ENOMEM;
	ret = sksplice_owner_new(NETLINK_CB(skb).sk, info->snd_portid, &id);
	if (!ret && nla_put_u32(reply, SKSPLICE_A_OWNER, id))
		ret = -EMSGSIZE;
	if (ret) {
		nlmsg_free(reply);
		return ret;
	}
	return sksplice_nl_send(info, reply, hdr);
}

static int sksplice_nl_op_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct sksplice_op *op = sksplice_nl_op(skb, info);
	struct sk_buff *reply;
	void *hdr;
	int ret;

	if (IS_ERR(op))
		return PTR_ERR(op);
	reply = sksplice_nl_reply(info, &hdr, NLMSG_GOODSIZE);
	if (!reply) {
		sksplice_op_put(op);
		return -ENOMEM;
	}
	ret = sksplice_fill_op(reply, op);
	sksplice_op_put(op);
	if (ret) {
		nlmsg_free(reply);
		return ret;
	}
	return sksplice_nl_send(info, reply, hdr);
}

/* May the reader of this dump see the operation? */
static bool sksplice_nl_visible(struct sk_buff *request, const struct sksplice_op *op)
{
	struct net *net = sock_net(NETLINK_CB(request).sk);

	return net_eq(net, op->net) &&
	       (netlink_ns_capable(request, net->user_ns, CAP_NET_ADMIN) ||
		uid_eq(sksplice_user_uid(op->user), current_euid()));
}

static int sksplice_nl_op_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	unsigned long token = cb->args[0];
	struct sksplice_op *op;
	int ret = 0;

	for (; !ret && (op = sksplice_op_next(&token)); token++) {
		if (sksplice_nl_visible(cb->skb, op)) {
			void *hdr = genlmsg_put(skb, NETLINK_CB(cb->skb).portid,
						cb->nlh->nlmsg_seq, &sksplice_nl_family,
						NLM_F_MULTI, SKSPLICE_CMD_OP_GET);

			ret = hdr ? sksplice_fill_op(skb, op) : -EMSGSIZE;
			if (!ret)
				genlmsg_end(skb, hdr);
			else if (hdr)
				genlmsg_cancel(skb, hdr);
		}
		sksplice_op_put(op);
		if (ret)
			break;
	}
	cb->args[0] = token;
	return skb->len ? skb->len : ret;
}

static int sksplice_nl_op_cancel_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct sksplice_op *op = sksplice_nl_op(skb, info);
	bool first;

	if (IS_ERR(op))
		return PTR_ERR(op);
	first = sksplice_op_end(op, SKSPLICE_CAUSE_CANCELED, 0);
	sksplice_op_put(op);
	return first ? 0 : sksplice_nl_refuse(info, -ENOENT, "it has ended");
}

static int sksplice_nl_op_revoke_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct sksplice_op *op = sksplice_nl_op(skb, info);
	int ret = 0, error = ECONNRESET;

	if (IS_ERR(op))
		return PTR_ERR(op);
	if (info->attrs[SKSPLICE_A_ERROR])
		error = nla_get_u32(info->attrs[SKSPLICE_A_ERROR]);
	if (!sksplice_op_end(op, SKSPLICE_CAUSE_REVOKED, error))
		ret = sksplice_nl_refuse(info, -ENOENT, "it has ended");
	if (!ret)
		ret = sksplice_op_wait(op, jiffies + HZ);
	sksplice_op_put(op);
	return ret;
}

/* Two descriptors of the caller, reserved and named in the answer; nothing is behind them yet. */
static int sksplice_nl_reserve(int fd[2], struct sk_buff *reply)
{
	fd[0] = get_unused_fd_flags(O_CLOEXEC);
	if (fd[0] < 0)
		return fd[0];
	fd[1] = get_unused_fd_flags(O_CLOEXEC);
	if (fd[1] < 0) {
		put_unused_fd(fd[0]);
		return fd[1];
	}
	if (!nla_put_u32(reply, SKSPLICE_A_SOURCE_FD, fd[0]) &&
	    !nla_put_u32(reply, SKSPLICE_A_SINK_FD, fd[1]))
		return 0;
	put_unused_fd(fd[0]);
	put_unused_fd(fd[1]);
	return -EMSGSIZE;
}

/* Everything that may fail comes before the operation is dissolved. */
static int sksplice_nl_reclaim(struct genl_info *info, struct sksplice_op *op,
			       struct sk_buff *reply)
{
	struct file *file[2];
	int fd[2], ret, i;

	if (!sksplice_op_owns(op))
		return sksplice_nl_refuse(info, -EINVAL, "a forward has nothing to give back");
	ret = sksplice_nl_reserve(fd, reply);
	if (ret)
		return sksplice_nl_refuse(info, ret, "no descriptors left; the splice goes on");
	ret = sksplice_op_reclaim(op, file);
	for (i = 0; i < 2; i++) {
		if (ret)
			put_unused_fd(fd[i]);
		else
			fd_install(fd[i], file[i]);
	}
	return ret;
}

static int sksplice_nl_op_reclaim_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct sksplice_op *op;
	struct sk_buff *reply;
	void *hdr;
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, SKSPLICE_A_OWNER))
		return sksplice_nl_refuse(info, -EINVAL, "owner missing");
	op = sksplice_nl_op(skb, info);
	if (IS_ERR(op))
		return PTR_ERR(op);
	reply = sksplice_nl_reply(info, &hdr, NLMSG_GOODSIZE);
	ret = reply ? sksplice_nl_reclaim(info, op, reply) : -ENOMEM;
	sksplice_op_put(op);
	if (!ret)
		return sksplice_nl_send(info, reply, hdr);
	nlmsg_free(reply);
	return ret;
}

static int sksplice_nl_stats_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct sk_buff *reply;
	void *hdr;

	reply = sksplice_nl_reply(info, &hdr, NLMSG_GOODSIZE);
	if (!reply)
		return -ENOMEM;
	if (sksplice_fill_stats(reply)) {
		nlmsg_free(reply);
		return -EMSGSIZE;
	}
	return sksplice_nl_send(info, reply, hdr);
}

static int sksplice_nl_flush_doit(struct sk_buff *skb, struct genl_info *info)
{
	bool all = info->attrs[SKSPLICE_A_ALL_NETNS];
	struct sk_buff *reply;
	void *hdr;
	u32 ended;
	int ret;

	if (all && !netlink_capable(skb, CAP_NET_ADMIN))
		return sksplice_nl_refuse(info, -EPERM,
					  "all namespaces need CAP_NET_ADMIN in the initial one");
	reply = sksplice_nl_reply(info, &hdr, NLMSG_GOODSIZE);
	if (!reply)
		return -ENOMEM;
	ret = sksplice_op_flush(all ? NULL : genl_info_net(info), &ended);
	if (!ret && nla_put_u32(reply, SKSPLICE_A_COUNT, ended))
		ret = -EMSGSIZE;
	if (ret) {
		nlmsg_free(reply);
		return sksplice_nl_refuse(info, ret, ret == -EINPROGRESS ?
					  "all are ending, some sockets are in use" : NULL);
	}
	return sksplice_nl_send(info, reply, hdr);
}

#define SKSPLICE_POLICY(p) .policy = (p), .maxattr = SKSPLICE_A_MAX

static const struct genl_ops sksplice_nl_ops[] = {
	{ .cmd = SKSPLICE_CMD_OWNER_NEW, .doit = sksplice_nl_owner_new_doit,
	  SKSPLICE_POLICY(sksplice_policy_none) },
	{ .cmd = SKSPLICE_CMD_OP_NEW, .doit = sksplice_nl_op_new_doit,
	  SKSPLICE_POLICY(sksplice_policy_new) },
	{ .cmd = SKSPLICE_CMD_OP_GET, .doit = sksplice_nl_op_get_doit,
	  .dumpit = sksplice_nl_op_get_dumpit, SKSPLICE_POLICY(sksplice_policy_token) },
	{ .cmd = SKSPLICE_CMD_OP_CANCEL, .doit = sksplice_nl_op_cancel_doit,
	  SKSPLICE_POLICY(sksplice_policy_token) },
	{ .cmd = SKSPLICE_CMD_OP_REVOKE, .doit = sksplice_nl_op_revoke_doit,
	  SKSPLICE_POLICY(sksplice_policy_revoke) },
	{ .cmd = SKSPLICE_CMD_OP_RECLAIM, .doit = sksplice_nl_op_reclaim_doit,
	  SKSPLICE_POLICY(sksplice_policy_token) },
	{ .cmd = SKSPLICE_CMD_EVENT_GET, .dumpit = sksplice_nl_event_get_dumpit,
	  SKSPLICE_POLICY(sksplice_policy_event) },
	{ .cmd = SKSPLICE_CMD_STATS_GET, .doit = sksplice_nl_stats_get_doit,
	  SKSPLICE_POLICY(sksplice_policy_none) },
	{ .cmd = SKSPLICE_CMD_FLUSH, .doit = sksplice_nl_flush_doit,
	  .flags = GENL_UNS_ADMIN_PERM, SKSPLICE_POLICY(sksplice_policy_flush) },
	{ .cmd = SKSPLICE_CMD_OP_ADOPT, .doit = sksplice_nl_op_adopt_doit,
	  SKSPLICE_POLICY(sksplice_policy_token) },
	{ .cmd = SKSPLICE_CMD_WRITEABLE, .doit = sksplice_nl_writeable_doit,
	  SKSPLICE_POLICY(sksplice_policy_writeable) },
};

static const struct genl_multicast_group sksplice_nl_groups[] = {
	{ .name = SKSPLICE_MCGRP_MONITOR, .flags = GENL_MCAST_CAP_NET_ADMIN },
};

struct genl_family sksplice_nl_family __ro_after_init = {
	.name		= SKSPLICE_GENL_NAME,
	.version	= SKSPLICE_GENL_VERSION,
	.module		= THIS_MODULE,
	.netnsok	= true,
	.parallel_ops	= true,
	.ops		= sksplice_nl_ops,
	.n_ops		= ARRAY_SIZE(sksplice_nl_ops),
	.resv_start_op	= SKSPLICE_CMD_OWNER_NEW,
	.mcgrps		= sksplice_nl_groups,
	.n_mcgrps	= ARRAY_SIZE(sksplice_nl_groups),
};
