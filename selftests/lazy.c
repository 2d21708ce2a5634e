// SPDX-License-Identifier: GPL-2.0
/* lazy.c: pairs whose good end may come late, with others'. Each still has one completion, and its peers wait for nothing. */
#include "harness.h"
#include "nl.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAIRS 80	/* more than one work tears down */
#define BIT(n) (UINT32_C(1) << (n))

FIXTURE(lazy) {
	struct nl nl, other;
	struct relay r[PAIRS];
	uint64_t token[PAIRS];
	unsigned int told[PAIRS];
	struct answer a;
	char buf[NL_BUF];
};

FIXTURE_SETUP(lazy)
{
	ASSERT_EQ(0, nl_open(&self->nl));
	ASSERT_EQ(0, nl_owner(&self->nl));
	ASSERT_EQ(0, nl_open(&self->other));
	for (unsigned int i = 0; i < PAIRS; i++)
		ASSERT_EQ(0, relay_open(self->r + i, NET_V4));
}

FIXTURE_TEARDOWN(lazy)
{
	nl_close(&self->nl);
	nl_close(&self->other);
	for (unsigned int i = 0; i < PAIRS; i++)
		relay_close(self->r + i);
}

static struct nlmsghdr *request(struct nl *nl, void *buf, const struct relay *r, uint32_t kind, uint32_t flags)
{
	struct nlmsghdr *nlh = nl_request(nl, buf, SKSPLICE_CMD_OP_NEW, NLM_F_ACK);

	mnl_attr_put_u32(nlh, SKSPLICE_A_OWNER, nl->owner);
	mnl_attr_put_u32(nlh, SKSPLICE_A_KIND, kind);
	mnl_attr_put_u32(nlh, SKSPLICE_A_FLAGS, flags);
	mnl_attr_put_u32(nlh, SKSPLICE_A_SOURCE_FD, r->a);
	mnl_attr_put_u32(nlh, SKSPLICE_A_SINK_FD, r->b);
	return nlh;
}

#define begin(i, lazy_flag)								\
	do {										\
		struct relay *r_ = self->r + (i);					\
		nl_transact(&self->nl, request(&self->nl, self->buf, r_, SKSPLICE_KIND_PAIR, lazy_flag), &self->a); \
		ASSERT_EQ(0, self->a.err) {						\
			TH_LOG("%s", self->a.text);					\
		}									\
		self->token[i] = answer_u64(&self->a, SKSPLICE_A_TOKEN);		\
		close_fd(&r_->a);							\
		close_fd(&r_->b);							\
	} while (0)

/* One way after the other, so that the pairs end close behind each other. */
static int end_all(struct relay *r, unsigned int n)
{
	int err = 0;

	for (unsigned int i = 0; i < n; i++)
		err |= fin(&r[i].c);
	for (unsigned int i = 0; i < n; i++)
		err |= at_eof(r[i].s);
	for (unsigned int i = 0; i < n; i++)
		err |= fin(&r[i].s);
	return err;
}

/* Notes the completions of one datagram, or of the answer to a dump; how many. causes: a bit for each that may be. */
static int note_any(FIXTURE_DATA(lazy) *self, int len, uint32_t causes)
{
	const struct nlmsghdr *nlh = (const void *)self->buf;
	int n = 0;

	for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
		const struct genlmsghdr *genl = mnl_nlmsg_get_payload(nlh);
		const void *attrs = genl + 1;
		size_t size = mnl_nlmsg_get_payload_len(nlh) - sizeof(*genl);
		const struct nlattr *token, *why;

		if (nlh->nlmsg_type != self->nl.family || genl->cmd != SKSPLICE_CMD_EVENT_NTF)
			continue;
		token = attr_find(attrs, size, SKSPLICE_A_TOKEN);
		why = attr_find(attrs, size, SKSPLICE_A_CAUSE);
		if (!token || !why || !(causes & BIT(mnl_attr_get_u32(why))))
			return -EPROTO;
		for (unsigned int i = 0; i < PAIRS; i++)
			self->told[i] += self->token[i] == mnl_attr_get_u64(token);
		n++;
	}
	return n;
}

static int note(FIXTURE_DATA(lazy) *self, int len, uint32_t cause)
{
	return note_any(self, len, BIT(cause));
}

#define all_told_once(n)								\
	do {										\
		for (unsigned int i_ = 0; i_ < (n); i_++) {				\
			EXPECT_EQ(1, self->told[i_]) {					\
				TH_LOG("pair %u", i_);					\
			}								\
		}									\
		EXPECT_EQ(0, nl_receive(&self->nl, self->buf, QUIET_MS));		\
	} while (0)

/* One datagram tells of several. */
TEST_F(lazy, together)
{
	unsigned int i, n = 0, datagrams = 0;
	int len, got;

	for (i = 0; i < PAIRS; i++)
		begin(i, SKSPLICE_F_LAZY);
	ASSERT_EQ(0, end_all(self->r, PAIRS));
	for (; n < PAIRS; n += got, datagrams++) {
		len = nl_receive(&self->nl, self->buf, WAIT_MS);
		ASSERT_LT(0, len);
		got = note(self, len, SKSPLICE_CAUSE_EOF);
		ASSERT_LT(0, got);
	}
	EXPECT_GT(PAIRS, datagrams);
	all_told_once(PAIRS);
}

/* The others do not wait for them, and have a datagram each. */
TEST_F(lazy, beside_others)
{
	unsigned int i, n = 0;
	int len, got;

	for (i = 0; i < PAIRS; i++)
		begin(i, i % 3 ? 0 : SKSPLICE_F_LAZY);
	ASSERT_EQ(0, end_all(self->r, PAIRS));
	for (; n < PAIRS; n += got) {
		unsigned int before = 0, plain = 0;

		for (i = 0; i < PAIRS; i++)
			before += i % 3 ? self->told[i] : 0;
		len = nl_receive(&self->nl, self->buf, WAIT_MS);
		ASSERT_LT(0, len);
		got = note(self, len, SKSPLICE_CAUSE_EOF);
		for (i = 0; i < PAIRS; i++)
			plain += i % 3 ? self->told[i] : 0;
		if (plain > before)
			EXPECT_EQ(1, got);
		ASSERT_LT(0, got);
	}
	all_told_once(PAIRS);
}

/* Only what ends well waits. */
TEST_F(lazy, failure)
{
	int len;

	begin(0, SKSPLICE_F_LAZY);
	ASSERT_EQ(0, tcp_reset(&self->r[0].c));
	EXPECT_EQ(0, at_reset(self->r[0].s));
	len = nl_receive(&self->nl, self->buf, WAIT_MS);
	ASSERT_LT(0, len);
	EXPECT_EQ(1, note(self, len, SKSPLICE_CAUSE_SOURCE_FAILED));
	all_told_once(1);
}

/* Each says once how it ended, whoever wants it canceled or revoked meanwhile; the last byte may still be under way. */
TEST_F(lazy, canceled_meanwhile)
{
	unsigned int i, n = 0;
	int len, got;

	for (i = 0; i < PAIRS; i++)
		begin(i, SKSPLICE_F_LAZY);
	ASSERT_EQ(0, end_all(self->r, PAIRS));
	for (i = 0; i < PAIRS; i++) {
		struct nlmsghdr *nlh = nl_request(&self->other, self->buf,
						  i % 2 ? SKSPLICE_CMD_OP_CANCEL : SKSPLICE_CMD_OP_REVOKE, NLM_F_ACK);

		mnl_attr_put_u64(nlh, SKSPLICE_A_TOKEN, self->token[i]);
		nl_transact(&self->other, nlh, &self->a);
		ASSERT_TRUE(!self->a.err || self->a.err == -ENOENT || self->a.err == -EALREADY) {
			TH_LOG("%d %s", self->a.err, self->a.text);
		}
	}
	for (; n < PAIRS; n += got) {
		len = nl_receive(&self->nl, self->buf, WAIT_MS);
		ASSERT_LT(0, len);
		got = note_any(self, len, BIT(SKSPLICE_CAUSE_EOF) | BIT(SKSPLICE_CAUSE_CANCELED) | BIT(SKSPLICE_CAUSE_REVOKED));
		ASSERT_LT(0, got);
	}
	all_told_once(PAIRS);
}

/* Their owner is gone before it is told: nothing stays behind, which the end of the guest looks after, too. */
TEST_F(lazy, owner_gone)
{
	int64_t ended = stat_now(&self->other, SKSPLICE_A_STAT_ENDED);
	uint64_t until = now_ms() + WAIT_MS;
	unsigned int i;

	ASSERT_LE(0, ended);
	for (i = 0; i < PAIRS; i++)
		begin(i, SKSPLICE_F_LAZY);
	ASSERT_EQ(0, end_all(self->r, PAIRS));
	nl_close(&self->nl);
	while (stat_now(&self->other, SKSPLICE_A_STAT_ENDED) < ended + PAIRS && now_ms() < until)
		sleep_ms(1);
	EXPECT_EQ(ended + PAIRS, stat_now(&self->other, SKSPLICE_A_STAT_ENDED));
}

/* Nobody reads, and there is no room: what did not get through is handed over by the dump. */
TEST_F(lazy, no_room)
{
	int64_t overruns = stat_now(&self->other, SKSPLICE_A_STAT_OVERRUNS);
	uint64_t until = now_ms() + WAIT_MS;
	unsigned int i, n = 0;
	struct nlmsghdr *nlh;
	int len, got, one = 1;

	ASSERT_EQ(0, setsockopt(mnl_socket_get_fd(self->nl.sock), SOL_SOCKET, SO_RCVBUF, &one, sizeof(one)));
	for (i = 0; i < PAIRS; i++)
		begin(i, SKSPLICE_F_LAZY);
	/* one after the other: a single message always gets through */
	for (i = 0; i < PAIRS; i++) {
		ASSERT_EQ(0, end_all(self->r + i, 1));
		sleep_ms(10);
	}
	while (stat_now(&self->other, SKSPLICE_A_STAT_OVERRUNS) <= overruns && now_ms() < until)
		sleep_ms(1);
	EXPECT_LT(overruns, stat_now(&self->other, SKSPLICE_A_STAT_OVERRUNS));
	nlh = nl_request(&self->nl, self->buf, SKSPLICE_CMD_EVENT_GET, NLM_F_DUMP);
	mnl_attr_put_u32(nlh, SKSPLICE_A_OWNER, self->nl.owner);
	ASSERT_LT(0, mnl_socket_sendto(self->nl.sock, nlh, nlh->nlmsg_len));
	while (n < PAIRS) {
		len = nl_receive(&self->nl, self->buf, WAIT_MS);
		if (len == -ENOBUFS)
			continue;
		ASSERT_LT(0, len);
		got = note(self, len, SKSPLICE_CAUSE_EOF);
		ASSERT_LE(0, got);
		n += got;
	}
	for (i = 0; i < PAIRS; i++)
		EXPECT_EQ(1, self->told[i]);
}

TEST_F(lazy, refused)
{
	static const struct { uint32_t kind, flags; } bad[] = {
		{ SKSPLICE_KIND_FORWARD, SKSPLICE_F_LAZY },
		{ SKSPLICE_KIND_SPLICE, SKSPLICE_F_LAZY },
		{ SKSPLICE_KIND_PAIR, SKSPLICE_F_LAZY | SKSPLICE_F_KEEP },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		nl_transact(&self->nl, request(&self->nl, self->buf, self->r, bad[i].kind, bad[i].flags), &self->a);
		EXPECT_EQ(-EINVAL, self->a.err);
		EXPECT_STREQ("only a pair that closes its sockets may be lazy", self->a.text);
	}
	EXPECT_EQ(0, alive(self->r[0].a, self->r[0].c));
}

/* An idle limit is watched by the work that then tears it down, alone: it is told of once, too. */
TEST_F(lazy, with_idle_limit)
{
	struct nlmsghdr *nlh = request(&self->nl, self->buf, self->r, SKSPLICE_KIND_PAIR, SKSPLICE_F_LAZY);
	int len;

	mnl_attr_put_u32(nlh, SKSPLICE_A_IDLE_MS, 60000);
	nl_transact(&self->nl, nlh, &self->a);
	ASSERT_EQ(0, self->a.err);
	self->token[0] = answer_u64(&self->a, SKSPLICE_A_TOKEN);
	close_fd(&self->r[0].a);
	close_fd(&self->r[0].b);
	ASSERT_EQ(0, end_all(self->r, 1));
	len = nl_receive(&self->nl, self->buf, WAIT_MS);
	ASSERT_LT(0, len);
	EXPECT_EQ(1, note(self, len, SKSPLICE_CAUSE_EOF));
	all_told_once(1);
}

/* A set of epoll that somebody is stuck in, with its mutex: the page that he writes to does not come. */
struct stuck {
	int set, fault, ready;
	void *page;
	pthread_t thread;
};

static void *stuck_wait(void *arg)
{
	struct stuck *st = arg;

	epoll_wait(st->set, st->page, 1, -1);
	return NULL;
}

static int stuck_begin(struct stuck *st, int fd)
{
	struct uffdio_register range = { .range = { .len = 4096 }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	struct epoll_event in = { .events = EPOLLIN };
	struct uffd_msg msg;

	st->set = epoll_create1(EPOLL_CLOEXEC);
	st->ready = eventfd(1, EFD_CLOEXEC);
	st->fault = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	st->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range.start = (uintptr_t)st->page;
	if (st->page == MAP_FAILED || ioctl(st->fault, UFFDIO_API, &api) || ioctl(st->fault, UFFDIO_REGISTER, &range) ||
	    epoll_ctl(st->set, EPOLL_CTL_ADD, fd, &in) || epoll_ctl(st->set, EPOLL_CTL_ADD, st->ready, &in) ||
	    pthread_create(&st->thread, NULL, stuck_wait, st))
		return -1;
	if (poll_fd(st->fault, POLLIN, WAIT_MS) != POLLIN || read(st->fault, &msg, sizeof(msg)) != sizeof(msg))
		return -1;
	return 0;
}

static int stuck_end(struct stuck *st)
{
	struct uffdio_zeropage zero = { .range = { .start = (uintptr_t)st->page, .len = 4096 } };
	int err = ioctl(st->fault, UFFDIO_ZEROPAGE, &zero) || pthread_join(st->thread, NULL);

	munmap(st->page, 4096);
	close_fd(&st->fault);
	close_fd(&st->ready);
	close_fd(&st->set);
	return err;
}

/* To close a socket can take as long as somebody likes; but only its own owner waits. */
TEST_F(lazy, stuck_in_closing)
{
	struct stuck st;
	int len;

	ASSERT_EQ(0, stuck_begin(&st, self->r[0].a));
	begin(0, SKSPLICE_F_LAZY);
	ASSERT_EQ(0, end_all(self->r, 1));
	EXPECT_EQ(0, nl_receive(&self->nl, self->buf, QUIET_MS));

	ASSERT_EQ(0, nl_owner(&self->other));
	nl_transact(&self->other, request(&self->other, self->buf, self->r + 1, SKSPLICE_KIND_PAIR, SKSPLICE_F_LAZY), &self->a);
	ASSERT_EQ(0, self->a.err);
	self->token[1] = answer_u64(&self->a, SKSPLICE_A_TOKEN);
	close_fd(&self->r[1].a);
	close_fd(&self->r[1].b);
	ASSERT_EQ(0, end_all(self->r + 1, 1));
	len = nl_receive(&self->other, self->buf, WAIT_MS);
	EXPECT_LT(0, len);
	EXPECT_EQ(1, note(self, len, SKSPLICE_CAUSE_EOF));
	EXPECT_EQ(1, self->told[1]);

	ASSERT_EQ(0, stuck_end(&st));
	len = nl_receive(&self->nl, self->buf, WAIT_MS);
	EXPECT_LT(0, len);
	EXPECT_EQ(1, note(self, len, SKSPLICE_CAUSE_EOF));
	EXPECT_EQ(1, self->told[0]);
}

SUITE_MAIN
