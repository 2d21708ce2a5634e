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
 * that was ever given to TCP, which hop sees by their sequence numbers. That holds again after TCP has got some.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "local.h"
#include "local_kernel.h"
#include "sleeper.bpf.h"

#define LOOPBACK_NET	127

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

/* Of a learned socket: see local_hop.early. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} sleepers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOCAL_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct local_ports);
} ports SEC(".maps");

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

static __always_inline bool is_in(const struct local_ports *p, __u32 port)
{
	return p->bits[(port & 0xffff) >> 6] >> (port & 63) & 1;
}

static __always_inline bool served(const struct local_key *k)
{
	__u32 first = 0;
	struct local_ports *p = bpf_map_lookup_elem(&ports, &first);

	return p && (!p->some || is_in(p, k->local_port) || is_in(p, k->remote_port));
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

	return !tp || tp->fastopen_rsk || BPF_CORE_READ_BITFIELD_PROBED(tp, syn_fastopen) ||
	       BPF_CORE_READ_BITFIELD_PROBED(tp, syn_data);
}

/*
 * Somebody who received before the socket was learned is within TCP, and stays there. While it connects one may sleep, most
 * often to connect; who that is shows by where he sleeps later. False: there are more.
 */
static __always_inline bool note_sleeper(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	__u32 n = 0;
	__u64 at;

	if (!tp)
		return false;
	at = sleeper((struct sock *)tp, 0, &n);
	return !at || (n == 1 && at != -1ull && bpf_sk_storage_get(&sleepers, sk, &at, BPF_SK_STORAGE_GET_F_CREATE));
}

SEC("sockops")
int learn(struct bpf_sock_ops *ops)
{
	struct local_key k = { 0 };

	if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		return 1;
	if (!name(ops, &k) || !same_host(&k) || !served(&k) || fast_open(ops) || !note_sleeper(ops))
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

/* ---- the peer, as hop and arm see it */

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

/* The lock is looked at before and after: he has it or sleeps. */
static __always_inline bool is_at(struct sock *sk, __u64 wanted)
{
	__u32 n = 0;

	return READ(sk, sk_lock.owned) || sleeper(sk, wanted, &n) || READ(sk, sk_lock.owned);
}

/*
 * Who has begun to receive from TCP and waits for more (MSG_WAITALL, SO_RCVLOWAT) does not look at what is redirected. He
 * holds the lock, or sleeps; before TCP has brought anything nobody can be there but who came before the socket was learned.
 */
static __always_inline bool within_tcp(struct local_hop *h, struct tcp_sock *peer)
{
	struct sock *sk = (struct sock *)peer;

	if (READ(peer, bytes_received))
		return is_at(sk, 0);
	if (h->early && is_at(sk, h->early))
		return true;
	h->early = 0;
	return false;
}

/* How many bytes may wait for it. What counts as received beyond a buffer that a program has chosen makes TCP drop its own. */
static __always_inline __u32 limit(struct sock *peer)
{
	__u32 chosen = (__u32)READ(peer, sk_rcvbuf) / 2;

	return (BPF_CORE_READ_BITFIELD_PROBED(peer, sk_userlocks) & RCVBUF_LOCKED) && chosen < LOCAL_QUOTA_BYTES ?
	       chosen : LOCAL_QUOTA_BYTES;
}

/* How many bytes, of messages not too short, may be added to those? The kernel counts bytes, messages are counted here. */
static __always_inline __u32 room(struct local_hop *h, struct sock *peer)
{
	__u32 waiting = (__u32)READ(peer, sk_backlog.rmem_alloc.counter), most = limit(peer);
	__u64 read = h->bytes > waiting ? h->bytes - waiting : 0, msgs;

	if (read >= h->mark_bytes) {
		h->read_msgs = h->mark_msgs;
		h->mark_bytes = h->bytes;
		h->mark_msgs = h->msgs;
	}
	msgs = h->msgs - h->read_msgs;
	if (waiting >= most || most < LOCAL_LEAST || msgs >= LOCAL_QUOTA_MSGS)
		return 0;
	most -= waiting;
	return most < (LOCAL_QUOTA_MSGS - msgs) * LOCAL_MSG_COST ? most : (LOCAL_QUOTA_MSGS - msgs) * LOCAL_MSG_COST;
}

/* What is counted of the peer. */
static __always_inline struct local_hop *account(struct local_hop *h);

/* ---- arm */

static __always_inline bool aim(struct local_hop *h, const struct local_key *peer)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&peers, peer);
	struct tcp_sock *tp;
	__u64 *early;

	if (!sk)
		return false;
	early = bpf_sk_storage_get(&sleepers, sk, NULL, 0);
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp) {
		h->early = early ? *early : 0;
		h->peer = *peer;
		h->peer_sk = (__u64)tp;
		h->peer_cookie = (__u64)((struct sock *)tp)->__sk_common.skc_cookie.counter;
	}
	bpf_sk_release(sk);
	return tp;
}

/* Less than half is no room: who asks often sends little at a time. What is not to be redirected now is for hop() to see to. */
static __always_inline int ask(struct local_hop *h)
{
	struct sock *peer = (struct sock *)h->peer_sk;
	__u32 most, r;

	if (h->phase == LOCAL_OFF || !is_there(h))
		return 1 + LOCAL_QUOTA_BYTES;
	most = limit(peer);
	if (most < LOCAL_LEAST) {
		h->phase = LOCAL_WAITS;
		return 1 + LOCAL_QUOTA_BYTES;
	}
	if (h->phase != LOCAL_HOPS)
		return 1 + most;
	r = room(account(h), peer);
	return r < most / 2 ? 1 : 1 + r;
}

/*
 * What TCP brings to a buffer that is over full it drops, and sends again after a time that doubles: half of it, as much as its
 * window may be, has to be free before TCP gets bytes that wait behind redirected ones.
 */
static __always_inline bool is_crowded(struct sock *peer)
{
	return (__u32)READ(peer, sk_backlog.rmem_alloc.counter) > (__u32)READ(peer, sk_rcvbuf) / 2;
}

static __always_inline int obey(struct local_hop *h, const struct local_order *o)
{
	if (o->phase == LOCAL_WAITS && !aim(h, &o->peer))
		return LOCAL_FAILED;
	if (o->phase == LOCAL_YIELD && h->phase == LOCAL_HOPS && is_there(h) && is_crowded((struct sock *)h->peer_sk))
		return 1;
	if (o->phase != LOCAL_ASK)
		h->phase = o->phase == LOCAL_YIELD || o->phase == LOCAL_GIVE_UP ? LOCAL_WAITS : o->phase;
	return ask(h);
}

/* The sink has its storage already: the library makes it, which may wait for memory. */
SEC("tc")
int arm(struct __sk_buff *skb)
{
	struct local_order o;
	struct local_hop *h;
	struct bpf_sock *sk;
	int r = LOCAL_FAILED;

	if (bpf_skb_load_bytes(skb, 0, &o, sizeof(o)))
		return LOCAL_FAILED;
	sk = bpf_map_lookup_elem(&sinks, &o.sink);
	if (!sk)
		return LOCAL_FAILED;
	h = bpf_sk_storage_get(&hops, sk, NULL, 0);
	if (h)
		r = obey(h, &o);
	bpf_sk_release(sk);
	return r;
}

/* ---- hop */

enum way { BY_TCP, BY_TCP_FOR_GOOD, ACROSS };

static __always_inline enum way choose(struct local_hop *h, struct tcp_sock *tp, __u32 len)
{
	struct tcp_sock *peer = (struct tcp_sock *)h->peer_sk;

	if (!sends((const struct sock *)tp) || !receives(peer))
		return BY_TCP_FOR_GOOD;
	if (tp->write_seq != READ(peer, copied_seq) || (h->phase == LOCAL_WAITS && within_tcp(h, peer)))
		return BY_TCP;
	if (len <= room(account(h), (struct sock *)peer))
		return ACROSS;
	count(LOCAL_QUOTA, 1);
	return BY_TCP;
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
	else
		h->phase = way == ACROSS ? LOCAL_HOPS : LOCAL_WAITS;
	return h->phase == LOCAL_HOPS;
}

SEC("sk_msg")
int hop(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct local_hop *h = sk ? bpf_sk_storage_get(&hops, sk, NULL, 0) : NULL, *a;

	if (!h || !decide(msg, sk, h)) {
		count(LOCAL_PASSED_MSGS, 1);
		count(LOCAL_PASSED_BYTES, msg->size);
		return SK_PASS;
	}
	/* It has gone since it was looked at: the send fails, and the library sees to the rest. */
	if (bpf_msg_redirect_hash(msg, &peers, &h->peer, BPF_F_INGRESS) != SK_PASS) {
		count(LOCAL_REFUSED, 1);
		return SK_DROP;
	}
	/*
	 * What then finds no memory is counted all the same, and what is left of a message of which a part does, twice:
	 * messages seem to have been read before they were, until the peer has read what is counted now.
	 */
	a = account(h);
	a->bytes += msg->size;
	a->msgs++;
	count(LOCAL_MSGS, 1);
	count(LOCAL_BYTES, msg->size);
	return SK_PASS;
}

#include "bypass.bpf.h"
char local_license[] SEC("license") = "GPL";
