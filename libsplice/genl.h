/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* Private to the library: generic netlink, without knowledge of any family's attributes. */
#ifndef SPL_GENL_H
#define SPL_GENL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>

#define SPL_GENL_BUF		32768	/* the kernel makes no message of a dump larger than this */
#define SPL_GENL_REQUEST	512	/* every request of ours fits, but for bytes of the caller's */

struct spl_genl {
	struct mnl_socket *nl;
	uint32_t seq;			/* of the last request */
	uint16_t family;		/* message type of the family; 0: not resolved */
};

/* Called for each message of the family; its payload holds at least a genlmsghdr. Negative: give up. */
typedef int (*spl_genl_cb)(const struct nlmsghdr *nlh, void *data);

/* What to take from a received datagram, and what was found in it. */
struct spl_genl_walk {
	bool unsolicited;		/* notifications: any sequence number, no end */
	bool dump;			/* any number of answers, until NLMSG_DONE */
	uint32_t seq;			/* of the exchange; others are skipped */
	uint16_t type;			/* message type of the family */
	spl_genl_cb cb;
	void *data;

	bool done;			/* the exchange is over */
	bool interrupted;		/* a dump that saw its table change */
	int error;			/* of the exchange, or of the callback */
	char text[160];			/* the kernel's sentence; empty: none */
};

int spl_genl_open(struct spl_genl *g);
void spl_genl_close(struct spl_genl *g);
int spl_genl_resolve(struct spl_genl *g, const char *name, void *buf, struct spl_genl_walk *w);
struct nlmsghdr *spl_genl_request(void *req, uint16_t type, uint8_t cmd, uint16_t flags);
int spl_genl_transact(struct spl_genl *g, struct nlmsghdr *req, void *buf, struct spl_genl_walk *w);
int spl_genl_receive(struct spl_genl *g, void *buf, size_t *len);
int spl_genl_walk(const void *buf, size_t len, struct spl_genl_walk *w);

/*
 * What is left of a message from attr on. libmnl's own loop rounds the end of the message up,
 * past the end of the buffer when a length is not what it should be.
 */
static inline int spl_genl_left(const struct nlmsghdr *nlh, const struct nlattr *attr)
{
	return (int)((const char *)nlh + nlh->nlmsg_len - (const char *)attr);
}

/* As libmnl's functions, several of which each attribute would have to call. */
static inline bool spl_genl_attr_ok(const struct nlmsghdr *nlh, const struct nlattr *attr)
{
	int left = spl_genl_left(nlh, attr);

	return left >= (int)sizeof(*attr) && attr->nla_len >= sizeof(*attr) && attr->nla_len <= left;
}

static inline const struct nlattr *spl_genl_attr_first(const struct nlmsghdr *nlh)
{
	return (const void *)((const char *)nlh + MNL_NLMSG_HDRLEN + MNL_ALIGN(sizeof(struct genlmsghdr)));
}

static inline const struct nlattr *spl_genl_attr_next(const struct nlattr *attr)
{
	return (const void *)((const char *)attr + MNL_ALIGN(attr->nla_len));
}

#define spl_genl_for_each_attr(attr, nlh)							\
	for ((attr) = spl_genl_attr_first(nlh); spl_genl_attr_ok(nlh, attr); (attr) = spl_genl_attr_next(attr))

#endif /* SPL_GENL_H */
