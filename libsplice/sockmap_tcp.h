/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* sockmap_tcp.h: what the kernel tells about a TCP socket. Functions return 0 or -errno, or a figure. */
#ifndef SPL_SOCKMAP_TCP_H
#define SPL_SOCKMAP_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/tcp.h>
#include <linux/types.h>

#include "../bpf/sockmap.h"

/* As in the kernel's net/tcp_states.h. */
enum { SOCKMAP_TCP_ESTABLISHED = 1, SOCKMAP_TCP_FIN_WAIT1 = 4, SOCKMAP_TCP_FIN_WAIT2 = 5, SOCKMAP_TCP_CLOSE = 7,
       SOCKMAP_TCP_CLOSE_WAIT = 8 };

int sockmap_tcp_info(int fd, struct tcp_info *info);
int sockmap_tcp_written(int fd, uint64_t *count);	/* of any moment: a difference is what counts */
int sockmap_tcp_read(int fd, uint64_t *count);
int sockmap_tcp_consume(int fd, size_t len);
int sockmap_tcp_error(int fd);		/* positive, and the socket has it no more */
bool sockmap_tcp_plain(int fd);		/* TCP, with nothing above it, no listener */
int sockmap_tcp_name(int fd, enum sockmap_half half, struct sockmap_end *end);
bool sockmap_tcp_urgent(int fd);
bool sockmap_tcp_open(unsigned int state);	/* no FIN has come */

#endif /* SPL_SOCKMAP_TCP_H */
