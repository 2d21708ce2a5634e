// SPDX-License-Identifier: GPL-2.0
/* Who may do what, how much of it, and the shape of each request. */
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/hashtable.h>
#include <linux/slab.h>
#include <linux/sysctl.h>
#include <linux/user_namespace.h>
#include <net/netlink.h>
#include <net/net_namespace.h>

#include "compat.h"
#include "sksplice.h"

/* Workers that one user can have asleep; many times as many are there. */
#define SKSPLICE_USER_RUNS 16

#define SKSPLICE_F_ALL (SKSPLICE_F_SHUTDOWN | SKSPLICE_F_DRAIN | SKSPLICE_F_CONNECTING | \
			SKSPLICE_F_KEEP | SKSPLICE_F_LAZY)

const struct nla_policy sksplice_policy_none[SKSPLICE_A_MAX + 1] = { };

const struct nla_policy sksplice_policy_new[SKSPLICE_A_MAX + 1] = {
	[SKSPLICE_A_OWNER]	= NLA_POLICY_MIN(NLA_U32, 1),
	[SKSPLICE_A_KIND]	= NLA_POLICY_RANGE(NLA_U32, SKSPLICE_KIND_FORWARD, SKSPLICE_KIND_MAX),
	[SKSPLICE_A_SOURCE_FD]	= { .type = NLA_U32 },
	[SKSPLICE_A_SINK_FD]	= { .type = NLA_U32 },
	[SKSPLICE_A_LIMIT]	= { .type = NLA_U64 },
	[SKSPLICE_A_FLAGS]	= NLA_POLICY_MASK(NLA_U32, SKSPLICE_F_ALL),
	[SKSPLICE_A_IDLE_MS]	= { .type = NLA_U32 },
	[SKSPLICE_A_USER_DATA]	= { .type = NLA_U64 },
	[SKSPLICE_A_PREFIX]	= NLA_POLICY_RANGE(NLA_BINARY, 1, SKSPLICE_PIECE_MAX),
	[SKSPLICE_A_SUFFIX]	= NLA_POLICY_RANGE(NLA_BINARY, 1, SKSPLICE_PIECE_MAX),
	[SKSPLICE_A_DATA]	= NLA_POLICY_RANGE(NLA_BINARY, 1, SKSPLICE_PIECE_MAX),
	[SKSPLICE_A_DELIM]	= NLA_POLICY_RANGE(NLA_BINARY, 1, SKSPLICE_DELIM_MAX),
	[SKSPLICE_A_FRAMER]	= { .type = NLA_U32 },
};

const struct nla_policy sksplice_policy_writeable[SKSPLICE_A_MAX + 1] = {
	[SKSPLICE_A_SINK_FD]	= { .type = NLA_U32 },
};

const struct nla_policy sksplice_policy_token[SKSPLICE_A_MAX + 1] = {
	[SKSPLICE_A_TOKEN]	= { .type = NLA_U64 },
	[SKSPLICE_A_OWNER]	= NLA_POLICY_MIN(NLA_U32, 1),
};

const struct nla_policy sksplice_policy_revoke[SKSPLICE_A_MAX + 1] = {
	[SKSPLICE_A_TOKEN]	= { .type = NLA_U64 },
	[SKSPLICE_A_OWNER]	= NLA_POLICY_MIN(NLA_U32, 1),
	[SKSPLICE_A_ERROR]	= NLA_POLICY_RANGE(NLA_U32, 1, 4095),
};

const struct nla_policy sksplice_policy_event[SKSPLICE_A_MAX + 1] = {
	[SKSPLICE_A_OWNER]	= NLA_POLICY_MIN(NLA_U32, 1),
};

const struct nla_policy sksplice_policy_flush[SKSPLICE_A_MAX + 1] = {
	[SKSPLICE_A_ALL_NETNS]	= { .type = NLA_FLAG },
};

static int sksplice_unprivileged;
static unsigned int sksplice_max_ops = 1 << 20;
static unsigned int sksplice_max_ops_per_user = 1 << 18;

static struct ctl_table sksplice_sysctls[] = {
	{
		.procname	= "unprivileged",
		.data		= &sksplice_unprivileged,
		.maxlen		= sizeof(int),
		.mode		= 0644,
		.proc_handler	= proc_dointvec_minmax,
		.extra1		= SYSCTL_ZERO,
		.extra2		= SYSCTL_ONE,
	}, {
		.procname	= "max_ops",
		.data		= &sksplice_max_ops,
		.maxlen		= sizeof(unsigned int),
		.mode		= 0644,
		.proc_handler	= proc_douintvec,
	}, {
		.procname	= "max_ops_per_user",
		.data		= &sksplice_max_ops_per_user,
		.maxlen		= sizeof(unsigned int),
		.mode		= 0644,
		.proc_handler	= proc_douintvec,
	},
	SKSPLICE_SYSCTL_SENTINEL
};

static struct ctl_table_header *sksplice_sysctl_header;

/* In the initial netns only: a limit on kernel memory is the machine's. */
int sksplice_policy_init(void)
{
	sksplice_sysctl_header = register_net_sysctl(&init_net, "net/sksplice", sksplice_sysctls);
	return sksplice_sysctl_header ? 0 : -ENOMEM;
}

void sksplice_policy_exit(void)
{
	unregister_net_sysctl_table(sksplice_sysctl_header);
}

/*
 * Context: doit. We act with the writer's descriptors, so the writer must be who opened the
 * socket: a privileged program that writes into an inherited netlink socket must not lend its
 * table of files.
 */
int sksplice_policy_sender(struct sk_buff *skb, const char **why)
{
	struct sock *sk = NETLINK_CB(skb).sk;
	const struct cred *cred;

	if (!sk || !sk->sk_socket || !sk->sk_socket->file)
		return SKSPLICE_REFUSE(why, -EPERM, "not from a user's netlink socket");
	cred = sk->sk_socket->file->f_cred;
	if (!uid_eq(cred->euid, current_euid()) || cred->user_ns != current_user_ns())
		return SKSPLICE_REFUSE(why, -EPERM, "the netlink socket was opened by somebody else");
	return 0;
}

/* Context: doit. May the sender have sockets of a netns with this user namespace spliced? */
int sksplice_policy_permit(struct sk_buff *skb, struct user_namespace *user_ns, const char **why)
{
	if (READ_ONCE(sksplice_unprivileged))
		return 0;
	if (netlink_ns_capable(skb, user_ns, CAP_NET_ADMIN))
		return 0;
	return SKSPLICE_REFUSE(why, -EPERM,
			       "needs CAP_NET_ADMIN in the socket's network namespace, or net.sksplice.unprivileged=1");
}

/* Operations and undelivered completions of one user of the initial namespace. */
struct sksplice_user {
	kuid_t uid;
	unsigned int ops;		/* users_lock; freed at 0 */
	spinlock_t lock;		/* of the next two */
	unsigned int runs;		/* slots for generic runs that are taken */
	struct list_head waiting;	/* turns of flows without one, the first to wait first */
	struct hlist_node node;
};

static DEFINE_HASHTABLE(sksplice_users, 8);
static DEFINE_SPINLOCK(sksplice_users_lock);
static unsigned int sksplice_users_ops;		/* users_lock */

kuid_t sksplice_user_uid(const struct sksplice_user *user)
{
	return user->uid;
}

static struct sksplice_user *sksplice_user_find(kuid_t uid)
{
	struct sksplice_user *user;

	lockdep_assert_held(&sksplice_users_lock);
	hash_for_each_possible(sksplice_users, user, node, __kuid_val(uid))
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

static struct sksplice_user *sksplice_user_new(kuid_t uid)
{
	struct sksplice_user *fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);

	if (!fresh)
		return NULL;
	fresh->uid = uid;
	spin_lock_init(&fresh->lock);
	INIT_LIST_HEAD(&fresh->waiting);
	return fresh;
}

/*
 * users_lock held. *@fresh is for a user who has no operation yet; NULL: there is none, or it was
 * taken. NULL: it is needed.
 */
static struct sksplice_user *sksplice_user_add(kuid_t uid, unsigned int units,
					       struct sksplice_user **fresh)
{
	struct sksplice_user *user = sksplice_user_find(uid);

	if (sksplice_users_ops + units > READ_ONCE(sksplice_max_ops) ||
	    (user ? user->ops : 0) + units > READ_ONCE(sksplice_max_ops_per_user))
		return ERR_PTR(-ENFILE);
	if (!user && *fresh) {
		user = *fresh;
		*fresh = NULL;
		hash_add(sksplice_users, &user->node, __kuid_val(uid));
	}
	if (user) {
		user->ops += units;
		sksplice_users_ops += units;
	}
	return user;
}

/* Context: process. Applies to everybody: CAP_NET_ADMIN in a user namespace is nobody. */
struct sksplice_user *sksplice_user_charge(kuid_t uid, unsigned int units)
{
	struct sksplice_user *fresh = NULL, *user;

	spin_lock_bh(&sksplice_users_lock);
	user = sksplice_user_add(uid, units, &fresh);
	spin_unlock_bh(&sksplice_users_lock);
	if (user)
		return user;
	fresh = sksplice_user_new(uid);
	if (!fresh)
		return ERR_PTR(-ENOMEM);
	spin_lock_bh(&sksplice_users_lock);
	user = sksplice_user_add(uid, units, &fresh);
	spin_unlock_bh(&sksplice_users_lock);
	kfree(fresh);
	return user;
}

/*
 * Context: the flow's work. False: its user has as many generic runs as he may have, and if each of
 * them waits for a lock of his for ever, that is all that he stops. It is kicked when its turn comes.
 */
bool sksplice_user_enter(struct sksplice_flow *flow)
{
	struct sksplice_turn *turn = sksplice_generic_turn(flow);
	struct sksplice_user *user = flow->op->user;
	bool ok;

	spin_lock_bh(&user->lock);
	ok = turn->come;
	if (!ok && user->runs < SKSPLICE_USER_RUNS) {
		user->runs++;
		ok = true;
	}
	turn->come = false;
	if (ok)
		list_del_init(&turn->node);
	else if (list_empty(&turn->node))
		list_add_tail(&turn->node, &user->waiting);
	spin_unlock_bh(&user->lock);
	return ok;
}

/* user->lock held. A slot goes to who waited longest. */
static void sksplice_user_pass(struct sksplice_user *user)
{
	struct sksplice_turn *next;

	next = list_first_entry_or_null(&user->waiting, struct sksplice_turn, node);
	if (!next) {
		user->runs--;
		return;
	}
	list_del_init(&next->node);
	next->come = true;
	sksplice_pump_kick(next->flow);
}

/* Context: the flow's work, after enter. */
void sksplice_user_leave(struct sksplice_flow *flow)
{
	struct sksplice_user *user = flow->op->user;

	spin_lock_bh(&user->lock);
	sksplice_user_pass(user);
	spin_unlock_bh(&user->lock);
}

/* Context: process, the flow is stopped. It waits no longer, and gives back what it got. */
void sksplice_user_forget(struct sksplice_flow *flow)
{
	struct sksplice_turn *turn = sksplice_generic_turn(flow);
	struct sksplice_user *user = flow->op->user;

	if (!user)
		return;
	spin_lock_bh(&user->lock);
	list_del_init(&turn->node);
	if (turn->come)
		sksplice_user_pass(user);
	turn->come = false;
	spin_unlock_bh(&user->lock);
}

/* Context: any. */
void sksplice_user_uncharge(struct sksplice_user *user, unsigned int units)
{
	spin_lock_bh(&sksplice_users_lock);
	sksplice_users_ops -= units;
	user->ops -= units;
	if (!user->ops)
		hash_del(&user->node);
	else
		user = NULL;
	spin_unlock_bh(&sksplice_users_lock);
	kfree(user);
}
