// SPDX-License-Identifier: GPL-2.0
/* relay_copy.c: recv and send through one buffer; what the sink does not take is put by. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "relay.h"

#define BUFFER (128 << 10)
#define TURNS 16

static char buffer[BUFFER];

static ssize_t put(struct way *w, const char *buf, size_t len)
{
	ssize_t n = send(w->to->fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < (ssize_t)len)
		w->to->writable = false;
	return n < 0 && errno == EAGAIN ? 0 : n;
}

static bool put_by(struct way *w, const char *buf, size_t len)
{
	w->rest = malloc(len);
	if (!w->rest)
		return false;
	memcpy(w->rest, buf, len);
	w->held = len;
	w->at = 0;
	return true;
}

static bool send_rest(struct way *w)
{
	ssize_t n = put(w, w->rest + w->at, w->held);

	if (n < 0)
		return false;
	w->at += (size_t)n;
	w->held -= (size_t)n;
	if (w->held)
		return true;
	free(w->rest);
	w->rest = NULL;
	return true;
}

/* Less than there was room for: the source is empty. */
static bool fetch(struct way *w)
{
	ssize_t n = recv(w->from->fd, buffer, BUFFER, MSG_DONTWAIT), sent;

	if (n < 0 && errno != EAGAIN)
		return false;
	w->last = !n;
	if (n < 0 || (n < BUFFER && !w->from->hangup))
		w->from->readable = false;
	if (n <= 0)
		return true;
	sent = w->to->writable ? put(w, buffer, (size_t)n) : 0;
	if (sent < 0)
		return false;
	return sent == n || put_by(w, buffer + sent, (size_t)(n - sent));
}

static enum moved move(struct way *w)
{
	unsigned int turn;

	for (turn = 0; turn < TURNS; turn++) {
		if (w->held && w->to->writable && !send_rest(w))
			return MOVED_FAILED;
		if (w->held || w->last || !w->from->readable)
			return MOVED_ALL;
		if (!fetch(w))
			return MOVED_FAILED;
	}
	return MOVED_MORE;
}

static void release(struct way *w)
{
	free(w->rest);
	w->rest = NULL;
	w->held = 0;
}

const struct mover copy_mover = { .name = "copy", .move = move, .release = release };
