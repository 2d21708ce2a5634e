/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
#ifndef EXAMPLES_HTTP_BODY_H
#define EXAMPLES_HTTP_BODY_H

#include "examples.h"

#define HEAD_MAX	16384

struct conn {
	struct spl *spl;
	const union addr *to;
	int client, server;
	bool answered;			/* the client has bytes of the answer: no other one can be given */
	const char *why;
	char head[HEAD_MAX];		/* heads, and lines between chunks */
};

/* http_io.c: all return 0, or the status of the refusal, and then why is set */
int take_head(struct conn *c, int fd, struct head *h, size_t *len);	/* -1: none comes, and nobody waits for an answer */
int forward(struct conn *c, int from, int to, uint64_t n, const char *prefix, size_t len, const char *suffix);
int forward_chunks(struct conn *c, int from, int to);

#endif
