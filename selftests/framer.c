// SPDX-License-Identifier: GPL-2.0
/* framer.c: a forward of n records. The program does what the first byte of a record tells it. */
#include "harness.h"
#include "framed.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define SEED 1

FIXTURE(framer) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct bpf_object *obj;
	int script;
};

FIXTURE_VARIANT(framer) {
	enum spl_engine engine;
	enum net net;
};

KMOD_FEW(framer);
VARIANT(framer, kmod_mapped, .engine = SPL_ENGINE_KMOD, .net = NET_MAPPED);

FIXTURE_SETUP(framer)
{
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	self->obj = framer_load(FRAMER_PROGS, 0);
	ASSERT_NE(NULL, self->obj);
	self->script = framer_fd(self->obj, "script");
}

FIXTURE_TEARDOWN(framer)
{
	spl_close(self->s);
	relay_close(&self->r);
	bpf_object__close(self->obj);
}

#define forward(n, ...)									\
	begun(spl_forward(self->s, self->r.a, self->r.b, n,				\
			  OPTS(.framer = self->script, ##__VA_ARGS__), &self->token))

#define arrives(text)	ASSERT_EQ(0, put_bytes(self->r.c, text, sizeof(text) - 1))
#define moved(text)	ASSERT_EQ(0, take_bytes(self->r.s, text, sizeof(text) - 1))
#define stays(text)	ASSERT_EQ(0, take_bytes(self->r.a, text, sizeof(text) - 1))

#define unharmed()									\
	do {										\
		EXPECT_EQ(0, alive(self->r.a, self->r.c));				\
		EXPECT_EQ(0, alive(self->r.b, self->r.s));				\
	} while (0)

TEST_F_TIMEOUT(framer, cut_anywhere, 60)
{
	static const char text[] = "3ab15bcde2x9and more";
	unsigned int at, len = sizeof(text) - 1, end = 11;

	for (at = 0; at < len; at++) {
		forward(4);
		ASSERT_EQ(0, put_bytes(self->r.c, text, at));
		if (at < end)
			ASSERT_EQ(0, wait_moved(self->s, self->token, at));
		ASSERT_EQ(0, put_bytes(self->r.c, text + at, len - at));
		ends(self->token, SPL_DONE, 0, end);
		ASSERT_EQ(0, take_bytes(self->r.s, text, end));
		ASSERT_EQ(0, take_bytes(self->r.a, text + end, len - end));
		ASSERT_EQ(1, _metadata->passed);
	}
}

TEST_F(framer, byte_by_byte)
{
	static const char text[] = "9bytewise15bcdeD\x03z2xthe rest";
	unsigned int i, end = 20;

	forward(5);
	for (i = 0; i < end; i++) {
		ASSERT_EQ(0, put_bytes(self->r.c, text + i, 1));
		if (i + 1 < end)
			ASSERT_EQ(0, wait_moved(self->s, self->token, i + (text[i] != 'D')));
	}
	arrives("the rest");
	ends(self->token, SPL_DONE, 0, end);
	ASSERT_EQ(0, take_bytes(self->r.s, text, end));
	stays("the rest");
}

TEST_F(framer, several_in_a_segment)
{
	char text[300];
	unsigned int i, n;

	for (n = 1; n <= 100; n += 9) {
		for (i = 0; i < 100; i++)
			memcpy(text + 3 * i, "3ab", 3);
		forward(n);
		ASSERT_EQ(0, put_bytes(self->r.c, text, 300));
		ends(self->token, SPL_DONE, 0, 3 * n);
		ASSERT_EQ(0, take_bytes(self->r.s, text, 3 * n));
		ASSERT_EQ(0, take_bytes(self->r.a, text + 3 * n, 300 - 3 * n));
	}
	EXPECT_EQ(0, at_quiet(self->r.s));
}

/* Also when they are sent together; and not of what comes after the last. */
TEST_F(framer, asked_once_for_each)
{
	forward(7);
	arrives("12x3ab4abc5abcd1" "9");
	arrives("12345678" "3ab");
	ends(self->token, SPL_DONE, 0, 25);
	EXPECT_EQ(7, framer_seen(self->obj).asked);
	moved("12x3ab4abc5abcd1912345678");
	stays("3ab");
}

TEST_F(framer, none)
{
	arrives("3ab");
	forward(0);
	ends(self->token, SPL_DONE, 0, 0);
	stays("3ab");
	EXPECT_EQ(0, framer_seen(self->obj).asked);
}

TEST_F(framer, one_after_the_other)
{
	arrives("3ab2c1");
	forward(1);
	ends(self->token, SPL_DONE, 0, 3);
	forward(1);
	ends(self->token, SPL_DONE, 0, 2);
	stays("1");
	moved("3ab2c");
}

/* What is there of a record moves; where it would end is nobody's concern. */
TEST_F(framer, record_cut_by_the_end)
{
	forward(SPL_ALL);
	arrives("3ab9xyz");
	ASSERT_EQ(0, fin(&self->r.c));
	ends(self->token, SPL_EOF, 0, 7);
	moved("3ab9xyz");
	EXPECT_EQ(0, at_quiet(self->r.s));
}

/* What cannot be told to be a record is the caller's, who then finds the end himself. */
TEST_F(framer, beginning_cut_by_the_end)
{
	struct spl_event ev;

	forward(SPL_ALL, .flags = SPL_F_SHUTDOWN);
	arrives("3abD");
	ASSERT_EQ(0, fin(&self->r.c));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_EOF, ev.cause);
	EXPECT_EQ(3, ev.bytes);
	EXPECT_EQ(0, ev.ended & SPL_END_SOURCE);
	moved("3ab");
	EXPECT_EQ(0, at_eof(self->r.s));
	stays("D");
	EXPECT_EQ(0, at_eof(self->r.a));
}

/* What is before it moves, it stays, and the connections live. */
TEST_F(framer, no_record)
{
	static const struct { char what; int error; } cases[] = {
		{ '!', EBADMSG }, { '@', EPROTO }, { '&', EPROTO }, { 'z', EPROTO },
	};
	unsigned int i, together;
	char text[8] = "3ab?tail";

	for (i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		together = i % 2;
		text[3] = cases[i / 2].what;
		forward(SPL_ALL);
		ASSERT_EQ(0, put_bytes(self->r.c, text, together ? 8 : 3));
		if (!together) {
			ASSERT_EQ(0, wait_moved(self->s, self->token, 3));
			ASSERT_EQ(0, put_bytes(self->r.c, text + 3, 5));
		}
		ends(self->token, SPL_SOURCE_FAILED, cases[i / 2].error, 3);
		moved("3ab");
		ASSERT_EQ(0, take_bytes(self->r.a, text + 3, 5));
		unharmed();
	}
}

/* It may look at so much, and no more. */
TEST_F(framer, never_enough)
{
	char text[256];

	memset(text, '?', sizeof(text));
	arrives("2x");
	forward(SPL_ALL);
	ASSERT_EQ(0, put_bytes(self->r.c, text, 100));
	ASSERT_EQ(0, put_bytes(self->r.c, text, 155));
	moved("2x");
	EXPECT_EQ(0, at_quiet(self->r.s));
	EXPECT_EQ(0, no_event(self->s));
	ASSERT_EQ(0, put_bytes(self->r.c, text, 1));
	ends(self->token, SPL_SOURCE_FAILED, EPROTO, 2);
	EXPECT_EQ(256, framer_seen(self->obj).most);
	ASSERT_EQ(0, take_bytes(self->r.a, text, 256));
	unharmed();
}

TEST_F(framer, late_answer)
{
	char text[300];

	memset(text, 'W', sizeof(text));
	forward(1);
	ASSERT_EQ(0, put_bytes(self->r.c, text, 255));
	EXPECT_EQ(0, at_quiet(self->r.s));
	ASSERT_EQ(0, put_bytes(self->r.c, text, 1));
	ASSERT_EQ(0, take_bytes(self->r.s, text, 256));
	ASSERT_EQ(0, put_bytes(self->r.c, text, 45));
	ends(self->token, SPL_DONE, 0, 300);
	ASSERT_EQ(0, take_bytes(self->r.s, text, 44));
	stays("W");
}

/* Time spent waiting for the rest of a beginning is idle. */
TEST_F(framer, idle_in_a_beginning)
{
	forward(1, .idle_ms = 200);
	arrives("D");
	ends(self->token, SPL_IDLE, 0, 0);
	stays("D");
	unharmed();
}

/* A record of 2 GiB; whenever it is cancelled nothing is lost. */
TEST_F_TIMEOUT(framer, cancelled_in_mid_record, 60)
{
	uint64_t pos = 0, state = 5;
	struct spl_event ev;
	unsigned int i;

	for (i = 0; i < scaled(40) + 4; i++) {
		size_t len = 1 + rnd_below(&state, 60000);

		forward(SPL_ALL);
		arrives("#");
		moved("#");
		ASSERT_EQ(0, put(self->r.c, SEED, pos, len));
		usleep(rnd_below(&state, 300));
		ASSERT_EQ(0, spl_cancel(self->s, self->token));
		ASSERT_EQ(0, event_of(self->s, self->token, &ev));
		ASSERT_EQ(SPL_CANCELED, ev.cause);
		ASSERT_GE(len + 1, ev.bytes);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, ev.bytes - 1));
		ASSERT_EQ(0, take(self->r.a, SEED, pos + ev.bytes - 1, len + 1 - ev.bytes));
		pos += len;
	}
}

/* None of these programs is for this, whoever has a descriptor of it. */
TEST_F(framer, refused)
{
	struct { const char *name; int fd, error; } cases[] = {
		{ "of another type", framer_fd(self->obj, "filter"), EINVAL },
		{ "a verdict", framer_fd(self->obj, "verdict"), EINVAL },
		{ "a socket", self->r.a, EINVAL },
		{ "closed", 999, EBADF },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		EXPECT_EQ(-cases[i].error,
			  spl_forward(self->s, self->r.a, self->r.b, 1,
				      OPTS(.framer = cases[i].fd), &self->token)) {
			TH_LOG("%s", cases[i].name);
		}
		EXPECT_NE(NULL, strstr(spl_strerror_last(self->s), "framer")) {
			TH_LOG("%s: %s", cases[i].name, spl_strerror_last(self->s));
		}
	}
	EXPECT_EQ(-EINVAL, spl_send(self->s, self->r.b, "x", 1, OPTS(.framer = self->script), &self->token));
	EXPECT_EQ(-EINVAL, spl_splice(self->s, self->r.a, self->r.b, OPTS(.framer = self->script), &self->token));
	EXPECT_EQ(-EINVAL, spl_forward(self->s, self->r.a, self->r.b, 1,
				       OPTS(.framer = self->script, .delim = "x", .delim_len = 1),
				       &self->token));
	unharmed();
	EXPECT_EQ(0, no_event(self->s));
}

/* What goes before and after is of no record. */
TEST_F(framer, prefix_and_suffix)
{
	forward(1, .prefix = "9", .prefix_len = 1, .suffix = "end", .suffix_len = 3,
		.flags = SPL_F_DRAIN);
	arrives("2x3");
	ends(self->token, SPL_DONE, 0, 2);
	moved("92xend");
	stays("3");
	forward(2, .suffix = "end", .suffix_len = 3);
	arrives("2x3y");
	ASSERT_EQ(0, fin(&self->r.c));
	ends(self->token, SPL_EOF, 0, 4);
	moved("2x3y");
	EXPECT_EQ(0, at_quiet(self->r.s));
}

TEST_F(framer, echo)
{
	begun(spl_forward(self->s, self->r.a, self->r.a, 2, OPTS(.framer = self->script),
			  &self->token));
	arrives("3ab2c1");
	ends(self->token, SPL_DONE, 0, 5);
	ASSERT_EQ(0, take_bytes(self->r.c, "3ab2c", 5));
	stays("1");
}

/* Urgent bytes out of line are in no record, and in no beginning of one. */
NEEDS(framer, urgent, NEEDS_TCP_CLIENT | NEEDS_PLAIN);
TEST_F(framer, urgent)
{
	unsigned int i;

	forward(21);
	for (i = 0; i < 10; i++) {
		arrives("D");
		ASSERT_EQ(1, send(self->r.c, "!", 1, MSG_OOB));
		arrives("\x05" "abc2");
		moved("D\x05" "abc2");
		ASSERT_EQ(1, send(self->r.c, "!", 1, MSG_OOB));
		arrives("x");
		moved("x");
	}
	arrives("1rest");
	ends(self->token, SPL_DONE, 0, 71);
	moved("1");
	stays("rest");
}

/* The skb that it gets is nobody else's. */
TEST_F(framer, does_what_it_likes)
{
	struct bpf_map *socks = bpf_object__find_map_by_name(self->obj, "socks");
	unsigned int i, key = 0, rounds = scaled(50) + 5;
	uint64_t value;
	int other[2];

	ASSERT_EQ(0, tcp_pair(NET_V4, false, other));
	value = other[0];
	ASSERT_EQ(0, bpf_map_update_elem(bpf_map__fd(socks), &key, &value, BPF_ANY));
	for (i = 0; i < rounds; i++) {
		forward(4);
		arrives("MxyzCabcRdefD\x04yzMtail");
		ends(self->token, SPL_DONE, 0, 16);
		moved("MxyzCabcRdefD\x04yz");
		stays("Mtail");
	}
	EXPECT_EQ(0, at_quiet(other[1]));
	close_fd(&other[0]);
	close_fd(&other[1]);
}

/* It is held by the forward, and by nobody when that is over. */
TEST_F(framer, closed_meanwhile)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);
	uint64_t until;
	int fd;

	ASSERT_EQ(0, bpf_obj_get_info_by_fd(self->script, &info, &len));
	forward(2);
	arrives("3ab");
	ASSERT_EQ(0, wait_moved(self->s, self->token, 3));
	bpf_object__close(self->obj);
	self->obj = NULL;
	sleep_ms(QUIET_MS);
	arrives("2x");
	ends(self->token, SPL_DONE, 0, 5);
	for (until = now_ms() + WAIT_MS; now_ms() < until; sleep_ms(10)) {
		fd = bpf_prog_get_fd_by_id(info.id);
		if (fd < 0)
			break;
		close(fd);
	}
	EXPECT_GT(0, fd);
}

/* The sink takes a few of them at a time, and parts of them. */
TEST_F_TIMEOUT(framer, sink_full, 60)
{
	char text[20000];
	int64_t before;
	unsigned int i;

	for (i = 0; i < sizeof(text); i += 5)
		memcpy(text + i, i % 10 ? "5efgh" : "41231", 5);
	before = stuff(self->r.b, SEED);
	ASSERT_LT(0, before);
	forward(sizeof(text) / 10 * 3);
	ASSERT_EQ(0, put_bytes(self->r.c, text, sizeof(text)));
	arrives("1");
	sleep_ms(QUIET_MS);
	ASSERT_EQ(0, take(self->r.s, SEED, 0, before));
	ASSERT_EQ(0, take_bytes(self->r.s, text, sizeof(text)));
	ends(self->token, SPL_DONE, 0, sizeof(text));
	stays("1");
}

struct ones {
	int fd;
	size_t len;
	char bytes[200000];
};

static void *writer(void *arg)
{
	struct ones *ones = arg;

	put_bytes(ones->fd, ones->bytes, ones->len);
	return NULL;
}

/* The least that a record can be, very often. */
TEST_F_TIMEOUT(framer, tiny, 120)
{
	static struct ones ones;
	pthread_t thread;
	unsigned int n;

	memset(ones.bytes, '1', sizeof(ones.bytes));
	ones.fd = self->r.c;
	ones.len = scaled(sizeof(ones.bytes));
	n = ones.len - 9999;
	forward(n);
	ASSERT_EQ(0, pthread_create(&thread, NULL, writer, &ones));
	ASSERT_EQ(0, take_bytes(self->r.s, ones.bytes, n));
	ends(self->token, SPL_DONE, 0, n);
	ASSERT_EQ(0, take_bytes(self->r.a, ones.bytes, 9999));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(n, framer_seen(self->obj).asked);
}

SUITE_MAIN
