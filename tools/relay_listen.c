// SPDX-License-Identifier: GPL-2.0
/* Listening sockets of the relay. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "relay.h"

#define BACKLOG	4096

/* Whether a path is a socket that nobody listens on any more: left by a relay that was killed. */
static bool is_stale(const struct addr *addr)
{
	struct stat st;
	bool refused;
	int fd;

	if (addr->sa.sa_family != AF_UNIX || !addr->un.sun_path[0] ||
	    lstat(addr->un.sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	refused = connect(fd, &addr->sa, addr->len) && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

/* A peer that vanished is found out in the end, idle limit or not; unix sockets need none. */
void relay_keep_alive(int fd, int family)
{
	int on = 1;

	if (family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static int bind_address(int fd, struct addr *addr, bool shared)
{
	int on = 1, off = 0;

	if (addr->sa.sa_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)))
		return -errno;
	/* [::] written without an address means IPv4 as well; an address means itself */
	if (addr->sa.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY,
			   IN6_IS_ADDR_UNSPECIFIED(&addr->in6.sin6_addr) ? &off : &on, sizeof(on));
	if (!bind(fd, &addr->sa, addr->len))
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	if (!is_stale(addr))
		return -EADDRINUSE;
	unlink(addr->un.sun_path);
	return bind(fd, &addr->sa, addr->len) ? -errno : 0;
}

/* Any IPv4 address for any IPv6 address, where the machine has no IPv6. */
static bool fall_back(struct addr *addr)
{
	in_port_t port = addr->in6.sin6_port;

	if (addr->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_UNSPECIFIED(&addr->in6.sin6_addr))
		return false;
	memset(addr, 0, sizeof(*addr));
	addr->in.sin_family = AF_INET;
	addr->in.sin_port = port;
	addr->len = sizeof(addr->in);
	return true;
}

/* Opens l->addr, which afterwards has the port that was chosen; shared: with others who share it. 0 or -errno. */
int relay_listen(struct listener *l, bool shared)
{
	int fd, error;

	fd = socket(l->addr.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno == EAFNOSUPPORT && fall_back(&l->addr) ? relay_listen(l, shared) : -errno;
	/* for those who will be accepted: they inherit it */
	relay_keep_alive(fd, l->addr.sa.sa_family);
	error = bind_address(fd, &l->addr, shared);
	if (error == -EADDRNOTAVAIL && fall_back(&l->addr)) {
		close(fd);
		return relay_listen(l, shared);
	}
	if (!error && listen(fd, BACKLOG))
		error = -errno;
	if (error) {
		close(fd);
		return error;
	}
	l->addr.len = sizeof(l->addr.storage);
	getsockname(fd, &l->addr.sa, &l->addr.len);
	l->watch.fd = fd;
	return 0;
}

void relay_listener_close(struct listener *l)
{
	if (l->watch.fd < 0)
		return;
	close(l->watch.fd);
	l->watch.fd = -1;
	if (l->addr.sa.sa_family == AF_UNIX && l->addr.un.sun_path[0])
		unlink(l->addr.un.sun_path);
}

/* One connection, or -1: none is waiting, or none can be taken now. */
int relay_accept(struct relay *r, struct watch *w, struct addr *peer)
{
	int fd;

	do {
		peer->len = sizeof(peer->storage);
		fd = accept4(w->fd, &peer->sa, &peer->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (fd < 0 && (errno == EINTR || errno == ECONNABORTED || errno == EPROTO));
	if (fd >= 0 || errno == EAGAIN)
		return fd;
	/* whatever it is, the next attempt at once would fail as well */
	relay_starved(r, "accept");
	return -1;
}

/* Those who wait, at most so many; how many were taken: less when there are no more, or none can be taken. */
static unsigned int accept_some(struct relay *r, struct watch *w, unsigned int most)
{
	struct addr peer;
	unsigned int n;
	int fd;

	for (n = 0; n < most; n++) {
		/* the second socket first: no client is taken that could only be sent away */
		if (w->fd < 0 || !relay_has_room(r) || !relay_make_spare(r))
			break;
		fd = relay_accept(r, w, &peer);
		if (fd < 0)
			break;
		relay_connect(r, fd, &peer);
	}
	return n;
}

/*
 * To find that nobody else waits costs as much as a system call can: the kernel makes a socket and a file first, and
 * takes them back. Where that was so it is not tried for a while: if somebody does, epoll says so.
 */
void relay_accept_clients(struct relay *r, struct watch *w, uint32_t events)
{
	struct listener *l = (struct listener *)w;

	(void)events;
	if (l->singly) {
		l->singly--;
		accept_some(r, w, 1);
	} else if (accept_some(r, w, RELAY_BATCH) <= 1) {
		l->singly = RELAY_SINGLY;
	}
}

/* Before a listener is closed: who has connected to it is not reset, as far as there is room. */
void relay_accept_rest(struct relay *r, struct watch *w)
{
	for (int i = 0; i < BACKLOG / RELAY_BATCH; i++)
		if (accept_some(r, w, RELAY_BATCH) < RELAY_BATCH)
			break;
}
