// SPDX-License-Identifier: GPL-2.0
/* sockmap_list_other.c: the list of splices with maps that others have written, and for those who may not read it. */
#include "listing.h"

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#define ROOM	(SPL_LISTED_MOST * sizeof(struct spl_listed))

static unsigned long long own_namespace(void)
{
	struct stat st = { 0 };

	stat("/proc/self/ns/pid", &st);
	return st.st_ino;
}

static unsigned long long started(void)
{
	FILE *f = fopen("/proc/self/stat", "r");
	unsigned long long at = 0;
	int i;

	fscanf(f, "%*d %*s %*c");
	for (i = 0; i < 18; i++)
		fscanf(f, "%*s");
	if (fscanf(f, "%llu", &at) != 1)
		at = 0;
	fclose(f);
	return at;
}

static const char *pin_of(char path[256], unsigned long long ns, pid_t pid, const char *behind)
{
	snprintf(path, 256, SPL_LISTED_DIR "/%llu-%d-%llu%s", ns, pid, started(), behind);
	return path;
}

/* A map as the library's, pinned there. Its records, or MAP_FAILED. */
static struct spl_listed *pin_other(const char *path)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "other", sizeof(uint32_t), sizeof(struct spl_listed), SPL_LISTED_MOST, &opts);
	struct spl_listed *records = MAP_FAILED;

	mkdir(SPL_LISTED_DIR, 0700);
	if (!bpf_obj_pin(fd, path))
		records = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return records;
}

/* Whatever a process writes: whose it is does not change, and no address is taken for one that is none. */
TEST_F(sockmap_list, garbage)
{
	struct spl_listed *records;
	char path[256], text[4096];
	int i, n;

	records = pin_other(pin_of(path, own_namespace(), getpid(), ""));
	ASSERT_NE(MAP_FAILED, records);
	ASSERT_EQ(0, chown(path, 12345, -1));
	memset(records, 0xa5, ROOM);
	n = spl_sockmap_listed(&self->all);
	EXPECT_EQ(SPL_LISTED_MOST, n);
	for (i = 0; i < n; i++) {
		ASSERT_EQ(getpid(), self->all[i].pid);
		ASSERT_EQ(12345, self->all[i].uid);
		ASSERT_EQ(own_namespace(), self->all[i].ns);
		ASSERT_EQ(0, self->all[i].local[0].sin6_family + self->all[i].local[1].sin6_family);
		ASSERT_GE(1, self->all[i].pair);
	}
	EXPECT_EQ(0, splicectl("list > /dev/null", text, sizeof(text)));
	EXPECT_EQ(0, splicectl("list --json > /dev/null", text, sizeof(text)));
	EXPECT_EQ(0, splicectl("list | tail -n 2", text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, " more so far")) {
		TH_LOG("%s", text);
	}
	/* one address of two is none */
	memset(&records[1], 0, sizeof(records[1]));
	records[1].token = 77;
	records[1].local[0].sin6_family = AF_INET6;
	records[1].remote[0].sin6_family = AF_UNIX;
	free(self->all);
	ASSERT_LT(0, spl_sockmap_listed(&self->all));
	EXPECT_EQ(77, self->all[0].token);
	EXPECT_EQ(0, self->all[0].local[0].sin6_family);
	unlink(path);
	munmap(records, ROOM);
}

/* A name that nobody of us gives, and one of a process that is gone. */
TEST_F(sockmap_list, names)
{
	unsigned long long ns = own_namespace();
	const char *names[] = { "x", "1-2", "0-0-0", NULL };
	char path[256], dead_path[256];
	struct spl_listed *r;
	pid_t dead = fork();
	int i;

	if (!dead)
		_exit(0);
	ASSERT_EQ(dead, waitpid(dead, NULL, 0));
	for (i = 0; i < 4; i++) {
		if (names[i])
			snprintf(path, sizeof(path), SPL_LISTED_DIR "/%s", names[i]);
		else
			pin_of(path, ns, getpid(), "x");
		r = pin_other(path);
		ASSERT_NE(MAP_FAILED, r);
		r[1].token = 1;
		munmap(r, ROOM);
		EXPECT_EQ(0, spl_sockmap_listed(&self->all));
		unlink(path);
	}
	r = pin_other(pin_of(dead_path, ns, dead, ""));
	ASSERT_NE(MAP_FAILED, r);
	r[1].token = 1;
	munmap(r, ROOM);
	EXPECT_EQ(-ENOENT, spl_sockmap_listed(&self->all));
}

static int times(const char *text, const char *what)
{
	int n = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		n++;
	}
	return n;
}

TEST_F(sockmap_list, one_number_in_two_namespaces)
{
	char path[256], show[64], text[4096];
	struct spl_listed *r;

	ASSERT_EQ(0, open_it(&self->s, NULL));
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	r = pin_other(pin_of(path, own_namespace() + 1, getpid(), ""));
	ASSERT_NE(MAP_FAILED, r);
	r[1].token = self->token;
	munmap(r, ROOM);
	EXPECT_EQ(2, spl_sockmap_listed(&self->all));
	snprintf(show, sizeof(show), "show %d/%llu", getpid(), (unsigned long long)self->token);
	EXPECT_EQ(0, splicectl(show, text, sizeof(text)));
	EXPECT_EQ(2, times(text, "pid_ns")) {
		TH_LOG("%s", text);
	}
	snprintf(show, sizeof(show), "%llu", own_namespace());
	EXPECT_EQ(1, times(text, show));
	snprintf(show, sizeof(show), "show --json %d/%llu", getpid(), (unsigned long long)self->token);
	EXPECT_EQ(0, splicectl(show, text, sizeof(text)));
	EXPECT_EQ(2, times(text, "\"pid_ns\":"));
	unlink(path);
}

TEST_F(sockmap_list, no_place)
{
	char path[256], text[4096];
	struct spl_listed *own;
	int fd, i;

	ASSERT_EQ(0, open_it(&self->s, NULL));
	fd = bpf_obj_get(pin_of(path, own_namespace(), getpid(), ""));
	own = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, own);
	close(fd);
	for (i = 1; i < SPL_LISTED_MOST; i++)
		own[i].began = 1;
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(1, spl_sockmap_listed(&self->all));
	EXPECT_EQ(0, self->all->token);
	EXPECT_EQ(1, self->all->unlisted);
	EXPECT_EQ(getpid(), self->all->pid);
	EXPECT_EQ(0, splicectl("list", text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, ": 1 more so far")) {
		TH_LOG("%s", text);
	}
	EXPECT_EQ(0, splicectl("list --json", text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "\"unlisted\":1")) {
		TH_LOG("%s", text);
	}
	munmap(own, ROOM);
}

/* ---- who may not */

/* Beside the tests, or installed in a guest. */
static int open_tool(void)
{
	static const char *const from[] = { "/../splicectl", "/../../splicectl", "/../usr/bin/splicectl" };
	char self[256] = { 0 }, path[300];
	int i, fd = -1;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return -errno;
	*strrchr(self, '/') = '\0';
	for (i = 0; fd < 0 && i < 3; i++) {
		snprintf(path, sizeof(path), "%s%s", self, from[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	return fd;
}

static bool become_nobody(void)
{
	return !setgroups(0, NULL) && !setgid(65534) && !setuid(65534);
}

static bool lose_netlink(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Its exit status; out: both of its outputs. */
static int run_list(bool (*first)(void), char *out, size_t room)
{
	char *const argv[] = { "splicectl", "list", NULL }, *const env[] = { NULL };
	int tool = open_tool(), fds[2];
	size_t n = 0;
	ssize_t r;
	pid_t pid;

	if (tool < 0 || pipe(fds))
		return -errno;
	pid = fork();
	if (!pid) {
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		if (first())
			fexecve(tool, argv, env);
		_exit(99);
	}
	close(fds[1]);
	close(tool);
	while (n < room - 1 && (r = read(fds[0], out + n, room - 1 - n)) > 0)
		n += r;
	out[n] = '\0';
	close(fds[0]);
	return reap(pid);
}

TEST_F(sockmap_list, who_may_not_read_it_is_told)
{
	char text[4096];

	ASSERT_EQ(0, open_it(&self->s, NULL));
	EXPECT_EQ(1, run_list(become_nobody, text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, SPL_LISTED_DIR ": Operation not permitted")) {
		TH_LOG("%s", text);
	}
}

/* That the module could not be asked is no less an error because something was listed. */
TEST_F(sockmap_list, no_netlink)
{
	char text[4096];

	ASSERT_EQ(0, open_it(&self->s, NULL));
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	EXPECT_EQ(1, run_list(lose_netlink, text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "netlink: Permission denied")) {
		TH_LOG("%s", text);
	}
	EXPECT_NE(NULL, strstr(text, "sockmap/sk_skb"));
}

SUITE_MAIN
