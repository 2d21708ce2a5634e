/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What framers have in common. A framer is a stream parser as sockmaps have: it is given an skb
 * with the first bytes of a record and returns the length of the whole record, 0 when it needs
 * more bytes to tell, or -errno when this is no record.
 *
 * Where in the skb the record begins: for libsplice at 0. A sockmap's parser also gets skbs with
 * the records before it still in them; the kernel says how many bytes that are in a place that
 * the program's context does not show. Who loads an object for a sockmap sets strp_at to that
 * place, from the kernel's BTF: the offset of cb in struct sk_buff, of strp in struct sk_skb_cb
 * and of offset in struct strp_msg, together. See Documentation/framers.md.
 */
#ifndef FRAMER_H
#define FRAMER_H

#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define RECORD_MAX 0x7fffffffu		/* what can be returned */

const volatile __u32 strp_at = 0;

static __always_inline __u32 record_at(struct __sk_buff *skb)
{
	__u32 place = strp_at, at = 0;

	if (place)
		bpf_probe_read_kernel(&at, sizeof(at), (void *)skb + place);
	return at;
}

char framer_license[] SEC("license") = "Dual BSD/GPL";

#endif /* FRAMER_H */
