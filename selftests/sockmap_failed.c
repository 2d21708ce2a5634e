// SPDX-License-Identifier: GPL-2.0
/*
 * sockmap_failed.c: sends that fail in local mode, on the way across, where TCP could have taken the bytes: for each error
 * that can be brought about, what becomes of the bytes and of the splice.
 */
#include "harness.h"
#include "probe.h"
#include "../bpf/local.h"

#include <dirent.h>
#include <sys/stat.h>
#include <bpf/bpf.h>

#define SEED	7
#define FIRST	3000

static void __attribute__((constructor)) want_root(void)
{
	if (!geteuid())
		return;
	printf("TAP version 13\n1..1\nok 1 all # SKIP wants root\n");
	exit(0);
}

FIXTURE(sockmap_failed) {
	struct spl *s;
	struct relay r;
	struct spl_event ev;
	uint64_t before[LOCAL_COUNTS], token;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	int listening;
	const char *why;
};

FIXTURE_SETUP(sockmap_failed)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = SPL_ENGINE_SOCKMAP };

	self->r = (struct relay){ -1, -1, -1, -1 };
	self->listening = -1;
	self->why = cgroup_enter();
	if (self->why)
		SKIP(return, "%s", self->why);
	opts.cgroup = cgroup_path();
	ASSERT_EQ(0, spl_open(&self->s, &opts)) {
		TH_LOG("%s", spl_strerror_last(NULL));
	}
	ASSERT_EQ(LOCAL_COUNTS, spl_sockmap_counts(self->before, LOCAL_COUNTS));
	self->listening = tcp_listen(AF_INET, &self->addr, &self->addr_len);
	ASSERT_LE(0, self->listening);
}

FIXTURE_TEARDOWN(sockmap_failed)
{
	spl_close(self->s);
	relay_close(&self->r);
	close_fd(&self->listening);
	cgroup_leave();
}

/* ---- the ends: s is learned, c and a are not, and b is or is not */

static int connect_source(void *arg)
{
	struct relay *r = arg;
	int fds[2], err = tcp_pair(NET_V4, false, fds);

	r->c = fds[0];
	r->a = fds[1];
	return err;
}

static int connect_sink(void *arg)
{
	struct _test_data_sockmap_failed *self = arg;

	self->r.b = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return connect(self->r.b, (void *)&self->addr, self->addr_len) ? -errno : 0;
}

static int take_server(struct _test_data_sockmap_failed *self)
{
	self->r.s = accept4(self->listening, NULL, NULL, SOCK_CLOEXEC);
	return self->r.s < 0 ? -errno : 0;
}

/* What is there now goes through the splice. */
static int pass(struct _test_data_sockmap_failed *self)
{
	return spl_next(self->s, &self->ev, 200);
}

/* How often since the set-up. */
static uint64_t counted(const struct _test_data_sockmap_failed *self, enum local_count what)
{
	uint64_t now[LOCAL_COUNTS] = { 0 };

	spl_sockmap_counts(now, LOCAL_COUNTS);
	return now[what] - self->before[what];
}

/* A splice whose first bytes went across. b: our own descriptor of the sink. */
#define begin_across(b)										\
	do {											\
		ASSERT_EQ(0, cgroup_outside(connect_source, &self->r));				\
		b = dup(self->r.b);								\
		begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));		\
		self->r.a = -1;									\
		self->r.b = b;									\
		ASSERT_EQ(0, put(self->r.c, SEED, 0, FIRST));					\
		ASSERT_EQ(0, pass(self));							\
		ASSERT_EQ(0, take(self->r.s, SEED, 0, FIRST));					\
		ASSERT_EQ(FIRST, counted(self, LOCAL_BYTES));					\
	} while (0)

/* ---- EACCES: the peer is in the map no more, as when it is closed in that moment */

static int map_called(const char *name)
{
	struct bpf_map_info info;
	struct dirent *e;
	char path[300], text[64];
	int fd, found = -1;
	DIR *dir = opendir("/proc/self/fd");

	while (dir && found < 0 && (e = readdir(dir))) {
		__u32 len = sizeof(info);
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%s", e->d_name);
		n = readlink(path, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		fd = atoi(e->d_name);
		memset(&info, 0, sizeof(info));
		if (strstr(text, "bpf-map") && !bpf_obj_get_info_by_fd(fd, &info, &len) && !strcmp(info.name, name))
			found = fd;
	}
	if (dir)
		closedir(dir);
	return found;
}

static int forget_server(const struct _test_data_sockmap_failed *self)
{
	int map = map_called("peers"), port = ntohs(((const struct sockaddr_in *)&self->addr)->sin_port);
	struct local_key key, *last = NULL;

	while (map >= 0 && !bpf_map_get_next_key(map, last, &key)) {
		if ((int)key.local_port == port)
			return bpf_map_delete_elem(map, &key) ? -errno : 0;
		last = &key;
	}
	return -ENOENT;
}

/* TCP takes them. */
TEST_F(sockmap_failed, eacces_of_a_sink)
{
	int b;

	ASSERT_EQ(0, cgroup_outside(connect_sink, self));
	ASSERT_EQ(0, take_server(self));
	begin_across(b);
	ASSERT_EQ(0, forget_server(self));
	ASSERT_EQ(0, put(self->r.c, SEED, FIRST, 2000));
	ASSERT_EQ(0, pass(self));
	/* it was tried */
	EXPECT_EQ(1, counted(self, LOCAL_REFUSED));
	EXPECT_EQ(FIRST, counted(self, LOCAL_BYTES));
	EXPECT_EQ(0, take(self->r.s, SEED, FIRST, 2000));
	ASSERT_EQ(0, put(self->r.c, SEED, FIRST + 2000, 100));
	ASSERT_EQ(0, fin(&self->r.c));
	ends(self->token, SPL_EOF, 0, FIRST + 2100);
	EXPECT_EQ(0, take(self->r.s, SEED, FIRST + 2000, 100));
	EXPECT_EQ(0, at_eof(self->r.s));
}

/* Of one that is learned itself the kernel goes on to refuse: the peer is gone, as it is where this happens. */
TEST_F(sockmap_failed, eacces_of_a_learned_sink)
{
	int b;

	ASSERT_EQ(0, connect_sink(self));
	ASSERT_EQ(0, take_server(self));
	begin_across(b);
	ASSERT_EQ(0, forget_server(self));
	ASSERT_EQ(0, put(self->r.c, SEED, FIRST, 2000));
	ends(self->token, SPL_SINK_FAILED, EPIPE, FIRST);
	EXPECT_LT(0, counted(self, LOCAL_REFUSED));
	EXPECT_EQ(FIRST, counted(self, LOCAL_BYTES));
	EXPECT_EQ(0, at_reset(self->r.c));
	EXPECT_EQ(0, at_reset(self->r.s));
}

/* ---- EPIPE: somebody else has sent the end */

/*
 * Tried again without the hop it fails again, and that is the end of it. A crossing alone fails so only in the moment in
 * which a peer is taken apart.
 */
TEST_F(sockmap_failed, epipe)
{
	int b;

	ASSERT_EQ(0, cgroup_outside(connect_sink, self));
	ASSERT_EQ(0, take_server(self));
	begin_across(b);
	ASSERT_EQ(0, shutdown(b, SHUT_WR));
	ASSERT_EQ(0, put(self->r.c, SEED, FIRST, 2000));
	ends(self->token, SPL_SINK_FAILED, EPIPE, FIRST);
	EXPECT_EQ(0, at_reset(self->r.c));
}

/* ---- ENOMEM: the peer is in a memory cgroup that may have no more of it for TCP */

#define MEMORY "/sys/fs/cgroup/memory"

static char memory_dir[100], memory_before[400];

static int memory_file(const char *dir, const char *name, const char *value)
{
	char path[500];
	FILE *f;
	int r;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	if (!f)
		return -errno;
	r = fputs(value, f);
	return fclose(f) || r < 0 ? -errno : 0;
}

static int64_t memory_figure(const char *name)
{
	char path[500];
	long long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", memory_dir, name);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%lld", &n) != 1)
		n = -1;
	if (f)
		fclose(f);
	return n;
}

/* Where this process is in that hierarchy, which is version 1. */
static bool memory_find(void)
{
	FILE *f = fopen("/proc/self/cgroup", "r");
	char line[300], *at;
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		at = strstr(line, ":memory:");
		found = at;
		line[strcspn(line, "\n")] = '\0';
		if (at)
			snprintf(memory_before, sizeof(memory_before), MEMORY "%s", at + strlen(":memory:"));
	}
	if (f)
		fclose(f);
	return found;
}

/* The server is accepted in one, and belongs to it. 1: there is none that can be made. */
static int take_server_in_memory(struct _test_data_sockmap_failed *self)
{
	int err;

	snprintf(memory_dir, sizeof(memory_dir), MEMORY "/splice-test-%d", getpid());
	if (!memory_find() || mkdir(memory_dir, 0755))
		return 1;
	err = memory_file(memory_dir, "memory.kmem.tcp.limit_in_bytes", "100000000") ?:
	      memory_file(memory_dir, "cgroup.procs", "0");
	err = err ?: take_server(self);
	return memory_file(memory_before, "cgroup.procs", "0") ?: err;
}

static int memory_is_out(void)
{
	char usage[32];

	snprintf(usage, sizeof(usage), "%lld", (long long)memory_figure("memory.kmem.tcp.usage_in_bytes"));
	return memory_file(memory_dir, "memory.kmem.tcp.limit_in_bytes", usage);
}

/* TCP takes them, and has them until there is memory. */
TEST_F(sockmap_failed, enomem)
{
	int b, r;

	ASSERT_EQ(0, cgroup_outside(connect_sink, self));
	r = take_server_in_memory(self);
	if (r > 0)
		SKIP(return, "no cgroup limits TCP's memory here");
	ASSERT_EQ(0, r);
	/* otherwise a large portion is let pass */
	ASSERT_EQ(0, set_opt(self->r.s, SOL_SOCKET, SO_SNDBUF, 200000));
	begin_across(b);
	EXPECT_EQ(0, memory_is_out());
	ASSERT_EQ(0, put(self->r.c, SEED, FIRST, 60000));
	EXPECT_EQ(0, pass(self)) {
		TH_LOG("%s: %s", spl_cause_name(self->ev.cause), strerror(self->ev.error));
	}
	EXPECT_EQ(0, memory_file(memory_dir, "memory.kmem.tcp.limit_in_bytes", "-1"));
	EXPECT_EQ(0, take(self->r.s, SEED, FIRST, 60000));
	ASSERT_EQ(0, fin(&self->r.c));
	ends(self->token, SPL_EOF, 0, FIRST + 60000);
	relay_close(&self->r);
	rmdir(memory_dir);
}

SUITE_MAIN
