// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * WebSocket frames (RFC 6455), after the handshake: each frame is a record, of whatever kind it
 * is. Nothing is looked at but the length.
 */
#include "framer.h"

#define MASKED	0x80
#define LEN7	0x7f
#define LEN16	126	/* two bytes of length follow */
#define LEN64	127	/* eight */

SEC("sk_skb/stream_parser")
int websocket(struct __sk_buff *skb)
{
	__u32 at = record_at(skb), header = 2;
	__u8 first[2];
	__be16 len16;
	__be64 len64;
	__u64 len;

	if (bpf_skb_load_bytes(skb, at, first, sizeof(first)))
		return 0;
	len = first[1] & LEN7;
	if (len == LEN16) {
		if (bpf_skb_load_bytes(skb, at + header, &len16, sizeof(len16)))
			return 0;
		len = bpf_ntohs(len16);
		header += sizeof(len16);
	} else if (len == LEN64) {
		if (bpf_skb_load_bytes(skb, at + header, &len64, sizeof(len64)))
			return 0;
		len = bpf_be64_to_cpu(len64);
		header += sizeof(len64);
	}
	if (first[1] & MASKED)
		header += 4;
	if (len > RECORD_MAX - header)
		return -EMSGSIZE;
	return header + len;
}
