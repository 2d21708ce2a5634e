// SPDX-License-Identifier: GPL-2.0
/*
 * churn.c: operations with all that they may have beside the bytes of a source, ended in any way at any moment. What
 * moves is other tests' concern: here each has its one event, its ends are free after it, and nothing stays behind.
 */
#include "harness.h"

#define SEED 1
#define SLOTS 24

struct slot {
	struct relay r;
	int sink, listening;
	uint64_t token;
	bool splice;
};

FIXTURE(churn) {
	struct spl *s, *next;
	struct slot slot[SLOTS];
	uint8_t bytes[65536];
	uint64_t state;
};

FIXTURE_VARIANT(churn) {
	enum spl_engine engine;
	enum net from, to;	/* the kinds of ends, by chance */
};

VARIANT(churn, kmod_v4, .engine = SPL_ENGINE_KMOD, .from = NET_V4, .to = NET_V4);
VARIANT(churn, kmod_any_unix, .engine = SPL_ENGINE_KMOD, .from = NET_UNIX, .to = NET_UNIX_TO_TCP);
VARIANT(churn, kmod_any_tls, .engine = SPL_ENGINE_KMOD, .from = NET_TLS, .to = NET_TCP_TO_TLS);
VARIANT(churn, sockmap_v4, .engine = SPL_ENGINE_SOCKMAP, .from = NET_V4, .to = NET_V4);
VARIANT(churn, user_v4, .engine = SPL_ENGINE_USER, .from = NET_V4, .to = NET_V4);
VARIANT(churn, user_any_unix, .engine = SPL_ENGINE_USER, .from = NET_UNIX, .to = NET_UNIX_TO_TCP);
VARIANT(churn, user_any_tls, .engine = SPL_ENGINE_USER, .from = NET_TLS, .to = NET_TCP_TO_TLS);

FIXTURE_SETUP(churn)
{
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	pattern_fill(self->bytes, sizeof(self->bytes), SEED, 0);
	self->state = 5;
}

FIXTURE_TEARDOWN(churn)
{
	spl_close(self->s);
}

static unsigned int dice(FIXTURE_DATA(churn) *self, unsigned int n)
{
	return rnd_below(&self->state, n);
}

static size_t some(FIXTURE_DATA(churn) *self)
{
	return dice(self, 3) ? 0 : rnd_size(&self->state, sizeof(self->bytes));
}

/* Sockets, perhaps with bytes on their way, a full sink, or one that is not connected. */
static int slot_open(FIXTURE_DATA(churn) *self, struct slot *p, enum net net)
{
	int err = relay_open(&p->r, net);

	p->listening = -1;
	p->sink = p->r.b;
	if (!err && !dice(self, 25)) {
		p->sink = tcp_connecting(AF_INET, &p->listening);
		err = p->sink < 0 ? p->sink : 0;
	} else if (!err && !dice(self, 5)) {
		stuff(p->r.b, SEED);
	}
	if (!err && dice(self, 2))
		err = put(p->r.c, SEED, 0, rnd_size(&self->state, 50000));
	return err;
}

static void slot_close(struct slot *p)
{
	if (p->sink != p->r.b)
		close_fd(&p->sink);
	close_fd(&p->listening);
	relay_close(&p->r);
}

static int slot_begin(FIXTURE_DATA(churn) *self, struct slot *p)
{
	struct spl_opts opts = {
		.sz = sizeof(opts), .flags = SPL_F_CONNECTING | SPL_F_DRAIN * dice(self, 2),
		.prefix = self->bytes, .prefix_len = some(self),
		.suffix = self->bytes, .suffix_len = some(self), .idle_ms = dice(self, 3) * 20,
	};
	uint64_t n = dice(self, 2) ? SPL_ALL : rnd_size(&self->state, 60000);
	int kind = dice(self, 4), err;

	p->splice = kind >= 2;
	if (p->splice) {
		opts.flags |= SPL_F_KEEP;
		opts.max = n == SPL_ALL ? 0 : n;
	}
	if (kind == 1) {
		opts.flags |= SPL_F_SHUTDOWN * dice(self, 2);
		opts.delim = self->bytes + dice(self, 60000);
		opts.delim_len = dice(self, 17);
	}
	switch (kind) {
	case 0:
		err = spl_send(self->s, p->sink, self->bytes, some(self), &opts, &p->token);
		break;
	case 1:
		err = spl_forward(self->s, p->r.a, p->sink, n, &opts, &p->token);
		break;
	case 2:
		err = spl_splice(self->s, p->r.a, p->sink, &opts, &p->token);
		break;
	default:
		err = spl_splice_pair(self->s, p->r.a, p->sink, &opts, &p->token);
	}
	if (err)
		p->token = 0;
	return err == -EAGAIN ? 0 : err;
}

/* Something happens to it; nothing, often. */
static void slot_disturb(FIXTURE_DATA(churn) *self, struct slot *p)
{
	uint8_t buf[4096];

	switch (dice(self, 12)) {
	case 0:
		tcp_reset(&p->r.c);
		break;
	case 1:
		tcp_reset(&p->r.s);
		break;
	case 2:
		spl_cancel(self->s, p->token);
		break;
	case 3:
		spl_revoke(self->s, p->token, 0);
		break;
	case 4:
		if (p->r.c >= 0)
			shutdown(p->r.c, SHUT_WR);
		break;
	case 5:
		if (p->r.s >= 0)
			shutdown(p->r.s, SHUT_WR);
		break;
	case 6:
		close_fd(&p->listening);
		break;
	case 7:
		if (p->r.c >= 0)
			send(p->r.c, self->bytes, rnd_size(&self->state, 20000), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	default:
		while (p->r.s >= 0 && recv(p->r.s, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			;
	}
}

/* Its event comes; both ends can be used again. */
#define slot_end(p)									\
	do {										\
		struct spl_event ev;							\
		char byte;								\
		spl_cancel(self->s, (p)->token);					\
		ASSERT_EQ(0, event_of(self->s, (p)->token, &ev)) {			\
			TH_LOG("round %u", i);						\
		}									\
		EXPECT_TRUE(recv((p)->r.a, &byte, 1, MSG_DONTWAIT | MSG_PEEK) >= 0 || errno != EBUSY); \
		EXPECT_TRUE(send((p)->sink, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EBUSY); \
	} while (0)

TEST_F_TIMEOUT(churn, everything, 400)
{
	unsigned int i, j, rounds = scaled(variant->from == NET_V4 ? 1500 : bulk(variant->from, 600)), begun_count = 0;

	for (i = 0; i < SLOTS; i++)
		self->slot[i].token = 0;
	for (i = 0; i < rounds; i++) {
		struct slot *p = &self->slot[i % SLOTS];

		if (i >= SLOTS) {
			if (p->token)
				slot_end(p);
			slot_close(p);
		}
		ASSERT_EQ(0, slot_open(self, p, variant->from + dice(self, variant->to - variant->from + 1)));
		ASSERT_EQ(0, slot_begin(self, p)) {
			TH_LOG("round %u: %s", i, spl_strerror_last(self->s));
		}
		begun_count += !!p->token;
		for (j = 0; j < 8; j++)
			slot_disturb(self, &self->slot[dice(self, i < SLOTS ? i + 1 : SLOTS)]);
	}
	for (i = 0; i < SLOTS && i < rounds; i++) {
		if (self->slot[i].token)
			slot_end(&self->slot[i]);
		slot_close(&self->slot[i]);
	}
	EXPECT_LT(rounds / 2, begun_count);
	EXPECT_EQ(0, no_event(self->s));
}

SUITE_MAIN
