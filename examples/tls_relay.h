/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
#ifndef EXAMPLES_TLS_RELAY_H
#define EXAMPLES_TLS_RELAY_H

#include <openssl/ssl.h>
#include <sys/queue.h>

#include "examples.h"

#define SECRET_MAX	48		/* as long as the digest of a cipher of TLS 1.3 */

struct client {
	SSL *ssl;			/* until the kernel has the keys */
	int fd;				/* until the library has it */
	union addr from;
	unsigned char secret[SECRET_MAX];	/* that the client's keys are made of, of TLS 1.3; wiped with ssl */
	size_t secret_len;
	const char *version, *cipher;
	uint64_t deadline;		/* of the handshake */
	TAILQ_ENTRY(client) waiting;
};

struct relay {
	struct spl *spl;
	SSL_CTX *tls;
	int epoll, listener;
	union addr to;
	uint64_t starved;		/* no descriptors: nobody is accepted until then; 0: we accept */
	TAILQ_HEAD(, client) waiting;	/* for their handshake, by deadline */
};

/* tls_client.c */
struct client *client_new(struct relay *r, int fd);		/* NULL: the descriptor is still the caller's */
void client_free(struct client *c);				/* closes what is not the library's */
bool client_greeted(struct client *c, const char **why);	/* the handshake is done; NULL in why: not yet */
void client_relay(struct relay *r, struct client *c);		/* it is done, and the client in no epoll set */
void client_ended(const struct spl_event *ev);
void client_refused(const struct client *c, const char *why);

/* tls_keys.c */
SSL_CTX *tls_open(const char *certificate, const char *key);	/* NULL, and a sentence */
const char *keys_to_kernel(struct client *c);			/* NULL: it has those of both directions; else why not */

#endif
