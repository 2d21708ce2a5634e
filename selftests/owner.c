// SPDX-License-Identifier: GPL-2.0
/* owner.c: splices and the process that began them: it may die, go on, or take them back. */
#include "harness.h"

#define SEED 1
#define BACK 2

FIXTURE(owner) {
	struct spl *s;
	struct relay r;
	struct stream st[4];	/* c to s and s to c, sender and receiver each */
};

FIXTURE_VARIANT(owner) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

KMOD_FEW(owner);
VARIANT(owner, kmod_mixed, .engine = SPL_ENGINE_KMOD, .net = NET_MIXED);
USER_SOCKETS(owner);
USER_LOSSLESS(owner);
USER_TLS(owner);

FIXTURE_SETUP(owner)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	self->st[0] = (struct stream){ .fd = self->r.c, .seed = SEED };
	self->st[1] = (struct stream){ .fd = self->r.s, .seed = SEED, .len = SPL_ALL };
	self->st[2] = (struct stream){ .fd = self->r.s, .seed = BACK };
	self->st[3] = (struct stream){ .fd = self->r.c, .seed = BACK, .len = SPL_ALL };
}

FIXTURE_TEARDOWN(owner)
{
	if (self->s)
		spl_close(self->s);
	relay_close(&self->r);
}

static int streams_start(struct stream st[4], uint64_t there, uint64_t back)
{
	int i, err = 0;

	st[0].len = there;
	st[2].len = back;
	st[0].fin = st[2].fin = true;
	for (i = 0; i < 4 && !err; i++)
		err = i % 2 ? stream_recv(st + i) : stream_send(st + i);
	return err;
}

/* Both streams came whole, each followed by its end. */
static int streams_join(struct stream st[4])
{
	int i, err = 0, now;

	for (i = 0; i < 4; i++) {
		now = stream_join(st + i);
		if (now)
			fprintf(stderr, "# stream %d: %s after %llu bytes\n", i, strerror(-now),
				(unsigned long long)st[i].done);
		err = err ? err : now;
	}
	if (!err && (st[0].done != st[1].done || st[2].done != st[3].done))
		err = -EMSGSIZE;
	return err;
}

/* Begins a pair, and tells; then waits to be killed, or exits. */
static void owner_process(struct relay *r, enum spl_engine engine, int tell, bool stay)
{
	uint64_t token;
	struct spl *s;

	close(r->c);
	close(r->s);
	if (engine_open(&s, engine) || spl_splice_pair(s, r->a, r->b, NULL, &token))
		_exit(1);
	if (write(tell, "x", 1) != 1)
		_exit(2);
	while (stay)
		pause();
	_exit(0);
}

static int owner_begin(struct relay *r, enum spl_engine engine, bool stay, pid_t *pid)
{
	int tell[2], n;
	char byte;

	if (pipe(tell))
		return -errno;
	*pid = fork();
	if (!*pid)
		owner_process(r, engine, tell[1], stay);
	close(tell[1]);
	close_fd(&r->a);
	close_fd(&r->b);
	n = read(tell[0], &byte, 1);
	close(tell[0]);
	return n == 1 ? 0 : -ECHILD;
}

/* kill -9 in the middle of transfers both ways: every byte comes, and both ends. */
NEEDS(owner, killed, SPL_CAP_SURVIVES);
TEST_F_TIMEOUT(owner, killed, 120)
{
	pid_t pid;

	ASSERT_EQ(0, owner_begin(&self->r, variant->engine, true, &pid));
	ASSERT_EQ(0, streams_start(self->st, bulk(variant->net, scaled(30000000)),
				   bulk(variant->net, scaled(20000000))));
	while (self->st[1].done < self->st[0].len / 4 && !self->st[1].err)
		usleep(100);
	kill(pid, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, reap(pid));
	EXPECT_GT(self->st[0].len, self->st[1].done);
	EXPECT_EQ(0, streams_join(self->st));
}

NEEDS(owner, exited, SPL_CAP_SURVIVES);
TEST_F_TIMEOUT(owner, exited, 120)
{
	pid_t pid;

	ASSERT_EQ(0, owner_begin(&self->r, variant->engine, false, &pid));
	EXPECT_EQ(0, reap(pid));
	ASSERT_EQ(0, streams_start(self->st, bulk(variant->net, 3000000),
				   bulk(variant->net, 2000000)));
	EXPECT_EQ(0, streams_join(self->st));
}

/* spl_close() leaves splices running, and their sockets' descriptors are not ours any more. */
NEEDS(owner, closed, SPL_CAP_SURVIVES);
TEST_F_TIMEOUT(owner, closed, 120)
{
	uint64_t token;

	ASSERT_EQ(0, streams_start(self->st, bulk(variant->net, 3000000),
				   bulk(variant->net, 2000000)));
	ASSERT_EQ(0, spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	spl_close(self->s);
	self->s = NULL;
	EXPECT_EQ(0, streams_join(self->st));
}

/* Where splices cannot go on their peers learn that they did not come to their end. */
NEEDS(owner, closed_resets, NEEDS_USER);
TEST_F(owner, closed_resets)
{
	uint64_t token;

	ASSERT_EQ(0, spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, alive(self->r.c, self->r.s));
	spl_close(self->s);
	self->s = NULL;
	EXPECT_EQ(0, at_cut(self->r.c));
	EXPECT_EQ(0, at_cut(self->r.s));
}

/* Copies by hand for a while, both ways. */
static int copy_some(int a, int b, uint64_t *state)
{
	uint64_t until = now_us() + rnd_below(state, 2000);
	int from[2] = { a, b }, to[2] = { b, a }, i;
	static char buf[65536];
	ssize_t n, off, sent;

	for (i = 0; now_us() < until; i = !i) {
		n = recv(from[i], buf, rnd_size(state, sizeof(buf)), MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			return -errno;
		for (off = 0; off < n; off += sent) {
			if (poll_fd(to[i], POLLOUT, WAIT_MS) <= 0)
				return -ETIMEDOUT;
			sent = send(to[i], buf + off, n - off, MSG_DONTWAIT | MSG_NOSIGNAL);
			if (sent < 0 && errno != EAGAIN)
				return -errno;
			sent = sent < 0 ? 0 : sent;
		}
	}
	return 0;
}

/* -EAGAIN: bytes are on their way to a full sink, which somebody is reading. */
static int reclaim(struct spl *s, uint64_t token, int fds[2])
{
	uint64_t until = now_ms() + WAIT_MS;
	int err;

	while ((err = spl_reclaim(s, token, fds)) == -EAGAIN && now_ms() < until)
		usleep(200);
	return err;
}

/* Taken back in mid-stream, used by hand, given away again: no byte is lost. */
TEST_F_TIMEOUT(owner, reclaims, 300)
{
	unsigned int i, rounds = bulk(variant->net, scaled(200));
	uint64_t state = 11, token;
	struct spl_event ev;
	int fds[2] = { self->r.a, self->r.b };
	struct spl_stat st;
	struct spl *s = self->s;

	ASSERT_EQ(0, streams_start(self->st, SPL_ALL, SPL_ALL));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, spl_splice_pair(s, fds[0], fds[1], NULL, &token)) {
			TH_LOG("round %u: %s", i, spl_strerror_last(s));
		}
		usleep(rnd_below(&state, 8000));
		fds[0] = fds[1] = -1;
		ASSERT_EQ(0, reclaim(s, token, fds)) {
			TH_LOG("round %u: %s", i, spl_strerror_last(s));
		}
		ASSERT_TRUE(fd_open(fds[0]) && fd_open(fds[1]) && fds[0] != fds[1]);
		EXPECT_EQ(-ENOENT, spl_stat(s, token, &st));
		ASSERT_EQ(0, event_of(s, token, &ev));
		ASSERT_EQ(SPL_CANCELED, ev.cause);
		ASSERT_EQ(0, copy_some(fds[0], fds[1], &state)) {
			TH_LOG("round %u", i);
		}
		ASSERT_EQ(0, self->st[1].err | self->st[3].err);
	}
	ASSERT_EQ(0, spl_splice_pair(s, fds[0], fds[1], NULL, &token));
	self->r.a = self->r.b = -1;
	self->st[0].stop = self->st[2].stop = true;
	EXPECT_EQ(0, streams_join(self->st));
	EXPECT_LT(0, self->st[1].done);
	EXPECT_LT(0, self->st[3].done);
	ASSERT_EQ(0, event_of(s, token, &ev));
	EXPECT_EQ(SPL_EOF, ev.cause);
	EXPECT_EQ(0, no_event(s));
}

/* The two come back in the order they were given in, also from a one-way splice. */
TEST_F(owner, reclaims_in_order)
{
	uint64_t token;
	struct spl *s = self->s;
	int fds[2], i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, (i ? spl_splice : spl_splice_pair)(s, self->r.a, self->r.b, NULL,
								&token));
		ASSERT_EQ(0, spl_reclaim(s, token, fds));
		self->r.a = fds[0];
		self->r.b = fds[1];
		EXPECT_EQ(-ENOENT, spl_reclaim(s, token, fds));
		EXPECT_EQ(0, alive(self->r.a, self->r.c));
		EXPECT_EQ(0, alive(self->r.b, self->r.s));
	}
}

SUITE_MAIN
