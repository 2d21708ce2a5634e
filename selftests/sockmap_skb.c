// SPDX-License-Identifier: GPL-2.0
/* sockmap_skb.c: streams that a sockmap redirects: that they come as they are, to slow sinks too, and end as they ended. */
#include "harness.h"
#include "sockmap_way.h"
#include "../libsplice/sockmap_maps.h"

#define BULK (8u << 20)

FIXTURE(sockmap_skb) {
	struct relay r;
	struct way up, down;	/* a to b, b to a */
};

FIXTURE_SETUP(sockmap_skb)
{
	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
	ASSERT_EQ(0, sockmap_skb_get());
	self->up = (struct way){ .source = self->r.a, .sink = self->r.b };
	self->down = (struct way){ .source = self->r.b, .sink = self->r.a };
}

FIXTURE_TEARDOWN(sockmap_skb)
{
	way_free(&self->up);
	way_free(&self->down);
	sockmap_skb_put(false);
	relay_close(&self->r);
}

/* ---- streams */

TEST_F(sockmap_skb, both_ways)
{
	struct stream up = { .fd = self->r.c, .seed = SEED, .len = BULK, .chunk = 65536, .fin = true };
	struct stream down = { .fd = self->r.s, .seed = BACK, .len = BULK, .chunk = 3000, .fin = true };
	struct stream at_s = { .fd = self->r.s, .seed = SEED, .len = SPL_ALL, .chunk = 65536 };
	struct stream at_c = { .fd = self->r.c, .seed = BACK, .len = SPL_ALL, .chunk = 65536 };

	ASSERT_EQ(0, way_begin(&self->up));
	ASSERT_EQ(0, way_begin(&self->down));
	way_let_run(&self->up);
	way_let_run(&self->down);
	ASSERT_EQ(0, stream_send(&up) | stream_send(&down) | stream_recv(&at_s) | stream_recv(&at_c));
	EXPECT_EQ(0, stream_join(&up));
	EXPECT_EQ(0, stream_join(&down));
	EXPECT_EQ(0, stream_join(&at_s));
	EXPECT_EQ(0, stream_join(&at_c));
	EXPECT_EQ(BULK, at_s.done);
	EXPECT_EQ(BULK, at_c.done);
	way_halt(&self->up);
	way_halt(&self->down);
	EXPECT_EQ(SOCKMAP_EOF, self->up.st.phase);
	EXPECT_EQ(BULK, self->up.st.bytes);
	EXPECT_EQ(BULK, self->down.st.bytes);
	EXPECT_EQ(0, way_end(&self->up));
	EXPECT_EQ(0, way_end(&self->down));
}

/* Nobody drives: what the kernel moves it moves by itself. */
TEST_F(sockmap_skb, early_bytes_go_first)
{
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10000));
	ASSERT_EQ(0, wait_queued(self->r.a, 10000));
	ASSERT_EQ(0, way_begin(&self->up));
	ASSERT_EQ(0, put(self->r.c, SEED, 10000, 5));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10005));
	EXPECT_EQ(0, way_end(&self->up));
	EXPECT_EQ(10005, self->up.st.bytes);
}

/* A message that is longer than the receive buffer would end a parser. */
TEST_F(sockmap_skb, early_bytes_beyond_the_receive_buffer)
{
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 60000));
	ASSERT_EQ(0, wait_queued(self->r.a, 60000));
	ASSERT_EQ(0, set_opt(self->r.a, SOL_SOCKET, SO_RCVBUF, 1));
	ASSERT_EQ(0, way_begin(&self->up));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 60000));
	sockmap_skb_run(self->up.flow, &self->up.st);
	EXPECT_EQ(SOCKMAP_MOVING, self->up.st.phase);
	EXPECT_EQ(0, way_end(&self->up));
}

/* ---- a slow sink */

static void buffers(const struct relay *r, int size)
{
	const int fds[] = { r->c, r->a, r->b, r->s };
	int i;

	for (i = 0; i < 4; i++) {
		set_opt(fds[i], SOL_SOCKET, SO_SNDBUF, size);
		set_opt(fds[i], SOL_SOCKET, SO_RCVBUF, size);
	}
}

/* Its peer reads nothing: the source's must come to rest, whatever it still has to send. */
static void stall(struct __test_metadata *_metadata, struct _test_data_sockmap_skb *self, struct stream *up, int size, uint64_t most)
{
	buffers(&self->r, size);
	ASSERT_EQ(0, way_begin(&self->up));
	way_let_run(&self->up);
	ASSERT_EQ(0, stream_send(up));
	ASSERT_EQ(0, stream_stuck(up, 1000));
	EXPECT_GT(up->len, up->done);
	EXPECT_EQ(SOCKMAP_PLAIN, self->up.st.phase);
	EXPECT_GE(most, self->up.st.backlog);
	TH_LOG("sent %llu, of which the sink has %llu and %llu wait", (unsigned long long)up->done,
	       (unsigned long long)self->up.st.bytes, (unsigned long long)self->up.st.backlog);
}

TEST_F(sockmap_skb, a_stalled_sink_stops_its_source)
{
	struct stream up = { .fd = self->r.c, .seed = SEED, .len = BULK, .chunk = 65536, .fin = true };
	struct stream at_s = { .fd = self->r.s, .seed = SEED, .len = SPL_ALL, .chunk = 65536 };

	stall(_metadata, self, &up, 65536, 1 << 20);
	ASSERT_EQ(0, stream_recv(&at_s));
	EXPECT_EQ(0, stream_join(&up));
	EXPECT_EQ(0, stream_join(&at_s));
	EXPECT_EQ(up.len, at_s.done);
	way_halt(&self->up);
	EXPECT_EQ(SOCKMAP_EOF, self->up.st.phase);
	EXPECT_EQ(0, way_end(&self->up));
	EXPECT_EQ(up.len, self->up.st.bytes);
}

/* Bytes that each come in an skb: their number is what must be bounded. */
TEST_F_TIMEOUT(sockmap_skb, a_stalled_sink_of_single_bytes, 90)
{
	struct stream up = { .fd = self->r.c, .seed = SEED, .len = 1 << 20, .chunk = 1 };

	nodelay(self->r.c);
	stall(_metadata, self, &up, 16384, 2048);
	up.stop = true;
	tcp_reset(&self->r.s);
	way_halt(&self->up);
	EXPECT_EQ(SOCKMAP_SINK_FAILED, self->up.st.phase);
	tcp_reset(&self->r.a);
	stream_join(&up);
}

/* ---- ends */

TEST_F(sockmap_skb, close_with_data_in_flight)
{
	struct stream at_s = { .fd = self->r.s, .seed = SEED, .len = SPL_ALL, .chunk = 5000 };

	ASSERT_EQ(0, way_begin(&self->up));
	way_let_run(&self->up);
	ASSERT_LT(0, stuff(self->r.c, SEED));
	close_fd(&self->r.c);
	ASSERT_EQ(0, stream_recv(&at_s));
	EXPECT_EQ(0, stream_join(&at_s));
	way_halt(&self->up);
	EXPECT_EQ(SOCKMAP_EOF, self->up.st.phase);
	EXPECT_EQ(at_s.done, self->up.st.bytes);
	EXPECT_LT(100000, at_s.done);
}

/* The end alone, in a segment without data, and then the way back. */
TEST_F(sockmap_skb, half_close)
{
	ASSERT_EQ(0, way_begin(&self->up));
	ASSERT_EQ(0, way_begin(&self->down));
	way_let_run(&self->up);
	way_let_run(&self->down);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 100));
	ASSERT_EQ(0, fin(&self->r.c));
	EXPECT_EQ(0, at_eof(self->r.s));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 100000));
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 100000));
	ASSERT_EQ(0, fin(&self->r.s));
	EXPECT_EQ(0, at_eof(self->r.c));
	way_halt(&self->down);
	EXPECT_EQ(SOCKMAP_EOF, self->down.st.phase);
	EXPECT_EQ(100000, self->down.st.bytes);
}

/* The last bytes and the FIN in one segment, where it closes the socket: the kernel takes it out of its maps at once. */
TEST_F(sockmap_skb, last_bytes_with_the_second_fin)
{
	ASSERT_EQ(0, way_begin(&self->up));
	ASSERT_EQ(0, way_begin(&self->down));
	way_let_run(&self->up);
	way_let_run(&self->down);
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, at_eof(self->r.s));
	ASSERT_EQ(0, cork(self->r.s));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 100));
	ASSERT_EQ(0, fin(&self->r.s));
	EXPECT_EQ(0, take(self->r.c, BACK, 0, 100));
	EXPECT_EQ(0, at_eof(self->r.c));
}

TEST_F(sockmap_skb, fin_before_the_beginning)
{
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(POLLRDHUP, poll_fd(self->r.a, POLLRDHUP, WAIT_MS));
	EXPECT_EQ(-EOPNOTSUPP, way_begin(&self->up));
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 1000));
	EXPECT_EQ(0, at_eof(self->r.a));
	/* nor has anything of it stayed: the sink can be one */
	self->up.source = self->r.b;
	self->up.sink = self->r.b;
	EXPECT_EQ(-EOPNOTSUPP, way_begin(&self->up));
}

static int reset_by(struct way *w, int *fd, int other)
{
	int err = way_begin(w);

	if (err)
		return err;
	way_let_run(w);
	err = put(other, SEED, 0, 1000);
	if (!err)
		err = tcp_reset(fd);
	way_halt(w);
	return err;
}

TEST_F(sockmap_skb, reset_of_the_source)
{
	ASSERT_EQ(0, reset_by(&self->up, &self->r.c, self->r.c));
	EXPECT_EQ(SOCKMAP_SOURCE_FAILED, self->up.st.phase);
	EXPECT_EQ(ECONNRESET, self->up.st.error);
	EXPECT_EQ(0, way_end(&self->up));
}

TEST_F(sockmap_skb, reset_of_the_sink)
{
	ASSERT_EQ(0, reset_by(&self->up, &self->r.s, self->r.c));
	EXPECT_EQ(SOCKMAP_SINK_FAILED, self->up.st.phase);
	EXPECT_EQ(ECONNRESET, self->up.st.error) {
		TH_LOG("%s", strerror(self->up.st.error));
	}
	EXPECT_EQ(0, way_end(&self->up));
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
}

SUITE_MAIN
