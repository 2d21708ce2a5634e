// SPDX-License-Identifier: GPL-2.0
/* What netlink messages say: each function puts one object's attributes, 0 or -EMSGSIZE. */
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/jiffies.h>
#include <linux/file.h>
#include <net/af_unix.h>
#include <net/inet_sock.h>
#include <net/netlink.h>

#include "sksplice.h"

static int sksplice_put_u64(struct sk_buff *skb, int attr, u64 value)
{
	return nla_put_u64_64bit(skb, attr, value, SKSPLICE_A_PAD);
}

struct sksplice_fill_addr {
	struct sockaddr_storage local, remote;
	size_t local_len, remote_len;
	u32 inode;
};

/*
 * The name of the socket itself, which once bound stays; who its peer is cannot be asked here,
 * under the operation's lock.
 */
static size_t sksplice_unixaddr_of(const struct sock *sk, struct sockaddr_storage *ss, bool local)
{
	const struct unix_address *addr = smp_load_acquire(&unix_sk(sk)->addr);

	ss->ss_family = AF_UNIX;
	if (!local || !addr || addr->len > sizeof(*ss))
		return sizeof(ss->ss_family);
	memcpy(ss, addr->name, addr->len);
	return addr->len;
}

static size_t sksplice_sockaddr_of(const struct sock *sk, struct sockaddr_storage *ss, bool local)
{
	const struct inet_sock *inet = inet_sk(sk);
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	__be16 port;

	memset(ss, 0, sizeof(*ss));
	if (sk->sk_family == AF_UNIX)
		return sksplice_unixaddr_of(sk, ss, local);
	if (IS_ENABLED(CONFIG_VSOCKETS) && sk->sk_family == AF_VSOCK)
		return sksplice_vsock_addr(sk, ss, local);
	port = local ? inet->inet_sport : inet->inet_dport;
#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = port;
		in6->sin6_addr = local ? sk->sk_v6_rcv_saddr : sk->sk_v6_daddr;
		return sizeof(*in6);
	}
#endif
	in->sin_family = AF_INET;
	in->sin_port = port;
	in->sin_addr.s_addr = local ? inet->inet_rcv_saddr : inet->inet_daddr;
	return sizeof(*in);
}

/* The op's lock keeps release from letting the file go meanwhile. False: it went. */
static bool sksplice_fill_look(struct sksplice_op *op, int i, struct sksplice_fill_addr *addr)
{
	bool there;

	spin_lock_bh(&op->lock);
	there = op->file[i];
	if (there) {
		const struct sock *sk = sock_from_file(op->file[i])->sk;

		addr->local_len = sksplice_sockaddr_of(sk, &addr->local, true);
		addr->remote_len = sksplice_sockaddr_of(sk, &addr->remote, false);
		addr->inode = file_inode(op->file[i])->i_ino;
	}
	spin_unlock_bh(&op->lock);
	return there;
}

static int sksplice_fill_sock(struct sk_buff *skb, struct sksplice_op *op, int i)
{
	struct sksplice_fill_addr addr;
	struct nlattr *nest;

	if (!sksplice_fill_look(op, i, &addr))
		return 0;
	nest = nla_nest_start(skb, i ? SKSPLICE_A_SINK : SKSPLICE_A_SOURCE);
	if (!nest || nla_put(skb, SKSPLICE_A_SOCK_LOCAL, addr.local_len, &addr.local) ||
	    nla_put(skb, SKSPLICE_A_SOCK_REMOTE, addr.remote_len, &addr.remote) ||
	    nla_put_u32(skb, SKSPLICE_A_SOCK_INODE, addr.inode))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int sksplice_fill_flows(struct sk_buff *skb, const struct sksplice_op *op)
{
	const struct sksplice_flow *a = &op->flow[0], *b = &op->flow[1];
	bool pair = op->nr_flows == 2;

	if (sksplice_put_u64(skb, SKSPLICE_A_BYTES, READ_ONCE(a->bytes)) ||
	    nla_put_u32(skb, SKSPLICE_A_STATE, READ_ONCE(a->state)) ||
	    sksplice_put_u64(skb, SKSPLICE_A_INLINE, READ_ONCE(a->runs_inline) +
			     (pair ? READ_ONCE(b->runs_inline) : 0)) ||
	    sksplice_put_u64(skb, SKSPLICE_A_WORKER, READ_ONCE(a->runs_worker) +
			     (pair ? READ_ONCE(b->runs_worker) : 0)) ||
	    sksplice_put_u64(skb, SKSPLICE_A_MISSED, READ_ONCE(a->missed) +
			     (pair ? READ_ONCE(b->missed) : 0)))
		return -EMSGSIZE;
	if (pair && (sksplice_put_u64(skb, SKSPLICE_A_BYTES_BACK, READ_ONCE(b->bytes)) ||
		     nla_put_u32(skb, SKSPLICE_A_STATE_BACK, READ_ONCE(b->state))))
		return -EMSGSIZE;
	return 0;
}

/* A live operation. */
int sksplice_fill_op(struct sk_buff *skb, struct sksplice_op *op)
{
	u64 age = jiffies_to_msecs(jiffies - op->started);
	u64 quiet = jiffies_to_msecs(sksplice_op_quiet(op));

	if (sksplice_put_u64(skb, SKSPLICE_A_TOKEN, op->token) ||
	    nla_put_u32(skb, SKSPLICE_A_KIND, op->kind) ||
	    nla_put_u32(skb, SKSPLICE_A_FLAGS, op->flags) ||
	    nla_put_u32(skb, SKSPLICE_A_IDLE_MS, op->idle_ms) ||
	    sksplice_put_u64(skb, SKSPLICE_A_USER_DATA, op->user_data) ||
	    sksplice_put_u64(skb, SKSPLICE_A_AGE_MS, age) ||
	    sksplice_put_u64(skb, SKSPLICE_A_QUIET_MS, quiet) ||
	    nla_put_u32(skb, SKSPLICE_A_UID, from_kuid_munged(current_user_ns(),
							      sksplice_user_uid(op->user))) ||
	    nla_put_u32(skb, SKSPLICE_A_PID, op->pid) ||
	    (READ_ONCE(op->orphan) && nla_put_flag(skb, SKSPLICE_A_ORPHAN)))
		return -EMSGSIZE;
	if (sksplice_fill_flows(skb, op) || sksplice_fill_sock(skb, op, 0) ||
	    sksplice_fill_sock(skb, op, 1))
		return -EMSGSIZE;
	return 0;
}

/* A completion. */
int sksplice_fill_event(struct sk_buff *skb, const struct sksplice_op *op)
{
	const struct sksplice_event *ev = &op->event;

	if (sksplice_put_u64(skb, SKSPLICE_A_TOKEN, op->token) ||
	    sksplice_put_u64(skb, SKSPLICE_A_USER_DATA, op->user_data) ||
	    nla_put_u32(skb, SKSPLICE_A_KIND, op->kind) ||
	    sksplice_put_u64(skb, SKSPLICE_A_BYTES, op->flow[0].bytes) ||
	    sksplice_put_u64(skb, SKSPLICE_A_BYTES_BACK, sksplice_op_bytes_back(op)) ||
	    nla_put_u32(skb, SKSPLICE_A_CAUSE, ev->cause) ||
	    nla_put_u32(skb, SKSPLICE_A_ERROR, ev->error) ||
	    nla_put_u32(skb, SKSPLICE_A_ENDED, ev->ended) ||
	    nla_put_u32(skb, SKSPLICE_A_UNACKED, ev->unacked))
		return -EMSGSIZE;
	return 0;
}

#define SKSPLICE_STAT(attr, member) { attr, offsetof(struct sksplice_stats, member) }

static const struct {
	int attr;
	size_t offset;
} sksplice_stat_map[] = {
	SKSPLICE_STAT(SKSPLICE_A_STAT_STARTED, started),
	SKSPLICE_STAT(SKSPLICE_A_STAT_REFUSED, refused),
	SKSPLICE_STAT(SKSPLICE_A_STAT_ENDED, ended),
	SKSPLICE_STAT(SKSPLICE_A_STAT_BYTES, bytes),
	SKSPLICE_STAT(SKSPLICE_A_STAT_INLINE, runs_inline),
	SKSPLICE_STAT(SKSPLICE_A_STAT_WORKER, runs_worker),
	SKSPLICE_STAT(SKSPLICE_A_STAT_MISSED, missed),
	SKSPLICE_STAT(SKSPLICE_A_STAT_BLOCKED, blocked),
	SKSPLICE_STAT(SKSPLICE_A_STAT_NOMEM, nomem),
	SKSPLICE_STAT(SKSPLICE_A_STAT_ZEROCOPY, zerocopy),
	SKSPLICE_STAT(SKSPLICE_A_STAT_COPIED, copied),
	SKSPLICE_STAT(SKSPLICE_A_STAT_EVENTS, events),
	SKSPLICE_STAT(SKSPLICE_A_STAT_OVERRUNS, overruns),
	SKSPLICE_STAT(SKSPLICE_A_STAT_INTRUDED, intruded),
};

static u64 sksplice_stat_sum(size_t offset)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += *(u64 *)((void *)per_cpu_ptr(&sksplice_stats, cpu) + offset);
	return sum;
}

static int sksplice_put_stat(struct sk_buff *skb, int attr, u64 value)
{
	return nla_put_u64_64bit(skb, attr, value, SKSPLICE_A_STAT_PAD);
}

/* The module's counters. */
int sksplice_fill_stats(struct sk_buff *skb)
{
	struct nlattr *nest = nla_nest_start(skb, SKSPLICE_A_STATS);
	int i;

	if (!nest || sksplice_put_stat(skb, SKSPLICE_A_STAT_OPS, sksplice_op_count()) ||
	    sksplice_put_stat(skb, SKSPLICE_A_STAT_OWNERS, sksplice_owner_count()))
		return -EMSGSIZE;
	for (i = 0; i < ARRAY_SIZE(sksplice_stat_map); i++)
		if (sksplice_put_stat(skb, sksplice_stat_map[i].attr,
				      sksplice_stat_sum(sksplice_stat_map[i].offset)))
			return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}
