// SPDX-License-Identifier: GPL-2.0
/*
 * sockmap.bpf.c: the kernel's half of the relay on a sockmap; relay_sockmap.c is the other.
 *
 * There is a parser, although a stream has no records: without one the kernel passes bytes on twice that a source sent
 * twice. And nothing but the parser bounds what waits for a sink. Above a limit it fails, for good: 0 or the length of what
 * is not there yet would wait for bytes that may never come, and a parser cannot safely be started again. Nor can bytes be
 * passed to the relay one by one: the kernel then counts what it has read twice, and a full receive queue stays full.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "relay_sockmap.h"

#define LIMIT (4u << 20)	/* what waits for a sink; as much as its send buffer may have */

/* Of the running kernel, by its BTF. */
#define KERNEL __attribute__((preserve_access_index))
struct sock { __u32 sk_priority; } KERNEL;
struct tcp_sock { __u32 write_seq; } KERNEL;
struct sk_buff { char cb[48]; } KERNEL;
struct strp_msg { int full_len, offset; } KERNEL;
struct _strp_msg { struct strp_msg strp; } KERNEL;
struct sk_skb_cb { struct _strp_msg strp; } KERNEL;

/* The programs belong to sources; a socket is in both, and a sink before its source is a source. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2 * SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} sources SEC(".maps"), sinks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * SLOTS);
	__type(key, __u32);
	__type(value, struct sockmap_way);
} ways SEC(".maps");

/* Keys of ways that have just been stopped. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} stops SEC(".maps");

/* Before its bytes there may be others in the skb, which came earlier. */
static __always_inline int length(struct __sk_buff *skb)
{
	const void *msg = (const void *)skb + bpf_core_field_offset(struct sk_buff, cb) +
			  bpf_core_field_offset(struct sk_skb_cb, strp.strp);
	int offset = 0;

	bpf_probe_read_kernel(&offset, sizeof(offset), msg + bpf_core_field_offset(struct strp_msg, offset));
	return (int)skb->len - offset;
}

/* The priority of a socket is a number for us to choose that needs no map to be found. */
static __always_inline struct sockmap_way *way_of(struct __sk_buff *skb, __u32 *key)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;

	if (!tp)
		return NULL;
	*key = ((struct sock *)tp)->sk_priority;
	return bpf_map_lookup_elem(&ways, key);
}

/* How much the sink has taken. false: it is gone. */
static __always_inline bool look(struct sockmap_way *w, __u32 sink)
{
	struct bpf_sock *sk = bpf_map_lookup_elem(&sinks, &sink);
	struct tcp_sock *tp;
	__u32 seq;

	if (!sk)
		return false;
	tp = bpf_skc_to_tcp_sock(sk);
	seq = tp ? tp->write_seq : 0;
	bpf_sk_release(sk);
	if (!w->redirected)
		w->base = seq;
	w->written = w->redirected - ((__u32)w->redirected - (seq - w->base));
	return true;
}

/* Looks at the sink once in so many bytes. */
static __always_inline bool room(struct sockmap_way *w, __u32 sink, __u32 len)
{
	if (w->redirected && w->redirected + len - w->written <= LIMIT)
		return true;
	return look(w, sink) && w->redirected + len - w->written <= LIMIT;
}

/* What it fails with becomes the socket's error, and so that of the next to send on it: it must be one that is tried again. */
SEC("sk_skb/stream_parser")
int parser(struct __sk_buff *skb)
{
	int len = length(skb);
	struct sockmap_way *w;
	__u32 key = 0;

	w = way_of(skb, &key);
	if (w && room(w, key ^ 1, (__u32)len))
		return len;
	if (w)
		w->stopped = 1;
	bpf_ringbuf_output(&stops, &key, sizeof(key), 0);
	return -EAGAIN;
}

SEC("sk_skb/stream_verdict")
int verdict(struct __sk_buff *skb)
{
	struct sockmap_way *w;
	__u32 key = 0;

	w = way_of(skb, &key);
	if (!w)
		return SK_DROP;
	w->redirected += (__u32)length(skb);
	return bpf_sk_redirect_map(skb, &sinks, key ^ 1, 0);
}

char sockmap_license[] SEC("license") = "GPL";
