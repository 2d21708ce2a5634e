// SPDX-License-Identifier: GPL-2.0
/* nl_inserts.c: the shape of prefix, suffix, data and delimiter in requests, which the library never gets wrong. */
#include "harness.h"
#include "nl.h"

#define SEED 1

FIXTURE(inserts) {
	struct nl nl;
	struct relay r;
	struct answer a;
	struct nlmsghdr *nlh;
	char buf[8 * NL_BUF];
	uint8_t bytes[NL_BUF];
};

FIXTURE_SETUP(inserts)
{
	ASSERT_EQ(0, nl_open(&self->nl));
	ASSERT_EQ(0, nl_owner(&self->nl));
	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
	pattern_fill(self->bytes, sizeof(self->bytes), SEED, 0);
}

FIXTURE_TEARDOWN(inserts)
{
	nl_close(&self->nl);
	relay_close(&self->r);
}

#define request(kind)									\
	do {										\
		self->nlh = nl_request(&self->nl, self->buf, SKSPLICE_CMD_OP_NEW, NLM_F_ACK); \
		mnl_attr_put_u32(self->nlh, SKSPLICE_A_OWNER, self->nl.owner);		\
		mnl_attr_put_u32(self->nlh, SKSPLICE_A_KIND, kind);			\
		mnl_attr_put_u32(self->nlh, SKSPLICE_A_SINK_FD, self->r.b);		\
		if ((kind) != SKSPLICE_KIND_SEND)					\
			mnl_attr_put_u32(self->nlh, SKSPLICE_A_SOURCE_FD, self->r.a);	\
	} while (0)

#define bytes_of(attr, at, len)	mnl_attr_put(self->nlh, attr, len, self->bytes + (at))

#define answered(error)									\
	do {										\
		nl_transact(&self->nl, self->nlh, &self->a);				\
		EXPECT_EQ(-(error), self->a.err) {					\
			TH_LOG("%s", self->a.text);					\
		}									\
		EXPECT_EQ(!(error), !self->a.text[0]);					\
	} while (0)

/* However they are cut, they come out as one, and in their own order. */
TEST_F(inserts, pieces)
{
	request(SKSPLICE_KIND_SEND);
	bytes_of(SKSPLICE_A_DATA, 100, 1);
	bytes_of(SKSPLICE_A_PREFIX, 0, 99);
	bytes_of(SKSPLICE_A_DATA, 101, SKSPLICE_PIECE_MAX);
	bytes_of(SKSPLICE_A_PREFIX, 99, 1);
	bytes_of(SKSPLICE_A_DATA, 101 + SKSPLICE_PIECE_MAX, 10);
	answered(0);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 111 + SKSPLICE_PIECE_MAX));
	EXPECT_EQ(0, at_quiet(self->r.s));
}

TEST_F(inserts, lengths)
{
	static const int attrs[] = { SKSPLICE_A_PREFIX, SKSPLICE_A_SUFFIX, SKSPLICE_A_DATA };
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(attrs); i++) {
		request(SKSPLICE_KIND_SEND);
		bytes_of(attrs[i], 0, 0);
		answered(ERANGE);
		request(SKSPLICE_KIND_SEND);
		bytes_of(attrs[i], 0, SKSPLICE_PIECE_MAX + 1);
		answered(ERANGE);
		/* the last one is looked at, and those before it, too */
		request(SKSPLICE_KIND_SEND);
		bytes_of(attrs[i], 0, SKSPLICE_PIECE_MAX + 1);
		bytes_of(attrs[i], 0, 1);
		answered(ERANGE);
		request(SKSPLICE_KIND_SEND);
		for (j = 0; j < SKSPLICE_INSERT_MAX; j += SKSPLICE_PIECE_MAX)
			bytes_of(attrs[i], 0, SKSPLICE_PIECE_MAX);
		bytes_of(attrs[i], 0, 1);
		answered(EINVAL);
	}
	request(SKSPLICE_KIND_FORWARD);
	bytes_of(SKSPLICE_A_DELIM, 0, SKSPLICE_DELIM_MAX + 1);
	answered(ERANGE);
	request(SKSPLICE_KIND_FORWARD);
	bytes_of(SKSPLICE_A_DELIM, 0, 0);
	answered(ERANGE);
	EXPECT_EQ(0, alive(self->r.a, self->r.c));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

TEST_F(inserts, of_another_kind)
{
	request(SKSPLICE_KIND_FORWARD);
	bytes_of(SKSPLICE_A_DATA, 0, 1);
	answered(EINVAL);
	request(SKSPLICE_KIND_SPLICE);
	bytes_of(SKSPLICE_A_DELIM, 0, 1);
	answered(EINVAL);
	request(SKSPLICE_KIND_SEND);
	bytes_of(SKSPLICE_A_DELIM, 0, 1);
	answered(EINVAL);
	request(SKSPLICE_KIND_SEND);
	mnl_attr_put_u32(self->nlh, SKSPLICE_A_SOURCE_FD, self->r.a);
	answered(EINVAL);
	request(SKSPLICE_KIND_SEND);
	mnl_attr_put_u64(self->nlh, SKSPLICE_A_LIMIT, 1);
	answered(EINVAL);
	request(SKSPLICE_KIND_SEND);
	mnl_attr_put_u32(self->nlh, SKSPLICE_A_FLAGS, SKSPLICE_F_KEEP);
	answered(EINVAL);
	request(SKSPLICE_KIND_SEND);
	mnl_attr_put_u32(self->nlh, SKSPLICE_A_FLAGS, SKSPLICE_F_SHUTDOWN);
	answered(EINVAL);
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* What is asked about a sink needs a sink, and takes nothing. */
TEST_F(inserts, writeable)
{
	self->nlh = nl_request(&self->nl, self->buf, SKSPLICE_CMD_WRITEABLE, NLM_F_ACK);
	answered(EINVAL);
	self->nlh = nl_request(&self->nl, self->buf, SKSPLICE_CMD_WRITEABLE, NLM_F_ACK);
	mnl_attr_put_u32(self->nlh, SKSPLICE_A_SINK_FD, self->r.b);
	answered(0);
	ASSERT_LT(0, stuff(self->r.b, SEED));
	nl_transact(&self->nl, self->nlh, &self->a);
	EXPECT_EQ(-EAGAIN, self->a.err);
}

/* The most there can be, also where sockets begin with little room for a request. */
TEST_F(inserts, largest_request)
{
	struct spl_opts opts = {
		.sz = sizeof(opts), .prefix = self->bytes, .prefix_len = SKSPLICE_INSERT_MAX,
		.suffix = self->bytes, .suffix_len = SKSPLICE_INSERT_MAX,
	};
	struct spl_event ev;
	uint64_t token;
	struct spl *s;
	long before;
	int small;

	ASSERT_EQ(0, sysctl_get("net/core/wmem_default", &before));
	for (small = 0; small < 2; small++) {
		ASSERT_EQ(0, sysctl_set("net/core/wmem_default", small ? 16384 : before));
		EXPECT_EQ(0, engine_open(&s, SPL_ENGINE_KMOD));
		EXPECT_EQ(0, sysctl_set("net/core/wmem_default", before));
		ASSERT_EQ(0, spl_send(s, self->r.b, self->bytes, SKSPLICE_INSERT_MAX, &opts, &token)) {
			TH_LOG("%s", spl_strerror_last(s));
		}
		EXPECT_EQ(0, take(self->r.s, SEED, 0, SKSPLICE_INSERT_MAX));
		EXPECT_EQ(0, take(self->r.s, SEED, 0, SKSPLICE_INSERT_MAX));
		EXPECT_EQ(0, take(self->r.s, SEED, 0, SKSPLICE_INSERT_MAX));
		ASSERT_EQ(0, event_of(s, token, &ev));
		EXPECT_EQ(SPL_DONE, ev.cause);
		EXPECT_EQ(SKSPLICE_INSERT_MAX, ev.bytes);
		spl_close(s);
	}
}

SUITE_MAIN
