// SPDX-License-Identifier: GPL-2.0
/* sockmap_fork.c: local mode in a child whose parent has contexts: what it opens is its own, what it has inherited it leaves alone. */
#include "hopped.h"
#include "cgroup.h"

#include <bpf/bpf.h>

static int exchange(struct spl *s, struct relay *r)
{
	uint64_t token;
	int e = spl_splice_pair(s, r->a, r->b, NULL, &token);

	r->a = r->b = -1;
	return e || put(r->c, SEED, 0, 100000) || take(r->s, SEED, 0, 100000) || put(r->s, SEED, 0, 70000) || take(r->c, SEED, 0, 70000);
}

/* Of all that the peers read it has redirected what it counts. */
static int relay_here(enum net net)
{
	uint64_t before[LOCAL_COUNTS];
	struct relay r;
	struct spl *s;
	int e;

	if (engine_open(&s, SPL_ENGINE_SOCKMAP) || spl_sockmap_counts(before, LOCAL_COUNTS) != LOCAL_COUNTS || relay_open(&r, net))
		return 1;
	e = exchange(s, &r) ? 2 : !counted(before, LOCAL_BYTES) ? 3 : 0;
	relay_close(&r);
	spl_close(s);
	return e;
}

static int child_process(int control, enum net net)
{
	char byte;
	int e;

	/* its parent's program is not to see its connections first */
	if (cgroup_enter())
		return 4;
	e = relay_here(net);
	if (!e && (write(control, "g", 1) != 1 || read(control, &byte, 1) != 1))
		e = 5;
	e = e ? e : relay_here(net);
	cgroup_leave();
	return e;
}

/* Both transfer, each by its own hop; also when the parent has closed what it had. */
TEST_F(sockmap, a_child_with_a_context)
{
	int control[2];
	pid_t child;
	char byte;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, control));
	child = fork();
	if (!child)
		_exit(child_process(control[1], variant->net));
	close(control[1]);
	EXPECT_EQ(1, read(control[0], &byte, 1));
	EXPECT_EQ(0, COUNTED(BYTES));
	EXPECT_EQ(0, COUNTED(LEARNED));
	EXPECT_EQ(0, exchange(self->s, &self->r));
	EXPECT_LT(0, COUNTED(BYTES));
	spl_close(self->s);
	EXPECT_EQ(1, write(control[0], &byte, 1));
	EXPECT_EQ(0, reap(child));
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	close(control[0]);
}

/* Programs of the cgroup that see its connections. */
static int attached(void)
{
	int dir = open(cgroup_path(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
	__u32 ids[8], n = 8;

	r = bpf_prog_query(dir, BPF_CGROUP_SOCK_OPS, 0, NULL, ids, &n);
	close(dir);
	return r ? r : (int)n;
}

/* A child that does not know of the library keeps nothing of it alive: what is opened next learns its sockets itself. */
TEST_F(sockmap, a_child_that_knows_nothing)
{
	uint64_t before[LOCAL_COUNTS];
	struct relay r;
	pid_t child = fork();

	if (!child) {
		pause();
		_exit(0);
	}
	EXPECT_EQ(1, attached());
	spl_close(self->s);
	EXPECT_EQ(0, attached());
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	spl_sockmap_counts(before, LOCAL_COUNTS);
	ASSERT_EQ(0, relay_open(&r, variant->net));
	EXPECT_LT(0, counted(before, LOCAL_LEARNED));
	EXPECT_EQ(0, exchange(self->s, &r));
	EXPECT_LT(0, counted(before, LOCAL_BYTES));
	relay_close(&r);
	kill(child, SIGKILL);
	reap(child);
}

/* ---- ports */

struct served { struct sockaddr_storage at; socklen_t len; int listening; };

/* So many sockets a connection to it adds to those that were learned. */
static int learned_by(const struct served *served)
{
	uint64_t before[LOCAL_COUNTS];
	int fds[2];

	spl_sockmap_counts(before, LOCAL_COUNTS);
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (fds[0] < 0 || connect(fds[0], (const struct sockaddr *)&served->at, served->len))
		return -errno;
	fds[1] = accept(served->listening, NULL, NULL);
	close(fds[0]);
	close(fds[1]);
	return (int)counted(before, LOCAL_LEARNED);
}

static int open_with_port(struct spl **s, const struct served *served)
{
	char port[16];
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = SPL_ENGINE_SOCKMAP, .cgroup = cgroup_path(), .ports = port };

	snprintf(port, sizeof(port), "%d", ntohs(((const struct sockaddr_in *)&served->at)->sin_port));
	return spl_open(s, &opts);
}

/* A context of its own that wants all ports, and the end of those that it has inherited: its parent serves what it did. */
static int child_closes(struct spl *inherited, bool opens)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = SPL_ENGINE_SOCKMAP, .cgroup = cgroup_path() };
	struct spl *own = NULL;

	if (opens && spl_open(&own, &opts))
		return 1;
	spl_close(inherited);
	if (opens && spl_splice(own, -1, -1, NULL, &(uint64_t){ 0 }) != -EBADF)
		return 2;
	spl_close(own);
	return 0;
}

TEST_F(sockmap, a_child_and_the_ports)
{
	struct served named, other;
	pid_t child;
	int i;

	spl_close(self->s);
	named.listening = tcp_listen(AF_INET, &named.at, &named.len);
	other.listening = tcp_listen(AF_INET, &other.at, &other.len);
	ASSERT_EQ(0, open_with_port(&self->s, &named));
	for (i = 0; i < 2; i++) {
		child = fork();
		if (!child)
			_exit(child_closes(self->s, i));
		ASSERT_EQ(0, reap(child));
		EXPECT_EQ(2, learned_by(&named));
		EXPECT_EQ(0, learned_by(&other));
	}
	close(named.listening);
	close(other.listening);
}

SUITE_MAIN
