// SPDX-License-Identifier: GPL-2.0
/* sockmap_skb_end.c: how sockets come out of the sockmap again, and which do not get in. */
#include "harness.h"
#include "sockmap_way.h"
#include "../libsplice/sockmap_maps.h"

#include <sys/prctl.h>
#include <bpf/bpf.h>

FIXTURE(sockmap_end) {
	struct relay r;
	struct way up, down;	/* a to b, b to a */
};

FIXTURE_SETUP(sockmap_end)
{
	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
	ASSERT_EQ(0, sockmap_skb_get());
	self->up = (struct way){ .source = self->r.a, .sink = self->r.b };
	self->down = (struct way){ .source = self->r.b, .sink = self->r.a };
}

FIXTURE_TEARDOWN(sockmap_end)
{
	way_free(&self->up);
	way_free(&self->down);
	sockmap_skb_put(false);
	relay_close(&self->r);
}

TEST_F(sockmap_end, removal_with_backlog)
{
	struct stream at_s = { .fd = self->r.s, .seed = SEED, .chunk = 65536 };
	int64_t sent;

	set_opt(self->r.b, SOL_SOCKET, SO_SNDBUF, 20000);
	set_opt(self->r.s, SOL_SOCKET, SO_RCVBUF, 20000);
	ASSERT_EQ(0, way_begin(&self->up));
	ASSERT_LT(0, sent = stuff(self->r.c, SEED));
	sleep_ms(QUIET_MS);
	EXPECT_EQ(-EAGAIN, sockmap_skb_end(self->up.flow, &self->up.st));
	EXPECT_LT(0, self->up.st.backlog);
	EXPECT_EQ(POLLOUT, self->up.st.sink_events);
	at_s.len = way_taken_by(&self->up);
	ASSERT_EQ(0, stream_recv(&at_s));
	EXPECT_EQ(0, way_end(&self->up));
	EXPECT_EQ(0, stream_join(&at_s));
	EXPECT_EQ(at_s.len, self->up.st.bytes);
	EXPECT_EQ(0, take(self->r.a, SEED, at_s.len, sent - at_s.len));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
}

/* From where the stream is, some bytes through the kernel and some past it. */
static int round_amid_traffic(struct way *w, struct relay *r, uint64_t *at, size_t some)
{
	int err = way_begin(w), again;

	if (!err)
		err = way_until_taken(w, some);
	if (!err)
		err = take(r->s, SEED, *at, some);
	if (err)
		return err;
	again = sockmap_skb_end(w->flow, &w->st);
	err = take(r->s, SEED, *at + some, way_taken_by(w) - some);
	if (again != -EAGAIN)
		w->flow = NULL;
	else
		again = way_end(w);
	*at += w->st.bytes;
	if (!err)
		err = take(r->a, SEED, *at, 1000);
	*at += 1000;
	return err ? err : again;
}

/* Beginning and ending while bytes come: none is lost or doubled, whichever way it goes. */
TEST_F(sockmap_end, removal_amid_traffic)
{
	struct stream up = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL, .chunk = 3000 };
	unsigned int i, rounds = scaled(300);
	uint64_t at = 0, state = 5;

	ASSERT_EQ(0, stream_send(&up));
	for (i = 0; i < rounds; i++)
		ASSERT_EQ(0, round_amid_traffic(&self->up, &self->r, &at, 1 + rnd_below(&state, 100000)));
	TH_LOG("%llu bytes", (unsigned long long)at);
	up.stop = true;
	tcp_reset(&self->r.a);
	stream_join(&up);
}

TEST_F(sockmap_end, exactly_n)
{
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 50000));
	ASSERT_EQ(0, way_begin_n(&self->up, 40000));
	way_let_run(&self->up);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 40000));
	way_halt(&self->up);
	EXPECT_EQ(SOCKMAP_DONE, self->up.st.phase);
	EXPECT_EQ(40000, self->up.st.bytes);
	EXPECT_EQ(0, way_end(&self->up));
	EXPECT_EQ(0, take(self->r.a, SEED, 40000, 10000));
	EXPECT_EQ(0, at_quiet(self->r.s));
	/* and once more with the same ends */
	ASSERT_EQ(0, way_begin_n(&self->up, 7));
	way_let_run(&self->up);
	ASSERT_EQ(0, put(self->r.c, SEED, 50000, 8));
	EXPECT_EQ(0, take(self->r.s, SEED, 50000, 7));
	way_halt(&self->up);
	EXPECT_EQ(0, way_end(&self->up));
	EXPECT_EQ(0, take(self->r.a, SEED, 50007, 1));
}

/* So slowly that the sink is never full: until shortly before the limit it is the kernel that moves the bytes. */
TEST_F(sockmap_end, exactly_many)
{
	struct stream up = { .fd = self->r.c, .seed = SEED, .len = 1 << 20, .chunk = 10000, .pause_us = 2000 };
	uint64_t n = up.len - 12345;

	ASSERT_EQ(0, way_begin_n(&self->up, n));
	way_let_run(&self->up);
	ASSERT_EQ(0, stream_send(&up));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, n));
	way_halt(&self->up);
	EXPECT_EQ(SOCKMAP_DONE, self->up.st.phase);
	EXPECT_EQ(0, way_end(&self->up));
	EXPECT_EQ(0, take(self->r.a, SEED, n, 12345));
	EXPECT_EQ(0, stream_join(&up));
}

/* ---- what is refused */

TEST_F(sockmap_end, refused_with_the_way_back)
{
	ASSERT_EQ(0, way_begin(&self->up));
	EXPECT_EQ(-EOPNOTSUPP, way_begin_n(&self->down, 1000));
	ASSERT_EQ(0, way_begin(&self->down));
	EXPECT_EQ(-EBUSY, sockmap_skb_begin(self->r.a, self->r.s, SOCKMAP_ALL, &self->up.flow));
	/* its parser has been, and the socket is still a sink */
	ASSERT_EQ(0, way_end(&self->up));
	EXPECT_EQ(-EOPNOTSUPP, way_begin(&self->up));
	ASSERT_EQ(0, way_end(&self->down));
	EXPECT_EQ(0, way_begin(&self->up));
}

TEST_F(sockmap_end, refused_kinds)
{
	struct sockmap_flow *f;
	struct relay u;

	ASSERT_EQ(0, relay_open(&u, NET_UNIX));
	EXPECT_EQ(-EOPNOTSUPP, sockmap_skb_begin(u.a, self->r.b, SOCKMAP_ALL, &f));
	EXPECT_EQ(-EOPNOTSUPP, sockmap_skb_begin(self->r.a, u.b, SOCKMAP_ALL, &f));
	EXPECT_EQ(-EOPNOTSUPP, sockmap_skb_begin(self->r.a, self->r.a, SOCKMAP_ALL, &f));
	relay_close(&u);
	ASSERT_EQ(0, shutdown(self->r.b, SHUT_WR));
	EXPECT_EQ(-EOPNOTSUPP, way_begin(&self->up));
}

/* ---- a process that is killed */

/* The numbers of its maps, so that they can be looked for. */
static void tell_maps(int fd)
{
	int maps[] = { sockmap_maps.sources, sockmap_maps.targets, sockmap_maps.ends };
	struct bpf_map_info info;
	unsigned int i;

	for (i = 0; i < 3; i++) {
		__u32 len = sizeof(info);

		memset(&info, 0, len);
		bpf_obj_get_info_by_fd(maps[i], &info, &len);
		if (write(fd, &info.id, sizeof(info.id)) < 0)
			_exit(1);
	}
}

static void be_killed(struct relay *r, int tell)
{
	struct way up = { .source = r->a, .sink = r->b }, down = { .source = r->b, .sink = r->a };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_fd(&r->c);
	close_fd(&r->s);
	if (way_begin(&up) || way_begin(&down))
		_exit(1);
	tell_maps(tell);
	way_let_run(&up);
	way_drive(&down);
	pause();
}

static int take_ids(int fd, __u32 *ids, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (read(fd, &ids[i], sizeof(*ids)) != sizeof(*ids))
			return -EIO;
	return 0;
}

static int gone(const __u32 *ids, unsigned int n)
{
	uint64_t until = now_ms() + WAIT_MS;
	unsigned int i = 0;
	int fd;

	while (i < n) {
		fd = bpf_map_get_fd_by_id(ids[i]);
		if (fd < 0)
			i++;
		else
			close(fd);
		if (now_ms() > until)
			return -ETIMEDOUT;
		if (fd >= 0)
			sleep_ms(10);
	}
	return 0;
}

TEST(killed_in_mid_transfer)
{
	struct stream up = { .seed = SEED, .len = SPL_ALL, .chunk = 65536 };
	struct stream at_s = { .seed = SEED, .len = SPL_ALL, .chunk = 65536 };
	struct relay r;
	int tell[2];
	__u32 ids[3];
	pid_t pid;

	ASSERT_EQ(0, relay_open(&r, NET_V4));
	ASSERT_EQ(0, pipe(tell));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (sockmap_skb_get())
			_exit(1);
		be_killed(&r, tell[1]);
	}
	close_fd(&r.a);
	close_fd(&r.b);
	close_fd(&tell[1]);
	ASSERT_EQ(0, take_ids(tell[0], ids, 3));
	up.fd = r.c;
	at_s.fd = r.s;
	ASSERT_EQ(0, stream_send(&up) | stream_recv(&at_s));
	sleep_ms(300);
	kill(pid, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, reap(pid));
	EXPECT_NE(0, stream_join(&up));
	/* the end, or a reset: but no wrong byte */
	EXPECT_NE(-EILSEQ, stream_join(&at_s));
	EXPECT_LT(0, at_s.done);
	EXPECT_EQ(0, gone(ids, 3));
	close_fd(&tell[0]);
	relay_close(&r);
}

SUITE_MAIN
