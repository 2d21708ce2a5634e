// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Does the kernel move a stream as sk_skb mode needs it? Once in a process, on two connections of our own. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sockmap.h"
#include "sockmap_skb.h"

#define WAIT_MS	1000
#define BEFORE	"early "	/* has come when the flow begins */
#define AFTER	"and late"

static bool arrives(int fd, char *got, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t n = 0;
	ssize_t r;

	while (n < len && poll(&p, 1, WAIT_MS) == 1 && (r = recv(fd, got + n, len - n, MSG_DONTWAIT)) > 0)
		n += (size_t)r;
	return n == len && recv(fd, got, 1, MSG_DONTWAIT | MSG_PEEK) < 0;
}

static int exchange(struct spl *s, int client, int server, struct sockmap_flow *f)
{
	char got[sizeof(BEFORE AFTER) - 1] = { 0 };
	uint64_t backlog, bytes;

	if (send(client, AFTER, sizeof(AFTER) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(AFTER) - 1 ||
	    !arrives(server, got, sizeof(got)) || memcmp(got, BEFORE AFTER, sizeof(got)))
		return spl_refuse(s, -EOPNOTSUPP, "the kernel does not redirect a stream as it is");
	bytes = sockmap_skb_bytes(f, &backlog);
	if (bytes != sizeof(got) || backlog)
		return spl_refuse(s, -EOPNOTSUPP, "what the kernel redirects cannot be counted: nothing would bound it");
	return 0;
}

/* c to a, and from there to b, whose peer is p. */
static int try(struct spl *s, int c, int a, int b, int p)
{
	struct sockmap_flow *f;
	int r;

	if (send(c, BEFORE, sizeof(BEFORE) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(BEFORE) - 1)
		return spl_refuse(s, -EOPNOTSUPP, "no loopback device to try the kernel on");
	r = sockmap_skb_begin(a, b, SOCKMAP_ALL, &f);
	if (r)
		return spl_refuse(s, -EOPNOTSUPP, "no sockmap for TCP: %s", strerror(-r));
	r = exchange(s, c, p, f);
	sockmap_skb_drop(f);
	return r;
}

int sockmap_skb_test(struct spl *s)
{
	int in[3] = { -1, -1, -1 }, out[3] = { -1, -1, -1 }, i, r;

	if (sockmap_test_connect(in) && sockmap_test_connect(out))
		r = try(s, in[1], in[2], out[1], out[2]);
	else
		r = spl_refuse(s, -EOPNOTSUPP, "no loopback device to try the kernel on");
	for (i = 0; i < 3; i++) {
		if (in[i] >= 0)
			close(in[i]);
		if (out[i] >= 0)
			close(out[i]);
	}
	return r;
}
