// SPDX-License-Identifier: GPL-2.0
/* sockmap_exit.c: the process with the engine sockmap ends, in order or by a signal: its peers read what was sent to them. */
#include "harness.h"
#include "probe.h"
#include "../bpf/local.h"

#include <bpf/bpf.h>

#define SEED 7

FIXTURE(sockmap_exit) {
	int control[2];		/* a unix socket pair: the relay's is 1 */
	pid_t relay;
	int c, s;
	uint32_t before;	/* the last map that was there */
};

FIXTURE_VARIANT(sockmap_exit) {
	enum spl_engine engine;
	enum net net;
	bool bypass;
};

SOCKMAP_SOCKETS(sockmap_exit);
VARIANT(sockmap_exit, sockmap_v4_bypass, .engine = SPL_ENGINE_SOCKMAP, .net = NET_V4, .bypass = true);

static int pass_fds(int control, const int fds[2])
{
	char space[CMSG_SPACE(2 * sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(c), fds, 2 * sizeof(int));
	return sendmsg(control, &msg, 0) == 1 ? 0 : -errno;
}

static int get_fds(int control, int fds[2])
{
	char space[CMSG_SPACE(2 * sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };

	if (recvmsg(control, &msg, 0) != 1 || !CMSG_FIRSTHDR(&msg))
		return -EPROTO;
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&msg)), 2 * sizeof(int));
	return 0;
}

/* Opens the engine, connects, hands client and server over; splices, and ends after the event. */
static int relay_process(int control, enum net net)
{
	uint64_t token, counts[LOCAL_COUNTS];
	struct spl_event ev;
	struct relay r;
	struct spl *s;

	if (engine_open(&s, SPL_ENGINE_SOCKMAP) || relay_open(&r, net) || pass_fds(control, (int[]){ r.c, r.s }))
		return 1;
	close(r.c);
	close(r.s);
	if (spl_splice_pair(s, r.a, r.b, NULL, &token) || write(control, "g", 1) != 1 || event_of(s, token, &ev))
		return 2;
	if (spl_sockmap_counts(counts, LOCAL_COUNTS) != LOCAL_COUNTS || write(control, counts, sizeof(counts)) < 0)
		return 3;
	return ev.cause == SPL_EOF ? 0 : 4;
}

static uint32_t last_map(void)
{
	uint32_t id = 0;

	while (!bpf_map_get_next_id(id, &id))
		;
	return id;
}

/* Bytes that went by the hop or past the relay, by the counters of the maps that are newer: those of the relay, of which one is there. */
static uint64_t redirected(uint32_t since)
{
	uint64_t each[1024], sum = 0;
	struct bpf_map_info info;
	static const uint32_t what[] = { LOCAL_BYTES, LOCAL_BYPASS_BYTES };
	uint32_t id = since, len;
	int fd, cpu, i;

	while (!bpf_map_get_next_id(id, &id) && (fd = bpf_map_get_fd_by_id(id)) >= 0) {
		memset(&info, 0, sizeof(info));
		len = sizeof(info);
		if (bpf_obj_get_info_by_fd(fd, &info, &len) || strcmp(info.name, "counts"))
			info.max_entries = 0;
		for (i = 0; i < 2 && what[i] < info.max_entries; i++) {
			memset(each, 0, sizeof(each));
			bpf_map_lookup_elem(fd, what + i, each);
			for (cpu = 0; cpu < 1024; cpu++)
				sum += each[cpu];
		}
		close(fd);
	}
	return sum;
}

/* What lists a process's splices stays pinned when it is killed; who looks next removes it. */
static bool is_list(uint32_t id)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd = bpf_map_get_fd_by_id(id), err;

	if (fd < 0)
		return false;
	err = bpf_obj_get_info_by_fd(fd, &info, &len);
	close(fd);
	return !err && !strcmp(info.name, "libsplice");
}

/* Are there maps of ours newer than that one? Those of other tests that run now are as well. */
static int wait_maps_gone(uint32_t since, uint32_t until)
{
	uint64_t deadline = now_ms() + WAIT_MS;
	uint32_t id = since;

	while (!bpf_map_get_next_id(id, &id) && id <= until) {
		if (is_list(id))
			continue;
		id--;
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		sleep_ms(10);
	}
	return 0;
}

FIXTURE_SETUP(sockmap_exit)
{
	int fds[2];
	char byte;

	if (variant->bypass)
		setenv("SPL_TEST_BYPASS", "1", true);
	self->before = last_map();
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, self->control));
	self->relay = fork();
	if (!self->relay)
		_exit(relay_process(self->control[1], variant->net));
	ASSERT_EQ(0, get_fds(self->control[0], fds));
	self->c = fds[0];
	self->s = fds[1];
	ASSERT_EQ(1, read(self->control[0], &byte, 1));
}

FIXTURE_TEARDOWN(sockmap_exit)
{
	close_fd(&self->c);
	close_fd(&self->s);
}

/* It is over, and nobody has read yet. */
TEST_F(sockmap_exit, in_order)
{
	uint64_t counts[LOCAL_COUNTS];
	uint32_t maps = last_map();

	ASSERT_EQ(0, put(self->c, SEED, 0, 300000));
	ASSERT_EQ(0, shutdown(self->c, SHUT_WR));
	ASSERT_EQ(0, put(self->s, SEED + 1, 0, 200000));
	ASSERT_EQ(0, shutdown(self->s, SHUT_WR));
	ASSERT_EQ(sizeof(counts), read(self->control[0], counts, sizeof(counts)));
	ASSERT_EQ(0, reap(self->relay));
	EXPECT_EQ(500000, counts[variant->bypass ? LOCAL_BYPASS_BYTES : LOCAL_BYTES]);
	sleep_ms(200);
	EXPECT_EQ(300000, take_rest(self->s, SEED, 0));
	EXPECT_EQ(200000, take_rest(self->c, SEED + 1, 0));
	close_fd(&self->c);
	close_fd(&self->s);
	EXPECT_EQ(0, wait_maps_gone(self->before, maps));
}

/* What it had sent is there, in order; then the end, or a reset. Nothing of it stays in the kernel. */
TEST_F(sockmap_exit, killed_in_the_middle)
{
	struct stream tx = { .fd = self->c, .seed = SEED, .len = SPL_ALL, .chunk = 30000 };
	struct stream rx = { .fd = self->s, .seed = SEED, .len = SPL_ALL };
	uint32_t maps = last_map();
	unsigned int i;

	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_recv(&rx));
	for (i = 0; i < WAIT_MS / 10 && rx.done < 1000000; i++)
		sleep_ms(10);
	EXPECT_LE(1000000, rx.done);
	EXPECT_LT(0, redirected(self->before));
	ASSERT_EQ(0, kill(self->relay, SIGKILL));
	stream_join(&tx);
	stream_join(&rx);
	EXPECT_NE(-EILSEQ, rx.err);
	ASSERT_NE(0, reap(self->relay));
	close_fd(&self->c);
	close_fd(&self->s);
	EXPECT_EQ(0, wait_maps_gone(self->before, maps));
}

SUITE_MAIN
