// SPDX-License-Identifier: GPL-2.0
/*
 * Owners and completions. An owner is a netlink socket: held, so that its address cannot be
 * another's, and told apart by it, since port numbers are reused before NETLINK_URELEASE runs.
 *
 * A completion is the operation itself, put on its owner's list of events when it is released:
 * nothing need be allocated to keep it. It is sent by unicast; when the owner's receive buffer
 * is full it stays, and is sent later or taken by a dump, whichever comes first.
 */
#include <linux/netlink.h>
#include <linux/notifier.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>
#include <linux/xarray.h>
#include <net/net_namespace.h>

#include "sksplice.h"

#define SKSPLICE_DELIVER_MAX_MS 1024

static DEFINE_XARRAY_ALLOC1(sksplice_owners);
static atomic_t sksplice_owner_nr = ATOMIC_INIT(0);

u32 sksplice_owner_count(void)
{
	return atomic_read(&sksplice_owner_nr);
}

/* Context: any. */
void sksplice_owner_put(struct sksplice_owner *owner)
{
	if (!refcount_dec_and_test(&owner->refs))
		return;
	sock_put(owner->sk);
	put_user_ns(owner->user_ns);
	kfree_rcu(owner, rcu);
}

/* A reference, or NULL. */
struct sksplice_owner *sksplice_owner_get(u32 id)
{
	struct sksplice_owner *owner;

	rcu_read_lock();
	owner = xa_load(&sksplice_owners, id);
	if (owner && !refcount_inc_not_zero(&owner->refs))
		owner = NULL;
	rcu_read_unlock();
	return owner;
}

/* owner->lock held. Nobody reads it any more: the socket was released. */
bool sksplice_owner_is_dead(const struct sksplice_owner *owner)
{
	lockdep_assert_held(&owner->lock);
	return owner->dead || sock_flag(owner->sk, SOCK_DEAD);
}

/* The next completion, with the list's reference; NULL: none. */
struct sksplice_op *sksplice_event_take(struct sksplice_owner *owner)
{
	struct sksplice_op *op;

	spin_lock_bh(&owner->lock);
	op = list_first_entry_or_null(&owner->events, struct sksplice_op, owner_node);
	if (op)
		list_del_init(&op->owner_node);
	spin_unlock_bh(&owner->lock);
	return op;
}

/* As above, what goes in one message: one, or several that are lazy; how many. */
static unsigned int sksplice_event_take_some(struct sksplice_owner *owner, struct list_head *ops)
{
	struct sksplice_op *op, *next;
	unsigned int n = 0;

	spin_lock_bh(&owner->lock);
	list_for_each_entry_safe(op, next, &owner->events, owner_node) {
		bool lazy = op->flags & SKSPLICE_F_LAZY;

		if (n && !lazy)
			break;
		list_move_tail(&op->owner_node, ops);
		if (++n == SKSPLICE_DELIVER_MAX || !lazy)
			break;
	}
	spin_unlock_bh(&owner->lock);
	return n;
}

/* Were told, or nobody is there to be. */
static void sksplice_event_drop(struct list_head *ops)
{
	struct sksplice_op *op, *next;

	list_for_each_entry_safe(op, next, ops, owner_node) {
		list_del_init(&op->owner_node);
		sksplice_op_put(op);
	}
}

/* Could not be delivered: all go back to where they were. Takes the references. */
static void sksplice_event_untake_some(struct sksplice_owner *owner, struct list_head *ops)
{
	spin_lock_bh(&owner->lock);
	if (!sksplice_owner_is_dead(owner))
		list_splice_init(ops, &owner->events);
	spin_unlock_bh(&owner->lock);
	sksplice_event_drop(ops);
}

void sksplice_event_untake(struct sksplice_owner *owner, struct sksplice_op *op)
{
	LIST_HEAD(ops);

	list_add(&op->owner_node, &ops);
	sksplice_event_untake_some(owner, &ops);
}

static int sksplice_event_send(struct sksplice_owner *owner, struct list_head *ops,
			       unsigned int n)
{
	struct sk_buff *skb;

	/* A port bound again right after this look would get a token that means nothing to it. */
	if (sock_flag(owner->sk, SOCK_DEAD))
		return -ECONNREFUSED;
	skb = sksplice_nl_events(ops, n, owner->portid);
	if (!skb)
		return -ENOMEM;
	return genlmsg_unicast(sock_net(owner->sk), skb, owner->portid);
}

/* Context: process, with a reference. Not for a dead one: bury() has canceled the work. */
void sksplice_event_later(struct sksplice_owner *owner)
{
	unsigned int ms;

	spin_lock_bh(&owner->lock);
	ms = min(16 << min_t(u8, owner->retries, 6), SKSPLICE_DELIVER_MAX_MS);
	owner->retries = min(owner->retries + 1, 250);
	if (!owner->dead) {
		refcount_inc(&owner->refs);
		if (!queue_delayed_work(system_unbound_wq, &owner->work, msecs_to_jiffies(ms)))
			refcount_dec(&owner->refs);
	}
	spin_unlock_bh(&owner->lock);
}

/* Context: process. Sends what there is until the owner's buffer is full. */
void sksplice_event_deliver(struct sksplice_owner *owner)
{
	unsigned int n;
	LIST_HEAD(ops);

	while ((n = sksplice_event_take_some(owner, &ops))) {
		int ret = sksplice_event_send(owner, &ops, n);

		if (ret == -EAGAIN || ret == -ENOMEM || ret == -ENOBUFS) {
			sksplice_count(overruns);
			sksplice_event_untake_some(owner, &ops);
			sksplice_event_later(owner);
			return;
		}
		WRITE_ONCE(owner->retries, 0);
		if (!ret)
			sksplice_add(events, n);
		sksplice_event_drop(&ops);
	}
}

static void sksplice_owner_work(struct work_struct *work)
{
	struct sksplice_owner *owner = container_of(work, struct sksplice_owner, work.work);

	sksplice_event_deliver(owner);
	sksplice_owner_put(owner);
}

static void sksplice_event_multicast(struct net *net, struct sk_buff *skb)
{
	if (skb)
		genlmsg_multicast_netns(&sksplice_nl_family, net, skb, 0, 0, GFP_KERNEL);
}

/* Context: process. To the monitors of the operation's netns. */
void sksplice_event_start(struct sksplice_op *op)
{
	if (genl_has_listeners(&sksplice_nl_family, op->net, 0))
		sksplice_event_multicast(op->net, sksplice_nl_start(op, GFP_KERNEL));
}

/*
 * Context: process, phase three of teardown: no one adopts it. Takes its own reference. True: its owner is to be
 * told, by sksplice_event_deliver().
 */
bool sksplice_event_add(struct sksplice_op *op)
{
	struct sksplice_owner *owner = op->owner;
	bool wanted = false;

	if (!op->abandoned && genl_has_listeners(&sksplice_nl_family, op->net, 0))
		sksplice_event_multicast(op->net, sksplice_nl_event(op, 0, GFP_KERNEL));
	if (owner) {
		spin_lock_bh(&owner->lock);
		list_del_init(&op->owner_node);
		wanted = !op->abandoned && !op->orphan && !sksplice_owner_is_dead(owner);
		if (wanted)
			list_add_tail(&op->owner_node, &owner->events);
		spin_unlock_bh(&owner->lock);
	}
	if (!wanted)
		sksplice_op_put(op);
	return wanted;
}

/* Context: process. -ENOTCONN: nobody is there to be told. Takes a reference to the owner. */
int sksplice_owner_add(struct sksplice_owner *owner, struct sksplice_op *op)
{
	int ret = 0;

	spin_lock_bh(&owner->lock);
	if (sksplice_owner_is_dead(owner)) {
		ret = -ENOTCONN;
	} else {
		refcount_inc(&owner->refs);
		op->owner = owner;
		list_add_tail(&op->owner_node, &owner->ops);
	}
	spin_unlock_bh(&owner->lock);
	return ret;
}

/* The operation did not begin. */
void sksplice_owner_remove(struct sksplice_op *op)
{
	if (!op->owner)
		return;
	spin_lock_bh(&op->owner->lock);
	list_del_init(&op->owner_node);
	spin_unlock_bh(&op->owner->lock);
}

/* Context: process. Makes the netlink socket @sk an owner; the same again is the same one. */
int sksplice_owner_new(struct sock *sk, u32 portid, u32 *id)
{
	struct sksplice_owner *owner, *other;
	unsigned long index;
	int ret;

	rcu_read_lock();
	xa_for_each(&sksplice_owners, index, other) {
		if (other->sk == sk) {
			*id = other->id;
			rcu_read_unlock();
			return 0;
		}
	}
	rcu_read_unlock();
	owner = kzalloc(sizeof(*owner), GFP_KERNEL_ACCOUNT);
	if (!owner)
		return -ENOMEM;
	owner->portid = portid;
	owner->uid = current_euid();
	owner->user_ns = get_user_ns(current_user_ns());
	owner->sk = sk;
	sock_hold(sk);
	refcount_set(&owner->refs, 1);
	spin_lock_init(&owner->lock);
	INIT_LIST_HEAD(&owner->ops);
	INIT_LIST_HEAD(&owner->events);
	INIT_DELAYED_WORK(&owner->work, sksplice_owner_work);
	init_llist_head(&owner->soon);
	INIT_DELAYED_WORK(&owner->soon_work, sksplice_teardown_some);
	ret = xa_alloc(&sksplice_owners, &owner->id, owner, xa_limit_31b, GFP_KERNEL);
	if (ret) {
		sksplice_owner_put(owner);
		return ret;
	}
	atomic_inc(&sksplice_owner_nr);
	*id = owner->id;
	return 0;
}

/*
 * Context: process, @owner dead. Forwards end and give their ends back, splices go on. All are
 * told first, then waited for: who closes the socket finds the ends free, unless some
 * user owns one of them for longer than anybody should wait in close().
 */
static void sksplice_owner_orphan(struct sksplice_owner *owner)
{
	unsigned long deadline = jiffies + HZ;
	struct sksplice_op *op, *next;
	LIST_HEAD(forwards);

	spin_lock_bh(&owner->lock);
	list_for_each_entry_safe(op, next, &owner->ops, owner_node) {
		WRITE_ONCE(op->orphan, true);
		list_del_init(&op->owner_node);
		if (sksplice_op_owns(op))
			continue;
		sksplice_op_end(op, SKSPLICE_CAUSE_CANCELED, 0);
		refcount_inc(&op->refs);
		list_add_tail(&op->bury_node, &forwards);
	}
	spin_unlock_bh(&owner->lock);
	list_for_each_entry_safe(op, next, &forwards, bury_node) {
		list_del(&op->bury_node);
		if (time_before(jiffies, deadline))
			sksplice_op_wait(op, deadline);
		sksplice_op_put(op);
	}
}

/*
 * Context: process. The socket is gone, or the module goes: completions are dropped. Takes the
 * table's reference, once however often it is called. Every event still listed is taken once,
 * here or by a delivery under way.
 */
static void sksplice_owner_bury(struct sksplice_owner *owner)
{
	struct sksplice_op *op;

	if (xa_cmpxchg(&sksplice_owners, owner->id, owner, NULL, GFP_KERNEL) != owner)
		return;
	spin_lock_bh(&owner->lock);
	owner->dead = true;
	spin_unlock_bh(&owner->lock);
	sksplice_owner_orphan(owner);
	if (cancel_delayed_work_sync(&owner->work))
		sksplice_owner_put(owner);
	while ((op = sksplice_event_take(owner)))
		sksplice_op_put(op);
	atomic_dec(&sksplice_owner_nr);
	sksplice_owner_put(owner);
}

/* A generic netlink socket was released. Only the dead one is meant, not its port's next user. */
static int sksplice_owner_notify(struct notifier_block *nb, unsigned long state, void *data)
{
	struct netlink_notify *n = data;
	struct sksplice_owner *owner;
	unsigned long index;

	if (state != NETLINK_URELEASE || n->protocol != NETLINK_GENERIC)
		return NOTIFY_DONE;
	rcu_read_lock();
	xa_for_each(&sksplice_owners, index, owner) {
		if (owner->portid != n->portid || !net_eq(sock_net(owner->sk), n->net) ||
		    !sock_flag(owner->sk, SOCK_DEAD) ||
		    !refcount_inc_not_zero(&owner->refs))
			continue;
		rcu_read_unlock();
		sksplice_owner_bury(owner);
		sksplice_owner_put(owner);
		rcu_read_lock();
	}
	rcu_read_unlock();
	return NOTIFY_DONE;
}

static struct notifier_block sksplice_owner_notifier = {
	.notifier_call = sksplice_owner_notify,
};

int sksplice_event_init(void)
{
	return netlink_register_notifier(&sksplice_owner_notifier);
}

/* Module exit: no request, no operation and no operation's work is left. */
void sksplice_event_exit(void)
{
	struct sksplice_owner *owner;
	unsigned long index;

	netlink_unregister_notifier(&sksplice_owner_notifier);
	xa_for_each(&sksplice_owners, index, owner)
		sksplice_owner_bury(owner);
}
