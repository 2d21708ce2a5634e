// SPDX-License-Identifier: GPL-2.0
/* diag.c: asks the kernel about the other end of a connection of this machine; anybody may. */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

struct question {
	struct nlmsghdr head;
	struct inet_diag_req_v2 req;
};

static struct question question_of(const struct sockaddr_in *end, const struct sockaddr_in *peer)
{
	struct question q = {
		.head = { .nlmsg_len = sizeof(q), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
		.req = { .sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP },
	};

	q.req.id.idiag_sport = end->sin_port;
	q.req.id.idiag_dport = peer->sin_port;
	q.req.id.idiag_src[0] = end->sin_addr.s_addr;
	q.req.id.idiag_dst[0] = peer->sin_addr.s_addr;
	q.req.id.idiag_cookie[0] = q.req.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	return q;
}

/* How many bytes wait in the other end to be read. */
long peer_queue(struct job *job, int fd)
{
	struct { struct nlmsghdr head; struct inet_diag_msg msg; char rest[512]; } answer;
	struct sockaddr_in me, peer;
	socklen_t len = sizeof(me);
	struct question q;
	ssize_t n;
	int diag = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (diag < 0 || getsockname(fd, (struct sockaddr *)&me, &len) || getpeername(fd, (struct sockaddr *)&peer, &len))
		die(job, "sock_diag: %s", strerror(errno));
	q = question_of(&peer, &me);
	n = send(diag, &q, sizeof(q), 0) == sizeof(q) ? recv(diag, &answer, sizeof(answer), 0) : -1;
	close(diag);
	if (n < (ssize_t)(sizeof(answer.head) + sizeof(answer.msg)) || answer.head.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		die(job, "sock_diag does not know the relay's socket");
	return answer.msg.idiag_rqueue;
}
