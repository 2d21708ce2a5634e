// SPDX-License-Identifier: GPL-2.0
/* netlink_fuzz.c: bad input never crashes the module and always gets an answer. */
#include "harness.h"
#include "nl.h"
#include "util.h"

#include <sys/syscall.h>

FIXTURE(netlink) {
	struct nl nl;
	struct relay r;
	char buf[NL_BUF];
};

FIXTURE_SETUP(netlink)
{
	ASSERT_EQ(0, nl_open(&self->nl));
	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
}

FIXTURE_TEARDOWN(netlink)
{
	nl_close(&self->nl);
	relay_close(&self->r);
}

/* Which attributes a command cannot do without. */
static const struct need {
	uint8_t cmd;
	uint16_t flags;
	uint16_t attrs[4];
} needs[] = {
	{ SKSPLICE_CMD_WRITEABLE, 0, { SKSPLICE_A_SINK_FD } },
	{ SKSPLICE_CMD_OP_NEW, 0,
	  { SKSPLICE_A_KIND, SKSPLICE_A_SOURCE_FD, SKSPLICE_A_SINK_FD, SKSPLICE_A_OWNER } },
	{ SKSPLICE_CMD_OP_GET, 0, { SKSPLICE_A_TOKEN } },
	{ SKSPLICE_CMD_OP_CANCEL, 0, { SKSPLICE_A_TOKEN } },
	{ SKSPLICE_CMD_OP_REVOKE, 0, { SKSPLICE_A_TOKEN } },
	{ SKSPLICE_CMD_OP_RECLAIM, 0, { SKSPLICE_A_TOKEN, SKSPLICE_A_OWNER } },
	{ SKSPLICE_CMD_OP_ADOPT, 0, { SKSPLICE_A_TOKEN, SKSPLICE_A_OWNER } },
	{ SKSPLICE_CMD_EVENT_GET, NLM_F_DUMP, { SKSPLICE_A_OWNER } },
};

static void put_valid(struct nlmsghdr *nlh, uint16_t attr, struct nl *nl, const struct relay *r)
{
	switch (attr) {
	case SKSPLICE_A_KIND:
		mnl_attr_put_u32(nlh, attr, SKSPLICE_KIND_FORWARD);
		break;
	case SKSPLICE_A_SOURCE_FD:
		mnl_attr_put_u32(nlh, attr, r->a);
		break;
	case SKSPLICE_A_SINK_FD:
		mnl_attr_put_u32(nlh, attr, r->b);
		break;
	case SKSPLICE_A_OWNER:
		mnl_attr_put_u32(nlh, attr, nl->owner);
		break;
	case SKSPLICE_A_TOKEN:
		mnl_attr_put_u64(nlh, attr, 0x7777777777ull);
		break;
	}
}

TEST_F(netlink, missing_attributes)
{
	unsigned int i, missing, j;
	struct nlmsghdr *nlh;
	struct answer a;

	ASSERT_EQ(0, nl_owner(&self->nl));
	for (i = 0; i < ARRAY_SIZE(needs); i++) {
		for (missing = 0; missing < 4 && needs[i].attrs[missing]; missing++) {
			nlh = nl_request(&self->nl, self->buf, needs[i].cmd,
					 NLM_F_ACK | needs[i].flags);
			for (j = 0; j < 4 && needs[i].attrs[j]; j++)
				if (j != missing)
					put_valid(nlh, needs[i].attrs[j], &self->nl, &self->r);
			nl_transact(&self->nl, nlh, &a);
			EXPECT_EQ(-EINVAL, a.err) {
				TH_LOG("command %u without attribute %u: %s", needs[i].cmd,
				       needs[i].attrs[missing], a.text);
			}
			EXPECT_LT(0, strlen(a.text)) {
				TH_LOG("command %u without attribute %u: no sentence",
				       needs[i].cmd, needs[i].attrs[missing]);
			}
		}
	}
	EXPECT_EQ(0, alive(self->r.a, self->r.c));
}

/* With all of them it is understood: the test above failed for the reason it says. */
TEST_F(netlink, nothing_missing)
{
	unsigned int i, j;
	struct nlmsghdr *nlh;
	struct answer a;

	ASSERT_EQ(0, nl_owner(&self->nl));
	for (i = 0; i < ARRAY_SIZE(needs); i++) {
		nlh = nl_request(&self->nl, self->buf, needs[i].cmd, NLM_F_ACK | needs[i].flags);
		for (j = 0; j < 4 && needs[i].attrs[j]; j++)
			put_valid(nlh, needs[i].attrs[j], &self->nl, &self->r);
		nl_transact(&self->nl, nlh, &a);
		EXPECT_EQ(needs[i].attrs[0] == SKSPLICE_A_TOKEN ? -ENOENT : 0, a.err) {
			TH_LOG("command %u: %s", needs[i].cmd, a.text);
		}
	}
}

static const uint8_t all_cmds[] = {
	SKSPLICE_CMD_OWNER_NEW, SKSPLICE_CMD_OP_NEW, SKSPLICE_CMD_OP_GET, SKSPLICE_CMD_OP_CANCEL,
	SKSPLICE_CMD_OP_REVOKE, SKSPLICE_CMD_OP_RECLAIM, SKSPLICE_CMD_STATS_GET,
	SKSPLICE_CMD_FLUSH, SKSPLICE_CMD_OP_ADOPT, SKSPLICE_CMD_WRITEABLE,
};

TEST_F(netlink, unknown_attribute)
{
	unsigned int i;
	struct nlmsghdr *nlh;
	struct answer a;

	for (i = 0; i < ARRAY_SIZE(all_cmds); i++) {
		nlh = nl_request(&self->nl, self->buf, all_cmds[i], NLM_F_ACK);
		mnl_attr_put_u32(nlh, SKSPLICE_A_MAX + 1 + i, 1);
		nl_transact(&self->nl, nlh, &a);
		EXPECT_EQ(-EINVAL, a.err) {
			TH_LOG("command %u", all_cmds[i]);
		}
		EXPECT_LT(0, strlen(a.text));
	}
}

/* Known, but not this command's. */
TEST_F(netlink, foreign_attribute)
{
	struct nlmsghdr *nlh;
	struct answer a;

	nlh = nl_request(&self->nl, self->buf, SKSPLICE_CMD_OP_CANCEL, NLM_F_ACK);
	mnl_attr_put_u64(nlh, SKSPLICE_A_TOKEN, 1);
	mnl_attr_put_u32(nlh, SKSPLICE_A_SOURCE_FD, self->r.a);
	nl_transact(&self->nl, nlh, &a);
	EXPECT_EQ(-EINVAL, a.err);
	EXPECT_LT(0, strlen(a.text));
}

TEST_F(netlink, wrong_sizes)
{
	static const uint16_t sizes[] = { 0, 1, 2, 3, 5, 7, 9, 16, 1000 };
	char bytes[1000] = { 0 };
	struct nlmsghdr *nlh;
	struct answer a;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		nlh = nl_request(&self->nl, self->buf, SKSPLICE_CMD_OP_CANCEL, NLM_F_ACK);
		mnl_attr_put(nlh, SKSPLICE_A_TOKEN, sizes[i], bytes);
		nl_transact(&self->nl, nlh, &a);
		EXPECT_TRUE(a.err == -ERANGE || a.err == -EINVAL) {
			TH_LOG("%u bytes: %d", sizes[i], a.err);
		}
		EXPECT_LT(0, strlen(a.text));
	}
}

TEST_F(netlink, unknown_command)
{
	struct answer a;
	unsigned int cmd;

	for (cmd = SKSPLICE_CMD_MAX + 1; cmd < 256; cmd += 17) {
		nl_transact(&self->nl, nl_request(&self->nl, self->buf, cmd, NLM_F_ACK), &a);
		EXPECT_EQ(-EOPNOTSUPP, a.err);
	}
	nl_transact(&self->nl, nl_request(&self->nl, self->buf, 0, NLM_F_ACK), &a);
	EXPECT_EQ(-EOPNOTSUPP, a.err);
}

/* What only the kernel sends. */
TEST_F(netlink, notifications_are_no_commands)
{
	struct answer a;

	nl_transact(&self->nl, nl_request(&self->nl, self->buf, SKSPLICE_CMD_START_NTF,
					  NLM_F_ACK), &a);
	EXPECT_EQ(-EOPNOTSUPP, a.err);
	nl_transact(&self->nl, nl_request(&self->nl, self->buf, SKSPLICE_CMD_EVENT_NTF,
					  NLM_F_ACK), &a);
	EXPECT_EQ(-EOPNOTSUPP, a.err);
}

TEST_F(netlink, out_of_range)
{
	static const struct { uint16_t attr; uint32_t value; } bad[] = {
		{ SKSPLICE_A_KIND, 0 }, { SKSPLICE_A_KIND, SKSPLICE_KIND_MAX + 1 },
		{ SKSPLICE_A_KIND, ~0u }, { SKSPLICE_A_FLAGS, 1u << 31 },
	};
	struct nlmsghdr *nlh;
	struct answer a;
	unsigned int i;

	ASSERT_EQ(0, nl_owner(&self->nl));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		nlh = nl_request(&self->nl, self->buf, SKSPLICE_CMD_OP_NEW, NLM_F_ACK);
		put_valid(nlh, SKSPLICE_A_OWNER, &self->nl, &self->r);
		put_valid(nlh, SKSPLICE_A_SOURCE_FD, &self->nl, &self->r);
		put_valid(nlh, SKSPLICE_A_SINK_FD, &self->nl, &self->r);
		if (bad[i].attr != SKSPLICE_A_KIND)
			put_valid(nlh, SKSPLICE_A_KIND, &self->nl, &self->r);
		mnl_attr_put_u32(nlh, bad[i].attr, bad[i].value);
		nl_transact(&self->nl, nlh, &a);
		EXPECT_TRUE(a.err == -ERANGE || a.err == -EINVAL) {
			TH_LOG("attribute %u value %u: %d", bad[i].attr, bad[i].value, a.err);
		}
		EXPECT_LT(0, strlen(a.text));
	}
	EXPECT_EQ(0, alive(self->r.a, self->r.c));
}

static void put_forward(struct nlmsghdr *nlh, struct nl *nl, const struct relay *r)
{
	put_valid(nlh, SKSPLICE_A_KIND, nl, r);
	put_valid(nlh, SKSPLICE_A_SOURCE_FD, nl, r);
	put_valid(nlh, SKSPLICE_A_SINK_FD, nl, r);
	put_valid(nlh, SKSPLICE_A_OWNER, nl, r);
}

static int refused_with_text(const struct answer *a)
{
	return a->err < 0 && *a->text;
}

/* As nobody: what another user's owner and operation are good for. A bit for each that works. */
static int nobody_tries(const struct relay *r, uint32_t owner, uint64_t token)
{
	static const uint8_t cmds[] = { SKSPLICE_CMD_OP_CANCEL, SKSPLICE_CMD_OP_REVOKE,
					SKSPLICE_CMD_OP_RECLAIM, SKSPLICE_CMD_OP_ADOPT };
	static char buf[NL_BUF];
	struct nlmsghdr *nlh;
	int works = 0, i, with;
	struct answer a;
	struct nl nl;

	if (drop_privileges() || nl_open(&nl))
		return 200;
	nl.owner = owner;
	nlh = nl_request(&nl, buf, SKSPLICE_CMD_EVENT_GET, NLM_F_ACK | NLM_F_DUMP);
	put_valid(nlh, SKSPLICE_A_OWNER, &nl, r);
	nl_transact(&nl, nlh, &a);
	works |= refused_with_text(&a) ? 0 : 1;
	nlh = nl_request(&nl, buf, SKSPLICE_CMD_OP_NEW, NLM_F_ACK);
	put_forward(nlh, &nl, r);
	nl_transact(&nl, nlh, &a);
	works |= refused_with_text(&a) ? 0 : 2;
	for (i = 0; i < 8; i++) {
		with = i / 4;
		nlh = nl_request(&nl, buf, cmds[i % 4], NLM_F_ACK);
		mnl_attr_put_u64(nlh, SKSPLICE_A_TOKEN, token);
		if (with)
			put_valid(nlh, SKSPLICE_A_OWNER, &nl, r);
		nl_transact(&nl, nlh, &a);
		works |= refused_with_text(&a) ? 0 : 4 << (i % 4);
	}
	nlh = nl_request(&nl, buf, SKSPLICE_CMD_FLUSH, NLM_F_ACK);
	nl_transact(&nl, nlh, &a);
	return works | (a.err == -EPERM ? 0 : 64);
}

#define UNPRIVILEGED "net/sksplice/unprivileged"

/* Whatever nobody is allowed, it is not allowed with what is root's. */
TEST_F(netlink, of_another_user)
{
	struct answer a;
	struct nlmsghdr *nlh;
	uint64_t token;
	long before;
	int allowed;
	pid_t pid;

	ASSERT_EQ(0, sysctl_get(UNPRIVILEGED, &before));
	ASSERT_EQ(0, nl_owner(&self->nl));
	nlh = nl_request(&self->nl, self->buf, SKSPLICE_CMD_OP_NEW, NLM_F_ACK);
	put_forward(nlh, &self->nl, &self->r);
	nl_transact(&self->nl, nlh, &a);
	ASSERT_EQ(0, a.err);
	token = answer_u64(&a, SKSPLICE_A_TOKEN);
	for (allowed = 0; allowed < 2; allowed++) {
		ASSERT_EQ(0, sysctl_set(UNPRIVILEGED, allowed));
		pid = fork();
		if (!pid)
			_exit(nobody_tries(&self->r, self->nl.owner, token));
		EXPECT_EQ(0, reap(pid)) {
			TH_LOG("unprivileged=%d", allowed);
		}
	}
	EXPECT_EQ(0, sysctl_set(UNPRIVILEGED, before));
	/* it has not suffered */
	EXPECT_EQ(0, put(self->r.c, 1, 0, 100));
	EXPECT_EQ(0, take(self->r.s, 1, 0, 100));
}

struct fuzz {
	struct nl nl;
	struct relay r;
	uint64_t state, token;	/* token: the last one given */
	char buf[NL_BUF];
};

/* A value that means something more often than chance has it. */
static uint64_t fuzz_value(struct fuzz *f)
{
	const int fds[] = { f->r.a, f->r.b, f->r.c, f->r.s, 0, -1 };

	switch (rnd_below(&f->state, 8)) {
	case 0:
	case 1:
		return fds[rnd_below(&f->state, 6)];
	case 2:
		return f->token;
	case 3:
	case 4:
		return rnd_below(&f->state, 40);
	case 5:
		return f->nl.owner;
	case 6:
		return 0x7fffffffffffffffull >> rnd_below(&f->state, 64);
	default:
		return rnd(&f->state);
	}
}

/* One attribute at p, where room bytes are left; its padded length. */
static size_t fuzz_attr(struct fuzz *f, char *p, size_t room, unsigned int depth)
{
	uint64_t *state = &f->state, value = fuzz_value(f);
	struct nlattr *a = (void *)p;
	size_t len, at = NLA_HDRLEN;

	if (room < 64)
		return 0;
	a->nla_type = rnd_below(state, 10) ? rnd_below(state, SKSPLICE_A_MAX + 3) : rnd(state);
	if (!rnd_below(state, 8))
		a->nla_type |= rnd_below(state, 2) ? NLA_F_NESTED : NLA_F_NET_BYTEORDER;
	switch (rnd_below(state, 8)) {
	case 0:		/* nested, up to deep */
		for (len = 1 + rnd_below(state, 5); len && depth < 30; len--)
			at += fuzz_attr(f, p + at, room - at - 16, depth + 1);
		break;
	case 1:		/* anything */
		for (len = rnd_below(state, room < 316 ? room - 16 : 300); len; len--)
			p[at++] = rnd(state);
		break;
	default:	/* the right size, mostly */
		len = rnd_below(state, 6) ? 4 << rnd_below(state, 2) : rnd_below(state, 9);
		memcpy(p + at, &value, 8);
		at += len;
	}
	a->nla_len = rnd_below(state, 40) ? at : rnd(state);	/* now and then a lie */
	return NLA_ALIGN(at);
}

/* Bytes of the operation's own, in pieces. */
static void fuzz_inserts(struct fuzz *f, struct nlmsghdr *nlh, uint32_t kind)
{
	static const uint16_t attrs[] = { SKSPLICE_A_PREFIX, SKSPLICE_A_SUFFIX, SKSPLICE_A_DATA };
	static const char bytes[1000] = "";
	unsigned int i, pieces;

	for (i = 0; i < (kind == SKSPLICE_KIND_SEND ? 3 : 2); i++)
		for (pieces = rnd_below(&f->state, 3); pieces; pieces--)
			mnl_attr_put(nlh, attrs[i], 1 + rnd_below(&f->state, sizeof(bytes)), bytes);
	if (kind == SKSPLICE_KIND_FORWARD && rnd_below(&f->state, 2))
		mnl_attr_put(nlh, SKSPLICE_A_DELIM, 1 + rnd_below(&f->state, SKSPLICE_DELIM_MAX), bytes);
}

/* What makes OP_NEW do something, so that there is something to disturb. */
static void fuzz_op(struct fuzz *f, struct nlmsghdr *nlh)
{
	uint64_t *state = &f->state;
	uint32_t kind = 1 + rnd_below(state, SKSPLICE_KIND_MAX);

	mnl_attr_put_u32(nlh, SKSPLICE_A_KIND, kind);
	mnl_attr_put_u32(nlh, SKSPLICE_A_OWNER, f->nl.owner);
	if (kind != SKSPLICE_KIND_SEND)
		mnl_attr_put_u32(nlh, SKSPLICE_A_SOURCE_FD, rnd_below(state, 2) ? f->r.a : f->r.s);
	mnl_attr_put_u32(nlh, SKSPLICE_A_SINK_FD, rnd_below(state, 2) ? f->r.b : f->r.c);
	mnl_attr_put_u32(nlh, SKSPLICE_A_FLAGS, SKSPLICE_F_KEEP * rnd_below(state, 2) |
			 SKSPLICE_F_DRAIN * rnd_below(state, 2) | SKSPLICE_F_CONNECTING * rnd_below(state, 2));
	if (rnd_below(state, 2))
		fuzz_inserts(f, nlh, kind);
}

static uint8_t fuzz_cmd(struct fuzz *f)
{
	uint8_t cmd = rnd_below(&f->state, SKSPLICE_CMD_MAX + 1);

	if (!rnd_below(&f->state, 12))
		return rnd(&f->state);
	/* it resets our sockets: not too often */
	if (cmd == SKSPLICE_CMD_FLUSH && rnd_below(&f->state, 20))
		cmd = SKSPLICE_CMD_OP_NEW;
	return cmd;
}

static struct nlmsghdr *fuzz_message(struct fuzz *f)
{
	static const uint16_t flags[] = { 0, 0, 0, 0, NLM_F_DUMP, NLM_F_ROOT, NLM_F_ECHO, 0x5000 };
	uint8_t cmd = fuzz_cmd(f);
	struct nlmsghdr *nlh = nl_request(&f->nl, f->buf, cmd,
					  NLM_F_ACK | flags[rnd_below(&f->state, 8)]);
	unsigned int n = rnd_below(&f->state, 8);
	size_t at;

	if (cmd == SKSPLICE_CMD_OP_NEW && rnd_below(&f->state, 3)) {
		fuzz_op(f, nlh);
		n = rnd_below(&f->state, 2) ? 0 : n;
	}
	for (at = nlh->nlmsg_len; n--; )
		at += fuzz_attr(f, f->buf + at, 16000 - at, 0);
	nlh->nlmsg_len = at;
	if (!rnd_below(&f->state, 15))	/* cut off anywhere */
		nlh->nlmsg_len = NLMSG_HDRLEN + rnd_below(&f->state, at - NLMSG_HDRLEN);
	if (!rnd_below(&f->state, 50))	/* oversized */
		nlh->nlmsg_len = 16000 + rnd_below(&f->state, 40000);
	return nlh;
}

/* Fresh sockets, a fresh owner; and what RECLAIM has put into our table goes. */
static int fuzz_renew(struct fuzz *f, bool first)
{
	int err;

	if (!first) {
		nl_close(&f->nl);
		relay_close(&f->r);
		syscall(SYS_close_range, 3, ~0u, 0);
	}
	err = relay_open(&f->r, NET_V4);
	err = err ? err : nl_open(&f->nl);
	return err ? err : nl_owner(&f->nl);
}

/* Every message that is one for netlink gets its answer. */
TEST_F_TIMEOUT(netlink, random_messages, 400)
{
	static struct fuzz f;
	const char *text = getenv("SPL_TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
	unsigned int i, good = 0, rounds = scaled(20000);
	struct answer a;

	TH_LOG("SPL_TEST_SEED=%llu", (unsigned long long)seed);
	f.state = seed;
	for (i = 0; i < rounds; i++) {
		if (i % 200 == 0)
			ASSERT_EQ(0, fuzz_renew(&f, !i)) {
				TH_LOG("message %u", i);
			}
		nl_transact(&f.nl, fuzz_message(&f), &a);
		ASSERT_NE(-ETIMEDOUT, a.err) {
			TH_LOG("message %u: no answer", i);
		}
		good += !a.err;
		if (!a.err && answer_u64(&a, SKSPLICE_A_TOKEN) > 0)
			f.token = answer_u64(&a, SKSPLICE_A_TOKEN);
	}
	TH_LOG("%u of %u did something", good, rounds);
	EXPECT_LT(0, good);
	EXPECT_GT(rounds, good);
	EXPECT_LE(0, stat_now(&f.nl, SKSPLICE_A_STAT_OPS));
	/* and it still works for others */
	self->r.a = self->r.b = self->r.c = self->r.s = -1;
	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
	ASSERT_EQ(0, nl_open(&self->nl));
}

/* Lengths that lie: no answer is due, no harm may come. */
TEST_F_TIMEOUT(netlink, broken_framing, 120)
{
	unsigned int i, rounds = scaled(3000);
	uint64_t state = 2;
	struct nlmsghdr *nlh;

	for (i = 0; i < rounds; i++) {
		nlh = nl_request(&self->nl, self->buf, rnd_below(&state, SKSPLICE_CMD_MAX + 1), 0);
		memset(nlh + 1, rnd(&state), 200);
		nlh->nlmsg_len = rnd_below(&state, 2) ? rnd_below(&state, 30) : rnd(&state);
		if (sendto(mnl_socket_get_fd(self->nl.sock), nlh, rnd_below(&state, 220), 0,
			   NULL, 0) < 0)
			ASSERT_NE(ENOMEM, errno);
		if (i % 100 == 0)
			while (nl_receive(&self->nl, self->buf, 0) > 0)
				;
	}
	while (nl_receive(&self->nl, self->buf, 10) > 0)
		;
	EXPECT_LE(0, stat_now(&self->nl, SKSPLICE_A_STAT_OPS));
}

SUITE_MAIN
