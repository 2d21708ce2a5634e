/* SPDX-License-Identifier: GPL-2.0 */
/* nl.h: the module's netlink family without the library between. */
#ifndef SELFTESTS_NL_H
#define SELFTESTS_NL_H

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>

#include "sksplice.h"
#include "util.h"

#define NL_BUF 65536

/* What came back for one request. */
struct answer {
	int err;		/* of the exchange: 0, -errno of the kernel, -ETIMEDOUT: none came */
	unsigned int messages;	/* of the family */
	char text[256];		/* the kernel's sentence */
	uint8_t cmd;		/* of the first message, and its attributes */
	size_t len;
	char attrs[4096];
};

struct nl {
	struct mnl_socket *sock;
	uint32_t seq;
	uint16_t family;
	uint32_t monitor;	/* multicast group */
	uint32_t owner;		/* when nl_owner() made it one */
};

int nl_open(struct nl *nl);
void nl_close(struct nl *nl);
int nl_join_monitor(struct nl *nl);
int nl_owner(struct nl *nl);

/* buf: NL_BUF bytes. flags beside NLM_F_REQUEST, which is always set. */
struct nlmsghdr *nl_request(struct nl *nl, void *buf, uint8_t cmd, uint16_t flags);
/* Sends it as it stands and waits for its end. The error is in answer->err. */
void nl_transact(struct nl *nl, const struct nlmsghdr *nlh, struct answer *answer);
/* Takes one datagram into buf; its length, 0 after ms. */
int nl_receive(struct nl *nl, void *buf, int ms);

const struct nlattr *attr_find(const void *attrs, size_t len, uint16_t type);
int64_t answer_u64(const struct answer *a, uint16_t type);	/* -ENOENT: not there */
int64_t stat_now(struct nl *nl, uint16_t type);			/* SKSPLICE_A_STAT_* */

#endif /* SELFTESTS_NL_H */
