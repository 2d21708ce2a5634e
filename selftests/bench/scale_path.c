// SPDX-License-Identifier: GPL-2.0
/* scale_path.c: connections, and pairs of the module between them. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "scale.h"

#define PORT 7000
#define ADDRESSES 16		/* none runs out of ports */

static int listeners[ADDRESSES];
static unsigned int turn, first, shared = ADDRESSES;

static void set_sysctl(const char *path, const char *value)
{
	FILE *f = fopen(path, "w");

	if (!f || fputs(value, f) < 0)
		die("%s: %s", path, strerror(errno));
	fclose(f);
}

static struct sockaddr_in address(unsigned int i)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(0x7f000001 + i) };
}

void set_nodelay(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void open_listener(unsigned int i)
{
	struct sockaddr_in addr = address(i);
	int on = 1;

	listeners[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(listeners[i], SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	set_nodelay(listeners[i]);
	if (bind(listeners[i], (void *)&addr, sizeof(addr)) || listen(listeners[i], 128))
		die("listen: %s", strerror(errno));
}

/* A pair has four descriptors here until it is spliced, and two then. */
void paths_prepare(unsigned int n)
{
	struct rlimit limit = { .rlim_cur = 4 * n + 1000, .rlim_max = 4 * n + 1000 };
	char text[32];
	unsigned int i;

	snprintf(text, sizeof(text), "%u", 4 * n + 20000);
	set_sysctl("/proc/sys/fs/file-max", text);
	set_sysctl("/proc/sys/fs/nr_open", n > 100000 ? "4194304" : "1048576");
	set_sysctl("/proc/sys/net/ipv4/ip_local_port_range", "10000 65535");
	/* Above these a close is forgotten, and the other side told once: too little where the loopback device drops it. */
	set_sysctl("/proc/sys/net/ipv4/tcp_max_orphans", text);
	set_sysctl("/proc/sys/net/core/netdev_max_backlog", "100000");
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("%u descriptors: %s", 4 * n, strerror(errno));
	for (i = 0; i < ADDRESSES; i++)
		open_listener(i);
}

/* Who shares a listener would accept the other's connections. */
void paths_take_share(unsigned int who)
{
	shared = ADDRESSES / 2;
	first = who * shared;
}

int path_direct(int fds[2])
{
	unsigned int i = first + turn++ % shared;
	struct sockaddr_in addr = address(i);

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fds[0] < 0)
		return -errno;
	set_nodelay(fds[0]);
	if (connect(fds[0], (void *)&addr, sizeof(addr)))
		return -errno;
	fds[1] = accept4(listeners[i], NULL, NULL, SOCK_CLOEXEC);
	return fds[1] < 0 ? -errno : 0;
}

void path_open(struct path *p)
{
	int client[2], server[2], error = path_direct(client);

	if (!error)
		error = path_direct(server);
	if (error)
		die("a connection: %s", strerror(-error));
	*p = (struct path){ .c = client[0], .a = client[1], .b = server[0], .s = server[1] };
}

uint64_t path_splice(struct spl *s, struct path *p)
{
	uint64_t token = 0;
	int error = spl_splice_pair(s, p->a, p->b, NULL, &token);

	if (error)
		die("spl_splice_pair: %s: %s", strerror(-error), spl_strerror_last(s));
	p->a = p->b = -1;
	return token;
}

void path_close(struct path *p)
{
	close(p->c);
	close(p->s);
	if (p->a >= 0)
		close(p->a);
	if (p->b >= 0)
		close(p->b);
}

void talk(int from, int to, size_t len)
{
	char buf[1 << 16] = { 0 };

	if (send(from, buf, len, 0) != (ssize_t)len || recv(to, buf, len, MSG_WAITALL) != (ssize_t)len)
		die("a message gets lost: %s", strerror(errno));
}

struct spl *kmod_open(void)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = SPL_ENGINE_KMOD };
	struct spl *s;
	int error = spl_open(&s, &opts);

	if (error)
		die("the module: %s", strerror(-error));
	return s;
}
