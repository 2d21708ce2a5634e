/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
#ifndef EXAMPLES_SNI_PROXY_H
#define EXAMPLES_SNI_PROXY_H

#include <sys/queue.h>

#include "examples.h"

struct client {
	int fd, server;
	const struct upstream *to;
	unsigned int next;		/* of its addresses */
	uint64_t deadline;
	TAILQ_ENTRY(client) waiting;
};

struct proxy {
	struct spl *spl;
	int epoll, listener;
	struct upstream *upstream;
	unsigned int upstreams;
	uint64_t starved;		/* no descriptors: nobody is accepted until then; 0: we accept */
	TAILQ_HEAD(, client) waiting;	/* for their ClientHello, by deadline */
};

/* sni_client.c */
void client_connect(struct proxy *p, struct client *c);		/* it has chosen, and is in no epoll set */
void client_ended(struct proxy *p, const struct spl_event *ev);
void client_free(struct client *c);

#endif
