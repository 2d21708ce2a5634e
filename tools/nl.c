// SPDX-License-Identifier: GPL-2.0
/* Netlink: finds the family, asks, listens, and checks whatever comes back. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "nl.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK	270
#endif

/*
 * Splits attributes into tb[]; types above max are of a newer kernel and passed over.
 * Either the attributes of a nest or, without one, those of a generic netlink message.
 */
int nl_parse(const struct nlattr *nest, const struct nlmsghdr *nlh, const struct nlattr **tb, uint16_t max)
{
	const char *at, *end;

	memset(tb, 0, (max + 1u) * sizeof(*tb));
	if (nest) {
		at = mnl_attr_get_payload(nest);
		end = at + mnl_attr_get_payload_len(nest);
	} else {
		if (mnl_nlmsg_get_payload_len(nlh) < GENL_HDRLEN)
			return -EBADMSG;
		at = mnl_nlmsg_get_payload_offset(nlh, GENL_HDRLEN);
		/* not mnl_nlmsg_get_payload_tail(): it rounds up, past the message */
		end = (const char *)nlh + nlh->nlmsg_len;
	}
	while (at < end) {
		const struct nlattr *attr = (const struct nlattr *)at;

		if (!mnl_attr_ok(attr, (int)(end - at)))
			return -EBADMSG;
		if (mnl_attr_get_type(attr) <= max)
			tb[mnl_attr_get_type(attr)] = attr;
		at += MNL_ALIGN(attr->nla_len);
	}
	return 0;
}

/* A request in nl->buf, to be filled and given to nl_talk(). */
struct nlmsghdr *nl_request(struct nl *nl, uint8_t cmd, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(nl->buf);
	struct genlmsghdr *genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));

	nlh->nlmsg_type = nl->family;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nlh->nlmsg_seq = ++nl->seq;
	genl->cmd = cmd;
	genl->version = SKSPLICE_GENL_VERSION;
	return nlh;
}

/* One datagram of the kernel's: its length or -errno. What others send is dropped. */
static ssize_t receive(struct nl *nl)
{
	struct sockaddr_nl from;
	socklen_t len;
	ssize_t n;

	do {
		len = sizeof(from);
		n = recvfrom(mnl_socket_get_fd(nl->sock), nl->buf, sizeof(nl->buf), MSG_TRUNC,
			     (struct sockaddr *)&from, &len);
		if (n < 0)
			return -errno;
	} while (len != sizeof(from) || from.nl_pid);
	return (size_t)n > sizeof(nl->buf) ? -EMSGSIZE : n;
}

static void keep_sentence(struct nl *nl, const struct nlattr *attr)
{
	static const char module[] = SKSPLICE_GENL_NAME ": ";
	const char *text;

	if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) < 0)
		return;
	text = mnl_attr_get_str(attr);
	if (!strncmp(text, module, sizeof(module) - 1))
		text += sizeof(module) - 1;
	snprintf(nl->sentence, sizeof(nl->sentence), "%s", text);
}

/* The sentence of an extended acknowledgement lies behind the error code; `skip` bytes of payload come first. */
static void read_sentence(struct nl *nl, const struct nlmsghdr *nlh, size_t skip)
{
	size_t len = mnl_nlmsg_get_payload_len(nlh);
	const char *at = mnl_nlmsg_get_payload(nlh), *end = at + len;

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS) || MNL_ALIGN(skip) > len)
		return;
	for (at += MNL_ALIGN(skip); at < end;) {
		const struct nlattr *attr = (const struct nlattr *)at;

		if (!mnl_attr_ok(attr, (int)(end - at)))
			return;
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG)
			keep_sentence(nl, attr);
		at += MNL_ALIGN(attr->nla_len);
	}
}

/* Error, acknowledgement or end of a dump: what it says, 0 or -errno. */
static int read_verdict(struct nl *nl, const struct nlmsghdr *nlh)
{
	size_t len = mnl_nlmsg_get_payload_len(nlh), skip = sizeof(int);
	int error;

	if (len < sizeof(int))
		return nlh->nlmsg_type == NLMSG_DONE ? 0 : -EBADMSG;
	memcpy(&error, mnl_nlmsg_get_payload(nlh), sizeof(error));
	if (nlh->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

		if (len < sizeof(*e))
			return -EBADMSG;
		skip = sizeof(*e);
		if (!(nlh->nlmsg_flags & NLM_F_CAPPED) && e->msg.nlmsg_len >= sizeof(e->msg))
			skip += e->msg.nlmsg_len - sizeof(e->msg);
	}
	read_sentence(nl, nlh, skip);
	return error > 0 || error < -4095 ? -EBADMSG : error;
}

/* mnl_nlmsg_ok() takes lengths above INT_MAX for good. */
static bool message_ok(const struct nlmsghdr *nlh, int left)
{
	return mnl_nlmsg_ok(nlh, left) && nlh->nlmsg_len <= (uint32_t)left;
}

/* Goes through `n` bytes of messages. 1: more will follow, 0: done, or -errno. */
static int take_messages(struct nl *nl, ssize_t n, nl_msg_fn fn, void *arg)
{
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)nl->buf;
	int left = (int)n, error;

	for (; message_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
		if (nlh->nlmsg_seq != nl->seq)
			continue;
		if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
			nl->interrupted = true;
		if (nlh->nlmsg_type == NLMSG_ERROR || nlh->nlmsg_type == NLMSG_DONE)
			return read_verdict(nl, nlh);
		if (nlh->nlmsg_type < NLMSG_MIN_TYPE || !fn)
			continue;
		error = fn(nlh, arg);
		if (error < 0)
			return error;
	}
	return left > 0 ? -EBADMSG : 1;
}

/* Sends a request and gives each answer to fn, until the kernel has done with it. 0 or -errno. */
int nl_talk(struct nl *nl, struct nlmsghdr *nlh, nl_msg_fn fn, void *arg)
{
	ssize_t n;
	int more = 1;

	nl->sentence[0] = '\0';
	nl->interrupted = false;
	if (mnl_socket_sendto(nl->sock, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	while (more > 0) {
		n = receive(nl);
		if (n == -EINTR)
			continue;
		more = n < 0 ? (int)n : take_messages(nl, n, fn, arg);
	}
	return more;
}

static int read_group(struct nl *nl, const struct nlattr *group)
{
	const struct nlattr *tb[CTRL_ATTR_MCAST_GRP_MAX + 1];
	const struct nlattr *name, *id;

	if (nl_parse(group, NULL, tb, CTRL_ATTR_MCAST_GRP_MAX))
		return -EBADMSG;
	name = tb[CTRL_ATTR_MCAST_GRP_NAME];
	id = tb[CTRL_ATTR_MCAST_GRP_ID];
	if (!name || !id || mnl_attr_validate(name, MNL_TYPE_NUL_STRING) < 0 ||
	    mnl_attr_validate(id, MNL_TYPE_U32) < 0)
		return -EBADMSG;
	if (!strcmp(mnl_attr_get_str(name), SKSPLICE_MCGRP_MONITOR))
		nl->monitor_group = mnl_attr_get_u32(id);
	return 0;
}

static int read_family(const struct nlmsghdr *nlh, void *arg)
{
	const struct nlattr *tb[CTRL_ATTR_MAX + 1];
	const struct nlattr *group;
	struct nl *nl = arg;

	if (nl_parse(NULL, nlh, tb, CTRL_ATTR_MAX) || !tb[CTRL_ATTR_FAMILY_ID] ||
	    mnl_attr_validate(tb[CTRL_ATTR_FAMILY_ID], MNL_TYPE_U16) < 0)
		return -EBADMSG;
	nl->family = mnl_attr_get_u16(tb[CTRL_ATTR_FAMILY_ID]);
	if (!tb[CTRL_ATTR_MCAST_GROUPS])
		return 0;
	if (mnl_attr_validate(tb[CTRL_ATTR_MCAST_GROUPS], MNL_TYPE_NESTED) < 0)
		return -EBADMSG;
	mnl_attr_for_each_nested(group, tb[CTRL_ATTR_MCAST_GROUPS]) {
		if (read_group(nl, group))
			return -EBADMSG;
	}
	return 0;
}

static int find_family(struct nl *nl)
{
	struct nlmsghdr *nlh;
	int error;

	nl->family = GENL_ID_CTRL;
	nlh = nl_request(nl, CTRL_CMD_GETFAMILY, NLM_F_ACK);
	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, SKSPLICE_GENL_NAME);
	error = nl_talk(nl, nlh, read_family, nl);
	if (!error && nl->family == GENL_ID_CTRL)
		return -EBADMSG;
	return error;
}

/* 0 or -errno; -ENOENT: there is no such module. */
int nl_open(struct nl *nl)
{
	int on = 1, fd, error;

	memset(nl, 0, sizeof(*nl));
	nl->seq = (uint32_t)time(NULL);
	nl->sock = mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	if (!nl->sock)
		return -errno;
	fd = mnl_socket_get_fd(nl->sock);
	/* sentences and strictness are old enough for each kernel that the module is built for; without them we do */
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	error = mnl_socket_bind(nl->sock, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : find_family(nl);
	if (error)
		nl_close(nl);
	return error;
}

void nl_close(struct nl *nl)
{
	mnl_socket_close(nl->sock);
	nl->sock = NULL;
}

const char *nl_why(const struct nl *nl, int error)
{
	if (*nl->sentence)
		return nl->sentence;
	if (error == -EPERM)
		return "Operation not permitted (this needs CAP_NET_ADMIN)";
	if (error == -EBADMSG)
		return "the kernel's answer is malformed, or of another version";
	return strerror(-error);
}

/* nl_open() failed because there is no module. */
bool nl_absent(int error)
{
	return error == -ENOENT || error == -EAFNOSUPPORT || error == -EPROTONOSUPPORT;
}

/* Why nl_open() failed, on stderr. What to exit with. */
int nl_say(const struct nl *nl, int error)
{
	if (nl_absent(error)) {
		cli_error("the kernel module sksplice is not loaded; see 'splicectl probe'");
		return CLI_UNAVAILABLE;
	}
	cli_error("netlink: %s", nl_why(nl, error));
	return CLI_FAILED;
}

/* CLI_OK, or what to exit with. */
int nl_open_or_say(struct nl *nl)
{
	int error = nl_open(nl);

	return error ? nl_say(nl, error) : CLI_OK;
}

int nl_monitor_join(struct nl *nl)
{
	int fd = mnl_socket_get_fd(nl->sock), room = 8 << 20;

	nl->sentence[0] = '\0';
	if (!nl->monitor_group)
		return -EOPNOTSUPP;
	/* bursts of operations are what one monitors; the second is for those who may not force */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (mnl_socket_setsockopt(nl->sock, NETLINK_ADD_MEMBERSHIP, &nl->monitor_group, sizeof(nl->monitor_group)))
		return -errno;
	return 0;
}

/* Waits for one datagram of notifications and gives each to fn; -ENOBUFS: some were lost. */
int nl_monitor_read(struct nl *nl, nl_msg_fn fn, void *arg)
{
	ssize_t n = receive(nl);
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)nl->buf;
	int left = (int)n, error = 0;

	if (n < 0)
		return (int)n;
	for (; message_ok(nlh, left) && !error; nlh = mnl_nlmsg_next(nlh, &left))
		if (nlh->nlmsg_type == nl->family)
			error = fn(nlh, arg);
	return error;
}
