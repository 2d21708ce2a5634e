// SPDX-License-Identifier: GPL-2.0
/* sockmap_skb_tun.c: packets as they come from no well-behaved peer, to a source in the sockmap. */
#include "harness.h"
#include "sockmap_way.h"
#include "tunpeer.h"

#include <bpf/bpf.h>

FIXTURE(sockmap_tun) {
	struct tunpeer p;
	struct way w;
	int fds[2];		/* the sink and its peer */
};

FIXTURE_SETUP(sockmap_tun)
{
	ASSERT_EQ(0, tunpeer_open(&self->p));
	ASSERT_EQ(0, sockmap_skb_get());
	ASSERT_EQ(0, tcp_pair(NET_V4, true, self->fds));
	ASSERT_EQ(0, tunpeer_connect(&self->p, &self->w.source));
	self->w.sink = self->fds[0];
}

FIXTURE_TEARDOWN(sockmap_tun)
{
	way_free(&self->w);
	sockmap_skb_put(false);
	close_fd(&self->fds[0]);
	close_fd(&self->fds[1]);
	close_fd(&self->w.source);
	tunpeer_close(&self->p);
}

/* Bytes from to to of the stream. */
static int tun_put(struct tunpeer *p, uint32_t from, uint32_t to, uint8_t flags)
{
	uint8_t buf[TUNPEER_MSS];

	pattern_fill(buf, to - from, SEED, from);
	return tunpeer_send(p, from, flags | TUNPEER_ACK, buf, to - from);
}

/* 0 to 1000, and then 500 to 1500 as if no acknowledgement had come. */
static int overlap(struct tunpeer *p)
{
	int err = tun_put(p, 0, 1000, TUNPEER_PSH);

	if (!err)
		err = tunpeer_acked(p, 1000);
	if (!err)
		err = tun_put(p, 500, 1500, TUNPEER_PSH);
	return err ? err : tunpeer_acked(p, 1500);
}

TEST_F(sockmap_tun, overlapping_retransmit)
{
	ASSERT_EQ(0, way_begin(&self->w));
	ASSERT_EQ(0, overlap(&self->p));
	EXPECT_EQ(0, take(self->fds[1], SEED, 0, 1500));
	EXPECT_EQ(0, at_quiet(self->fds[1]));
	ASSERT_EQ(0, tun_put(&self->p, 1500, 1600, TUNPEER_PSH));
	EXPECT_EQ(0, take(self->fds[1], SEED, 1500, 100));
	EXPECT_EQ(0, way_end(&self->w));
	EXPECT_EQ(1600, self->w.st.bytes);
}

/* The later one first, and then the earlier one with a part of it. */
TEST_F(sockmap_tun, overlap_that_fills_a_gap)
{
	ASSERT_EQ(0, way_begin(&self->w));
	ASSERT_EQ(0, tun_put(&self->p, 500, 1500, TUNPEER_PSH));
	ASSERT_EQ(0, tun_put(&self->p, 0, 1000, TUNPEER_PSH));
	ASSERT_EQ(0, tunpeer_acked(&self->p, 1500));
	EXPECT_EQ(0, take(self->fds[1], SEED, 0, 1500));
	EXPECT_EQ(0, at_quiet(self->fds[1]));
	EXPECT_EQ(0, way_end(&self->w));
	EXPECT_EQ(1500, self->w.st.bytes);
}

/* What comes again while the flow ends is the caller's, once. */
TEST_F(sockmap_tun, overlap_behind_exactly_n)
{
	ASSERT_EQ(0, way_begin_n(&self->w, 700));
	way_let_run(&self->w);
	ASSERT_EQ(0, overlap(&self->p));
	EXPECT_EQ(0, take(self->fds[1], SEED, 0, 700));
	way_halt(&self->w);
	EXPECT_EQ(SOCKMAP_DONE, self->w.st.phase);
	EXPECT_EQ(0, way_end(&self->w));
	EXPECT_EQ(0, take(self->w.source, SEED, 700, 800));
	EXPECT_EQ(0, at_quiet(self->w.source));
}

static int put_urgent(struct tunpeer *p, uint16_t urgent)
{
	struct tunpeer_segment seg = {
		.flags = TUNPEER_ACK | TUNPEER_URG | TUNPEER_PSH, .window = 65535, .urgent = urgent, .len = 100,
	};

	pattern_fill(seg.data, seg.len, SEED, 0);
	return tunpeer_put(p, &seg);
}

/* What is before an urgent byte in its segment gets there, whatever comes then, or does not. */
TEST_F(sockmap_tun, urgent_at_the_end)
{
	ASSERT_EQ(0, way_begin(&self->w));
	way_let_run(&self->w);
	ASSERT_EQ(0, put_urgent(&self->p, 100));
	EXPECT_EQ(0, take(self->fds[1], SEED, 0, 99));
	EXPECT_EQ(0, way_end(&self->w));
}

TEST_F(sockmap_tun, urgent_in_the_middle)
{
	ASSERT_EQ(0, way_begin(&self->w));
	way_let_run(&self->w);
	ASSERT_EQ(0, put_urgent(&self->p, 50));
	EXPECT_EQ(0, take(self->fds[1], SEED, 0, 49));
	EXPECT_EQ(0, take(self->fds[1], SEED, 50, 50));
	EXPECT_EQ(0, way_end(&self->w));
}

/* One byte that is not of the stream, in the middle of it: where TCP stops reading for whoever does not read himself. */
TEST_F(sockmap_tun, urgent_data)
{
	struct tunpeer_segment seg = {
		.seq = 100, .flags = TUNPEER_ACK | TUNPEER_URG | TUNPEER_PSH, .window = 65535, .urgent = 1, .len = 1, .data = "!",
	};

	ASSERT_EQ(0, way_begin(&self->w));
	way_let_run(&self->w);
	ASSERT_EQ(0, tun_put(&self->p, 0, 100, TUNPEER_PSH));
	ASSERT_EQ(0, tunpeer_put(&self->p, &seg));
	ASSERT_EQ(0, tun_put(&self->p, 101, 1101, TUNPEER_PSH));
	EXPECT_EQ(0, take(self->fds[1], SEED, 0, 100));
	EXPECT_EQ(0, take(self->fds[1], SEED, 101, 1000));
	EXPECT_EQ(0, way_end(&self->w));
}

TEST_F(sockmap_tun, reset_behind_data)
{
	ASSERT_EQ(0, way_begin(&self->w));
	way_let_run(&self->w);
	ASSERT_EQ(0, tun_put(&self->p, 0, 1000, TUNPEER_PSH));
	ASSERT_EQ(0, take(self->fds[1], SEED, 0, 1000));
	ASSERT_EQ(0, tunpeer_send(&self->p, 1000, TUNPEER_RST, NULL, 0));
	way_halt(&self->w);
	EXPECT_EQ(SOCKMAP_SOURCE_FAILED, self->w.st.phase);
	EXPECT_EQ(ECONNRESET, self->w.st.error);
	EXPECT_EQ(1000, self->w.st.bytes);
}

/* A sink whose peer is there, and never has room; then it is told of the end of the flow, and of its own. */
TEST_F(sockmap_tun, window_of_nothing)
{
	struct tunpeer_segment seg;
	struct way w = { .source = self->fds[0] };

	self->p.window = 0;
	ASSERT_EQ(0, tunpeer_accept(&self->p, &w.sink));
	ASSERT_EQ(0, way_begin(&w));
	ASSERT_EQ(0, put(self->fds[1], SEED, 0, 1000));
	ASSERT_EQ(0, way_until_taken(&w, 1000));
	EXPECT_EQ(-ETIMEDOUT, tunpeer_get(&self->p, &seg, QUIET_MS));
	EXPECT_EQ(0, way_end(&w));
	EXPECT_EQ(1000, w.st.bytes);
	self->p.window = 65535;
	ASSERT_EQ(0, tunpeer_send(&self->p, 0, TUNPEER_ACK, NULL, 0));
	ASSERT_EQ(0, tunpeer_get(&self->p, &seg, WAIT_MS));
	EXPECT_EQ(0, pattern_check(seg.data, seg.len, SEED, 0));
	close_fd(&w.sink);
}

/* ---- why there is a parser */

#define INSN(...) ((struct bpf_insn){ __VA_ARGS__ })

/* return bpf_sk_redirect_map(skb, map, 0, 0), to a map of that one socket */
static int bare_verdict(int source, int sink, int maps[2])
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts);
	__u64 value = sink;
	__u32 key = 0;
	int prog, i;

	for (i = 0; i < 2; i++)
		maps[i] = bpf_map_create(BPF_MAP_TYPE_SOCKMAP, "bare", sizeof(key), sizeof(value), 1, NULL);
	struct bpf_insn insns[] = {
		INSN(.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_2, .src_reg = BPF_PSEUDO_MAP_FD, .imm = maps[1]),
		INSN(.code = 0),
		INSN(.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = 0),
		INSN(.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_4, .imm = 0),
		INSN(.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_sk_redirect_map),
		INSN(.code = BPF_JMP | BPF_EXIT),
	};
	prog = bpf_prog_load(BPF_PROG_TYPE_SK_SKB, "bare", "GPL", insns, 6, &opts);
	if (prog < 0)
		return -errno;
	i = bpf_prog_attach(prog, maps[0], BPF_SK_SKB_STREAM_VERDICT, 0) ||
	    bpf_map_update_elem(maps[1], &key, &value, BPF_ANY) ? -errno : 0;
	close(prog);
	value = source;
	return i ? i : bpf_map_update_elem(maps[0], &key, &value, BPF_ANY) ? -errno : 0;
}

/*
 * The kernel's own behaviour, and what the test above would see without a parser: 2000 bytes of 1500. Should a kernel no
 * longer do this, this test says so.
 */
TEST_F(sockmap_tun, without_a_parser_bytes_come_twice)
{
	uint8_t buf[4096];
	int maps[2], n;

	ASSERT_EQ(0, bare_verdict(self->w.source, self->w.sink, maps));
	ASSERT_EQ(0, overlap(&self->p));
	ASSERT_EQ(0, wait_queued(self->fds[1], 1500));
	sleep_ms(QUIET_MS);
	n = recv(self->fds[1], buf, sizeof(buf), 0);
	EXPECT_EQ(2000, n);
	EXPECT_EQ(0, pattern_check(buf, 1000, SEED, 0));
	EXPECT_EQ(0, pattern_check(buf + 1000, 1000, SEED, 500));
	close_fd(&maps[0]);
	close_fd(&maps[1]);
}

SUITE_MAIN
