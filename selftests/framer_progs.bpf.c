// SPDX-License-Identifier: GPL-2.0
/*
 * Programs of framer.c and framers.c. In script() the first byte of a record says what is to be answered; the
 * others are what no framer is taken for, and what a sockmap needs beside one.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define INT_MAX 0x7fffffff

/* As in framed.h. */
struct seen {
	__u64 asked;		/* how often script() ran */
	__u64 most;		/* bytes that it saw at a time */
	__u64 verdicts;		/* what a stream verdict saw go by */
} seen;

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} socks SEC(".maps");

/* D: the second byte, by way of a pointer, is the length. */
static __always_inline int direct(struct __sk_buff *skb)
{
	__u8 *p = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (p + 2 > end)
		return 0;
	/* a linear buffer, of all that is seen */
	return end - p == skb->len ? p[1] : -EBADE;
}

/* M: whatever is done to the skb is done to nobody else's bytes. */
static __always_inline int mutate(struct __sk_buff *skb)
{
	static const char other[4] = "????";
	__u8 *p;

	if (skb->len < 4)
		return 0;
	if (bpf_skb_change_tail(skb, 3000, 0) || bpf_skb_pull_data(skb, 3000) ||
	    bpf_skb_adjust_room(skb, 200, 0, 0) || bpf_skb_store_bytes(skb, 200, other, 4, 0) ||
	    bpf_skb_change_head(skb, 100, 0))
		return -EBADE;
	p = (void *)(long)skb->data;
	if (p + 1 <= (__u8 *)(long)skb->data_end)
		*p = 'm';
	skb->priority = 7;
	skb->tc_index = 7;
	return 4;
}

/* C: the context is that of the source. */
static __always_inline int context(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u32 i, sum = 0;

#pragma unroll
	for (i = 0; i < 5; i++)
		sum |= skb->cb[i];
	if (sum || !sk || !bpf_get_socket_cookie(skb) || bpf_get_socket_uid(skb) ||
	    skb->local_port != sk->src_port || skb->remote_port != bpf_htonl(bpf_ntohs(sk->dst_port)) ||
	    skb->ifindex || (skb->family != 1 && skb->family != 2 && skb->family != 10))
		return -EBADE;
	return 4;
}

SEC("sk_skb/stream_parser")
int script(struct __sk_buff *skb)
{
	__u8 what;

	seen.asked++;
	if (skb->len > seen.most)
		seen.most = skb->len;
	if (bpf_skb_load_bytes(skb, 0, &what, 1))
		return -EBADE;
	switch (what) {
	case '?':
		return 0;
	case '!':
		return -EBADMSG;
	case '@':
		return -100000;
	case '&':
		return -512;
	case '#':
		return INT_MAX;
	case 'W':
		return skb->len < 256 ? 0 : 300;
	case 'R':
		bpf_sk_redirect_map(skb, &socks, 0, 0);
		return 4;
	case 'D':
		return direct(skb);
	case 'M':
		return mutate(skb);
	case 'C':
		return context(skb);
	}
	return what >= '1' && what <= '9' ? what - '0' : -EPROTO;
}

SEC("sk_skb/stream_verdict")
int verdict(struct __sk_buff *skb)
{
	seen.verdicts++;
	return skb->len ? SK_PASS : SK_DROP;
}

SEC("socket")
int filter(struct __sk_buff *skb)
{
	return skb->len;
}

char progs_license[] SEC("license") = "GPL";
