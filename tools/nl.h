/* SPDX-License-Identifier: GPL-2.0 */
/* The module's generic netlink family, as an administrator uses it. */
#ifndef NL_H
#define NL_H

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>

#include "../kmod/uapi/sksplice.h"
#include "splicectl.h"

#define NL_BUFFER	65536

/* nl.c */
struct nl {
	struct mnl_socket *sock;
	uint16_t family;
	uint32_t monitor_group;		/* 0: the family has none */
	uint32_t seq;
	bool interrupted;		/* the last dump changed under way */
	char sentence[192];		/* behind the last error; may be empty */
	char buf[NL_BUFFER] __attribute__((aligned(8)));
};
/* Looks at one message of the module; negative: gives up with this errno. */
typedef int (*nl_msg_fn)(const struct nlmsghdr *nlh, void *arg);
int nl_open(struct nl *nl);
int nl_open_or_say(struct nl *nl);
bool nl_absent(int error);
int nl_say(const struct nl *nl, int error);
void nl_close(struct nl *nl);
struct nlmsghdr *nl_request(struct nl *nl, uint8_t cmd, uint16_t flags);
int nl_talk(struct nl *nl, struct nlmsghdr *nlh, nl_msg_fn fn, void *arg);
int nl_monitor_join(struct nl *nl);
int nl_monitor_read(struct nl *nl, nl_msg_fn fn, void *arg);
int nl_parse(const struct nlattr *nest, const struct nlmsghdr *nlh, const struct nlattr **tb, uint16_t max);
const char *nl_why(const struct nl *nl, int error);

/* op.c */
struct op_sock {
	bool seen;
	uint32_t inode;			/* 0: not told */
	struct addr local, remote;
};
struct op {
	uint64_t seen;			/* bit 1 << SKSPLICE_A_* for each attribute that came */
	uint64_t token, limit, user_data, bytes, bytes_back, age_ms, quiet_ms, inlined, worker, missed;
	uint32_t kind, flags, idle_ms, error, cause, ended, unacked, state, state_back, uid, pid;
	struct op_sock source, sink;
	const char *engine, *mode;	/* engine NULL: the module's; mode NULL: it has one only */
	uint64_t pid_ns;		/* that pid is of; 0: not told */
	uint32_t unlisted;		/* not an operation: so many of this process are not in the list */
};
struct op_list {
	struct op *ops;
	size_t n, room;
};
struct op *op_list_add(struct op_list *list);
const char *op_engine(const struct op *op);
#define OP_SEEN(op, attr)	(((op)->seen >> (attr)) & 1)
int op_parse(const struct nlmsghdr *nlh, struct op *op);
void op_print(const struct op *op);
struct json_object *op_json(const struct op *op);
const char *op_kind(uint32_t kind);
const char *op_state(uint32_t state);
const char *op_cause(uint32_t cause);
const char *op_sock_text(const struct op_sock *s, char text[2 * ADDR_TEXT]);

/* listed.c */
int listed_read(struct op_list *list);

#endif /* NL_H */
