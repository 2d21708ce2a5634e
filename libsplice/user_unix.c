// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Are two unix sockets the two ends of one connection? Only the kernel knows who the peer of an unnamed one is. */
#include <libmnl/libmnl.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "user.h"

static bool name_of(int fd, bool local, struct sockaddr_un *name, socklen_t *len)
{
	*len = sizeof(*name);
	memset(name, 0, sizeof(*name));
	return !(local ? getsockname(fd, (struct sockaddr *)name, len) : getpeername(fd, (struct sockaddr *)name, len)) &&
	       name->sun_family == AF_UNIX;
}

static bool faces(int a, int b)
{
	struct sockaddr_un local, remote;
	socklen_t x, y;

	return name_of(a, true, &local, &x) && name_of(b, false, &remote, &y) && x == y && !memcmp(&local, &remote, x);
}

static int peer_cb(const struct nlattr *attr, void *data)
{
	uint32_t *peer = data;

	if (mnl_attr_get_type(attr) == UNIX_DIAG_PEER && !mnl_attr_validate(attr, MNL_TYPE_U32))
		*peer = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int answer_cb(const struct nlmsghdr *nlh, void *data)
{
	return mnl_attr_parse(nlh, sizeof(struct unix_diag_msg), peer_cb, data);
}

/* 0: not told. Of a kernel without unix_diag nothing is learnt, and nothing refused. */
static uint32_t ask(struct mnl_socket *nl, ino_t ino)
{
	char buf[1024] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct unix_diag_req *req;
	uint32_t peer = 0;
	ssize_t n;

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	nlh->nlmsg_flags = NLM_F_REQUEST;
	nlh->nlmsg_seq = 1;
	req = mnl_nlmsg_put_extra_header(nlh, sizeof(*req));
	req->sdiag_family = AF_UNIX;
	req->udiag_states = UINT32_MAX;
	req->udiag_ino = (uint32_t)ino;
	req->udiag_show = UDIAG_SHOW_PEER;
	req->udiag_cookie[0] = req->udiag_cookie[1] = UINT32_MAX;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 || mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return 0;
	/* answered within the call that asks: never a wait */
	n = recv(mnl_socket_get_fd(nl), buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		mnl_cb_run(buf, (size_t)n, 1, mnl_socket_get_portid(nl), answer_cb, &peer);
	return peer;
}

bool user_unix_mirror(const struct user_sock *a, const struct user_sock *b)
{
	struct mnl_socket *nl;
	uint32_t peer;

	if (!faces(a->fd, b->fd) || !faces(b->fd, a->fd))
		return false;
	nl = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	if (!nl)
		return false;
	peer = ask(nl, a->ino);
	mnl_socket_close(nl);
	return peer && peer == (uint32_t)b->ino;
}
