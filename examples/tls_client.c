// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* A client of tls_relay: the handshake, then the kernel has the keys and the library both sockets. */
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tls_relay.h"

#define HANDSHAKE_MS	10000
#define IDLE_MS		300000
#define FIRST_MAX	32768		/* more than OpenSSL's buffer holds */

struct client *client_new(struct relay *r, int fd)
{
	struct client *c = calloc(1, sizeof(*c));
	socklen_t len = sizeof(c->from);

	if (!c)
		return NULL;
	c->ssl = SSL_new(r->tls);
	if (!c->ssl || getpeername(fd, &c->from.sa, &len) || SSL_set_fd(c->ssl, fd) != 1 || !SSL_set_app_data(c->ssl, c)) {
		SSL_free(c->ssl);
		free(c);
		return NULL;
	}
	SSL_set_accept_state(c->ssl);
	c->fd = fd;
	c->deadline = now_ms() + HANDSHAKE_MS;
	return c;
}

static void forget_keys(struct client *c)
{
	SSL_free(c->ssl);
	c->ssl = NULL;
	OPENSSL_cleanse(c->secret, sizeof(c->secret));
}

void client_free(struct client *c)
{
	forget_keys(c);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

void client_refused(const struct client *c, const char *why)
{
	fprintf(stderr, "refused %s: %s\n", addr_text(&c->from), why);
}

bool client_greeted(struct client *c, const char **why)
{
	int done, error;

	*why = NULL;
	ERR_clear_error();
	done = SSL_do_handshake(c->ssl);
	if (done == 1)
		return true;
	error = SSL_get_error(c->ssl, done);
	if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
		*why = ERR_reason_error_string(ERR_peek_last_error()) ?: "the client left in the handshake";
	return false;
}

/* What OpenSSL has decrypted already, if anything: the first bytes for the server. No more is read from the socket. */
static size_t take_decrypted(SSL *ssl, unsigned char to[FIRST_MAX])
{
	size_t got = 0, n;

	while (got < FIRST_MAX && SSL_pending(ssl) && SSL_read_ex(ssl, to + got, FIRST_MAX - got, &n) == 1)
		got += n;
	return got;
}

/* 0: the library has both. Else why not, as an errno. */
static int call_server(struct relay *r, struct client *c)
{
	unsigned char first[FIRST_MAX];
	struct spl_opts opts = {
		.sz = sizeof(opts),
		.flags = SPL_F_CONNECTING,
		.idle_ms = IDLE_MS,
		.user_data = (uintptr_t)c,
		.prefix = first,
		.prefix_len = take_decrypted(c->ssl, first),
	};
	int error, value = 0, server = socket(r->to.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(value);
	uint64_t token;

	if (server < 0)
		return errno;
	error = connect(server, &r->to.sa, addr_len(&r->to)) && errno != EINPROGRESS ? errno : 0;
	if (!error) {
		error = -spl_splice_pair(r->spl, c->fd, server, &opts, &token);
		/* a server that is near may have refused by now: its socket knows why it is not connected */
		if (error == ENOTCONN && !getsockopt(server, SOL_SOCKET, SO_ERROR, &value, &len) && value)
			error = value;
	}
	if (error)
		close(server);
	return error;
}

/* No relaying in user space instead, by this program's choice: who has no kernel TLS is told so, here and in the log. */
void client_relay(struct relay *r, struct client *c)
{
	const char *why;
	int error;

	c->version = SSL_get_version(c->ssl);
	c->cipher = SSL_get_cipher_name(c->ssl);
	why = keys_to_kernel(c);
	if (!why) {
		error = call_server(r, c);
		if (!error) {
			c->fd = -1;
			forget_keys(c);
			return;
		}
		why = strerror(error);
	}
	fprintf(stderr, "refused %s: %s %s: %s\n", addr_text(&c->from), c->version, c->cipher, why);
	client_free(c);
}

/* The kernel has said or heard the close_notify, sent what was left, and closed both. */
void client_ended(const struct spl_event *ev)
{
	struct client *c = (struct client *)(uintptr_t)ev->user_data;

	fprintf(stderr, "ended %s: %s %s, %llu bytes to the server, %llu back, %s%s%s\n", addr_text(&c->from), c->version,
		c->cipher, (unsigned long long)ev->bytes, (unsigned long long)ev->bytes_back, spl_cause_name(ev->cause),
		ev->error ? ": " : "", ev->error ? strerror(ev->error) : "");
	client_free(c);
}
