// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The hop of one socket: while it is a sink, and its peer was learned, it is in "sinks" and what it sends is redirected, or
 * passed to TCP, as bpf/local.bpf.c decides. All ways out lead to TCP, where every socket is at home.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <bpf/bpf.h>

#include "sockmap.h"

static void fill(__u32 ip[4], __u32 *port, const struct sockaddr_in6 *from)
{
	memcpy(ip, &from->sin6_addr, sizeof(from->sin6_addr));
	*port = ntohs(from->sin6_port);
}

/* How the program calls this socket and its peer. */
bool sockmap_hop_name(int fd, struct local_key *own, struct local_key *peer)
{
	struct sockaddr_in6 local, remote;
	uint64_t netns = 0;
	socklen_t len = sizeof(netns);

	if (!user_sock_address(fd, true, &local) || !user_sock_address(fd, false, &remote) ||
	    getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &netns, &len))
		return false;
	memset(own, 0, sizeof(*own));
	memset(peer, 0, sizeof(*peer));
	own->netns = peer->netns = netns;
	fill(own->local, &own->local_port, &local);
	fill(own->remote, &own->remote_port, &remote);
	fill(peer->local, &peer->local_port, &remote);
	fill(peer->remote, &peer->remote_port, &local);
	return true;
}

static bool learned(const struct local_key *k)
{
	uint64_t cookie;

	return !bpf_map_lookup_elem(sockmap_load_maps()->peers, k, &cookie);
}

/* What was counted of a sink stays with the socket: its next operation goes on from there. */
static bool has_storage(int fd)
{
	struct local_hop none = { .phase = LOCAL_OFF };

	return !bpf_map_update_elem(sockmap_load_maps()->hops, &fd, &none, BPF_NOEXIST) || errno == EEXIST;
}

static bool order(uint64_t name, const struct local_key *peer, enum local_phase phase)
{
	struct local_order o = { .sink = name, .phase = phase };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &o, .data_size_in = sizeof(o));

	if (peer)
		o.peer = *peer;
	return !bpf_prog_test_run_opts(sockmap_load_maps()->arm, &run) && !run.retval;
}

/*
 * From now on what it sends is for hop() to decide. One that was learned itself would keep its program when it left "sinks",
 * and be busy the next time: it stays, and its phase alone says what is to be done.
 */
bool sockmap_hop_enter(int fd, uint64_t name, const struct local_key *peer, bool was_learned)
{
	uint64_t value = (uint64_t)fd;
	int r = bpf_map_update_elem(sockmap_load_maps()->sinks, &name, &value, BPF_ANY), err;

	if (r && !(was_learned && errno == EBUSY))
		return false;
	if (has_storage(fd) && order(name, peer, LOCAL_WAITS))
		return true;
	err = errno;
	if (!was_learned)
		bpf_map_delete_elem(sockmap_load_maps()->sinks, &name);
	errno = err;
	return false;
}

static void leave(struct user_sock *sock)
{
	uint64_t name = sock->ino;

	sock->hops = false;
	if (sock->learned)
		order(name, NULL, LOCAL_OFF);
	else
		bpf_map_delete_elem(sockmap_load_maps()->sinks, &name);
}

/* It is an end from now on, connected; halves: as what. */
static void begin(struct user_sock *sock, unsigned int halves)
{
	struct local_key own, peer;

	if (sock->kind != USER_TCP || sock->tls || !sockmap_hop_name(sock->fd, &own, &peer))
		return;
	sock->learned = learned(&own);
	if ((halves & USER_TX) && !sock->hops && learned(&peer))
		sock->hops = sockmap_hop_enter(sock->fd, sock->ino, &peer, sock->learned);
}

static bool is_off(const struct user_sock *sock)
{
	struct local_hop h;

	return bpf_map_lookup_elem(sockmap_load_maps()->hops, &sock->fd, &h) || h.phase == LOCAL_OFF;
}

/* Has TCP bytes that are not acknowledged? Then it tells when there is room again. */
static bool tcp_busy(const struct user_sock *sock)
{
	int n = 0;

	return !ioctl(sock->fd, SIOCOUTQ, &n) && n > 0;
}

/*
 * A send failed with n, which may be the hop's fault and not the connection's: no memory, which nobody would tell the end
 * of; a peer that has just gone. True: it is TCP's now, try again.
 */
static bool failed(struct user_sock *sock, ssize_t n)
{
	bool busy = n == -EAGAIN && tcp_busy(sock);

	if (n != -EAGAIN && n != -ENOMEM && n != -EACCES && n != -EPIPE)
		return false;
	if (busy && !is_off(sock))
		return false;
	leave(sock);
	return !busy;
}

const struct user_hop sockmap_hop = { .begin = begin, .end = leave, .failed = failed };
