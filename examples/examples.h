/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* What the examples have beside libsplice: addresses, ClientHellos, PROXY headers, HTTP heads. */
#ifndef EXAMPLES_H
#define EXAMPLES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "libsplice.h"

/* setup.c */
union addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

int addr_parse(const char *text, union addr *out);		/* "127.0.0.1:80" or "[::1]:80": 0 or -EINVAL */
socklen_t addr_len(const union addr *a);
const char *addr_text(const union addr *a);			/* good until the next call */
int listen_on(const char *text, int flags);			/* says so on stdout; a descriptor or -errno, and a sentence */
struct spl *open_context(void);					/* NULL, and a sentence */
uint64_t now_ms(void);

/* hello.c */
#define HELLO_MAX	16384		/* bytes of a ClientHello that are looked at */
#define HELLO_NAME_MAX	256

enum hello { HELLO_MORE, HELLO_NAME, HELLO_BAD };
/* HELLO_NAME: name has the server's name in lower case. HELLO_BAD: why says what is wrong. */
enum hello hello_parse(const unsigned char *p, size_t len, char name[HELLO_NAME_MAX], const char **why);

/* upstream.c: what NAME=ADDR:PORT[,ADDR:PORT]... stands for */
#define UPSTREAM_ADDRS	8

struct upstream {
	const char *name;
	union addr addr[UPSTREAM_ADDRS];
	unsigned int addrs;
};

struct upstream *upstreams_parse(char **args, unsigned int n);	/* NULL, and a sentence; args are written to */
const struct upstream *upstream_find(const struct upstream *u, unsigned int n, const char *name);

/* proxy_header.c: the PROXY protocol, version 2 */
#define PROXY_HEADER_MAX	52
size_t proxy_header(int client, unsigned char to[PROXY_HEADER_MAX]);	/* its length; 0: the client has gone */

/* head.c */
enum body { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_REST };

struct head {
	bool request, no_body;		/* to be set before: which of the two; a response to HEAD */
	enum body body;
	uint64_t length;
	bool close, is_head, expects, old;
	int status;			/* of a response */
};
/* p is a head with its empty line. 0, or the status to refuse a request with, and why. */
int head_parse(const char *p, size_t len, struct head *h, const char **why);
bool chunk_size(const char *line, size_t len, uint64_t *size);	/* the line with its CRLF */

#endif
