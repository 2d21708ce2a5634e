// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * Generic netlink through libmnl. Requests are processed by the kernel inside send(), so that
 * their answers are there to be read when it returns: sockets are non-blocking, and an answer
 * that is not there is an error and never a wait.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "genl.h"

/* So that no datagram of another process is taken; one may have come before. 0 or -errno. */
static int connect_kernel(struct spl_genl *g)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int fd = mnl_socket_get_fd(g->nl);
	char byte;

	if (mnl_socket_bind(g->nl, 0, MNL_SOCKET_AUTOPID) || connect(fd, (struct sockaddr *)&kernel, sizeof(kernel)))
		return -errno;
	while (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
		;
	return 0;
}

int spl_genl_open(struct spl_genl *g)
{
	int on = 1, r;

	memset(g, 0, sizeof(*g));
	g->nl = mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!g->nl)
		return -errno;
	r = connect_kernel(g);
	if (r) {
		spl_genl_close(g);
		return r;
	}
	/* Without these only sentences are missing, or longer answers come: no reason to fail. */
	mnl_socket_setsockopt(g->nl, NETLINK_EXT_ACK, &on, sizeof(on));
	mnl_socket_setsockopt(g->nl, NETLINK_CAP_ACK, &on, sizeof(on));
	mnl_socket_setsockopt(g->nl, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	return 0;
}

void spl_genl_close(struct spl_genl *g)
{
	if (g->nl)
		mnl_socket_close(g->nl);
	g->nl = NULL;
}

/* req: SPL_GENL_REQUEST bytes, aligned for a nlmsghdr. The caller adds the attributes. */
struct nlmsghdr *spl_genl_request(void *req, uint16_t type, uint8_t cmd, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(req);
	struct genlmsghdr *genl;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));
	genl->cmd = cmd;
	genl->version = 1;
	return nlh;
}

/*
 * Receives one datagram of the kernel's. -EAGAIN: nothing is there. -ENOBUFS: the kernel could not
 * deliver something.
 */
int spl_genl_receive(struct spl_genl *g, void *buf, size_t *len)
{
	ssize_t r;

	/* MSG_TRUNC: the length of the message, also of one that does not fit; cheaper than recvmsg() */
	do
		r = recv(mnl_socket_get_fd(g->nl), buf, SPL_GENL_BUF, MSG_DONTWAIT | MSG_TRUNC);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	if (r > SPL_GENL_BUF)
		return -EPROTO;
	*len = (size_t)r;
	return 0;
}

/* The kernel's sentence, at most as long as it fits; text is left alone when there is none. */
static void extack_text(const struct nlattr *attr, const struct nlattr *end, char *text, size_t size)
{
	const char *last = (const char *)end;

	for (; mnl_attr_ok(attr, (int)(last - (const char *)attr)); attr = mnl_attr_next(attr)) {
		size_t len = mnl_attr_get_payload_len(attr);

		if (mnl_attr_get_type(attr) != NLMSGERR_ATTR_MSG)
			continue;
		len = strnlen(mnl_attr_get_payload(attr), len < size ? len : size - 1);
		memcpy(text, mnl_attr_get_payload(attr), len);
		text[len] = '\0';
		return;
	}
}

/* An NLMSG_ERROR, which is also an acknowledgement, or the NLMSG_DONE of a dump. */
static int walk_end(const struct nlmsghdr *nlh, struct spl_genl_walk *w)
{
	size_t payload = mnl_nlmsg_get_payload_len(nlh), skip = sizeof(int);
	const char *at = mnl_nlmsg_get_payload(nlh);
	struct nlmsgerr err;

	w->done = true;
	if (nlh->nlmsg_type == NLMSG_ERROR) {
		if (payload < sizeof(err))
			return -EPROTO;
		memcpy(&err, at, sizeof(err));
		w->error = err.error;
		skip = sizeof(err);
		if (!(nlh->nlmsg_flags & NLM_F_CAPPED) && err.msg.nlmsg_len > sizeof(err.msg))
			skip += err.msg.nlmsg_len - sizeof(err.msg);
	} else if (payload >= sizeof(int)) {
		memcpy(&w->error, at, sizeof(int));
	}
	if (w->error > 0)
		return -EPROTO;
	skip = MNL_ALIGN(skip);
	if ((nlh->nlmsg_flags & NLM_F_ACK_TLVS) && skip < payload)
		extack_text((const void *)(at + skip), (const void *)(at + payload), w->text, sizeof(w->text));
	return w->error;
}

static int walk_one(const struct nlmsghdr *nlh, struct spl_genl_walk *w)
{
	if (!w->unsolicited && nlh->nlmsg_seq != w->seq)
		return 0;	/* left from an exchange that was given up */
	if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
		w->interrupted = true;
	if (nlh->nlmsg_type == NLMSG_ERROR || nlh->nlmsg_type == NLMSG_DONE)
		return w->unsolicited ? 0 : walk_end(nlh, w);
	if (nlh->nlmsg_type != w->type)
		return 0;
	w->done = !w->unsolicited && !w->dump;
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(struct genlmsghdr))
		return -EPROTO;
	return w->cb ? w->cb(nlh, w->data) : 0;
}

/*
 * The message at this place, when all of it is there. libmnl's own check takes a huge length for
 * a negative one.
 */
static const struct nlmsghdr *message_at(const char *at, const char *end)
{
	const struct nlmsghdr *nlh = (const void *)at;
	size_t left = (size_t)(end - at);

	if (left < sizeof(*nlh) || nlh->nlmsg_len < sizeof(*nlh) || nlh->nlmsg_len > left)
		return NULL;
	return nlh;
}

/*
 * Every message of one datagram. Takes any bytes, aligned for a nlmsghdr: nothing in them is
 * trusted. The first error is kept, and the rest is still looked at, for the end of a dump.
 */
int spl_genl_walk(const void *buf, size_t len, struct spl_genl_walk *w)
{
	const char *at = buf, *end = at + len;
	const struct nlmsghdr *nlh;
	size_t size;
	int r;

	while (!w->done && (nlh = message_at(at, end))) {
		r = walk_one(nlh, w);
		if (r < 0 && !w->error)
			w->error = r;
		size = MNL_ALIGN((size_t)nlh->nlmsg_len);
		at += size < (size_t)(end - at) ? size : (size_t)(end - at);
	}
	return w->error;
}

/*
 * Sends a request and passes on everything that answers it. Requests which have an answer are
 * sent without NLM_F_ACK: exactly one message comes back, whether good or bad.
 */
int spl_genl_transact(struct spl_genl *g, struct nlmsghdr *req, void *buf, struct spl_genl_walk *w)
{
	size_t len;
	int r;

	req->nlmsg_seq = ++g->seq;
	w->seq = req->nlmsg_seq;
	w->type = req->nlmsg_type;
	w->dump = (req->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	w->unsolicited = w->done = w->interrupted = false;
	w->error = 0;
	w->text[0] = '\0';
	r = send(mnl_socket_get_fd(g->nl), req, req->nlmsg_len, 0) < 0 ? -errno : 0;
	while (!r && !w->done) {
		r = spl_genl_receive(g, buf, &len);
		if (!r)
			spl_genl_walk(buf, len, w);
	}
	if (r)
		return r == -EAGAIN ? -EPROTO : r;
	return w->error;
}

static int resolve_cb(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attr;
	uint16_t *family = data;

	spl_genl_for_each_attr(attr, nlh) {
		if (mnl_attr_get_type(attr) != CTRL_ATTR_FAMILY_ID)
			continue;
		if (mnl_attr_validate(attr, MNL_TYPE_U16))
			return -EPROTO;
		*family = mnl_attr_get_u16(attr);
	}
	return 0;
}

/* -ENOENT: no such family. The kernel may load a module to find it. */
int spl_genl_resolve(struct spl_genl *g, const char *name, void *buf, struct spl_genl_walk *w)
{
	char req[SPL_GENL_REQUEST] __attribute__((aligned(8))) = "";	/* libmnl leaves padding as it is */
	struct nlmsghdr *nlh = spl_genl_request(req, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0);
	int r;

	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, name);
	w->cb = resolve_cb;
	w->data = &g->family;
	r = spl_genl_transact(g, nlh, buf, w);
	if (!r && g->family < NLMSG_MIN_TYPE)
		return -EPROTO;
	return r;
}
