// SPDX-License-Identifier: GPL-2.0
/* nl.c: generic netlink by hand, for what the library never sends. */
#include "nl.h"

#define ANSWER_MS 10000

const struct nlattr *attr_find(const void *attrs, size_t len, uint16_t type)
{
	const char *p = attrs, *end = p + len;
	const struct nlattr *a;

	for (; end - p >= (long)sizeof(*a); p += MNL_ALIGN(a->nla_len)) {
		a = (const void *)p;
		if (a->nla_len < sizeof(*a) || a->nla_len > end - p)
			return NULL;
		if ((a->nla_type & NLA_TYPE_MASK) == type)
			return a;
	}
	return NULL;
}

static int64_t attr_number(const struct nlattr *a)
{
	uint64_t v = 0;

	if (!a)
		return -ENOENT;
	memcpy(&v, mnl_attr_get_payload(a), mnl_attr_get_payload_len(a) < 8 ?
	       mnl_attr_get_payload_len(a) : 8);
	return v;
}

int64_t answer_u64(const struct answer *a, uint16_t type)
{
	return attr_number(attr_find(a->attrs, a->len, type));
}

static void take_text(const struct nlmsghdr *nlh, struct answer *answer)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *text;
	size_t skip = sizeof(*e);

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(nlh->nlmsg_flags & NLM_F_CAPPED))
		skip += e->msg.nlmsg_len - NLMSG_HDRLEN;
	skip = MNL_ALIGN(skip);
	if (skip > mnl_nlmsg_get_payload_len(nlh))
		return;
	text = attr_find((const char *)e + skip, mnl_nlmsg_get_payload_len(nlh) - skip,
			 NLMSGERR_ATTR_MSG);
	if (text)
		snprintf(answer->text, sizeof(answer->text), "%.*s",
			 mnl_attr_get_payload_len(text), (char *)mnl_attr_get_payload(text));
}

/* A dump ends with its error, and since 6.1 perhaps a sentence, behind NLMSG_DONE. */
static void take_done(const struct nlmsghdr *nlh, struct answer *answer)
{
	size_t len = mnl_nlmsg_get_payload_len(nlh);
	const char *p = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *text;

	answer->err = 0;
	if (len < sizeof(int))
		return;
	memcpy(&answer->err, p, sizeof(int));
	answer->err = answer->err < 0 ? answer->err : 0;
	text = attr_find(p + sizeof(int), len - sizeof(int), NLMSGERR_ATTR_MSG);
	if (text && nlh->nlmsg_flags & NLM_F_ACK_TLVS)
		snprintf(answer->text, sizeof(answer->text), "%.*s",
			 mnl_attr_get_payload_len(text), (char *)mnl_attr_get_payload(text));
}

static void take_message(const struct nlmsghdr *nlh, struct answer *answer)
{
	const struct genlmsghdr *g = mnl_nlmsg_get_payload(nlh);
	size_t len = mnl_nlmsg_get_payload_len(nlh);

	if (answer->messages++ || len < sizeof(*g))
		return;
	answer->cmd = g->cmd;
	answer->len = len - sizeof(*g);
	if (answer->len > sizeof(answer->attrs))
		answer->len = sizeof(answer->attrs);
	memcpy(answer->attrs, g + 1, answer->len);
}

int nl_receive(struct nl *nl, void *buf, int ms)
{
	int fd = mnl_socket_get_fd(nl->sock), n;

	n = poll_fd(fd, POLLIN, ms);
	if (n <= 0)
		return n;
	n = recv(fd, buf, NL_BUF, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

/* One datagram; true: the exchange is over. */
static bool take_all(struct nl *nl, const void *buf, int len, struct answer *answer)
{
	const struct nlmsghdr *nlh = buf;

	for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
		if (nlh->nlmsg_seq != nl->seq)
			continue;	/* an event */
		if (nlh->nlmsg_type == NLMSG_DONE) {
			take_done(nlh, answer);
			return true;
		}
		if (nlh->nlmsg_type == NLMSG_ERROR) {
			answer->err = ((struct nlmsgerr *)mnl_nlmsg_get_payload(nlh))->error;
			take_text(nlh, answer);
			return true;
		}
		take_message(nlh, answer);
	}
	return false;
}

void nl_transact(struct nl *nl, const struct nlmsghdr *nlh, struct answer *answer)
{
	static __thread char buf[NL_BUF];
	uint64_t until = now_ms() + ANSWER_MS;
	int n;

	memset(answer, 0, sizeof(*answer));
	if (mnl_socket_sendto(nl->sock, nlh, nlh->nlmsg_len) < 0) {
		answer->err = -errno;
		return;
	}
	while (now_ms() < until) {
		n = nl_receive(nl, buf, 1000);
		if (n > 0 && take_all(nl, buf, n, answer))
			return;
	}
	answer->err = -ETIMEDOUT;
}

struct nlmsghdr *nl_request(struct nl *nl, void *buf, uint8_t cmd, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct genlmsghdr *g;

	nlh->nlmsg_type = nl->family;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nlh->nlmsg_seq = ++nl->seq;
	g = mnl_nlmsg_put_extra_header(nlh, sizeof(*g));
	g->cmd = cmd;
	g->version = SKSPLICE_GENL_VERSION;
	return nlh;
}

static void find_group(struct nl *nl, const struct answer *a)
{
	const struct nlattr *groups = attr_find(a->attrs, a->len, CTRL_ATTR_MCAST_GROUPS), *one;
	const struct nlattr *id, *name;

	if (!groups)
		return;
	mnl_attr_for_each_nested(one, groups) {
		id = attr_find(mnl_attr_get_payload(one), mnl_attr_get_payload_len(one),
			       CTRL_ATTR_MCAST_GRP_ID);
		name = attr_find(mnl_attr_get_payload(one), mnl_attr_get_payload_len(one),
				 CTRL_ATTR_MCAST_GRP_NAME);
		if (id && name && !strcmp(mnl_attr_get_str(name), SKSPLICE_MCGRP_MONITOR))
			nl->monitor = mnl_attr_get_u32(id);
	}
}

static int resolve(struct nl *nl)
{
	char buf[4096] = { 0 };
	struct nlmsghdr *nlh;
	struct answer a;

	nl->family = GENL_ID_CTRL;
	nlh = nl_request(nl, buf, CTRL_CMD_GETFAMILY, NLM_F_ACK);
	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, SKSPLICE_GENL_NAME);
	nl_transact(nl, nlh, &a);
	if (a.err)
		return a.err;
	nl->family = answer_u64(&a, CTRL_ATTR_FAMILY_ID);
	find_group(nl, &a);
	return nl->family ? 0 : -ENOENT;
}

int nl_open(struct nl *nl)
{
	int on = 1, err;

	memset(nl, 0, sizeof(*nl));
	nl->sock = mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	if (!nl->sock)
		return -errno;
	if (mnl_socket_bind(nl->sock, 0, MNL_SOCKET_AUTOPID) ||
	    mnl_socket_setsockopt(nl->sock, NETLINK_EXT_ACK, &on, sizeof(on)) ||
	    mnl_socket_setsockopt(nl->sock, NETLINK_CAP_ACK, &on, sizeof(on)))
		err = -errno;
	else
		err = resolve(nl);
	if (err)
		nl_close(nl);
	return err;
}

void nl_close(struct nl *nl)
{
	if (nl->sock)
		mnl_socket_close(nl->sock);
	nl->sock = NULL;
}

int nl_join_monitor(struct nl *nl)
{
	int group = nl->monitor;

	if (!group)
		return -ENOENT;
	return mnl_socket_setsockopt(nl->sock, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) ?
	       -errno : 0;
}

int nl_owner(struct nl *nl)
{
	char buf[4096];
	struct answer a;
	int64_t owner;

	nl_transact(nl, nl_request(nl, buf, SKSPLICE_CMD_OWNER_NEW, NLM_F_ACK), &a);
	if (a.err)
		return a.err;
	owner = answer_u64(&a, SKSPLICE_A_OWNER);
	nl->owner = owner;
	return owner < 0 ? owner : 0;
}

int64_t stat_now(struct nl *nl, uint16_t type)
{
	const struct nlattr *nest;
	char buf[4096];
	struct answer a;

	nl_transact(nl, nl_request(nl, buf, SKSPLICE_CMD_STATS_GET, NLM_F_ACK), &a);
	if (a.err)
		return a.err;
	nest = attr_find(a.attrs, a.len, SKSPLICE_A_STATS);
	if (!nest)
		return -ENOENT;
	return attr_number(attr_find(mnl_attr_get_payload(nest), mnl_attr_get_payload_len(nest),
				     type));
}
