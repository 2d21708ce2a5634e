// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* A file that is an end: which are taken, how they are watched, how they are left. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "user.h"

#define STATE(s)	(1u << (s))
/* The readable half works, or has worked to the end. */
#define SOURCE_STATES	(STATE(TCP_ESTABLISHED) | STATE(TCP_FIN_WAIT1) | STATE(TCP_FIN_WAIT2) | \
			 STATE(TCP_CLOSE_WAIT) | STATE(TCP_CLOSING) | STATE(TCP_LAST_ACK))
#define SINK_STATES	(STATE(TCP_ESTABLISHED) | STATE(TCP_CLOSE_WAIT))
#define OPENING_STATES	(STATE(TCP_SYN_SENT) | STATE(TCP_SYN_RECV))

static int refuse(struct user_sock *sock, int error, const char *why)
{
	return spl_refuse(sock->user->spl, error, "descriptor %d: %s", sock->user->asked_for, why);
}

/* What poll() says of it now. */
short user_sock_poll(const struct user_sock *sock, short events)
{
	struct pollfd pfd = { .fd = sock->fd, .events = events };

	return poll(&pfd, 1, 0) > 0 ? pfd.revents : 0;
}

/* Is there something to read? What TLS has decrypted TCP has no more, and of redirected bytes, or beside them, the ioctl knows nothing. */
static bool inq(struct user_sock *sock)
{
	int n = 0;

	if (!ioctl(sock->fd, FIONREAD, &n) && n)
		return true;
	if (sock->kind != USER_TCP || (user_sock_poll(sock, 0) & POLLERR))
		return false;
	return sock->tls ? user_tls_readable(sock) : user_io_look(sock) > 0;
}

static int admit_tls(struct user_sock *sock, unsigned int half)
{
	const char *why = sock->tls ? user_tls_admit(sock, half) : NULL;

	return why ? refuse(sock, -EINPROGRESS, why) : 0;
}

static int admit_tcp(struct user_sock *sock, const struct tcp_info *info, unsigned int half, unsigned int how)
{
	unsigned int state = STATE(info->tcpi_state);

	sock->kind = USER_TCP;
	sock->first = !info->tcpi_unacked;
	if (info->tcpi_state == TCP_LISTEN)
		return refuse(sock, -EOPNOTSUPP, "the socket is listening");
	if (state & OPENING_STATES) {
		sock->connecting = true;
		return how & USER_MAY_CONNECT ? 0 : refuse(sock, -EINPROGRESS, "the socket is still connecting");
	}
	if (!(how & USER_PLAIN) && user_tls_find(sock))
		return refuse(sock, -ENOMEM, "no memory");
	/* over both ways, it is a source as long as there is something to read */
	if ((half & USER_RX) && !(state & SOURCE_STATES) && !inq(sock))
		return refuse(sock, -ENOTCONN, "the source is not connected");
	if ((half & USER_TX) && !(state & SINK_STATES))
		return refuse(sock, -ENOTCONN, "the sink is not connected, or was shut down for writing");
	return admit_tls(sock, half);
}

static int admit_stream(struct user_sock *sock, unsigned int half)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	int type = user_option_get(sock->fd, SOL_SOCKET, SO_TYPE);

	if (type < 0)
		return refuse(sock, type, "not a socket that can be asked what it is");
	if (type != SOCK_STREAM)
		return refuse(sock, -EPROTONOSUPPORT, "not a stream socket");
	if (user_option_get(sock->fd, SOL_SOCKET, SO_ACCEPTCONN) > 0)
		return refuse(sock, -EOPNOTSUPP, "the socket is listening");
	if (getpeername(sock->fd, (struct sockaddr *)&peer, &len))
		return refuse(sock, -ENOTCONN, "the socket is not connected");
	sock->kind = peer.ss_family == AF_UNIX ? USER_UNIX : USER_STREAM;
	if ((half & USER_TX) && send(sock->fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EPIPE)
		return refuse(sock, -ENOTCONN, "the sink was shut down for writing, or its peer is gone");
	return 0;
}

/* An end of a pipe can be one thing only; a FIFO opened for both can be either. */
static int admit_pipe(struct user_sock *sock, unsigned int half)
{
	int flags = fcntl(sock->fd, F_GETFL);
	int mode = flags & O_ACCMODE;

	if (flags < 0)
		return refuse(sock, -errno, "not open");
	if (flags & O_DIRECT)
		return refuse(sock, -EPROTONOSUPPORT, "this pipe carries packets");
	sock->both = mode == O_RDWR;
	if (((half & USER_RX) && mode == O_WRONLY) || ((half & USER_TX) && mode == O_RDONLY))
		return refuse(sock, -ENOTSOCK, "this end of a pipe cannot be used so");
	if ((half & USER_TX) && (user_sock_poll(sock, POLLOUT) & POLLERR))
		return refuse(sock, -ENOTCONN, "nobody reads this pipe");
	return user_option_nonblock(sock, true) ? 0 : refuse(sock, -errno, "cannot be made non-blocking");
}

/* Can it be this half? how: USER_MAY_CONNECT, USER_PLAIN. Sets kind, connecting and tls. */
int user_sock_admit(struct user_sock *sock, unsigned int half, unsigned int how)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (sock->kind == USER_PIPE)
		return admit_pipe(sock, half);
	memset(&info, 0, sizeof(info));
	if (!getsockopt(sock->fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return admit_tcp(sock, &info, half, how);
	return admit_stream(sock, half);
}

/* An address as IPv6 sees it, so that a mapped socket compares equal to the IPv4 one it talks to. */
bool user_sock_address(int fd, bool local, struct sockaddr_in6 *out)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	const struct sockaddr_in *in = (const struct sockaddr_in *)&ss;

	if (local ? getsockname(fd, (struct sockaddr *)&ss, &len) : getpeername(fd, (struct sockaddr *)&ss, &len))
		return false;
	memset(out, 0, sizeof(*out));
	if (ss.ss_family == AF_INET6) {
		memcpy(out, &ss, sizeof(*out));
		return true;
	}
	out->sin6_port = in->sin_port;
	out->sin6_addr.s6_addr[10] = out->sin6_addr.s6_addr[11] = 0xff;
	memcpy(&out->sin6_addr.s6_addr[12], &in->sin_addr, 4);
	return ss.ss_family == AF_INET;
}

static bool faces(int a, int b)
{
	struct sockaddr_in6 local, remote;

	return user_sock_address(a, true, &local) && user_sock_address(b, false, &remote) &&
	       local.sin6_port == remote.sin6_port && !memcmp(&local.sin6_addr, &remote.sin6_addr, sizeof(local.sin6_addr));
}

/* The same addresses may exist in another network namespace, and be another connection there. */
static bool same_net(int a, int b)
{
	uint64_t x = 0, y = 0;
	socklen_t lx = sizeof(x), ly = sizeof(y);

	return getsockopt(a, SOL_SOCKET, SO_NETNS_COOKIE, &x, &lx) ||
	       getsockopt(b, SOL_SOCKET, SO_NETNS_COOKIE, &y, &ly) || x == y;
}

/* -ELOOP for the two sockets of one TCP connection, or the two ends of one pipe: bytes would go round for ever. */
int user_sock_mirror(struct user *u, struct user_sock *source, struct user_sock *sink)
{
	bool loop = false;

	if (source->kind == USER_PIPE)
		loop = source->dev == sink->dev && source->ino == sink->ino;
	else if (source != sink && source->kind == USER_TCP && sink->kind == USER_TCP)
		loop = faces(source->fd, sink->fd) && faces(sink->fd, source->fd) &&
		       same_net(source->fd, sink->fd);
	else if (source != sink && source->kind == USER_UNIX && sink->kind == USER_UNIX)
		loop = user_unix_mirror(source, sink);
	return loop ? spl_refuse(u->spl, -ELOOP, "source and sink are the two ends of one connection") : 0;
}

/* Nothing will ever come from it again. Asked so that an error stays in the socket, for the caller. */
bool user_sock_source_over(struct user_sock *sock)
{
	return (user_sock_poll(sock, POLLRDHUP) & (POLLRDHUP | POLLHUP)) && !inq(sock);
}

bool user_sock_sink_over(const struct user_sock *sock)
{
	return user_sock_poll(sock, 0) & (sock->kind == USER_PIPE ? POLLERR : POLLHUP);
}

/* From now on the operation has a descriptor of its own, and hears of the file. */
int user_sock_hold(struct user_sock *sock)
{
	struct epoll_event want = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
		.data.ptr = sock,
	};
	int fd, r;

	if (sock->held) {
		/* what happened before was told to others */
		sock->ready |= USER_READABLE | USER_WRITABLE;
		return 0;
	}
	fd = fcntl(sock->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	if (epoll_ctl(sock->user->epoll, EPOLL_CTL_ADD, fd, &want)) {
		r = -errno;
		close(fd);
		return r;
	}
	sock->lent = sock->fd;
	sock->fd = fd;
	sock->held = true;
	sock->user->watched++;
	return 0;
}

static bool tcp_in(const struct user_sock *sock, unsigned int states)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(&info, 0, sizeof(info));
	return sock->kind == USER_TCP && !getsockopt(sock->fd, IPPROTO_TCP, TCP_INFO, &info, &len) &&
	       (STATE(info.tcpi_state) & states);
}

/* Was it connected, and is it no more? */
bool user_sock_over(const struct user_sock *sock)
{
	return tcp_in(sock, STATE(TCP_CLOSE));
}

static bool is_moved(const struct user_sock *sock)
{
	return (sock->rx && sock->rx->kernel) || (sock->tx && sock->tx->kernel);
}

/*
 * The error that a sink has, or 0. Asking takes it from the socket, so it is noted: there may be a flow the other
 * way. Somebody else may have taken it before: a connection that is over is told by its state.
 */
int user_sock_error(struct user_sock *sock)
{
	int error;

	if (sock->kind == USER_PIPE)
		return EPIPE;
	error = is_moved(sock) ? sock->user->mover->error(sock->fd) : user_option_get(sock->fd, SOL_SOCKET, SO_ERROR);
	/* a parser's that has stopped: see bpf/sockmap.bpf.c */
	if (error == EAGAIN)
		error = 0;
	/* and of TLS, whose work went on after a reset, by its own word for whatever hinders it */
	if (((!error && !sock->error) || (error == EBADMSG && sock->tls)) && user_sock_over(sock))
		error = ECONNRESET;
	if (error)
		user_busy_note(sock, error < 0 ? -error : error);
	return sock->error;
}

/* Of a socket that was being connected: 0, -EINPROGRESS, or a positive errno. */
int user_sock_connected(struct user_sock *sock)
{
	int error = user_option_get(sock->fd, SOL_SOCKET, SO_ERROR);

	if (error > 0)
		return error;
	if (tcp_in(sock, OPENING_STATES))
		return -EINPROGRESS;
	return user_sock_over(sock) ? ECONNREFUSED : 0;
}

/* Bytes that the peer has not acknowledged. Of a socket that was shut down the FIN counts in the kernel, not here. */
uint32_t user_sock_unacked(const struct user_sock *sock, bool shut)
{
	int n = 0;

	if (sock->kind != USER_TCP || ioctl(sock->fd, SIOCOUTQ, &n) || n <= 0)
		return 0;
	return (uint32_t)n - shut;
}

/* The end of the stream for the reader. A pipe's comes when it is closed. */
int user_sock_shutdown(struct user_sock *sock)
{
	if (sock->kind == USER_PIPE)
		return 0;
	user_busy_note_shut(sock);
	return shutdown(sock->fd, SHUT_WR) ? errno : 0;
}

/*
 * The peer learns at once that this did not end well, also when others hold the socket too. Who uses kTLS cannot
 * reset a connection but by closing it: of a socket that stays, the peer gets an end without the close_notify of a good one.
 */
void user_sock_reset(struct user_sock *sock, bool stays)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct linger now = { .l_onoff = 1 };

	if (sock->was_reset || sock->kind == USER_PIPE)
		return;
	sock->was_reset = true;
	if (sock->kind != USER_TCP)
		shutdown(sock->fd, SHUT_RDWR);
	else if (connect(sock->fd, &none, sizeof(none)) &&
		 !setsockopt(sock->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) && stays)
		shutdown(sock->fd, SHUT_RDWR);
}

/* A descriptor of this file for the caller. */
int user_sock_dup(const struct user_sock *sock)
{
	int fd = fcntl(sock->fd, F_DUPFD_CLOEXEC, 3);

	return fd < 0 ? -errno : fd;
}

/* close() must not wait for a peer, nor throw away what it has accepted. */
static void never_linger(const struct user_sock *sock)
{
	struct linger off = { 0 };

	if (sock->kind == USER_TCP && !sock->was_reset && !sock->plain)
		setsockopt(sock->fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
}

/*
 * The caller may have closed a borrowed descriptor, and ours be the last: then it must not linger. If he has it
 * still, he gets his SO_LINGER back.
 */
static void close_borrowed(const struct user_sock *sock)
{
	struct linger was = { 0 }, off = { 0 };
	socklen_t len = sizeof(was);

	if (sock->kind != USER_TCP || getsockopt(sock->fd, SOL_SOCKET, SO_LINGER, &was, &len))
		was.l_onoff = 0;
	if (was.l_onoff && was.l_linger)
		setsockopt(sock->fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
	close(sock->fd);
	if (was.l_onoff && was.l_linger && user_busy_same(sock, sock->lent))
		setsockopt(sock->lent, SOL_SOCKET, SO_LINGER, &was, sizeof(was));
}

/*
 * An operation lets go of these halves, which are left as they were unless the socket is closed for good. With the
 * last half our descriptor goes. The memory stays until the end of the round, as an event in hand may name it.
 */
void user_sock_put(struct user_sock *sock, unsigned int halves, bool close_for_good)
{
	struct user *u = sock->user;

	if (halves & USER_RX)
		sock->rx = NULL;
	if (halves & USER_TX)
		sock->tx = NULL;
	if ((halves & USER_TX) && sock->hops)
		u->hop->end(sock);
	if (!close_for_good)
		user_option_restore(sock, halves);
	user_busy_release(sock, halves);
	if (sock->halves)
		return;
	if (close_for_good)
		never_linger(sock);
	/* others may have this description, of a pipe often */
	user_option_block(sock);
	if (sock->held) {
		epoll_ctl(u->epoll, EPOLL_CTL_DEL, sock->fd, NULL);
		if (close_for_good)
			close(sock->fd);
		else
			close_borrowed(sock);
		u->watched--;
	}
	sock->chain = u->dead;
	u->dead = sock;
}

/* Of a copy in a child: the file stays as it is, in the parent's epoll set too. */
void user_sock_forget(struct user_sock *sock, unsigned int halves)
{
	struct user *u = sock->user;

	sock->nonblock = false;
	user_busy_release(sock, halves);
	if (sock->halves)
		return;
	if (sock->held)
		close(sock->fd);
	sock->chain = u->dead;
	u->dead = sock;
}
