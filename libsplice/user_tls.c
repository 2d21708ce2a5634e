// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * kTLS: a TCP socket whose records the kernel makes and opens. As a source it has records that are no data; the
 * kernel gives none of them to who has no room for its type, and no bytes of another type with it. As a
 * sink it is to say close_notify before its FIN, which the kernel does not see to; nor does it keep for after the FIN
 * what it has accepted and TCP had no room for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "user.h"

#ifndef SOL_TLS
#define SOL_TLS			282
#endif
#ifndef TLS_TX_MAX_PAYLOAD_LEN
#define TLS_TX_MAX_PAYLOAD_LEN	5
#endif

/* RFC 8446 */
#define ALERT			21
#define HANDSHAKE		22
#define DATA			23
#define WARNING			1
#define CLOSE_NOTIFY		0
#define TICKET			4
#define KEY_UPDATE		24
#define MESSAGE_HEADER		4
#define RECORD_MOST		16384

#define CLOSED			7	/* TCP_CLOSE: its header and <linux/tcp.h> exclude each other */
#define STILL_MS		1000	/* TCP has sent all and is given nothing more: there was nothing more */

struct user_tls {
	uint64_t given;		/* of a sink: what TCP will have been given when it has all that was sent */
	uint64_t still;		/* ms: when TCP was first seen with nothing to send and not all given; 0: not so */
	uint32_t most;		/* bytes of data in a record */
	uint32_t overhead;	/* and what is put to them */
	bool unsure;		/* more than we know of may be on its way to TCP */
	bool notified;		/* close_notify was sent */
	bool closed;		/* one has come */
};

/* ---- what it is */

/* One that has the upper layer protocol gets sock->tls. */
int user_tls_find(struct user_sock *sock)
{
	char name[16] = "";
	socklen_t len = sizeof(name);

	if (sock->tls || getsockopt(sock->fd, IPPROTO_TCP, TCP_ULP, name, &len) || strcmp(name, "tls"))
		return 0;
	sock->tls = calloc(1, sizeof(*sock->tls));
	return sock->tls ? 0 : -ENOMEM;
}

/* 0; -EBUSY: it has no keys that way yet. */
static int keys(const struct user_sock *sock, int way, struct tls_crypto_info *info)
{
	socklen_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return getsockopt(sock->fd, SOL_TLS, way, info, &len) ? -errno : 0;
}

/* Header and tag; before 1.3 a nonce, which ChaCha20-Poly1305 has not; since 1.3 the type. */
static uint32_t overhead(const struct tls_crypto_info *info)
{
	if (info->version == TLS_1_3_VERSION)
		return 5 + 1 + 16;
	return info->cipher_type == TLS_CIPHER_CHACHA20_POLY1305 ? 5 + 16 : 5 + 8 + 16;
}

static int unacked(const struct user_sock *sock)
{
	int n = 0;

	return ioctl(sock->fd, SIOCOUTQ, &n) ? 0 : n;
}

/* How many bytes TCP has been given since the connection began; UINT64_MAX: of a connection that is over. */
static uint64_t given(const struct user_sock *sock)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (getsockopt(sock->fd, IPPROTO_TCP, TCP_INFO, &info, &len) || info.tcpi_state == CLOSED)
		return UINT64_MAX;
	/* in this order: what is acknowledged in between is missing, and not counted twice */
	return info.tcpi_bytes_acked + (uint64_t)unacked(sock);
}

static void begin_sink(struct user_sock *sock, const struct tls_crypto_info *info)
{
	int most = user_option_get(sock->fd, SOL_TLS, TLS_TX_MAX_PAYLOAD_LEN);

	*sock->tls = (struct user_tls) {
		.given = given(sock),
		.most = most > 0 && most < RECORD_MOST ? (uint32_t)most : RECORD_MOST,
		.overhead = overhead(info),
		.unsure = unacked(sock),
		.closed = sock->tls->closed,
	};
}

/* Can it be this half? NULL, or why not yet. */
const char *user_tls_admit(struct user_sock *sock, unsigned int half)
{
	struct tls_crypto_info info;

	if ((half & USER_RX) && keys(sock, TLS_RX, &info) == -EBUSY)
		return "the TLS source has no keys yet (TLS_RX)";
	if (!(half & USER_TX))
		return NULL;
	if (keys(sock, TLS_TX, &info) == -EBUSY)
		return "the TLS sink has no keys yet (TLS_TX)";
	begin_sink(sock, &info);
	return NULL;
}

/* ---- a source */

/* As recv(); *type: of the records that these bytes are of, all of one; 0: there is no record. */
static ssize_t receive(struct user_sock *sock, void *buf, size_t len, int flags, unsigned char *type)
{
	char control[CMSG_SPACE(1)] __attribute__((aligned(__alignof__(struct cmsghdr)))) = { 0 };
	struct iovec to = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = {
		.msg_iov = &to, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control),
	};
	ssize_t n = user_io_recvmsg(sock, &msg, flags);
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&msg);

	*type = c && c->cmsg_level == SOL_TLS && c->cmsg_type == TLS_GET_RECORD_TYPE ? *CMSG_DATA(c) : 0;
	return n;
}

/* Of messages after the handshake: 1: tickets for other sessions, all of them. */
static int handshake(const unsigned char *p, size_t n)
{
	size_t len;

	do {
		if (n && p[0] == KEY_UPDATE)
			return -EKEYEXPIRED;
		if (n < MESSAGE_HEADER || p[0] != TICKET)
			return -EPROTO;
		len = MESSAGE_HEADER + ((size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
		if (len > n)
			return -EPROTO;
		p += len;
		n -= len;
	} while (n);
	return 1;
}

/* What a record that is no data means: 0: end of stream; 1: nothing; else an error. */
static int meaning(unsigned char type, const unsigned char *p, size_t n)
{
	if (type == ALERT)
		return n >= 2 && p[1] == CLOSE_NOTIFY ? 0 : -ECONNABORTED;
	return type == HANDSHAKE ? handshake(p, n) : -EPROTO;
}

/*
 * What is next where recv() gave no bytes. Positive: read on; 0: end of stream; -ECONNABORTED, -EKEYEXPIRED, -EPROTO: a
 * record that ends the flow; else as recv(). What ends the flow stays unread. private: nobody will want what only TLS
 * can use. Overwrites u->buf.
 */
ssize_t user_tls_head(struct user *u, struct user_sock *sock, bool private)
{
	unsigned char type;
	ssize_t n = receive(sock, u->buf, sizeof(u->buf), MSG_PEEK, &type);
	int what;

	if (n < 0 || !type)
		return n;
	if (type == DATA) {
		/* empty ones before one of another type look like the end: there is no byte for this to take but them */
		return n ? n : !receive(sock, u->buf, 1, 0, &type);
	}
	what = meaning(type, u->buf, (size_t)n);
	if (what < 0)
		return what;
	if (!what) {
		sock->tls->closed = true;
		return 0;
	}
	return private ? receive(sock, u->buf, sizeof(u->buf), 0, &type) : -EPROTO;
}

/* Its peer has said that this is the end. */
bool user_tls_closed(const struct user_sock *sock)
{
	return sock->tls && sock->tls->closed;
}

/* Of a source without an error: is there anything, data or not, that can be read? */
bool user_tls_readable(struct user_sock *sock)
{
	unsigned char type, byte;

	return receive(sock, &byte, 1, MSG_PEEK, &type) > 0 || type;
}

/* ---- a sink */

/* It has accepted n bytes, in one call. */
void user_tls_sent(struct user_sock *sock, size_t n)
{
	struct user_tls *tls = sock->tls;

	if (tls->given != UINT64_MAX)
		tls->given += n + (n + tls->most - 1) / tls->most * tls->overhead;
}

/*
 * Has TCP all that the socket has accepted? What TCP had no room for waits in a list of which nobody is told. So it is
 * counted; should the count be wrong, it is all once TCP has nothing left to do, for long.
 */
bool user_tls_settled(struct user_sock *sock)
{
	struct user_tls *tls = sock->tls;
	uint64_t now = sock->user->now;

	if (!tls || (given(sock) >= tls->given && (!tls->unsure || user_sock_poll(sock, POLLOUT))))
		return true;
	if (unacked(sock))
		tls->still = 0;
	else if (!tls->still)
		tls->still = now;
	return tls->still && now - tls->still >= STILL_MS;
}

static ssize_t send_close_notify(struct user_sock *sock)
{
	static const unsigned char alert[] = { WARNING, CLOSE_NOTIFY };
	char control[CMSG_SPACE(1)] __attribute__((aligned(__alignof__(struct cmsghdr)))) = { 0 };
	struct iovec from = { .iov_base = (void *)alert, .iov_len = sizeof(alert) };
	struct msghdr msg = {
		.msg_iov = &from, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_TLS;
	c->cmsg_type = TLS_SET_RECORD_TYPE;
	c->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(c) = ALERT;
	return user_io_sendmsg(sock, &msg);
}

/* Before the FIN. 0: it may follow; -EAGAIN: when there is room; -EINPROGRESS: look again in a while. */
int user_tls_finish(struct user_sock *sock)
{
	ssize_t n;

	if (!sock->tls)
		return 0;
	if (!sock->tls->notified) {
		n = send_close_notify(sock);
		if (n < 0)
			return n == -ENOMEM || n == -ENOBUFS ? -EINPROGRESS : (int)n;
		sock->tls->notified = true;
		user_tls_sent(sock, (size_t)n);
	}
	return user_tls_settled(sock) ? 0 : -EINPROGRESS;
}
