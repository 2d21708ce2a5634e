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

#define LATE 4		/* writes, of which the first is not worth a look */

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

static uint64_t name_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	return cookie;
}

/* How many bytes may be sent until the peer is looked at again, or a negative errno. */
static int64_t order(int fd, const struct local_key *peer, enum local_phase phase)
{
	struct local_order o = { .sink = name_of(fd), .phase = phase };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &o, .data_size_in = sizeof(o));

	if (peer)
		o.peer = *peer;
	if (bpf_prog_test_run_opts(sockmap_load_maps()->arm, &run))
		return -errno;
	return run.retval == LOCAL_FAILED ? -ENOENT : (int64_t)run.retval - 1;
}

/*
 * From now on what it sends is for hop() to decide. One that was learned itself would keep its program when it left "sinks",
 * and be busy the next time: it stays, and its phase alone says what is to be done. 0, or a negative errno.
 */
int sockmap_hop_enter(int fd, const struct local_key *peer, bool was_learned)
{
	uint64_t name = name_of(fd), value = (uint64_t)fd;
	int64_t r;

	if (bpf_map_update_elem(sockmap_load_maps()->sinks, &name, &value, BPF_ANY) && !(was_learned && errno == EBUSY))
		return -errno;
	r = has_storage(fd) ? order(fd, peer, LOCAL_WAITS) : -errno;
	if (r < 0 && !was_learned)
		bpf_map_delete_elem(sockmap_load_maps()->sinks, &name);
	return r < 0 ? (int)r : 0;
}

static void leave(struct user_sock *sock)
{
	uint64_t name = name_of(sock->fd);

	sock->hops = false;
	if (sock->wait)
		sockmap_wait_end(sock);
	if (sock->learned)
		order(sock->fd, NULL, LOCAL_OFF);
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
	sock->room = 0;
	if (!(halves & USER_TX) || sock->hops)
		return;
	sock->late = 0;
	if (learned(&peer))
		sock->hops = !sockmap_hop_enter(sock->fd, &peer, sock->learned);
	else if (sock->learned)
		sock->late = LATE;
}

/* Where we were learned our peer is on this host; one that accepts only with the first bytes (TCP_DEFER_ACCEPT) comes with them. */
static void again(struct user_sock *sock)
{
	struct local_key own, peer;

	if (sock->late-- == LATE || !sockmap_hop_name(sock->fd, &own, &peer) || !learned(&peer))
		return;
	sock->late = 0;
	sock->hops = !sockmap_hop_enter(sock->fd, &peer, true);
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

/* Of a sink that hops: so much the peer has room for. 0: too little for it to be worth while. */
uint32_t sockmap_hop_ask(struct user_sock *sock, enum local_phase what)
{
	int64_t room = order(sock->fd, NULL, what);

	/* hop() has the last word */
	return room < 0 ? LOCAL_QUOTA_BYTES : (uint32_t)room;
}

/* hop() lets TCP have what there is no room for: so it is not even tried as long as the peer reads. */
static size_t room(struct user_sock *sock, size_t len, size_t msgs)
{
	size_t cost = msgs * LOCAL_MSG_COST;
	bool spent = !sock->room;

	/* not all of a pipe whose places are short, perhaps: there may be more room by now */
	if (msgs > 1 && sock->room < cost)
		sock->room = 0;
	if (!sock->room && !sock->wait) {
		sock->room = sockmap_hop_ask(sock, LOCAL_ASK);
		/* what was found after a wait, and not used yet, says nothing of what was tried before it */
		if (spent)
			sock->retried = false;
	}
	if (sock->wait || (!sock->room && sockmap_wait_begin(sock)))
		return 0;
	/* nobody would wake it */
	if (!sock->room)
		sock->room = LOCAL_QUOTA_BYTES;
	if (len > sock->room)
		len = sock->room;
	cost = len < cost ? cost : len;
	sock->room -= cost < sock->room ? (uint32_t)cost : sock->room;
	return len;
}

/* No memory may be no more than a moment's: then it is tried once more, after the shortest wait. */
static bool retries(struct user_sock *sock, ssize_t n)
{
	if ((n != -EAGAIN && n != -ENOMEM) || sock->retried || is_off(sock) || !sockmap_wait_begin(sock))
		return false;
	sock->retried = true;
	return true;
}

/*
 * A send failed with n, which may be the hop's fault and not the connection's: no memory, which nobody would tell the end
 * of; a peer that has just gone. 0: it is TCP's now, try again.
 */
static ssize_t failed(struct user_sock *sock, ssize_t n)
{
	bool busy = n == -EAGAIN && tcp_busy(sock);

	if (n != -EAGAIN && n != -ENOMEM && n != -EACCES && n != -EPIPE)
		return n;
	if (busy && !is_off(sock))
		return n;
	if (!busy && retries(sock, n))
		return -EAGAIN;
	leave(sock);
	/* in a socket that stays in the map the kernel keeps to that word: the peer was closed just then */
	if (n == -EACCES && sock->learned)
		return -EPIPE;
	return busy ? n : 0;
}

const struct user_hop sockmap_hop = {
	.begin = begin, .end = leave, .again = again, .room = room, .failed = failed, .tick = sockmap_wait_tick,
};
