// SPDX-License-Identifier: GPL-2.0
/*
 * local.bpf.c: what the engine sockmap has in the kernel, local mode. Bytes that are sent to a peer on this host go into the
 * peer's receive queue and not through TCP.
 *
 * learn   puts sockets of the cgroup that are connected to this host into "peers", before anybody can have received on them
 * arm     is called by the library: from now on this sink is to send to that peer, or to leave it alone
 * hop     runs when a socket in "sinks" sends: redirects to its peer, or lets TCP have the bytes
 *
 * The peer reads what was redirected before what TCP has brought. So bytes may be redirected only when the peer has read all
 * that was ever given to TCP, which hop sees by their sequence numbers; and never again after TCP has got some.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bypass.h"
#include "local.h"

#define AF_INET		2
#define AF_INET6	10
#define LOOPBACK_NET	127
#define RCV_SHUTDOWN	1
#define SEND_SHUTDOWN	2
#define WAITERS		8	/* of a socket; who has more is not looked through */

/* Of the running kernel, by its BTF. */
#define KERNEL __attribute__((preserve_access_index))
typedef struct { int counter; } atomic_t;
struct list_head { struct list_head *next, *prev; } KERNEL;
struct wait_queue_entry { void *private; struct list_head entry; } KERNEL;
struct wait_queue_head { struct list_head head; } KERNEL;
struct socket_wq { struct wait_queue_head wait; } KERNEL;
typedef struct { __s64 counter; } atomic64_t;
struct sock_common {
	unsigned char skc_state;
	unsigned long skc_flags;
	atomic64_t skc_cookie;
} KERNEL;
enum sock_flags { SOCK_ZEROCOPY = 1 };	/* the kernel has another number */
struct sock {
	struct sock_common __sk_common;
	struct { atomic_t rmem_alloc; } KERNEL sk_backlog;
	struct { int owned; } KERNEL sk_lock;
	struct socket_wq *sk_wq;
	__u8 sk_shutdown;
} KERNEL;
struct inet_connection_sock { const void *icsk_ulp_ops; } KERNEL;
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_received;
	__u32 write_seq, copied_seq;
	__u8 syn_fastopen : 1;
} KERNEL;

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, LOCAL_SOCKETS);
	__type(key, struct local_key);
	__type(value, __u64);
} peers SEC(".maps");

/* By cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, LOCAL_SOCKETS);
	__type(key, __u64);
	__type(value, __u64);
} sinks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct local_hop);
} hops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOCAL_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 what, __u64 n)
{
	__u64 *c = bpf_map_lookup_elem(&counts, &what);

	if (c)
		*c += n;
}

/* ---- learn */

static __always_inline bool loopback(const __u32 ip[4])
{
	return ip[2] == bpf_htonl(0xffff) && (bpf_ntohl(ip[3]) >> 24) == LOOPBACK_NET;
}

/* Who connects to an address of his own has that address himself, unless he insists on another one. */
static __always_inline bool same_host(const struct local_key *k)
{
	if (k->local[0] == k->remote[0] && k->local[1] == k->remote[1] && k->local[2] == k->remote[2] &&
	    k->local[3] == k->remote[3])
		return true;
	return !k->local[0] && !k->local[1] && !k->remote[0] && !k->remote[1] && loopback(k->local) &&
	       loopback(k->remote);
}

static __always_inline bool name(struct bpf_sock_ops *ops, struct local_key *k)
{
	k->netns = bpf_get_netns_cookie(ops);
	k->local_port = ops->local_port;
	k->remote_port = bpf_ntohl(ops->remote_port);
	if (ops->family == AF_INET) {
		k->local[2] = k->remote[2] = bpf_htonl(0xffff);
		k->local[3] = ops->local_ip4;
		k->remote[3] = ops->remote_ip4;
		return true;
	}
	k->local[0] = ops->local_ip6[0];
	k->local[1] = ops->local_ip6[1];
	k->local[2] = ops->local_ip6[2];
	k->local[3] = ops->local_ip6[3];
	k->remote[0] = ops->remote_ip6[0];
	k->remote[1] = ops->remote_ip6[1];
	k->remote[2] = ops->remote_ip6[2];
	k->remote[3] = ops->remote_ip6[3];
	return ops->family == AF_INET6;
}

/* With data in its SYN a socket may be waiting for bytes before it is connected, where it would not see redirected ones. */
static __always_inline bool fast_open(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;

	return !tp || BPF_CORE_READ_BITFIELD_PROBED(tp, syn_fastopen);
}

SEC("sockops")
int learn(struct bpf_sock_ops *ops)
{
	struct local_key k = { 0 };

	if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		return 1;
	if (!name(ops, &k) || !same_host(&k) || fast_open(ops))
		return 1;
	/* the same addresses again, on another device: the bytes that wait in the first one would go with its entry */
	if (!bpf_sock_hash_update(ops, &peers, &k, BPF_NOEXIST))
		count(LOCAL_LEARNED, 1);
	return 1;
}

/*
 * Never runs: a parser without a verdict does not. But each learned socket has a reference to it, and it has one to
 * "peers": so the map, and with it the bytes that wait in those sockets, outlive the process that loaded it.
 */
SEC("sk_skb/stream_parser")
int anchor(struct __sk_buff *skb)
{
	struct local_key none = { 0 };
	struct bpf_sock *sk = bpf_map_lookup_elem(&peers, &none);

	if (sk)
		bpf_sk_release(sk);
	return (int)skb->len;
}

/* ---- arm */

static __always_inline bool aim(struct local_hop *h, const struct local_key *peer)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&peers, peer);
	struct tcp_sock *tp;

	if (!sk)
		return false;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp) {
		h->peer = *peer;
		h->peer_sk = (__u64)tp;
		h->peer_cookie = (__u64)((struct sock *)tp)->__sk_common.skc_cookie.counter;
	}
	bpf_sk_release(sk);
	return tp;
}

/* The sink has its storage already: the library makes it, which may wait for memory. 0: done. */
SEC("tc")
int arm(struct __sk_buff *skb)
{
	struct local_order o;
	struct local_hop *h;
	struct bpf_sock *sk;
	int r = 1;

	if (bpf_skb_load_bytes(skb, 0, &o, sizeof(o)))
		return 1;
	sk = bpf_map_lookup_elem(&sinks, &o.sink);
	if (!sk)
		return 1;
	h = bpf_sk_storage_get(&hops, sk, NULL, 0);
	if (h && (o.phase == LOCAL_OFF || aim(h, &o.peer))) {
		h->phase = o.phase;
		r = 0;
	}
	bpf_sk_release(sk);
	return r;
}

/* ---- hop */

/*
 * The peer is read without a reference, as this kind of program can have none: a TCP socket's memory is never anything else
 * while the program runs, and the cookie says whether it is another socket by now.
 */
#define READ(sk, field) BPF_CORE_READ(sk, field)

static __always_inline bool is_there(const struct local_hop *h)
{
	struct sock *peer = (struct sock *)h->peer_sk;

	return READ(peer, __sk_common.skc_cookie.counter) == (__s64)h->peer_cookie;
}

/* Can it be sent to? What refuses, and how, is TCP's to say. */
static __always_inline bool sends(const struct sock *sk)
{
	unsigned char state = sk->__sk_common.skc_state;

	return (state == BPF_TCP_ESTABLISHED || state == BPF_TCP_CLOSE_WAIT) && !(sk->sk_shutdown & SEND_SHUTDOWN);
}

/* Bytes that are redirected are for TLS what it has decrypted already. */
static __always_inline bool receives(struct tcp_sock *peer)
{
	struct sock *sk = (struct sock *)peer;

	return READ(sk, __sk_common.skc_state) != BPF_TCP_CLOSE && !(READ(sk, sk_shutdown) & RCV_SHUTDOWN) &&
	       !READ(peer, inet_conn.icsk_ulp_ops);
}

/* Does a thread sleep there? Of epoll no entry names anybody. */
static __always_inline bool slept_on(struct sock *sk)
{
	struct socket_wq *wq = READ(sk, sk_wq);
	struct list_head *head, *at;
	unsigned int i;

	if (!wq)
		return false;
	head = (void *)wq + bpf_core_field_offset(struct socket_wq, wait.head);
	at = READ(head, next);
	for (i = 0; i < WAITERS && at && at != head; i++) {
		struct wait_queue_entry *e = (void *)at - bpf_core_field_offset(struct wait_queue_entry, entry);

		if (READ(e, private))
			return true;
		at = READ(at, next);
	}
	return at != head;
}

/*
 * Who has begun to receive from TCP and waits for more (MSG_WAITALL, SO_RCVLOWAT) does not look at what is redirected. He
 * holds the lock, or sleeps; before TCP has brought anything nobody can be there.
 */
static __always_inline bool within_tcp(struct tcp_sock *peer)
{
	struct sock *sk = (struct sock *)peer;

	return READ(peer, bytes_received) && (READ(sk, sk_lock.owned) || slept_on(sk) || READ(sk, sk_lock.owned));
}

/* May so many bytes be added to what waits for the peer? The kernel counts bytes, messages are counted here. */
static __always_inline bool room(struct local_hop *h, struct sock *peer, __u32 len)
{
	__u32 waiting = (__u32)READ(peer, sk_backlog.rmem_alloc.counter);
	__u64 read = h->bytes > waiting ? h->bytes - waiting : 0;

	if (read >= h->mark_bytes) {
		h->read_msgs = h->mark_msgs;
		h->mark_bytes = h->bytes;
		h->mark_msgs = h->msgs;
	}
	return waiting + len <= LOCAL_QUOTA_BYTES && h->msgs - h->read_msgs < LOCAL_QUOTA_MSGS;
}

enum way { BY_TCP, BY_TCP_FOR_GOOD, ACROSS };

static __always_inline enum way choose(struct local_hop *h, struct tcp_sock *tp, __u32 len)
{
	struct tcp_sock *peer = (struct tcp_sock *)h->peer_sk;

	if (!sends((const struct sock *)tp) || !receives(peer))
		return BY_TCP_FOR_GOOD;
	if (tp->write_seq != READ(peer, copied_seq))
		return h->phase == LOCAL_WAITS ? BY_TCP : BY_TCP_FOR_GOOD;
	if (h->phase == LOCAL_WAITS && within_tcp(peer))
		return BY_TCP;
	if (room(h, (struct sock *)peer, len))
		return ACROSS;
	count(LOCAL_QUOTA, 1);
	return BY_TCP_FOR_GOOD;
}

static __always_inline bool decide(struct sk_msg_md *msg, struct bpf_sock *sk, struct local_hop *h)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	enum way way = BY_TCP_FOR_GOOD;

	if (h->phase == LOCAL_OFF)
		return false;
	if (tp && is_there(h))
		way = choose(h, tp, msg->size);
	if (way == BY_TCP_FOR_GOOD || !is_there(h))
		h->phase = LOCAL_OFF;
	else if (way == ACROSS)
		h->phase = LOCAL_HOPS;
	return way == ACROSS && h->phase == LOCAL_HOPS;
}

SEC("sk_msg")
int hop(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct local_hop *h = sk ? bpf_sk_storage_get(&hops, sk, NULL, 0) : NULL;

	if (!h || !decide(msg, sk, h)) {
		count(LOCAL_PASSED_MSGS, 1);
		count(LOCAL_PASSED_BYTES, msg->size);
		return SK_PASS;
	}
	h->bytes += msg->size;
	h->msgs++;
	count(LOCAL_MSGS, 1);
	count(LOCAL_BYTES, msg->size);
	return bpf_msg_redirect_hash(msg, &peers, &h->peer, BPF_F_INGRESS);
}

#include "bypass.bpf.h"

char local_license[] SEC("license") = "GPL";
