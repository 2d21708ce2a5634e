// SPDX-License-Identifier: GPL-2.0
/*
 * sockmap_bypass_order.c: orders to a way that the kernel has no memory for. The program is linked so that the library's calls
 * come here first.
 */
#include "bypassed.h"

#include <bpf/bpf.h>
#include <stdatomic.h>

#include "../bpf/bypass.h"

/* Orders of that phase fail so often. */
static _Atomic int refused_phase = -1, refusals, orders;
static _Atomic unsigned int pipes;

int __real_bpf_prog_test_run_opts(int program, struct bpf_test_run_opts *run);
int __wrap_bpf_prog_test_run_opts(int program, struct bpf_test_run_opts *run);
ssize_t __real_splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned int flags);
ssize_t __wrap_splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned int flags);

int __wrap_bpf_prog_test_run_opts(int program, struct bpf_test_run_opts *run)
{
	const struct bypass_order *o = run->data_in;

	if (run->data_size_in != sizeof(*o) || (int)o->phase != refused_phase)
		return __real_bpf_prog_test_run_opts(program, run);
	orders++;
	if (refusals <= 0)
		return __real_bpf_prog_test_run_opts(program, run);
	refusals--;
	errno = ENOMEM;
	return -ENOMEM;
}

ssize_t __wrap_splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned int flags)
{
	pipes++;
	return __real_splice(from, from_at, to, to_at, len, flags);
}

static void refuse(enum bypass_phase phase, int times)
{
	refusals = times;
	orders = 0;
	refused_phase = (int)phase;
}

/* The relay's ends are not of the cgroup: splice() may have them. */
static int open_ends(void *arg)
{
	struct sockaddr_storage addr;
	int *fds = arg;
	socklen_t len;

	fds[0] = tcp_listen(AF_INET, &addr, &len);
	fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fds[0] < 0 || fds[1] < 0 ? -EMFILE : 0;
}

static int meet(int listening, int connecting)
{
	struct sockaddr_in to;
	socklen_t len = sizeof(to);

	if (getsockname(listening, (void *)&to, &len) || connect(connecting, (void *)&to, len))
		return -errno;
	return accept4(listening, NULL, NULL, SOCK_CLOEXEC);
}

static int relay_outside(struct relay *r)
{
	int inside[2], outside[2];

	relay_close(r);
	if (open_ends(inside) || cgroup_outside(open_ends, outside))
		return -EMFILE;
	*r = (struct relay){ .c = inside[1], .b = outside[1] };
	r->a = meet(outside[0], r->c);
	r->s = meet(inside[0], r->b);
	close(inside[0]);
	close(outside[0]);
	return r->a < 0 || r->s < 0 ? -ECONNREFUSED : 0;
}

/* What is in a pipe may be overtaken, unless the way is held. */
TEST_F_TIMEOUT(sockmap_bypass, no_pipe_on_a_way_that_is_not_held, 60)
{
	uint64_t token;
	int i;

	for (i = 0; i < 2; i++) {
		struct stream tx = { .seed = SEED, .pos = 1, .len = 32 * MB, .chunk = 60000, .fin = true };

		ASSERT_EQ(0, relay_outside(&self->r));
		tx.fd = self->r.c;
		refuse(BYPASS_HELD, i ? 0 : INT32_MAX);
		pipes = 0;
		ASSERT_EQ(0, put(self->r.c, SEED, 0, 1));
		relayed(NULL);
		ASSERT_EQ(0, stream_send(&tx));
		sleep_ms(QUIET_MS);
		ASSERT_EQ(tx.len + 1, take_rest(self->r.s, SEED, 0));
		ASSERT_EQ(0, stream_join(&tx));
		ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
		ends(token, SPL_EOF, 0, tx.len + 1);
		TH_LOG("%d orders to hold, %u calls of splice()", atomic_load(&orders), atomic_load(&pipes));
		if (!i) {
			EXPECT_LT(0, atomic_load(&orders));
			EXPECT_EQ(0, atomic_load(&pipes));
		}
	}
	if (!pipes)
		TH_LOG("no pipe is used here at all");
}

/* A way that is to open behind a prefix opens later. */
TEST_F(sockmap_bypass, opens_in_the_end)
{
	uint64_t token, pos;

	refuse(BYPASS_OPEN, 3);
	relayed(OPTS(.prefix = "x", .prefix_len = 1));
	ASSERT_EQ(0, take_bytes(self->r.s, "x", 1));
	for (pos = 0; !COUNTED(BYPASS_BYTES) && pos < WAIT_MS; pos++) {
		ASSERT_EQ(0, put(self->r.c, SEED, pos, 1));
		ASSERT_EQ(0, take(self->r.s, SEED, pos, 1));
		sleep_ms(1);
	}
	EXPECT_EQ(1, COUNTED(BYPASS_BYTES));
	EXPECT_EQ(4, atomic_load(&orders));
}

TEST_F(sockmap_bypass, off_is_repeated)
{
	int fds[2];
	uint64_t token;

	relayed(NULL);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	refuse(BYPASS_OFF, 3);
	ASSERT_EQ(0, spl_reclaim(self->s, token, fds));
	ended_both(SPL_CANCELED, 0, 1000, 0);
	/* of the two ways one had three more */
	EXPECT_EQ(5, atomic_load(&orders));
	ASSERT_EQ(0, put(self->r.c, SEED, 1000, 500));
	EXPECT_EQ(0, take(fds[0], SEED, 1000, 500));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	EXPECT_EQ(0, at_quiet(self->r.s));
	close(fds[0]);
	close(fds[1]);
}

SUITE_MAIN
