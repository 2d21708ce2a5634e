// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Addresses, a listening socket, a context. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "examples.h"

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

socklen_t addr_len(const union addr *a)
{
	return a->sa.sa_family == AF_INET6 ? sizeof(a->in6) : sizeof(a->in);
}

int addr_parse(const char *text, union addr *out)
{
	char host[INET6_ADDRSTRLEN], *end;
	const char *colon = strrchr(text, ':');
	bool v6 = *text == '[';
	size_t len = colon ? (size_t)(colon - text) : 0;
	unsigned long port;

	if (!colon || len >= sizeof(host) || (v6 && (len < 2 || text[len - 1] != ']')))
		return -EINVAL;
	memcpy(host, text + v6, len - 2 * v6);
	host[len - 2 * v6] = '\0';
	port = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end || port > 65535)
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	out->sa.sa_family = v6 ? AF_INET6 : AF_INET;
	out->in.sin_port = htons((uint16_t)port);	/* sin6_port lies at the same place */
	if (inet_pton(out->sa.sa_family, host, v6 ? (void *)&out->in6.sin6_addr : &out->in.sin_addr) != 1)
		return -EINVAL;
	return 0;
}

const char *addr_text(const union addr *a)
{
	static char text[INET6_ADDRSTRLEN + 16];
	char host[INET6_ADDRSTRLEN];
	bool v6 = a->sa.sa_family == AF_INET6;

	inet_ntop(a->sa.sa_family, v6 ? (const void *)&a->in6.sin6_addr : &a->in.sin_addr, host, sizeof(host));
	snprintf(text, sizeof(text), v6 ? "[%s]:%u" : "%s:%u", host, ntohs(a->in.sin_port));
	return text;
}

static int try_listen(int fd, union addr *a)
{
	socklen_t len = addr_len(a);
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* so that a v4 client has a v4 address here too */
	if (a->sa.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, &a->sa, len) || listen(fd, SOMAXCONN) || getsockname(fd, &a->sa, &len))
		return -errno;
	return 0;
}

int listen_on(const char *text, int flags)
{
	union addr a;
	int fd = -1, error = addr_parse(text, &a);

	if (!error) {
		fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
		error = fd < 0 ? -errno : try_listen(fd, &a);
	}
	if (!error) {
		printf("listening on %s\n", addr_text(&a));
		fflush(stdout);
		return fd;
	}
	fprintf(stderr, "cannot listen on %s: %s\n", text, strerror(-error));
	if (fd >= 0)
		close(fd);
	return error;
}

/* The best engine of this machine, unless the environment says which: see spl_open(). */
struct spl *open_context(void)
{
	struct spl *s;

	if (spl_open(&s, NULL))
		fprintf(stderr, "no engine: %s\n", spl_strerror_last(NULL));
	return s;
}
