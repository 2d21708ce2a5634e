// SPDX-License-Identifier: GPL-2.0
/*
 * The messages nobody asked for, starts and completions, and the dump that asks for those which did not
 * get through.
 */
#include <net/genetlink.h>

#include "compat.h"
#include "sksplice.h"

/* An EVENT_NTF message; the same in unicast, multicast and dump. */
static int sksplice_nl_put_event(struct sk_buff *skb, const struct sksplice_op *op, u32 portid,
				 u32 seq, int flags)
{
	void *hdr = genlmsg_put(skb, portid, seq, &sksplice_nl_family, flags,
				SKSPLICE_CMD_EVENT_NTF);
	int ret = hdr ? sksplice_fill_event(skb, op) : -EMSGSIZE;

	if (!ret)
		genlmsg_end(skb, hdr);
	else if (hdr)
		genlmsg_cancel(skb, hdr);
	return ret;
}

/* Room for one, with its headers. */
static size_t sksplice_nl_event_size(void)
{
	return nlmsg_total_size(GENL_HDRLEN + 4 * nla_total_size_64bit(sizeof(u64)) +
				5 * nla_total_size(sizeof(u32)));
}

/* The completions of @ops, of which there are @n, one message after the other. Context: process. */
struct sk_buff *sksplice_nl_events(struct list_head *ops, unsigned int n, u32 portid)
{
	struct sk_buff *skb = nlmsg_new(n * sksplice_nl_event_size(), GFP_KERNEL);
	struct sksplice_op *op;

	if (!skb)
		return NULL;
	list_for_each_entry(op, ops, owner_node) {
		if (sksplice_nl_put_event(skb, op, portid, 0, 0)) {
			nlmsg_free(skb);
			return NULL;
		}
	}
	return skb;
}

struct sk_buff *sksplice_nl_event(struct sksplice_op *op, u32 portid, gfp_t gfp)
{
	struct sk_buff *skb = genlmsg_new(256, gfp);

	if (skb && sksplice_nl_put_event(skb, op, portid, 0, 0)) {
		nlmsg_free(skb);
		skb = NULL;
	}
	return skb;
}

struct sk_buff *sksplice_nl_start(struct sksplice_op *op, gfp_t gfp)
{
	struct sk_buff *skb = genlmsg_new(NLMSG_GOODSIZE, gfp);
	void *hdr;

	if (!skb)
		return NULL;
	hdr = genlmsg_put(skb, 0, 0, &sksplice_nl_family, 0, SKSPLICE_CMD_START_NTF);
	if (hdr && !sksplice_fill_op(skb, op)) {
		genlmsg_end(skb, hdr);
		return skb;
	}
	nlmsg_free(skb);
	return NULL;
}

/* Hands over what waits in the kernel: each is taken off the list as it is written. */
int sksplice_nl_event_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct nlattr **attrs = sksplice_dump_attrs(cb);
	struct sksplice_owner *owner;
	struct sksplice_op *op;
	const char *why = NULL;
	int ret = 0;

	owner = sksplice_nl_owner_of(cb->skb, attrs ? attrs[SKSPLICE_A_OWNER] : NULL, &why);
	if (IS_ERR(owner)) {
		if (cb->extack)
			cb->extack->_msg = why;
		return PTR_ERR(owner);
	}
	while (!ret && (op = sksplice_event_take(owner))) {
		ret = sksplice_nl_put_event(skb, op, NETLINK_CB(cb->skb).portid,
					    cb->nlh->nlmsg_seq, NLM_F_MULTI);
		if (ret) {
			sksplice_event_untake(owner, op);
			sksplice_event_later(owner);	/* should the reader not go on */
			break;
		}
		sksplice_count(events);
		sksplice_op_put(op);
	}
	sksplice_owner_put(owner);
	return skb->len ? skb->len : ret;
}
