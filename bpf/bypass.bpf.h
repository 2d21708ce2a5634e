/* SPDX-License-Identifier: GPL-2.0 */
/*
 * bypass.bpf.h: a part of local.bpf.c. Past the relay: what one peer sends goes into the receive queue of the other.
 *
 * engage  is called by the library: the sender has a way to the target from now on
 * steer   is called by the library: the way opens, or is over
 * bypass  runs when a peer in "senders" sends: redirects to the target, or lets TCP carry the bytes to the relay
 *
 * The target reads what was redirected before what TCP has brought, and the relay may have bytes as well. So the sender goes
 * this way only when nothing of what TCP was ever given is between the two. The library helps: of a source that it peeks at it
 * takes bytes when its sink has accepted them, by TCP or by its hop. Then all is where it belongs when
 *   sender.write_seq == source.copied_seq	the relay has handed over all that came
 *   sink.write_seq == target.copied_seq	and the target has read what it got of it by TCP
 * The sender is locked, so that it adds nothing: the first, once true, stays so until it does, and so does the second, once the
 * first is true. Looked at in this order, one by one is as good as at once. (The other way round it is not: the relay may send, and
 * take, between the two.)
 */
#include "bypass.h"

enum sock_flags { SOCK_ZEROCOPY = 1 };	/* the kernel has another number */
#define SOCK_ZEROCOPY_BIT (1ul << bpf_core_enum_value(enum sock_flags, SOCK_ZEROCOPY))

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOCAL_SOCKETS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct bypass_way);
} ways SEC(".maps");

/* By cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, LOCAL_SOCKETS);
	__type(key, __u64);
	__type(value, __u64);
} senders SEC(".maps");

/*
 * A peer has its bound once, whoever writes to it. While a way has it as its target, the way counts, in "to", what the sink sends
 * as well; the library brings the figures there and back. The two never write them at once: bytes cross only while the relay has
 * none for that sink.
 */
static __always_inline struct local_hop *account(struct local_hop *h)
{
	struct bypass_way *w = h->way ? bpf_map_lookup_elem(&ways, &h->way) : NULL;

	return w && w->sender == h->way && w->to.peer_cookie == h->peer_cookie ? &w->to : h;
}

/* ---- engage */

/*
 * Where one relay's end is another one's peer, bytes that the other relay redirects would come to this one's source unseen by
 * TCP, and be overtaken. So a socket is the one or the other, for good.
 */
static __always_inline bool has_role(struct bpf_sock *sk, __u32 role)
{
	struct local_hop none = { .phase = LOCAL_OFF };
	struct local_hop *h = bpf_sk_storage_get(&hops, sk, &none, BPF_SK_STORAGE_GET_F_CREATE);

	if (!h || (h->role && h->role != role))
		return false;
	h->role = role;
	return true;
}

static __always_inline bool find_peer(const struct local_key *key)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&peers, key);
	bool ok;

	if (!sk)
		return false;
	ok = has_role(sk, LOCAL_PEER);
	bpf_sk_release(sk);
	return ok;
}

static __always_inline bool find_end(__u64 name, __u64 *at, __u64 *cookie)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&sinks, &name);
	struct tcp_sock *tp;
	bool ok = false;

	if (!sk)
		return false;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp) {
		*at = (__u64)tp;
		*cookie = (__u64)((struct sock *)tp)->__sk_common.skc_cookie.counter;
		ok = has_role(sk, LOCAL_END);
	}
	bpf_sk_release(sk);
	return ok;
}

/* It never leaves: as it was learned it would keep the program, and be busy the next time. */
static __always_inline bool make_sender(const struct local_key *key, __u64 cookie)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&senders, &cookie);
	bool ok;

	if (sk) {
		bpf_sk_release(sk);
		return true;
	}
	sk = bpf_map_lookup_elem(&peers, key);
	if (!sk)
		return false;
	ok = !bpf_map_update_elem(&senders, &cookie, sk, BPF_NOEXIST);
	bpf_sk_release(sk);
	return ok;
}

/* The way has its place in "ways" already. 0: done. */
SEC("tc")
int engage(struct __sk_buff *skb)
{
	struct bypass_order o;
	struct bypass_way *w;

	if (bpf_skb_load_bytes(skb, 0, &o, sizeof(o)))
		return 1;
	w = bpf_map_lookup_elem(&ways, &o.cookie);
	if (!w || !find_end(o.source, &w->source_sk, &w->source_cookie) ||
	    !find_end(o.sink, &w->sink_sk, &w->sink_cookie) || !find_peer(&o.sender) || !find_peer(&o.target) ||
	    !aim(&w->to, &o.target) || !make_sender(&o.sender, o.cookie))
		return 1;
	bpf_spin_lock(&w->lock);
	w->sender = o.cookie;
	w->phase = o.phase;
	bpf_spin_unlock(&w->lock);
	return 0;
}

struct sk_psock { struct { atomic_t refs; } refcnt; } KERNEL;
#define PSOCK_MASK	(~7ul)		/* the low bits of sk_user_data are flags */
#define MAPS_OF_SENDER	2		/* "peers" and "senders", each with a reference */

/*
 * Whoever sends on a socket of a map holds a reference to what it has there from before bypass() runs until the bytes are in the
 * target's queue. So does whoever receives, but he sleeps where it shows when he waits.
 */
static __always_inline bool is_within(struct tcp_sock *sender, __u32 maps)
{
	struct sock *sk = (struct sock *)sender;
	struct sk_psock *psock = (void *)((unsigned long)READ(sk, sk_user_data) & PSOCK_MASK);
	__u32 before = 0, after = 0;
	int refs;

	if (!psock)
		return false;
	/* one who is woken between the two looks may have gone before the count: the smaller number is safe */
	sleeper(sk, 0, &before);
	refs = READ(psock, refcnt.refs.counter);
	sleeper(sk, 0, &after);
	return refs > (int)(maps + (before < after ? before : after));
}

/* One that was a sink and is learned stays in "sinks". */
static __always_inline bool was_sink(__u64 cookie)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&sinks, &cookie);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

static __always_inline int ask_within(__u64 cookie)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&senders, &cookie);
	__u32 maps = MAPS_OF_SENDER;
	struct tcp_sock *tp;
	int r = 0;

	if (!sk)
		return 0;
	maps += was_sink(cookie);
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && is_within(tp, maps))
		r = BYPASS_WITHIN;
	bpf_sk_release(sk);
	return r;
}

/* When this has returned nothing takes a way that is OFF, and its counts are final. 0: done. */
SEC("tc")
int steer(struct __sk_buff *skb)
{
	struct bypass_order o;
	struct bypass_way *w;

	if (bpf_skb_load_bytes(skb, 0, &o, sizeof(o)))
		return 1;
	if (o.phase == BYPASS_ASK)
		return ask_within(o.cookie);
	w = bpf_map_lookup_elem(&ways, &o.cookie);
	if (!w)
		return 1;
	bpf_spin_lock(&w->lock);
	if (w->phase != BYPASS_OFF)
		w->phase = o.phase;
	bpf_spin_unlock(&w->lock);
	return 0;
}

/* ---- bypass */

static __always_inline bool is_same(__u64 at, __u64 cookie)
{
	struct sock *sk = (struct sock *)at;

	return (__u64)READ(sk, __sk_common.skc_cookie.counter) == cookie;
}

/*
 * Nobody waits within TCP now, nor has anybody begun to since TCP last brought something: who reads when there is nothing of
 * TCP's waits where he sees redirected bytes.
 */
static __always_inline bool is_clear(struct bypass_way *w, struct tcp_sock *target, __u32 given)
{
	if ((w->clear && w->given == given) || !within_tcp(&w->to, target)) {
		w->clear = true;
		w->given = given;
		return true;
	}
	return false;
}

static __always_inline bool is_quiet(struct bypass_way *w, struct tcp_sock *tp, struct tcp_sock *target)
{
	struct tcp_sock *source = (struct tcp_sock *)w->source_sk, *sink = (struct tcp_sock *)w->sink_sk;
	__u32 given;

	if (tp->write_seq != READ(source, copied_seq))
		return false;
	given = READ(sink, write_seq);
	return given == READ(target, copied_seq) &&
	       is_clear(w, target, given) && is_same(w->source_sk, w->source_cookie) && is_same(w->sink_sk, w->sink_cookie);
}

/* Who wants to be told when his pages are free would never be. */
static __always_inline bool wants_notice(const struct sock *sk)
{
	return sk->__sk_common.skc_flags & SOCK_ZEROCOPY_BIT;
}

static __always_inline bool may_cross(struct bypass_way *w, struct tcp_sock *tp, __u32 len)
{
	struct tcp_sock *target = (struct tcp_sock *)w->to.peer_sk;

	if (w->phase != BYPASS_OPEN || !sends((struct sock *)tp) || wants_notice((struct sock *)tp) || !receives(target))
		return false;
	/* what went by TCP meanwhile moved write_seq */
	w->goes = w->goes && w->sent == tp->write_seq;
	if (!w->goes && !is_quiet(w, tp, target))
		return false;
	if (!is_there(&w->to))
		return false;
	if (len <= room(&w->to, (struct sock *)target))
		return true;
	count(LOCAL_BYPASS_QUOTA, 1);
	return false;
}

/* Unless it is over by now. */
static __always_inline bool commit(struct bypass_way *w, __u64 sender, __u32 seq, __u32 len)
{
	bool ok;

	bpf_spin_lock(&w->lock);
	ok = w->phase == BYPASS_OPEN && w->sender == sender;
	if (ok) {
		w->crossed += len;
		w->to.bytes += len;
		w->to.msgs++;
		w->sent = seq;
		w->goes = true;
	}
	bpf_spin_unlock(&w->lock);
	return ok;
}

/* The target has gone between the look at it and now. */
static __always_inline void undo(struct bypass_way *w, __u64 sender, __u32 len)
{
	bpf_spin_lock(&w->lock);
	if (w->sender == sender) {
		w->crossed -= len;
		w->to.bytes -= len;
		w->to.msgs--;
	}
	bpf_spin_unlock(&w->lock);
}

static __always_inline bool cross(struct sk_msg_md *msg, struct tcp_sock *tp)
{
	__u64 sender = (__u64)((struct sock *)tp)->__sk_common.skc_cookie.counter;
	struct bypass_way *w = bpf_map_lookup_elem(&ways, &sender);
	__u32 len = msg->size;
	struct local_key target;

	if (!w || !may_cross(w, tp, len))
		return false;
	target = w->to.peer;
	if (!commit(w, sender, tp->write_seq, len))
		return false;
	w->moved_ns = bpf_ktime_get_coarse_ns();
	if (bpf_msg_redirect_hash(msg, &peers, &target, BPF_F_INGRESS) == SK_PASS)
		return true;
	undo(w, sender, len);
	return false;
}

SEC("sk_msg")
int bypass(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;

	if (tp && cross(msg, tp)) {
		count(LOCAL_BYPASS_MSGS, 1);
		count(LOCAL_BYPASS_BYTES, msg->size);
	}
	return SK_PASS;
}
