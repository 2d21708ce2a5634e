// SPDX-License-Identifier: GPL-2.0
/*
 * sockmap.bpf.c: moves the bytes of a flow from its source to its sink in the kernel; libsplice/sockmap_skb.c is the other half.
 *
 * There is a parser, although a stream has no records: without one the kernel passes whole skbs on, from their first byte,
 * and so twice what a peer has sent twice. With one it passes on what it reads at copied_seq, and says where in the skb that
 * begins: strp.offset. The parser's answer is the length of a message from there; that of the skb would be too long by the
 * offset, and the kernel would wait for the bytes that are missing.
 *
 * The parser is also what bounds the bytes that wait for the sink. All it can do to take no more is to fail, for good: 0, or
 * the length of what is not there yet, takes the bytes out of the receive queue and keeps them where nobody can get at them. When
 * it fails before anything of a message was taken, all of that stays in the receive queue.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "sockmap.h"

/* Of the running kernel, by its BTF. */
#define KERNEL __attribute__((preserve_access_index))
struct sk_buff_head { __u32 qlen; } KERNEL;
struct sk_psock { struct sk_buff_head ingress_skb; } KERNEL;
struct sock { int sk_rcvbuf; void *sk_user_data; } KERNEL;
struct tcp_sock {
	__u32 write_seq;
	__u16 urg_data;
} KERNEL;
struct sk_buff { char cb[48]; } KERNEL;
struct strp_msg { int full_len, offset; } KERNEL;
struct _strp_msg { struct strp_msg strp; } KERNEL;
struct sk_skb_cb { struct _strp_msg strp; } KERNEL;

#define PSOCK_MASK	(~7ul)		/* the low bits of sk_user_data are flags */

/* By the number of a flow. The programs belong to sources; targets has none, so that a mere sink is read as ever. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, SOCKMAP_FLOWS);
	__type(key, __u32);
	__type(value, __u64);
} sources SEC(".maps"), targets SEC(".maps");

/* Whose flow it is: one that an end is in. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * SOCKMAP_FLOWS);
	__type(key, struct sockmap_end);
	__type(value, __u32);
} ends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SOCKMAP_FLOWS);
	__type(key, __u32);
	__type(value, struct sockmap_way);
} ways SEC(".maps");

static __always_inline struct strp_msg message(struct __sk_buff *skb)
{
	struct strp_msg msg = { 0 };
	const void *at = (const void *)skb + bpf_core_field_offset(struct sk_buff, cb) +
			 bpf_core_field_offset(struct sk_skb_cb, strp.strp);

	bpf_probe_read_kernel(&msg.full_len, sizeof(msg.full_len), at + bpf_core_field_offset(struct strp_msg, full_len));
	bpf_probe_read_kernel(&msg.offset, sizeof(msg.offset), at + bpf_core_field_offset(struct strp_msg, offset));
	return msg;
}

static __always_inline struct sockmap_way *way_of(struct __sk_buff *skb, __u32 *number)
{
	struct sockmap_end source = { .cookie = bpf_get_socket_cookie(skb), .half = SOCKMAP_SOURCE };
	const __u32 *found = bpf_map_lookup_elem(&ends, &source);

	if (!found)
		return NULL;
	*number = *found;
	return bpf_map_lookup_elem(&ways, number);
}

/* skbs that the kernel has not handed to the sink yet */
static __always_inline __u32 queued(struct tcp_sock *sink)
{
	unsigned long data = (unsigned long)((struct sock *)sink)->sk_user_data;
	struct sk_psock *psock = (void *)(data & PSOCK_MASK);

	return psock ? BPF_CORE_READ(psock, ingress_skb.qlen) : 0;
}

/* The sink's sequence number goes around at 4 GB, and what waits is far less. */
static __always_inline enum sockmap_stop room(struct sockmap_way *w, struct tcp_sock *sink, __u32 len)
{
	__u32 waits;

	if (!w->taken)
		w->base = sink->write_seq;
	waits = (__u32)w->taken - (sink->write_seq - w->base);
	return waits + len > SOCKMAP_BACKLOG_BYTES || queued(sink) >= SOCKMAP_BACKLOG_SKBS ? SOCKMAP_FULL : SOCKMAP_GOES_ON;
}

static __always_inline enum sockmap_stop look(struct sockmap_way *w, __u32 number, __u32 len)
{
	enum sockmap_stop why = SOCKMAP_NO_SINK;
	struct bpf_sock *sk;
	struct tcp_sock *tp;

	if (w->stop)
		return SOCKMAP_ASKED;
	/* Nobody would be told that all has been taken: that which completes it is left, and found. */
	if (len >= w->limit - w->taken)
		return SOCKMAP_LAST;
	sk = bpf_map_lookup_elem(&targets, &number);
	if (!sk)
		return SOCKMAP_NO_SINK;
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		why = room(w, tp, len);
	bpf_sk_release(sk);
	return why;
}

static __always_inline bool urgent(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;

	return tp && tp->urg_data;
}

/* A message that is longer than the receive buffer would be an error; the next one goes on where this ends. */
static __always_inline int length(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	int len = (int)skb->len - message(skb).offset, most;

	if (!tp)
		return len;
	most = ((struct sock *)tp)->sk_rcvbuf;
	return len < most ? len : most;
}

/* What it fails with becomes the socket's error, and that of the next to send on it: one after which is tried again. */
SEC("sk_skb/stream_parser")
int parser(struct __sk_buff *skb)
{
	int len = length(skb);
	struct sockmap_way *w;
	__u32 number = 0;

	w = way_of(skb, &number);
	if (!w)
		return -EAGAIN;
	w->stopped = urgent(skb) ? SOCKMAP_URGENT : look(w, number, (__u32)len);
	return w->stopped ? -EAGAIN : len;
}

SEC("sk_skb/stream_verdict")
int verdict(struct __sk_buff *skb)
{
	__u32 len = (__u32)message(skb).full_len, number = 0;
	struct sockmap_way *w = way_of(skb, &number);

	/* A mere FIN is no message, and where it is given to a sink the way back breaks. */
	if (!w || !len)
		return SK_DROP;
	if (bpf_sk_redirect_map(skb, &targets, number, 0) != SK_PASS) {
		w->lost += len;
		return SK_DROP;
	}
	w->taken += len;
	return SK_PASS;
}

char sockmap_license[] SEC("license") = "GPL";
