/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Differences between the kernels that this module is built for (6.1, 6.12, 7.2), by feature
 * where the headers let one ask, by version where they do not. Nothing else may look at versions.
 */
#ifndef _SKSPLICE_COMPAT_H
#define _SKSPLICE_COMPAT_H

#include <linux/version.h>
#include <linux/bitops.h>
#include <linux/net.h>
#include <linux/skbuff.h>
#include <linux/sysctl.h>
#include <linux/uio.h>
#include <net/af_unix.h>
#include <net/genetlink.h>
#include <net/inet_sock.h>
#include <net/sock.h>
#include <net/tcp.h>

/* Kernels are built to clear the stack, which is not worth it for what is filled before it is read. */
#if __has_attribute(__uninitialized__)
#define sksplice_uninitialized __attribute__((__uninitialized__))
#else
#define sksplice_uninitialized
#endif

/* 6.2 names the direction of an iterator. */
#ifndef ITER_SOURCE
#define ITER_SOURCE WRITE
#endif

/*
 * Handing on pages: 6.5 replaced sendpage by MSG_SPLICE_PAGES. By version: later 6.1 stable
 * kernels define the flag and their TCP ignores it.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#define SKSPLICE_HAVE_SPLICE_PAGES 1
#endif
#ifdef MSG_SENDPAGE_NOTLAST
#define SKSPLICE_HAVE_SENDPAGE 1
#endif

/* 6.6 moved the socket's bit fields into atomic flags. */
#ifdef inet_test_bit
#define sksplice_defer_connect(sk) inet_test_bit(DEFER_CONNECT, sk)
#else
#define sksplice_defer_connect(sk) (inet_sk(sk)->defer_connect)
#endif

/* 6.12: device memory fragments have no page. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define sksplice_frags_readable(skb) skb_frags_readable(skb)
#else
#define sksplice_frags_readable(skb) true
#endif

/* 6.19: the address argument of connect. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#define sksplice_sockaddr sockaddr_unsized
#else
#define sksplice_sockaddr sockaddr
#endif

/* PSP encrypts below the socket API: what a socket reads may not leave in clear. */
#if IS_ENABLED(CONFIG_INET_PSP)
#define sksplice_has_psp(sk) (!!rcu_access_pointer((sk)->psp_assoc))
#else
#define sksplice_has_psp(sk) false
#endif

/* 6.6: attributes of a dump. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define sksplice_dump_attrs(cb) (genl_info_dump(cb)->attrs)
#else
#define sksplice_dump_attrs(cb) (genl_dumpit_info(cb)->attrs)
#endif

/* 6.11 took the empty last entry away from sysctl tables. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#define SKSPLICE_SYSCTL_SENTINEL
#else
#define SKSPLICE_SYSCTL_SENTINEL { }
#endif

/* 6.2 */
#ifndef ITER_DEST
#define ITER_DEST READ
#endif

/* Does who reads from this AF_UNIX socket want the senders' credentials? 6.16 moved the flags. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
static inline bool sksplice_wants_creds(const struct sock *sk)
{
	return sk->sk_scm_credentials || sk->sk_scm_pidfd || sk->sk_scm_security;
}
#else
static inline bool sksplice_wants_creds(const struct sock *sk)
{
	const unsigned long *flags = &sk->sk_socket->flags;

#ifdef SOCK_PASSPIDFD
	if (test_bit(SOCK_PASSPIDFD, flags))
		return true;
#endif
	return test_bit(SOCK_PASSCRED, flags) || test_bit(SOCK_PASSSEC, flags);
}
#endif

/*
 * What AF_UNIX keeps with each skb. 6.16 took it out of the public headers, and left it as it was
 * (net/unix/af_unix.h).
 */
struct sksplice_unix_cb {
	struct pid *pid;
	kuid_t uid;
	kgid_t gid;
	struct scm_fp_list *fp;
#ifdef CONFIG_SECURITY_NETWORK
	u32 secid;
#endif
	u32 consumed;
};

#if IS_ENABLED(CONFIG_RANDSTRUCT) || IS_ENABLED(CONFIG_GCC_PLUGIN_RANDSTRUCT)
#error "the layout of AF_UNIX skbs is not known"
#endif
#ifdef UNIXCB
static_assert(offsetof(struct sksplice_unix_cb, fp) == offsetof(struct unix_skb_parms, fp));
static_assert(offsetof(struct sksplice_unix_cb, consumed) ==
	      offsetof(struct unix_skb_parms, consumed));
#endif

static inline const struct sksplice_unix_cb *sksplice_unix_cb(const struct sk_buff *skb)
{
	return (const struct sksplice_unix_cb *)skb->cb;
}

/* The last urgent byte, unread. To be compared only. */
static inline const struct sk_buff *sksplice_unix_oob(const struct sock *sk)
{
#if IS_ENABLED(CONFIG_AF_UNIX_OOB)
	return READ_ONCE(unix_sk(sk)->oob_skb);
#else
	return NULL;
#endif
}

#endif /* _SKSPLICE_COMPAT_H */
