// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Records with their length before them: four bytes, big-endian, not counted themselves. */
#include "framer.h"

SEC("sk_skb/stream_parser")
int length32(struct __sk_buff *skb)
{
	__be32 len;

	if (bpf_skb_load_bytes(skb, record_at(skb), &len, sizeof(len)))
		return 0;
	if (bpf_ntohl(len) > RECORD_MAX - sizeof(len))
		return -EMSGSIZE;
	return bpf_ntohl(len) + sizeof(len);
}
