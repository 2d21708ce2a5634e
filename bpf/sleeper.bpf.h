/* SPDX-License-Identifier: GPL-2.0 */
/* sleeper.bpf.h: who sleeps on a socket. */
#ifndef SLEEPER_BPF_H
#define SLEEPER_BPF_H

#define WAITERS		8	/* of a socket; who has more is not looked through */

/*
 * The peer is read without a reference, as a program that sends can have none: a TCP socket's memory is never anything else
 * while the program runs, and the cookie says whether it is another socket by now.
 */
#define READ(sk, field) BPF_CORE_READ(sk, field)

/*
 * Where a thread is in the queue of those who sleep there, 0 if nobody does. Of epoll no entry names anybody.
 * wanted: that one only, if not 0. Nothing is said of those behind the first WAITERS: -1.
 */
static __always_inline __u64 sleeper(struct sock *sk, __u64 wanted, __u32 *n)
{
	struct socket_wq *wq = READ(sk, sk_wq);
	struct list_head *head, *at;
	__u64 found = 0;
	unsigned int i;

	if (!wq)
		return 0;
	head = (void *)wq + bpf_core_field_offset(struct socket_wq, wait.head);
	at = READ(head, next);
	for (i = 0; i < WAITERS && at && at != head; i++) {
		struct wait_queue_entry *e = (void *)at - bpf_core_field_offset(struct wait_queue_entry, entry);

		if (READ(e, private) && (!wanted || wanted == (__u64)e)) {
			found = (__u64)e;
			++*n;
		}
		at = READ(at, next);
	}
	return at != head ? -1ull : found;
}

#endif /* SLEEPER_BPF_H */
