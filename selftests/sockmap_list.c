// SPDX-License-Identifier: GPL-2.0
/* sockmap_list.c: the splices of the engine sockmap are seen from outside, as long as they are there; with a bpffs of our own. */
#include "listing.h"

#include <arpa/inet.h>
#include <sys/wait.h>

#include <bpf/bpf.h>

#define BACK 2

static int port(int fd, bool local)
{
	struct sockaddr_in in = { 0 };
	socklen_t len = sizeof(in);

	return (local ? getsockname(fd, (struct sockaddr *)&in, &len) : getpeername(fd, (struct sockaddr *)&in, &len)) ? -errno : in.sin_port;
}

TEST_F(sockmap_list, as_it_is)
{
	int a[2] = { port(self->r.a, true), port(self->r.a, false) }, b[2] = { port(self->r.b, true), port(self->r.b, false) };
	const struct spl_listed *r;

	ASSERT_EQ(0, open_it(&self->s, NULL));
	EXPECT_EQ(0, spl_sockmap_listed(&self->all));
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, spl_next(self->s, &self->ev, 0));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 3000));
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 70000));
	ASSERT_EQ(0, take(self->r.s, SEED, 0, 3000));
	ASSERT_EQ(0, take(self->r.c, BACK, 0, 70000));
	free(self->all);
	ASSERT_EQ(1, spl_sockmap_listed(&self->all));
	r = self->all;
	EXPECT_EQ(self->token, r->token);
	EXPECT_TRUE(r->pair);
	EXPECT_EQ(SPL_LISTED_SK_SKB, r->mode);
	/* the library has not looked since */
	EXPECT_EQ(3000, r->bytes[0]);
	EXPECT_EQ(70000, r->bytes[1]);
	EXPECT_EQ(SPL_LISTED_IDLE, r->state[0]);
	EXPECT_EQ(getpid(), r->pid);
	EXPECT_EQ(getuid(), r->uid);
	EXPECT_EQ(a[0], r->local[0].sin6_port);
	EXPECT_EQ(a[1], r->remote[0].sin6_port);
	EXPECT_EQ(b[0], r->local[1].sin6_port);
	EXPECT_EQ(b[1], r->remote[1].sin6_port);
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, fin(&self->r.s));
	ends(self->token, SPL_EOF, 0, 3000);
	free(self->all);
	EXPECT_EQ(0, spl_sockmap_listed(&self->all));
}

/* A forward is its caller's affair. */
TEST_F(sockmap_list, what_is_not)
{
	uint64_t token;

	ASSERT_EQ(0, open_it(&self->s, NULL));
	begun(spl_forward(self->s, self->r.a, self->r.b, 1, NULL, &token));
	EXPECT_EQ(0, spl_sockmap_listed(&self->all));
}

/* The way in the kernel of one that has ended is free for another, whose bytes are not this one's. */
static int listed_way(struct _test_data_sockmap_list *self)
{
	free(self->all);
	return spl_sockmap_listed(&self->all) == 1 ? (int)self->all->way[0] : -ENOENT;
}

TEST_F(sockmap_list, cancelled_and_not_collected)
{
	ASSERT_EQ(0, open_it(&self->s, NULL));
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, spl_next(self->s, &self->ev, 0));
	ASSERT_LT(0, listed_way(self));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	EXPECT_EQ(0, listed_way(self));
}

TEST_F(sockmap_list, revoked_and_not_collected)
{
	ASSERT_EQ(0, open_it(&self->s, NULL));
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, spl_next(self->s, &self->ev, 0));
	ASSERT_EQ(0, spl_revoke(self->s, self->token, EPERM));
	EXPECT_EQ(0, listed_way(self));
}

TEST_F(sockmap_list, local_mode)
{
	const char *why = cgroup_enter();
	int n = -ENOENT;

	if (why) {
		SKIP(return, "%s", why);
	}
	if (!open_it(&self->s, cgroup_path()) && !spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token)) {
		self->r.a = self->r.b = -1;
		n = spl_sockmap_listed(&self->all);
	}
	spl_close(self->s);
	self->s = NULL;
	cgroup_leave();
	ASSERT_EQ(1, n);
	EXPECT_EQ(SPL_LISTED_LOCAL, self->all->mode);
	EXPECT_FALSE(self->all->pair);
}

/* Two contexts have one list, which goes with the last. */
TEST_F(sockmap_list, two_contexts)
{
	struct spl *other;

	ASSERT_EQ(0, open_it(&self->s, NULL));
	ASSERT_EQ(0, open_it(&other, NULL));
	EXPECT_EQ(1, pins());
	begun(spl_splice(other, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	EXPECT_EQ(1, spl_sockmap_listed(&self->all));
	spl_close(other);
	free(self->all);
	EXPECT_EQ(0, spl_sockmap_listed(&self->all));
	EXPECT_EQ(1, pins());
}

/* How many there are; path: of one of them. */
static int only_pin(char *path, size_t room)
{
	DIR *dir = opendir(SPL_LISTED_DIR);
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (e->d_name[0] != '.')
			snprintf(path, room, "%s/%s", SPL_LISTED_DIR, e->d_name);
	if (dir)
		closedir(dir);
	return pins();
}

/* A process that has become another program finds what it pinned before. */
TEST_F(sockmap_list, own_pin_from_before)
{
	char path[300];
	int map;

	ASSERT_EQ(0, open_it(&self->s, NULL));
	ASSERT_EQ(1, only_pin(path, sizeof(path)));
	map = bpf_obj_get(path);
	ASSERT_LE(0, map);
	spl_close(self->s);
	ASSERT_EQ(0, pins());
	ASSERT_EQ(0, bpf_obj_pin(map, path));
	close(map);
	ASSERT_EQ(0, open_it(&self->s, NULL));
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	EXPECT_EQ(1, pins());
	EXPECT_EQ(1, spl_sockmap_listed(&self->all));
}

/* A child that ends leaves its parent's list alone; one that is killed leaves a pin, which the next one to look removes. */
TEST_F(sockmap_list, children)
{
	struct spl *s;
	int status;
	pid_t pid;

	ASSERT_EQ(0, open_it(&self->s, NULL));
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	pid = fork();
	if (!pid) {
		spl_close(self->s);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(1, spl_sockmap_listed(&self->all));
	pid = fork();
	if (!pid) {
		_exit(open_it(&s, NULL) ? 1 : kill(getpid(), SIGKILL));
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(2, pins());
	free(self->all);
	EXPECT_EQ(1, spl_sockmap_listed(&self->all));
	EXPECT_EQ(1, pins());
}

TEST_F(sockmap_list, the_tool_prints_it)
{
	char text[4096], show[64];

	ASSERT_EQ(0, open_it(&self->s, NULL));
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, splicectl("list", text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "sockmap/sk_skb")) {
		TH_LOG("%s", text);
	}
	ASSERT_EQ(0, splicectl("list --json", text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "\"engine\":\"sockmap\"")) {
		TH_LOG("%s", text);
	}
	snprintf(show, sizeof(show), "show %d/%llu", getpid(), (unsigned long long)self->token);
	ASSERT_EQ(0, splicectl(show, text, sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "127.0.0.1"));
	snprintf(show, sizeof(show), "show %d/%llu 2> /dev/null", getpid(), (unsigned long long)self->token + 1);
	EXPECT_NE(0, splicectl(show, text, sizeof(text)));
}

SUITE_MAIN
