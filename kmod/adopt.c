// SPDX-License-Identifier: GPL-2.0
/*
 * A splice outlives the process that began it; here another one of the same user takes over its
 * completion, as a proxy does that upgrades itself.
 *
 * op->owner changes under the locks of both owners and op->lock, and never again once the
 * operation is ending: what delivers the completion comes after that, and needs no lock for it.
 */
#include <linux/rcupdate.h>
#include <net/genetlink.h>
#include <net/net_namespace.h>

#include "sksplice.h"

/* RCU read side: an owner that is replaced meanwhile stays memory. Both locked, in order. */
static void sksplice_owner_lock_two(struct sksplice_owner *a, struct sksplice_owner *b)
{
	spin_lock_bh(&min(a, b)->lock);
	if (a != b)
		spin_lock_nested(&max(a, b)->lock, SINGLE_DEPTH_NESTING);
}

static void sksplice_owner_unlock_two(struct sksplice_owner *a, struct sksplice_owner *b)
{
	if (a != b)
		spin_unlock(&max(a, b)->lock);
	spin_unlock_bh(&min(a, b)->lock);
}

/* Locks @owner and the operation's own, which is returned, and stays it while that lock is held. */
static struct sksplice_owner *sksplice_owner_lock_with(struct sksplice_owner *owner,
						       struct sksplice_op *op)
{
	struct sksplice_owner *old;

	RCU_LOCKDEP_WARN(!rcu_read_lock_held(), "an owner is freed by RCU");
	while (true) {
		old = READ_ONCE(op->owner);
		sksplice_owner_lock_two(old, owner);
		if (op->owner == old)
			return old;
		sksplice_owner_unlock_two(old, owner);
	}
}

/* Both owners' locks held. Not when it is ending: then op->owner is looked at without a lock. */
static int sksplice_owner_take(struct sksplice_owner *owner, struct sksplice_op *op)
{
	int ret = -ENOENT;

	lockdep_assert_held(&owner->lock);
	spin_lock(&op->lock);
	if (!op->ending) {
		list_move_tail(&op->owner_node, &owner->ops);
		refcount_inc(&owner->refs);
		WRITE_ONCE(op->owner, owner);
		WRITE_ONCE(op->orphan, false);
		ret = 0;
	}
	spin_unlock(&op->lock);
	return ret;
}

static bool sksplice_owner_alike(const struct sksplice_owner *a, const struct sksplice_owner *b)
{
	return uid_eq(a->uid, b->uid) && a->user_ns == b->user_ns &&
	       net_eq(sock_net(a->sk), sock_net(b->sk));
}

/*
 * Context: process, with references to both. From now on @owner gets the completion of @op. The
 * one who got it so far, perhaps dead, is found in the operation, which has a reference to it.
 */
static int sksplice_owner_adopt(struct sksplice_owner *owner, struct sksplice_op *op,
				const char **why)
{
	struct sksplice_owner *old;
	int ret;

	rcu_read_lock();
	old = sksplice_owner_lock_with(owner, op);
	if (!sksplice_owner_alike(old, owner))
		ret = SKSPLICE_REFUSE(why, -ENOENT, "no such operation, or it has ended");
	else if (!sksplice_op_owns(op))
		ret = SKSPLICE_REFUSE(why, -EINVAL, "only a splice has a life of its own");
	else if (sksplice_owner_is_dead(owner))
		ret = SKSPLICE_REFUSE(why, -ENOENT, "the owner is gone");
	else if (old == owner)
		ret = SKSPLICE_REFUSE(why, -EINVAL, "it is this owner's already");
	else if (sksplice_owner_take(owner, op))
		ret = SKSPLICE_REFUSE(why, -ENOENT, "no such operation, or it has ended");
	else
		ret = 0;
	sksplice_owner_unlock_two(old, owner);
	rcu_read_unlock();
	if (!ret)
		sksplice_owner_put(old);
	return ret;
}

/* The operation is another owner's, or was: who that is decides. */
int sksplice_nl_op_adopt_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct sksplice_owner *owner;
	struct sksplice_op *op;
	const char *why = NULL;
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, SKSPLICE_A_TOKEN))
		return sksplice_nl_refuse(info, -EINVAL, "token missing");
	owner = sksplice_nl_owner(skb, info);
	if (IS_ERR(owner))
		return PTR_ERR(owner);
	op = sksplice_op_get(nla_get_u64(info->attrs[SKSPLICE_A_TOKEN]));
	ret = op ? sksplice_owner_adopt(owner, op, &why) :
	      SKSPLICE_REFUSE(&why, -ENOENT, "no such operation, or it has ended");
	if (op)
		sksplice_op_put(op);
	sksplice_owner_put(owner);
	return sksplice_nl_refuse(info, ret, why);
}
