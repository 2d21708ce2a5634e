// SPDX-License-Identifier: GPL-2.0
/* net.c: sockets of the load generator. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "load.h"

#define BACKLOG 4096

static int parse_addr(char *text, struct sockaddr_in *out)
{
	char *colon = strchr(text, ':');
	long port;

	if (!colon)
		return -1;
	*colon = 0;
	port = strtol(colon + 1, NULL, 10);
	*out = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	return port > 0 && port < 65536 && inet_pton(AF_INET, text, &out->sin_addr) == 1 ? 0 : -1;
}

/* A,B,...: how many, or -1. */
int parse_addrs(const char *text, struct sockaddr_in out[LOAD_ADDRS])
{
	char copy[512], *save, *word;
	int n = 0;

	if (strlen(text) >= sizeof(copy))
		return -1;
	strcpy(copy, text);
	for (word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save))
		if (n == LOAD_ADDRS || parse_addr(word, &out[n++]))
			return -1;
	return n ? n : -1;
}

static void set_nodelay(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void set_patience(int fd)
{
	struct timeval tv = { .tv_sec = LOAD_PATIENCE_S };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

/* What is set here the accepted sockets inherit. */
int open_listener(const struct sockaddr_in *addr)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	set_nodelay(fd);
	set_patience(fd);
	if (!bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) && !listen(fd, BACKLOG))
		return fd;
	close(fd);
	return -1;
}

static int new_socket(struct job *job, int flags)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		die(job, "socket: %s", strerror(errno));
	set_nodelay(fd);
	return fd;
}

/* Connection i: the addresses take turns, so that no address runs out of ports. */
int connect_to(struct job *job, unsigned int i)
{
	const struct sockaddr_in *to = &job->to[i % job->n_to];
	int fd = new_socket(job, 0);

	set_patience(fd);
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		die(job, "connect: %s", strerror(errno));
	return fd;
}

int start_connect(struct job *job, unsigned int i)
{
	const struct sockaddr_in *to = &job->to[i % job->n_to];
	int fd = new_socket(job, SOCK_NONBLOCK);

	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) && errno != EINPROGRESS)
		die(job, "connect: %s", strerror(errno));
	return fd;
}

/* false: the other side has gone, as it may when all is over */
bool send_all(struct job *job, int fd, const void *buf, size_t len)
{
	const char *at = buf;
	ssize_t n;

	for (; len; at += n, len -= (size_t)n) {
		n = send(fd, at, len, MSG_NOSIGNAL);
		if (n < 0 && atomic_load(&job->sh->phase) == PHASE_STOP)
			return false;
		if (n < 0)
			die(job, "send: %s", strerror(errno));
	}
	return true;
}

int accept_one(struct job *job)
{
	struct pollfd p[LOAD_ADDRS];
	unsigned int i;
	int fd;

	for (i = 0; i < job->n_listen; i++)
		p[i] = (struct pollfd){ .fd = job->listeners[i], .events = POLLIN };
	if (poll(p, job->n_listen, LOAD_PATIENCE_S * 1000) <= 0)
		die(job, "accept: nobody came");
	for (i = 0; !p[i].revents; i++)
		;
	fd = accept4(job->listeners[i], NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		die(job, "accept: %s", strerror(errno));
	return fd;
}

void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}
