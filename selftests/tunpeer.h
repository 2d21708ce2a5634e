/* SPDX-License-Identifier: GPL-2.0 */
/*
 * tunpeer.h: a TCP peer made by hand, behind a tun device in a network namespace of the caller's own. It sends what it
 * is told to, as no well-behaved peer would: bytes twice, resets, urgent data, windows of nothing. IPv4, no options.
 *
 * Sequence numbers are positions: 0 is the first byte after the SYN, of either side.
 */
#ifndef SELFTESTS_TUNPEER_H
#define SELFTESTS_TUNPEER_H

#include <stddef.h>
#include <stdint.h>

#define TUNPEER_MTU	1500
#define TUNPEER_MSS	(TUNPEER_MTU - 40)

enum { TUNPEER_FIN = 1, TUNPEER_SYN = 2, TUNPEER_RST = 4, TUNPEER_PSH = 8, TUNPEER_ACK = 16, TUNPEER_URG = 32 };

struct tunpeer {
	int fd;
	uint16_t port, kernel_port;
	uint32_t iss, kernel_iss;	/* the first byte's sequence numbers */
	uint32_t heard;			/* what is acknowledged by default: all that came in order */
	uint16_t window;		/* offered by default */
};

struct tunpeer_segment {
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window, urgent;
	size_t len;
	uint8_t data[TUNPEER_MTU];
};

/* All return 0 or -errno. The calling process goes to a new network namespace, with lo up. */
int tunpeer_open(struct tunpeer *p);
void tunpeer_close(struct tunpeer *p);
int tunpeer_connect(struct tunpeer *p, int *fd);	/* the kernel's side has accepted the peer's connection */
int tunpeer_accept(struct tunpeer *p, int *fd);	/* it has connected to the peer */

int tunpeer_put(struct tunpeer *p, const struct tunpeer_segment *seg);	/* as it is */
int tunpeer_send(struct tunpeer *p, uint32_t seq, uint8_t flags, const void *data, size_t len);
int tunpeer_get(struct tunpeer *p, struct tunpeer_segment *seg, int ms);	/* -ETIMEDOUT: none came */
int tunpeer_acked(struct tunpeer *p, uint32_t count);	/* waits until the kernel has acknowledged so many bytes */

#endif /* SELFTESTS_TUNPEER_H */
