/* SPDX-License-Identifier: GPL-2.0 */
/* What local.bpf.c wants to know of the running kernel, whose BTF says where it is. */
#ifndef LOCAL_KERNEL_H
#define LOCAL_KERNEL_H

#include <linux/types.h>

#define AF_INET		2
#define AF_INET6	10
#define RCV_SHUTDOWN	1
#define SEND_SHUTDOWN	2
#define RCVBUF_LOCKED	2

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
struct sock {
	struct sock_common __sk_common;
	struct { atomic_t rmem_alloc; } KERNEL sk_backlog;
	struct { int owned; } KERNEL sk_lock;
	struct socket_wq *sk_wq;
	void *sk_user_data;
	int sk_rcvbuf;
	__u8 sk_userlocks : 4;
	__u8 sk_shutdown;
} KERNEL;
struct inet_connection_sock { const void *icsk_ulp_ops; } KERNEL;
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_received;
	__u32 write_seq, copied_seq;
	__u8 syn_data : 1, syn_fastopen : 1;
	const void *fastopen_rsk;
} KERNEL;

#endif /* LOCAL_KERNEL_H */
