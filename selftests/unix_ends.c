// SPDX-License-Identifier: GPL-2.0
/* unix_ends.c: what AF_UNIX has beside bytes, and how its ends differ from TCP's. */
#include "harness.h"

#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>

#define SEED 1
#define BACK 2

FIXTURE(unix_ends) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct spl_event ev;
};

FIXTURE_VARIANT(unix_ends) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
};

VARIANT(unix_ends, kmod_unix, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX);
VARIANT(unix_ends, kmod_unix2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX_TO_TCP);
VARIANT(unix_ends, kmod_tcp2unix, .engine = SPL_ENGINE_KMOD, .net = NET_TCP_TO_UNIX);
VARIANT(unix_ends, user_unix, .engine = SPL_ENGINE_USER, .net = NET_UNIX);
VARIANT(unix_ends, user_unix2tcp, .engine = SPL_ENGINE_USER, .net = NET_UNIX_TO_TCP);
VARIANT(unix_ends, user_tcp2unix, .engine = SPL_ENGINE_USER, .net = NET_TCP_TO_UNIX);
VARIANT(unix_ends, user_unix_lossless, .engine = SPL_ENGINE_USER, .net = NET_UNIX, .require = SPL_CAP_LOSSLESS);

FIXTURE_SETUP(unix_ends)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(unix_ends)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define forward(n, ...)									\
	begun(spl_forward(self->s, self->r.a, self->r.b, n, OPTS(__VA_ARGS__), &self->token))

#define failed(why, err)								\
	do {										\
		ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));		\
		EXPECT_EQ(why, self->ev.cause) {					\
			TH_LOG("ended %s: %s", spl_cause_name(self->ev.cause), strerror(self->ev.error)); \
		}									\
		EXPECT_EQ(err, self->ev.error) {					\
			TH_LOG("ended %s: %s", spl_cause_name(self->ev.cause), strerror(self->ev.error)); \
		}									\
	} while (0)

/* Sends these bytes and a descriptor with them. */
static int put_fd(int to, int fd, const char *bytes, size_t len)
{
	union { struct cmsghdr hdr; char space[CMSG_SPACE(sizeof(int))]; } control = { .hdr = {
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)),
	} };
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };

	memcpy(CMSG_DATA(&control.hdr), &fd, sizeof(fd));
	return sendmsg(to, &msg, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -errno;
}

/* The next bytes, which must be these, and the control message of that type that comes with them; its length, -errno. */
static int take_control(int from, const char *bytes, size_t len, int type, void *data, size_t size)
{
	char control[CMSG_SPACE(256)], buf[256];
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c;

	if (poll_fd(from, POLLIN, WAIT_MS) <= 0)
		return -ETIMEDOUT;
	if (recvmsg(from, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != (ssize_t)len)
		return -errno;
	if (memcmp(buf, bytes, len))
		return -EILSEQ;
	for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == type) {
			memcpy(data, CMSG_DATA(c), size);
			return c->cmsg_len - CMSG_LEN(0);
		}
	}
	return -ENOMSG;
}

static bool same_file(int x, int y)
{
	struct stat a, b;

	return !fstat(x, &a) && !fstat(y, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

#define gets_its_descriptor(from, file)							\
	do {										\
		int __got = -1;								\
		EXPECT_EQ((int)sizeof(int), take_control(from, "with it", 7, SCM_RIGHTS, &__got, sizeof(__got))); \
		EXPECT_TRUE(__got >= 0 && same_file(__got, file));			\
		close_fd(&__got);							\
	} while (0)

/* Whoever can be sent a descriptor must not lose it to somebody who forwards bytes. */
NEEDS(unix_ends, descriptor, NEEDS_UNIX_CLIENT);
TEST_F_TIMEOUT(unix_ends, descriptor, 60)
{
	static const unsigned int data[] = { 0, 1, 5000, 100000 };
	int file = open("/proc/self/exe", O_RDONLY);
	unsigned int i;

	ASSERT_LE(0, file);
	for (i = 0; i < 2 * ARRAY_SIZE(data); i++) {
		unsigned int len = data[i / 2];

		if (i % 2 == 0)
			forward(SPL_ALL, .flags = 0);
		ASSERT_EQ(0, put(self->r.c, SEED, 0, len));
		ASSERT_EQ(0, put_fd(self->r.c, file, "with it", 7));
		ASSERT_EQ(0, put(self->r.c, BACK, 0, 10));
		if (i % 2)
			forward(SPL_ALL, .flags = 0);
		failed(SPL_SOURCE_FAILED, EPROTO);
		EXPECT_EQ(len, self->ev.bytes);
		EXPECT_EQ(0, take(self->r.s, SEED, 0, len));
		EXPECT_EQ(0, at_quiet(self->r.s));
		gets_its_descriptor(self->r.a, file);
		EXPECT_EQ(0, take(self->r.a, BACK, 0, 10));
		EXPECT_EQ(0, alive(self->r.c, self->r.a));
		EXPECT_EQ(0, alive(self->r.b, self->r.s));
		ASSERT_EQ(1, _metadata->passed) {
			TH_LOG("after %u bytes, %s", len, i % 2 ? "begun behind it" : "begun before it");
		}
	}
	close(file);
}

/* n ends before it. */
NEEDS(unix_ends, descriptor_behind_n, NEEDS_UNIX_CLIENT);
TEST_F(unix_ends, descriptor_behind_n)
{
	int file = open("/proc/self/exe", O_RDONLY);

	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
	ASSERT_EQ(0, put_fd(self->r.c, file, "with it", 7));
	forward(100, .flags = 0);
	failed(SPL_DONE, 0);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
	gets_its_descriptor(self->r.a, file);
	close(file);
}

/* A kept pair is the caller's again; of one that was given away nobody is left to take the descriptor. */
NEEDS(unix_ends, descriptor_in_a_pair, NEEDS_UNIX_CLIENT);
TEST_F(unix_ends, descriptor_in_a_pair)
{
	int file = open("/proc/self/exe", O_RDONLY);

	begun(spl_splice_pair(self->s, self->r.a, self->r.b, OPTS(.flags = SPL_F_KEEP), &self->token));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
	ASSERT_EQ(0, put_fd(self->r.c, file, "with it", 7));
	failed(SPL_SOURCE_FAILED, EPROTO);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
	gets_its_descriptor(self->r.a, file);
	EXPECT_EQ(0, alive(self->r.c, self->r.a));
	EXPECT_EQ(0, alive(self->r.b, self->r.s));
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put_fd(self->r.c, file, "with it", 7));
	failed(SPL_SOURCE_FAILED, EPROTO);
	EXPECT_EQ(0, at_cut(self->r.s));
	EXPECT_EQ(0, at_cut(self->r.c));
	close(file);
}

/* Who asks on the sink's side for the sender's credentials gets those of the process that forwards. */
NEEDS(unix_ends, credentials_of_the_sender, NEEDS_UNIX_SERVER);
TEST_F(unix_ends, credentials_of_the_sender)
{
	struct ucred who = { 0 };
	int ret;

	ASSERT_EQ(0, set_opt(self->r.s, SOL_SOCKET, SO_PASSCRED, 1));
	ret = spl_forward(self->s, self->r.a, self->r.b, 5, NULL, &self->token);
	if (ret) {
		EXPECT_EQ(-EOPNOTSUPP, ret);
		EXPECT_EQ(SPL_ENGINE_KMOD, variant->engine);
		return;
	}
	ASSERT_EQ(0, put_bytes(self->r.c, "hello", 5));
	EXPECT_EQ((int)sizeof(who), take_control(self->r.s, "hello", 5, SCM_CREDENTIALS, &who, sizeof(who)));
	EXPECT_EQ(getpid(), who.pid);
	EXPECT_EQ(getuid(), who.uid);
	EXPECT_EQ(getgid(), who.gid);
	failed(SPL_DONE, 0);
}

/* Also who asks for them only later. */
NEEDS(unix_ends, credentials_later, NEEDS_UNIX_SERVER);
TEST_F(unix_ends, credentials_later)
{
	struct ucred who = { 0 };
	int ret;

	forward(10, .flags = 0);
	ASSERT_EQ(0, put_bytes(self->r.c, "hello", 5));
	ASSERT_EQ(0, take_bytes(self->r.s, "hello", 5));
	ASSERT_EQ(0, set_opt(self->r.s, SOL_SOCKET, SO_PASSCRED, 1));
	ASSERT_EQ(0, put_bytes(self->r.c, "again", 5));
	ASSERT_EQ(0, event_of(self->s, self->token, &self->ev));
	if (self->ev.cause == SPL_SINK_FAILED) {
		EXPECT_EQ(EOPNOTSUPP, self->ev.error);
		EXPECT_EQ(SPL_ENGINE_KMOD, variant->engine);
		return;
	}
	EXPECT_EQ(SPL_DONE, self->ev.cause);
	ret = take_control(self->r.s, "again", 5, SCM_CREDENTIALS, &who, sizeof(who));
	EXPECT_EQ((int)sizeof(who), ret);
	EXPECT_EQ(getpid(), who.pid);
	EXPECT_EQ(getuid(), who.uid);
}

/* A source that asks for the sender's would lose them. */
NEEDS(unix_ends, credentials_of_the_source, NEEDS_UNIX_CLIENT | NEEDS_KMOD);
TEST_F(unix_ends, credentials_of_the_source)
{
	ASSERT_EQ(0, set_opt(self->r.a, SOL_SOCKET, SO_PASSCRED, 1));
	EXPECT_EQ(-EOPNOTSUPP, spl_forward(self->s, self->r.a, self->r.b, 5, NULL, &self->token));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	EXPECT_EQ(-EOPNOTSUPP, spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	/* as a sink it is one like others */
	begun(spl_forward(self->s, self->r.b, self->r.a, 5, NULL, &self->token));
	ASSERT_EQ(0, put(self->r.s, SEED, 0, 5));
	failed(SPL_DONE, 0);
	EXPECT_EQ(0, take(self->r.c, SEED, 0, 5));
}

/* An offset for peeking is set aside, and has gone back by what was taken when the end is free again. */
NEEDS(unix_ends, peek_offset, NEEDS_UNIX_CLIENT | NEEDS_KMOD);
TEST_F(unix_ends, peek_offset)
{
	ASSERT_EQ(0, set_opt(self->r.a, SOL_SOCKET, SO_PEEK_OFF, 8));
	forward(5, .flags = 0);
	EXPECT_EQ(-EBUSY, set_opt(self->r.a, SOL_SOCKET, SO_PEEK_OFF, 3));
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 20));
	failed(SPL_DONE, 0);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 5));
	EXPECT_EQ(3, get_opt(self->r.a, SOL_SOCKET, SO_PEEK_OFF));
	ASSERT_EQ(0, set_opt(self->r.a, SOL_SOCKET, SO_PEEK_OFF, -1));
	EXPECT_EQ(0, take(self->r.a, SEED, 5, 15));
}


/* Newer kernels have an urgent byte here too; it is in nobody's way. */
NEEDS(unix_ends, urgent_byte, NEEDS_UNIX_CLIENT);
TEST_F(unix_ends, urgent_byte)
{
	uint64_t urgent = 0;
	char byte;

	ASSERT_EQ(0, put(self->r.c, SEED, 0, 10));
	if (send(self->r.c, "!", 1, MSG_OOB | MSG_DONTWAIT) != 1)
		SKIP(return, "no urgent byte in AF_UNIX here: %s", strerror(errno));
	ASSERT_EQ(0, put(self->r.c, SEED, 10, 10));
	forward(SPL_ALL, .flags = SPL_F_SHUTDOWN);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 10));
	/* the byte may be left out, or be one like others; not taken for what comes after it */
	ASSERT_LT(0, poll_fd(self->r.s, POLLIN, WAIT_MS));
	ASSERT_EQ(1, recv(self->r.s, &byte, 1, MSG_PEEK));
	if (byte == '!') {
		ASSERT_EQ(1, recv(self->r.s, &byte, 1, 0));
		urgent++;
	}
	EXPECT_EQ(0, take(self->r.s, SEED, 10, 10));
	ASSERT_EQ(0, fin(&self->r.c));
	failed(SPL_EOF, 0);
	EXPECT_EQ(20 + urgent, self->ev.bytes);
}

/* The peer goes with bytes that it has not read: that is AF_UNIX's only reset. */
NEEDS(unix_ends, peer_goes_with_bytes, NEEDS_UNIX_SERVER);
TEST_F(unix_ends, peer_goes_with_bytes)
{
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
	ASSERT_EQ(0, wait_queued(self->r.s, 100));
	close_fd(&self->r.s);
	failed(SPL_SINK_FAILED, ECONNRESET);
	EXPECT_EQ(100, self->ev.bytes);
	EXPECT_EQ(0, at_cut(self->r.c));
}

NEEDS(unix_ends, source_goes_with_bytes, NEEDS_UNIX_CLIENT);
TEST_F(unix_ends, source_goes_with_bytes)
{
	begun(spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, put(self->r.s, BACK, 0, 100));
	ASSERT_EQ(0, wait_queued(self->r.c, 100));
	close_fd(&self->r.c);
	failed(SPL_SOURCE_FAILED, ECONNRESET);
	EXPECT_EQ(100, self->ev.bytes_back);
	EXPECT_EQ(0, at_cut(self->r.s));
}

/* Nobody acknowledges anything: what was handed over is drained. */
NEEDS(unix_ends, drain, NEEDS_UNIX_SERVER);
TEST_F(unix_ends, drain)
{
	forward(1000, .flags = SPL_F_DRAIN);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 1000));
	failed(SPL_DONE, 0);
	EXPECT_EQ(0, self->ev.unacked);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	forward(1000, .flags = 0);
	ASSERT_EQ(0, put(self->r.c, SEED, 1000, 1000));
	failed(SPL_DONE, 0);
	EXPECT_EQ(0, self->ev.unacked);
}

/* Buffers so small that a message goes through in many pieces. */
TEST_F_TIMEOUT(unix_ends, small_buffers, 60)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = scaled(300000), .fin = true };
	struct stream rx = { .fd = self->r.s, .seed = SEED, .len = SPL_ALL, .chunk = 3000 };

	ASSERT_EQ(0, set_opt(self->r.c, SOL_SOCKET, SO_SNDBUF, 4096));
	ASSERT_EQ(0, set_opt(self->r.b, SOL_SOCKET, SO_SNDBUF, 4096));
	ASSERT_EQ(0, set_opt(self->r.s, SOL_SOCKET, SO_RCVBUF, 4096));
	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, stream_recv(&rx));
	ASSERT_EQ(0, stream_send(&tx));
	EXPECT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, stream_join(&rx));
	EXPECT_EQ(tx.len, rx.done);
	failed(SPL_EOF, 0);
	EXPECT_EQ(tx.len, self->ev.bytes);
}

/* Bytes from a socket into its own peer would go round for ever; in a circle of several that is the caller's doing. */
NEEDS(unix_ends, loop, NEEDS_UNIX_CLIENT);
TEST_F(unix_ends, loop)
{
	EXPECT_EQ(-ELOOP, spl_forward(self->s, self->r.a, self->r.c, 1, NULL, &self->token));
	EXPECT_EQ(-ELOOP, spl_forward(self->s, self->r.c, self->r.a, 1, NULL, &self->token));
	EXPECT_EQ(-ELOOP, spl_splice(self->s, self->r.a, self->r.c, NULL, &self->token));
	EXPECT_EQ(-ELOOP, spl_splice_pair(self->s, self->r.a, self->r.c, NULL, &self->token));
	EXPECT_LT(0, strlen(spl_strerror_last(self->s)));
	EXPECT_EQ(0, no_event(self->s));
	EXPECT_EQ(0, alive(self->r.a, self->r.c));
}

#define expect_busy(call)					\
	do {							\
		errno = 0;					\
		EXPECT_EQ(-1, call);				\
		EXPECT_EQ(EBUSY, errno) {			\
			TH_LOG("%s: %m", #call);		\
		}						\
	} while (0)

/* Where TCP has calls of its own AF_UNIX has others; exclusive.c has those of both. */
NEEDS(unix_ends, busy, SPL_CAP_EXCLUSIVE | NEEDS_UNIX_CLIENT);
TEST_F(unix_ends, busy)
{
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
	int file = open("/proc/self/exe", O_RDONLY), got = 0, n;

	forward(SPL_ALL, .flags = 0);
	expect_busy(take_control(self->r.a, "", 0, 0, &got, 0) < 0 ? (errno = EBUSY, -1) : 0);
	expect_busy(recv(self->r.a, &n, 1, MSG_PEEK | MSG_DONTWAIT));
	expect_busy(recv(self->r.a, &n, 1, MSG_OOB | MSG_DONTWAIT));
	expect_busy(shutdown(self->r.a, SHUT_RD));
	/* whatever they answer, the flow has not noticed */
	connect(self->r.a, &nowhere, sizeof(nowhere));
	connect(self->r.a, (void *)&any, sizeof(any.sun_family));
	bind(self->r.a, (void *)&any, sizeof(any.sun_family));
	listen(self->r.a, 1);
	ioctl(self->r.a, FIONREAD, &n);
	ioctl(self->r.a, TIOCOUTQ, &n);
	EXPECT_EQ(0, poll_fd(self->r.a, POLLIN, 0));
	/* descriptors go the other way */
	EXPECT_EQ(0, put_fd(self->r.a, file, "with it", 7));
	gets_its_descriptor(self->r.c, file);
	ASSERT_EQ(0, put(self->r.c, SEED, 0, 100));
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 100));
	ASSERT_EQ(0, fin(&self->r.c));
	failed(SPL_EOF, 0);
	close(file);
}

/* A socket that was bound to a path and accepted: its name goes, the connection does not. */
NEEDS(unix_ends, garbage, NEEDS_UNIX_CLIENT | NEEDS_UNIX_SERVER);
TEST_F_TIMEOUT(unix_ends, garbage, 60)
{
	unsigned int i, rounds = scaled(200);

	/* sockets that travel in themselves: the collector looks at those which a flow holds */
	forward(SPL_ALL, .flags = 0);
	for (i = 0; i < rounds; i++) {
		int fds[2];

		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
		ASSERT_EQ(0, put_fd(fds[0], fds[0], "self", 4));
		ASSERT_EQ(0, put_fd(fds[0], fds[1], "peer", 4));
		ASSERT_EQ(0, put_fd(fds[0], self->r.a, "end", 3));
		close(fds[0]);
		close(fds[1]);
		ASSERT_EQ(0, put(self->r.c, SEED, i, 1));
		ASSERT_EQ(0, take(self->r.s, SEED, i, 1));
	}
	ASSERT_EQ(0, fin(&self->r.c));
	failed(SPL_EOF, 0);
}

SUITE_MAIN
