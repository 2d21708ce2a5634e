/* SPDX-License-Identifier: GPL-2.0 */
/*
 * tls.h: TLS in the kernel without a handshake: both sides of a connection are given the same keys, so that a test
 * reads and writes plaintext, and records of any type.
 */
#ifndef SELFTESTS_TLS_H
#define SELFTESTS_TLS_H

#include <linux/tls.h>

#include "util.h"

/* Types of records, and what the two of them that matter say. */
enum { TLS_CCS = 20, TLS_ALERT = 21, TLS_HANDSHAKE = 22, TLS_DATA = 23 };
enum { TLS_NEW_SESSION_TICKET = 4, TLS_KEY_UPDATE = 24 };

/* The halves of a socket. */
enum { TLS_SENDS = 1, TLS_RECEIVES = 2, TLS_BOTH = 3 };

/* The longest plaintext of one record. */
#define TLS_RECORD	16384

bool tls_here(void);				/* this machine's kernel can do it */
bool is_tls(int fd);				/* the upper layer protocol of this socket */
int tls_attach(int fd);				/* makes it that, without keys */
/* The keys of those halves; `server`: of which side, so that what one sends the other one receives. */
int tls_keys(int fd, uint16_t version, bool server, int halves);
/*
 * Linux 6.14 takes new keys from TLS 1.3, and after a KeyUpdate gives nothing until it has them. One that was looked at can still
 * be read, but poll does not tell of it.
 */
bool tls_rekeys(void);
/* Attached, and all four halves have their keys; fds[0] is the client. */
int tls_upgrade(int fds[2], uint16_t version);

/* One record of that type; all of it has been handed to TCP when it returns. */
int tls_put(int fd, uint8_t type, const void *bytes, size_t len);
int tls_close_notify(int fd);
/* What is at the head: its type, and bytes of no other type; count, 0 at the end of the stream, -errno. */
ssize_t tls_get(int fd, uint8_t *type, void *buf, size_t len, int flags);
/* 0: what is at the head is exactly this record. */
int tls_take(int fd, uint8_t type, const void *bytes, size_t len);
int tls_queued(int fd);				/* bytes of plaintext that can be read */
int tls_overhead(uint16_t version);		/* bytes that a record has more than its plaintext */

/* The client becomes one whose segments the test writes itself; what they say comes out of cipher[]. */
int tls_by_hand(struct relay *r, uint16_t version, int cipher[2]);
/* The next record of such a client's, encrypted: its length. */
int tls_cipher(int cipher[2], uint16_t version, uint8_t type, const void *bytes, size_t len, uint8_t *out);

#endif /* SELFTESTS_TLS_H */
