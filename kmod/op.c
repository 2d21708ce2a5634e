// SPDX-License-Identifier: GPL-2.0
/* Operations: from their creation to the moment somebody says how they end. */
#include <linux/file.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>
#include <linux/xarray.h>
#include <net/net_namespace.h>

#include "sksplice.h"
#include "trace.h"

/* By token. An entry is an operation that has begun and was not yet released. */
static DEFINE_XARRAY(sksplice_ops);
/*
 * The last token given out. The place of the one after it is reserved already, so that the node it is in
 * does not come and go with each operation of a program that has few. Under the mutex, in process
 * context: who reserves a place is who gives out the token before it, and nobody is late.
 */
static DEFINE_MUTEX(sksplice_op_naming);
static u64 sksplice_op_last;
static atomic_t sksplice_op_live = ATOMIC_INIT(0);

/* By the number of flows, less one. */
static struct kmem_cache *sksplice_op_cache[2];

/*
 * Each of the two sizes has its own slabs: kmalloc() would round a pair of 672 bytes up to 1024, and
 * whole cache lines to 704.
 */
int sksplice_op_init(void)
{
	static const char * const names[] = { "sksplice_op", "sksplice_pair" };
	int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		sksplice_op_cache[i] = kmem_cache_create(names[i],
							 offsetof(struct sksplice_op, flow[i + 1]), 0,
							 SLAB_ACCOUNT, NULL);
		if (!sksplice_op_cache[i]) {
			sksplice_op_exit();
			return -ENOMEM;
		}
	}
	if (xa_reserve(&sksplice_ops, sksplice_op_last + 1, GFP_KERNEL)) {
		sksplice_op_exit();
		return -ENOMEM;
	}
	return 0;
}

/* Module exit: the last reference to each operation is gone; RCU may not have freed it yet. */
void sksplice_op_exit(void)
{
	int i;

	rcu_barrier();
	xa_destroy(&sksplice_ops);	/* one reserved place */
	for (i = 0; i < ARRAY_SIZE(sksplice_op_cache); i++)
		kmem_cache_destroy(sksplice_op_cache[i]);
}

/* Does it own its ends, so that what happens to one is passed on to the other? */
bool sksplice_op_owns(const struct sksplice_op *op)
{
	return op->kind == SKSPLICE_KIND_SPLICE || op->kind == SKSPLICE_KIND_PAIR;
}

/* Is it without a source? */
bool sksplice_op_sends(const struct sksplice_op *op)
{
	return op->kind == SKSPLICE_KIND_SEND;
}

/* Are our files meant to be the last ones of its sockets? */
bool sksplice_op_closes(const struct sksplice_op *op)
{
	return sksplice_op_owns(op) && !(op->flags & SKSPLICE_F_KEEP) && !op->abandoned &&
	       !op->reclaim;
}

u32 sksplice_op_count(void)
{
	return atomic_read(&sksplice_op_live);
}

/* Context: process. The caller's reference becomes the operation's own once it starts. */
struct sksplice_op *sksplice_op_alloc(enum sksplice_kind kind, u64 limit)
{
	int i, nr = kind == SKSPLICE_KIND_PAIR ? 2 : 1;
	struct sksplice_op *op;

	if (!try_module_get(THIS_MODULE))
		return ERR_PTR(-ENODEV);
	op = kmem_cache_zalloc(sksplice_op_cache[nr - 1], GFP_KERNEL);
	if (!op) {
		module_put(THIS_MODULE);
		return ERR_PTR(-ENOMEM);
	}
	op->kind = kind;
	op->nr_flows = nr;
	refcount_set(&op->refs, 1);
	spin_lock_init(&op->lock);
	INIT_LIST_HEAD(&op->owner_node);
	INIT_DELAYED_WORK(&op->work, sksplice_teardown_work);
	for (i = 0; i < nr; i++)
		sksplice_flow_init(&op->flow[i], op, limit);
	op->flow[nr - 1].back = nr == 2;
	atomic_inc(&sksplice_op_live);
	return op;
}

/* Not kfree_rcu(): before 6.12 nothing waits for what that has still to free to its slabs. */
static void sksplice_op_free(struct rcu_head *rcu)
{
	struct sksplice_op *op = container_of(rcu, struct sksplice_op, rcu);

	kmem_cache_free(sksplice_op_cache[op->nr_flows - 1], op);
}

/*
 * Context: any. The last one is after release: no file, socket or work is left. op->rcu lies over
 * bury_node, of a list whose every entry has a reference. Who finds it in the table yet takes none.
 */
void sksplice_op_put(struct sksplice_op *op)
{
	if (!refcount_dec_and_test(&op->refs))
		return;
	if (op->user)
		sksplice_user_uncharge(op->user, op->units);
	if (op->owner)
		sksplice_owner_put(op->owner);
	call_rcu(&op->rcu, sksplice_op_free);
}

/*
 * Context: process. Attaches the flows to the sockets of op->file. On failure some may be
 * attached; the caller abandons the operation.
 */
int sksplice_op_attach(struct sksplice_op *op, const char **why)
{
	struct socket *a, *b = sock_from_file(op->file[1]);
	struct sksplice_flow *there = &op->flow[0];
	struct sksplice_flow *back = op->nr_flows == 2 ? &op->flow[1] : NULL;
	int ret;

	if (sksplice_op_sends(op))
		return sksplice_end_attach(b, NULL, there, why);
	a = sock_from_file(op->file[0]);
	if (a->sk == b->sk)
		return sksplice_end_attach(a, there, there, why);
	ret = sksplice_end_attach(a, there, back, why);
	return ret ? ret : sksplice_end_attach(b, back, there, why);
}

/* Context: process. Gives it its token, whose place in the table is there: start cannot fail. */
int sksplice_op_name(struct sksplice_op *op)
{
	int ret = mutex_lock_killable(&sksplice_op_naming);

	if (ret)
		return ret;
	ret = xa_reserve(&sksplice_ops, sksplice_op_last + 2, GFP_KERNEL);
	if (!ret)
		op->token = ++sksplice_op_last;
	mutex_unlock(&sksplice_op_naming);
	return ret;
}

/*
 * op->lock held. Both streams have been passed on to their ends, and nobody waits for more. With an idle
 * limit its own work may be running.
 */
static bool sksplice_op_lazy(const struct sksplice_op *op)
{
	lockdep_assert_held(&op->lock);
	return (op->flags & SKSPLICE_F_LAZY) && op->event.cause == SKSPLICE_CAUSE_EOF &&
	       !op->idle_ms && !op->generic && op->owner;
}

/*
 * op->lock held. Teardown starts as soon as it may, the idle limit is watched until then. It has both begun
 * and ended once, so without an idle limit nothing else has queued the work.
 */
static void sksplice_op_arm(struct sksplice_op *op)
{
	lockdep_assert_held(&op->lock);
	if (op->begun && op->ending && sksplice_op_lazy(op))
		sksplice_teardown_soon(op);
	else if (op->begun && op->ending && !op->idle_ms)
		queue_delayed_work(sksplice_op_wq, &op->work, 0);
	else if (op->begun && op->ending)
		mod_delayed_work(sksplice_op_wq, &op->work, 0);
	else if (op->begun && op->idle_ms)
		queue_delayed_work(sksplice_op_wq, &op->work, msecs_to_jiffies(op->idle_ms));
}

/* The flows are as far as their creator brings them: from now on teardown may run. */
static void sksplice_op_begun(struct sksplice_op *op)
{
	spin_lock_bh(&op->lock);
	op->begun = true;
	sksplice_op_arm(op);
	spin_unlock_bh(&op->lock);
}

/*
 * Context: process, attached and named. Takes the caller's reference: the operation may be over
 * before this returns. Its flows stay valid till begun, since teardown waits for that. What ends
 * at once gives its ends back at once: the caller may use them for the next.
 */
void sksplice_op_start(struct sksplice_op *op)
{
	int i;

	op->started = jiffies;
	op->moved = jiffies;
	trace_sksplice_start(op);
	sksplice_count(started);
	for (i = 0; i < op->nr_flows; i++)
		sksplice_flow_begin(&op->flow[i]);
	xa_store(&sksplice_ops, op->token, op, GFP_KERNEL);
	sksplice_event_start(op);
	for (i = 0; i < op->nr_flows; i++)
		sksplice_pump_now(&op->flow[i]);
	if (READ_ONCE(op->ending))
		sksplice_teardown_unreach(op);
	sksplice_op_begun(op);
}

/*
 * Context: process. Undoes whatever there is of an operation that has not started, and waits for
 * that: a refusal means that nothing happened. Takes the caller's reference.
 */
void sksplice_op_abandon(struct sksplice_op *op)
{
	sksplice_count(refused);
	sksplice_owner_remove(op);
	op->abandoned = true;
	refcount_inc(&op->refs);
	sksplice_op_end(op, SKSPLICE_CAUSE_CANCELED, 0);
	sksplice_op_begun(op);
	sksplice_op_wait(op, jiffies + HZ);
	sksplice_op_put(op);
}

/* op->lock held. The first to say how it ends is believed. */
static bool sksplice_op_end_locked(struct sksplice_op *op, enum sksplice_cause cause, int error)
{
	lockdep_assert_held(&op->lock);
	if (op->ending)
		return false;
	WRITE_ONCE(op->ending, true);
	op->event.cause = cause;
	op->event.error = error;
	sksplice_op_arm(op);
	return true;
}

/*
 * Context: any, with a reference or an attached flow. False: it was ending already, and this
 * changes nothing.
 */
bool sksplice_op_end(struct sksplice_op *op, enum sksplice_cause cause, int error)
{
	bool first;

	spin_lock_bh(&op->lock);
	first = sksplice_op_end_locked(op, cause, error);
	spin_unlock_bh(&op->lock);
	return first;
}

/*
 * Release, with a reference. Who waits has one, too, so none is waiting any more, nor on its way there,
 * when the memory becomes another operation. Wakes by address alone, from a table of the kernel's: a
 * wait queue of its own would be a tenth of an operation that nobody waits for.
 */
void sksplice_op_gone(struct sksplice_op *op)
{
	smp_store_release(&op->gone, true);	/* pairs with op_wait() */
	smp_mb();	/* either we see who queued to wait, or he sees that it is gone */
	wake_up_var(&op->gone);
}

/*
 * Context: process, with a reference. -EINPROGRESS at the deadline (jiffies), -EINTR when killed: the
 * teardown goes on by itself. Never for ever: a user can own a socket as long as it likes, and a request
 * waits with the lock of all generic netlink held for reading.
 */
int sksplice_op_wait(struct sksplice_op *op, unsigned long deadline)
{
	long left = max_t(long, deadline - jiffies, 1);

	might_sleep();
	left = ___wait_var_event(&op->gone, ___wait_cond_timeout(smp_load_acquire(&op->gone)),
				 TASK_KILLABLE, 0, left, __ret = schedule_timeout(__ret));
	if (left > 0)
		return 0;
	return left ? -EINTR : -EINPROGRESS;
}

/* Final once phase two of teardown is over, as flow[0].bytes is. */
u64 sksplice_op_bytes_back(const struct sksplice_op *op)
{
	return op->nr_flows == 2 ? READ_ONCE(op->flow[1].bytes) : 0;
}

/* Jiffies since a byte moved. A run on another CPU may be ahead of our reading of jiffies. */
u64 sksplice_op_quiet(const struct sksplice_op *op)
{
	unsigned long moved = READ_ONCE(op->moved), now = jiffies;

	return time_after(now, moved) ? now - moved : 0;
}

/*
 * Context: process. Ends the operation and hands its files to the caller. When the wait is in
 * vain, whoever comes second under op->lock, release or this, drops them.
 */
int sksplice_op_reclaim(struct sksplice_op *op, struct file *file[2])
{
	bool first, drop = false;
	int ret;

	spin_lock_bh(&op->lock);
	first = !op->ending;
	if (first) {
		op->reclaim = true;
		file[0] = op->file[0];
		file[1] = op->file[1];
	}
	sksplice_op_end_locked(op, SKSPLICE_CAUSE_CANCELED, 0);
	spin_unlock_bh(&op->lock);
	if (!first)
		return -ENOENT;
	ret = sksplice_op_wait(op, jiffies + HZ);
	if (ret) {
		spin_lock_bh(&op->lock);
		op->reclaim = false;
		drop = !op->file[0];
		spin_unlock_bh(&op->lock);
	}
	if (drop) {
		fput(file[0]);
		fput(file[1]);
	}
	return ret;
}

/* A reference to the operation, or NULL: never was, or is over. */
struct sksplice_op *sksplice_op_get(u64 token)
{
	struct sksplice_op *op;

	rcu_read_lock();
	op = xa_load(&sksplice_ops, token);
	if (op && !refcount_inc_not_zero(&op->refs))
		op = NULL;
	rcu_read_unlock();
	return op;
}

/* A reference to the first operation whose token is at least *@token, which is set to it. */
struct sksplice_op *sksplice_op_next(unsigned long *token)
{
	struct sksplice_op *op;

	rcu_read_lock();
	do {
		op = xa_find(&sksplice_ops, token, ULONG_MAX, XA_PRESENT);
		if (!op || refcount_inc_not_zero(&op->refs))
			break;
		++*token;
	} while (true);
	rcu_read_unlock();
	return op;
}

/* Release: nobody finds it by its token any more. Also gives back an unused reservation. */
void sksplice_op_forget(struct sksplice_op *op)
{
	if (op->token)
		xa_erase(&sksplice_ops, op->token);
	atomic_dec(&sksplice_op_live);
}

/*
 * Context: process. Ends all operations of @net (NULL: of every netns) by force and waits until
 * their state is gone, as op_wait() does. *@count: how many it ended.
 */
int sksplice_op_flush(struct net *net, u32 *count)
{
	struct sksplice_op *op;
	unsigned long token;
	unsigned long deadline = jiffies + 10 * HZ;
	u32 ended = 0;
	int ret = 0;

	for (token = 0; (op = sksplice_op_next(&token)); token++) {
		if (!net || net_eq(net, op->net))
			ended += sksplice_op_end(op, SKSPLICE_CAUSE_REVOKED, ECANCELED);
		sksplice_op_put(op);
	}
	for (token = 0; !ret && (op = sksplice_op_next(&token)); token++) {
		if ((!net || net_eq(net, op->net)) && READ_ONCE(op->ending))
			ret = sksplice_op_wait(op, deadline);
		sksplice_op_put(op);
	}
	*count = ended;
	return ret;
}
