// SPDX-License-Identifier: GPL-2.0
/* kinds.c: ends of other kinds, where the machine has them: MPTCP and vsock; and connections that a server accepted from a path. */
#include "harness.h"

#include <linux/vm_sockets.h>
#include <sys/un.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef VMADDR_CID_LOCAL
#define VMADDR_CID_LOCAL 1
#endif

#define SEED 1
#define BACK 2

enum kind { MPTCP, VSOCK, UNIX_PATH };

FIXTURE(kinds) {
	struct spl *s;
	int c, a;		/* the special connection */
	int err;		/* there are none such here */
	struct relay r;		/* its b and s are the other side */
	uint64_t token;
	struct spl_event ev;
};

FIXTURE_VARIANT(kinds) {
	enum spl_engine engine;
	enum kind kind;
	uint32_t require;
};

VARIANT(kinds, user_mptcp, .engine = SPL_ENGINE_USER, .kind = MPTCP);
VARIANT(kinds, user_mptcp_lossless, .engine = SPL_ENGINE_USER, .kind = MPTCP,
	.require = SPL_CAP_LOSSLESS);
VARIANT(kinds, kmod_vsock, .engine = SPL_ENGINE_KMOD, .kind = VSOCK);
VARIANT(kinds, kmod_unixpath, .engine = SPL_ENGINE_KMOD, .kind = UNIX_PATH);
VARIANT(kinds, user_vsock, .engine = SPL_ENGINE_USER, .kind = VSOCK);
VARIANT(kinds, user_unixpath, .engine = SPL_ENGINE_USER, .kind = UNIX_PATH);

static int kind_socket(enum kind kind)
{
	int fd = socket(kind == MPTCP ? AF_INET : kind == VSOCK ? AF_VSOCK : AF_UNIX,
			SOCK_STREAM | SOCK_CLOEXEC, kind == MPTCP ? IPPROTO_MPTCP : 0);

	return fd < 0 ? -errno : fd;
}

static socklen_t kind_address(enum kind kind, struct sockaddr_storage *addr)
{
	struct sockaddr_vm vm = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL,
				  .svm_port = VMADDR_PORT_ANY };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	memset(addr, 0, sizeof(*addr));
	switch (kind) {
	case MPTCP:
		memcpy(addr, &in, sizeof(in));
		return sizeof(in);
	case VSOCK:
		memcpy(addr, &vm, sizeof(vm));
		return sizeof(vm);
	default:
		/* a name of the kernel's choice, which is in no file system */
		memcpy(addr, &un, sizeof(un));
		return sizeof(un.sun_family);
	}
}

/* fds[0] connected, fds[1] accepted; -errno when there are none such here. */
static int kind_pair(enum kind kind, int fds[2])
{
	struct sockaddr_storage addr;
	socklen_t len = kind_address(kind, &addr);
	int listening = kind_socket(kind), err;

	fds[0] = fds[1] = -1;
	if (listening < 0)
		return listening;
	fds[0] = kind_socket(kind);
	err = bind(listening, (void *)&addr, len) || listen(listening, 1);
	len = sizeof(addr);
	err = err || getsockname(listening, (void *)&addr, &len) ||
	      connect(fds[0], (void *)&addr, len) ? -errno : 0;
	if (!err)
		fds[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	close(listening);
	return err;
}

FIXTURE_SETUP(kinds)
{
	int fds[2];

	self->err = kind_pair(variant->kind, fds);
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
	self->c = fds[0];
	self->a = fds[1];
}

FIXTURE_TEARDOWN(kinds)
{
	spl_close(self->s);
	relay_close(&self->r);
	close_fd(&self->c);
	close_fd(&self->a);
}

#define connected()									\
	do {										\
		if (self->err)								\
			SKIP(return, "no such sockets on this machine: %s", strerror(-self->err)); \
	} while (0)

TEST_F(kinds, forward_from)
{
	connected();
	begun(spl_forward(self->s, self->a, self->r.b, 50000, NULL, &self->token));
	ASSERT_EQ(0, put(self->c, SEED, 0, 50001));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 50000));
	ends(self->token, SPL_DONE, 0, 50000);
	EXPECT_EQ(0, take(self->a, SEED, 50000, 1));
	EXPECT_EQ(0, alive(self->a, self->c));
}

TEST_F(kinds, forward_to)
{
	connected();
	begun(spl_forward(self->s, self->r.b, self->a, 50000, NULL, &self->token));
	ASSERT_EQ(0, put(self->r.s, SEED, 0, 50001));
	EXPECT_EQ(0, take(self->c, SEED, 0, 50000));
	ends(self->token, SPL_DONE, 0, 50000);
	EXPECT_EQ(0, take(self->r.b, SEED, 50000, 1));
	EXPECT_EQ(0, alive(self->a, self->c));
}

TEST_F_TIMEOUT(kinds, pair, 100)
{
	struct stream st[4] = {
		{ .fd = self->c, .seed = SEED, .len = scaled(5000000), .fin = true },
		{ .fd = self->r.s, .seed = SEED, .len = SPL_ALL },
		{ .fd = self->r.s, .seed = BACK, .len = scaled(4000000), .fin = true, .chunk = 3000 },
		{ .fd = self->c, .seed = BACK, .len = SPL_ALL, .chunk = 5000 },
	};
	int i;

	connected();
	begun(spl_splice_pair(self->s, self->a, self->r.b, NULL, &self->token));
	self->a = self->r.b = -1;
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, i % 2 ? stream_recv(st + i) : stream_send(st + i));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, stream_join(st + i));
	EXPECT_EQ(st[0].len, st[1].done);
	EXPECT_EQ(st[2].len, st[3].done);
	ends(self->token, SPL_EOF, 0, st[0].len);
}

TEST_F(kinds, delimiter)
{
	connected();
	begun(spl_forward(self->s, self->a, self->r.b, SPL_ALL, OPTS(.delim = "\r\n", .delim_len = 2),
			  &self->token));
	ASSERT_EQ(0, put_bytes(self->c, "one\r\ntwo", 8));
	ends(self->token, SPL_DELIM, 0, 5);
	EXPECT_EQ(0, take_bytes(self->a, "two", 3));
}

TEST_F_TIMEOUT(kinds, cancelled_while_blocked, 60)
{
	struct stream tx = { .fd = self->c, .seed = SEED, .len = SPL_ALL };

	connected();
	begun(spl_forward(self->s, self->a, self->r.b, SPL_ALL, NULL, &self->token));
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_stuck(&tx, 300));
	ASSERT_EQ(0, spl_cancel(self->s, self->token));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	tx.stop = true;
	EXPECT_EQ(0, take(self->r.s, SEED, 0, self->ev.bytes));
	EXPECT_EQ(0, at_quiet(self->r.s));
	ASSERT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, take_back(self->s, self->token, self->a, SEED, self->ev.bytes,
			       tx.done - self->ev.bytes));
}

SUITE_MAIN
