// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The server's name in a TLS ClientHello. All that is read here was written by a stranger: nothing is read but
 * through a span, which knows what is left of it.
 */
#include <ctype.h>
#include <string.h>

#include "examples.h"

#define RECORD_HANDSHAKE	22
#define RECORD_MAX		16384
#define HANDSHAKE_CLIENT_HELLO	1
#define EXTENSION_SERVER_NAME	0
#define NAME_HOST		0

struct span {
	const unsigned char *p;
	size_t left;
};

/* Takes a number of so many bytes off the front; false: there are fewer. */
static bool number(struct span *s, size_t bytes, size_t *out)
{
	if (s->left < bytes)
		return false;
	for (*out = 0; bytes; bytes--, s->left--)
		*out = *out << 8 | *s->p++;
	return true;
}

static bool part(struct span *s, size_t len, struct span *out)
{
	if (s->left < len)
		return false;
	*out = (struct span){ s->p, len };
	s->p += len;
	s->left -= len;
	return true;
}

/* Takes a field off that begins with its length in so many bytes. */
static bool vector(struct span *s, size_t bytes, struct span *out)
{
	size_t len;

	return number(s, bytes, &len) && part(s, len, out);
}

/* A name goes into logs and tables: letters, digits, dots, hyphens and underscores only. */
static bool copy_name(struct span from, char name[HELLO_NAME_MAX])
{
	size_t i;

	if (!from.left || from.left >= HELLO_NAME_MAX)
		return false;
	for (i = 0; i < from.left; i++) {
		if (!isalnum(from.p[i]) && !memchr(".-_", from.p[i], 3))
			return false;
		name[i] = (char)tolower(from.p[i]);
	}
	name[i] = '\0';
	return true;
}

/* The extension's data: a list with exactly one name, as all clients send it. */
static bool server_name(struct span data, char name[HELLO_NAME_MAX])
{
	struct span list, host;
	size_t type;

	return vector(&data, 2, &list) && !data.left && number(&list, 1, &type) && type == NAME_HOST &&
	       vector(&list, 2, &host) && !list.left && copy_name(host, name);
}

static enum hello extensions(struct span all, char name[HELLO_NAME_MAX], const char **why)
{
	bool found = false;
	struct span data;
	size_t type;

	while (all.left) {
		if (!number(&all, 2, &type) || !vector(&all, 2, &data)) {
			*why = "an extension of the ClientHello is cut off";
			return HELLO_BAD;
		}
		if (type != EXTENSION_SERVER_NAME)
			continue;
		/* with two of them, who comes after us might look at the other one */
		if (found || !server_name(data, name)) {
			*why = "the server name in the ClientHello is malformed";
			return HELLO_BAD;
		}
		found = true;
	}
	*why = "the ClientHello has no server name";
	return found ? HELLO_NAME : HELLO_BAD;
}

static enum hello hello_body(struct span body, char name[HELLO_NAME_MAX], const char **why)
{
	struct span skipped, all;

	*why = "the ClientHello is malformed";
	if (!part(&body, 2 + 32, &skipped) ||		/* version, random */
	    !vector(&body, 1, &skipped) ||		/* session */
	    !vector(&body, 2, &skipped) ||		/* ciphers */
	    !vector(&body, 1, &skipped))		/* compression */
		return HELLO_BAD;
	if (!body.left) {
		*why = "the ClientHello has no server name";
		return HELLO_BAD;
	}
	if (!vector(&body, 2, &all) || body.left)
		return HELLO_BAD;
	return extensions(all, name, why);
}

/* One message of so many bytes in pieces, each a record: all of what is there goes into buf. */
static enum hello join_records(struct span in, unsigned char *buf, size_t *got, const char **why)
{
	size_t type, version, len;

	for (*got = 0; in.left; *got += len) {
		*why = "not TLS";
		if (in.p[0] != RECORD_HANDSHAKE || (in.left > 1 && in.p[1] != 3))
			return HELLO_BAD;
		if (!number(&in, 1, &type) || !number(&in, 2, &version) || !number(&in, 2, &len))
			break;
		if (!len || len > RECORD_MAX)
			return HELLO_BAD;
		if (len > in.left)
			len = in.left;
		memcpy(buf + *got, in.p, len);
		in.p += len;
		in.left -= len;
		/* what follows the message may be anything */
		if (*got + len >= 4 && *got + len >= 4 + ((size_t)buf[1] << 16 | (size_t)buf[2] << 8 | buf[3])) {
			*got += len;
			break;
		}
	}
	return HELLO_MORE;
}

enum hello hello_parse(const unsigned char *p, size_t len, char name[HELLO_NAME_MAX], const char **why)
{
	unsigned char buf[HELLO_MAX];
	struct span message, body;
	enum hello verdict;
	size_t type;

	if (len > sizeof(buf))
		len = sizeof(buf);
	verdict = join_records((struct span){ p, len }, buf, &message.left, why);
	if (verdict != HELLO_MORE)
		return verdict;
	message.p = buf;
	if (!number(&message, 1, &type))
		return HELLO_MORE;
	if (type != HANDSHAKE_CLIENT_HELLO) {
		*why = "TLS, but no ClientHello";
		return HELLO_BAD;
	}
	return vector(&message, 3, &body) ? hello_body(body, name, why) : HELLO_MORE;
}
