// SPDX-License-Identifier: GPL-2.0
/* tunpeer.c: packets of a TCP peer made by hand; see tunpeer.h. */
#include "util.h"
#include "tunpeer.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sched.h>
#include <linux/if_tun.h>

#define KERNEL_ADDR	0x0a630001u	/* 10.99.0.1, and .2 is the peer */
#define PEER_ADDR	0x0a630002u

struct header {
	uint8_t version, tos;
	uint16_t total, id, frag;
	uint8_t ttl, protocol;
	uint16_t ip_sum;
	uint32_t from, to;
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t offset, flags;
	uint16_t window, sum, urgent;
};

/* ---- the device */

static int set_flags(int sock, const char *name, short flags)
{
	struct ifreq r = { .ifr_flags = flags };

	snprintf(r.ifr_name, IFNAMSIZ, "%s", name);
	return ioctl(sock, SIOCSIFFLAGS, &r) ? -errno : 0;
}

static int set_address(int sock, const char *name, int request, uint32_t addr)
{
	struct ifreq r = { 0 };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(addr) };

	snprintf(r.ifr_name, IFNAMSIZ, "%s", name);
	memcpy(&r.ifr_addr, &in, sizeof(in));
	return ioctl(sock, request, &r) ? -errno : 0;
}

static int bring_up(const char *name)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;

	if (sock < 0)
		return -errno;
	err = set_flags(sock, "lo", IFF_UP);
	if (!err)
		err = set_address(sock, name, SIOCSIFADDR, KERNEL_ADDR);
	if (!err)
		err = set_address(sock, name, SIOCSIFNETMASK, 0xffffff00u);
	if (!err)
		err = set_flags(sock, name, IFF_UP);
	close(sock);
	return err;
}

static int open_device(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	/* In a guest it is a module, and nothing else asks for it. */
	if (fd < 0 && !system("modprobe -q tun"))
		fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* A device comes into the namespace that its file was opened in. */
int tunpeer_open(struct tunpeer *p)
{
	struct ifreq r = { .ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "peer%d" };
	int err;

	*p = (struct tunpeer){ .fd = -1, .window = 65535, .iss = 1000, .port = 4242 };
	if (unshare(CLONE_NEWNET))
		return -errno;
	p->fd = open_device();
	if (p->fd < 0)
		return p->fd;
	err = ioctl(p->fd, TUNSETIFF, &r) ? -errno : bring_up(r.ifr_name);
	if (err)
		tunpeer_close(p);
	return err;
}

void tunpeer_close(struct tunpeer *p)
{
	close_fd(&p->fd);
}

/* ---- packets */

static uint32_t sum(const void *data, size_t len, uint32_t from)
{
	const uint8_t *b = data;
	size_t i;

	for (i = 0; i < len; i++)
		from += i & 1 ? b[i] : b[i] << 8;
	return from;
}

static uint16_t checksum(uint32_t value)
{
	while (value >> 16)
		value = (value & 0xffff) + (value >> 16);
	return htons(~value & 0xffff);
}

int tunpeer_put(struct tunpeer *p, const struct tunpeer_segment *seg)
{
	uint8_t packet[TUNPEER_MTU];
	struct header h = {
		.version = 0x45, .total = htons(40 + seg->len), .ttl = 64, .protocol = IPPROTO_TCP,
		.from = htonl(PEER_ADDR), .to = htonl(KERNEL_ADDR),
		.sport = htons(p->port), .dport = htons(p->kernel_port),
		.seq = htonl(p->iss + seg->seq), .ack = seg->flags & TUNPEER_ACK ? htonl(p->kernel_iss + seg->ack) : 0,
		.offset = 5 << 4, .flags = seg->flags, .window = htons(seg->window), .urgent = htons(seg->urgent),
	};
	uint32_t pseudo = IPPROTO_TCP + 20 + seg->len;

	if (seg->len > TUNPEER_MSS)
		return -EMSGSIZE;
	h.ip_sum = checksum(sum(&h, 20, 0));
	pseudo = sum(&h.from, 8, pseudo);
	pseudo = sum(&h.sport, 20, pseudo);
	h.sum = checksum(sum(seg->data, seg->len, pseudo));
	memcpy(packet, &h, 40);
	memcpy(packet + 40, seg->data, seg->len);
	return write(p->fd, packet, 40 + seg->len) < 0 ? -errno : 0;
}

int tunpeer_send(struct tunpeer *p, uint32_t seq, uint8_t flags, const void *data, size_t len)
{
	struct tunpeer_segment seg = {
		.seq = seq, .ack = p->heard, .flags = flags, .window = p->window, .len = len,
	};

	if (len > TUNPEER_MSS)
		return -EMSGSIZE;
	if (len)
		memcpy(seg.data, data, len);
	return tunpeer_put(p, &seg);
}

/* false: not a segment of this connection */
static bool parse(struct tunpeer *p, const uint8_t *packet, ssize_t n, struct tunpeer_segment *seg)
{
	size_t offset, total;
	struct header h;

	if (n < 40 || packet[0] != 0x45 || packet[9] != IPPROTO_TCP)
		return false;
	memcpy(&h, packet, 40);
	offset = 20 + (h.offset >> 4) * 4;
	total = ntohs(h.total);
	if (ntohs(h.dport) != p->port || offset > total || total > (size_t)n)
		return false;
	if (h.flags & TUNPEER_SYN) {
		p->kernel_port = ntohs(h.sport);
		p->kernel_iss = ntohl(h.seq) + 1;
	}
	*seg = (struct tunpeer_segment){
		.seq = ntohl(h.seq) - p->kernel_iss, .ack = ntohl(h.ack) - p->iss, .flags = h.flags,
		.window = ntohs(h.window), .urgent = ntohs(h.urgent), .len = total - offset,
	};
	memcpy(seg->data, packet + offset, seg->len);
	if (seg->len && seg->seq == p->heard)
		p->heard += seg->len;
	return true;
}

int tunpeer_get(struct tunpeer *p, struct tunpeer_segment *seg, int ms)
{
	uint64_t until = now_ms() + ms, now;
	uint8_t packet[TUNPEER_MTU];
	int ready;

	for (;;) {
		ssize_t n = read(p->fd, packet, sizeof(packet));

		if (n >= 0 && parse(p, packet, n, seg))
			return 0;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		now = now_ms();
		if (n < 0 && now >= until)
			return -ETIMEDOUT;
		ready = n < 0 ? poll_fd(p->fd, POLLIN, until - now) : 0;
		if (ready < 0)
			return ready;
	}
}

static int await(struct tunpeer *p, struct tunpeer_segment *seg, uint8_t flags)
{
	int err;

	do {
		err = tunpeer_get(p, seg, WAIT_MS);
	} while (!err && (seg->flags & flags) != flags);
	return err;
}

int tunpeer_acked(struct tunpeer *p, uint32_t count)
{
	struct tunpeer_segment seg;
	int err;

	do {
		err = await(p, &seg, TUNPEER_ACK);
	} while (!err && (int32_t)(seg.ack - count) < 0);
	return err;
}

/* ---- connections */

static int listening(struct tunpeer *p)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(KERNEL_ADDR) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&in, len) || listen(fd, 1) || getsockname(fd, (struct sockaddr *)&in, &len)) {
		int err = -errno;

		close(fd);
		return err;
	}
	p->kernel_port = ntohs(in.sin_port);
	return fd;
}

int tunpeer_connect(struct tunpeer *p, int *fd)
{
	int from = listening(p), err;
	struct tunpeer_segment seg;

	if (from < 0)
		return from;
	p->heard = 0;
	p->port++;
	err = tunpeer_send(p, -1, TUNPEER_SYN, NULL, 0);
	if (!err)
		err = await(p, &seg, TUNPEER_SYN | TUNPEER_ACK);
	if (!err)
		err = tunpeer_send(p, 0, TUNPEER_ACK, NULL, 0);
	if (!err) {
		*fd = accept4(from, NULL, NULL, SOCK_CLOEXEC);
		err = *fd < 0 ? -errno : 0;
	}
	close(from);
	return err;
}

int tunpeer_accept(struct tunpeer *p, int *fd)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(PEER_ADDR), .sin_port = htons(++p->port) };
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err;
	struct tunpeer_segment seg;

	if (sock < 0)
		return -errno;
	p->heard = 0;
	err = connect(sock, (struct sockaddr *)&in, sizeof(in)) && errno != EINPROGRESS ? -errno : await(p, &seg, TUNPEER_SYN);
	if (!err)
		err = tunpeer_send(p, -1, TUNPEER_SYN | TUNPEER_ACK, NULL, 0);
	if (!err)
		err = await(p, &seg, TUNPEER_ACK);
	if (!err)
		err = fcntl(sock, F_SETFL, 0) ? -errno : 0;
	if (err)
		close(sock);
	else
		*fd = sock;
	return err;
}
