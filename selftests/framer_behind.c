// SPDX-License-Identifier: GPL-2.0
/*
 * framer_behind.c: a beginning that is not enough to tell a record's length stays on the source, and
 * behind it what is no data: the forward ends all the same, as what that is.
 */
#include "harness.h"
#include "framed.h"

#include <bpf/libbpf.h>

FIXTURE(behind) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct bpf_object *obj;
};

FIXTURE_VARIANT(behind) {
	enum spl_engine engine;
	enum net net;
};

VARIANT(behind, kmod_unix, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX);
VARIANT(behind, kmod_unix2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX_TO_TCP);
VARIANT(behind, kmod_tls, .engine = SPL_ENGINE_KMOD, .net = NET_TLS);
VARIANT(behind, kmod_tls12, .engine = SPL_ENGINE_KMOD, .net = NET_TLS12);
VARIANT(behind, kmod_tls2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_TLS_TO_TCP);

FIXTURE_SETUP(behind)
{
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	self->obj = framer_load(FRAMER_LENGTH32, 0);
	ASSERT_NE(NULL, self->obj);
}

FIXTURE_TEARDOWN(behind)
{
	spl_close(self->s);
	relay_close(&self->r);
	bpf_object__close(self->obj);
}

#define forward(n, ...)									\
	begun(spl_forward(self->s, self->r.a, self->r.b, n,				\
			  OPTS(.framer = framer_fd(self->obj, "length32"), ##__VA_ARGS__), &self->token))

/* Is the source of this kind? A test is of those that can have what it is about. */
#define of_unix()	(variant->net == NET_UNIX || variant->net == NET_UNIX_TO_TCP)

#define ended_short(cause, error)							\
	do {										\
		ends(self->token, cause, error, 5);					\
		ASSERT_EQ(0, take_bytes(self->r.s, "\0\0\0\1x", 5));			\
		ASSERT_EQ(0, take_bytes(self->r.a, "\0\0\0", 3));			\
		EXPECT_EQ(0, alive(self->r.b, self->r.s));				\
	} while (0)

/* Bytes that come with a descriptor. */
static int put_fd(int fd, const char *bytes, size_t len)
{
	union { struct cmsghdr hdr; char room[CMSG_SPACE(sizeof(int))]; } control = { 0 };
	struct iovec iov = { (void *)bytes, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };

	control.hdr.cmsg_level = SOL_SOCKET;
	control.hdr.cmsg_type = SCM_RIGHTS;
	control.hdr.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.hdr), &fd, sizeof(fd));
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -errno;
}

static const struct {
	uint8_t type, bytes[8];
	size_t len;
	enum spl_cause cause;
	int error;
} records[] = {
	{ TLS_ALERT, { 1, 0 }, 2, SPL_EOF, 0 },
	{ TLS_ALERT, { 2, 40 }, 2, SPL_SOURCE_FAILED, ECONNABORTED },
	{ TLS_HANDSHAKE, { TLS_KEY_UPDATE, 0, 0, 1, 0 }, 5, SPL_SOURCE_FAILED, EKEYEXPIRED },
	{ TLS_HANDSHAKE, { TLS_NEW_SESSION_TICKET, 0, 0, 1, 0 }, 5, SPL_SOURCE_FAILED, EPROTO },
};

/* What is put behind the bytes sent so far; how the forward ends of it. */
#define put_behind(i)									\
	(of_unix() ? put_fd(self->r.c, "fd", 2) :					\
		     tls_put(self->r.c, records[i].type, records[i].bytes, records[i].len))
#define ended_by(i)									\
	do {										\
		if (of_unix()) {							\
			ended_short(SPL_SOURCE_FAILED, EPROTO);				\
			ASSERT_EQ(0, take_bytes(self->r.a, "fd", 2));			\
		} else {								\
			ended_short(records[i].cause, records[i].error);		\
			ASSERT_EQ(0, tls_take(self->r.a, records[i].type, records[i].bytes, records[i].len)); \
		}									\
	} while (0)

/* Another connection for each: after some records nothing more comes. */
#define again()										\
	do {										\
		relay_close(&self->r);							\
		ASSERT_EQ(0, relay_open(&self->r, variant->net));			\
	} while (0)

TEST_F(behind, there_already)
{
	unsigned int i;

	for (i = 0; i < (of_unix() ? 1 : ARRAY_SIZE(records)); i++) {
		again();
		ASSERT_EQ(0, put_bytes(self->r.c, "\0\0\0\1x\0\0\0", 8));
		ASSERT_EQ(0, put_behind(i));
		forward(SPL_ALL);
		ended_by(i);
	}
}

TEST_F(behind, comes_later)
{
	unsigned int i;

	for (i = 0; i < (of_unix() ? 1 : ARRAY_SIZE(records)); i++) {
		again();
		forward(SPL_ALL);
		ASSERT_EQ(0, put_bytes(self->r.c, "\0\0\0\1x\0\0\0", 8));
		ASSERT_EQ(0, wait_moved(self->s, self->token, 5));
		sleep_ms(QUIET_MS);
		EXPECT_EQ(0, no_event(self->s));
		ASSERT_EQ(0, put_behind(i));
		ended_by(i);
	}
}

/* Data behind it are what was missing, also in pieces of their own. */
TEST_F(behind, the_rest)
{
	forward(2);
	ASSERT_EQ(0, put_bytes(self->r.c, "\0\0\0\1x\0", 6));
	ASSERT_EQ(0, wait_moved(self->s, self->token, 5));
	ASSERT_EQ(0, put_bytes(self->r.c, "\0", 1));
	ASSERT_EQ(0, put_bytes(self->r.c, "\0", 1));
	ASSERT_EQ(0, put_bytes(self->r.c, "\2y", 2));
	ASSERT_EQ(0, put_bytes(self->r.c, "z!", 2));
	ends(self->token, SPL_DONE, 0, 11);
	ASSERT_EQ(0, take_bytes(self->r.s, "\0\0\0\1x\0\0\0\2yz", 11));
	ASSERT_EQ(0, take_bytes(self->r.a, "!", 1));
}

SUITE_MAIN
