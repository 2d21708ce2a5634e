// SPDX-License-Identifier: GPL-2.0
/* framers.c: the two framers that come with the library, in forwards and in a sockmap. */
#include "harness.h"
#include "framed.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#define SEED 1
#define HEADER_MAX 14

FIXTURE(framers) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	struct bpf_object *length32, *websocket;
	int framer;
};

FIXTURE_VARIANT(framers) {
	enum spl_engine engine;
	enum net net;
};

KMOD_FEW(framers);
VARIANT(framers, kmod_mapped, .engine = SPL_ENGINE_KMOD, .net = NET_MAPPED);

FIXTURE_SETUP(framers)
{
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	self->length32 = framer_load(FRAMER_LENGTH32, 0);
	self->websocket = framer_load(FRAMER_WEBSOCKET, 0);
	ASSERT_NE(NULL, self->length32);
	ASSERT_NE(NULL, self->websocket);
}

FIXTURE_TEARDOWN(framers)
{
	spl_close(self->s);
	relay_close(&self->r);
	bpf_object__close(self->length32);
	bpf_object__close(self->websocket);
}

#define with_length32()		(self->framer = framer_fd(self->length32, "length32"))
#define with_websocket()	(self->framer = framer_fd(self->websocket, "websocket"))

#define forward(n)									\
	begun(spl_forward(self->s, self->r.a, self->r.b, n, OPTS(.framer = self->framer),	\
			  &self->token))

/* Headers of both kinds, at *buf; how long. */
static size_t length32_header(uint8_t *buf, uint32_t len)
{
	len = htonl(len);
	memcpy(buf, &len, 4);
	return 4;
}

static size_t websocket_header(uint8_t *buf, uint64_t len, bool masked)
{
	unsigned int i, more = len < 126 ? 0 : len < 65536 ? 2 : 8;

	buf[0] = 0x82;
	buf[1] = (masked ? 0x80 : 0) | (more == 2 ? 126 : more ? 127 : len);
	for (i = 0; i < more; i++)
		buf[2 + i] = len >> (8 * (more - 1 - i));
	if (masked)
		memcpy(buf + 2 + more, "\xff\x00\x7f\x80", 4);
	return 2 + more + (masked ? 4 : 0);
}

/* How much of a header is needed to know the length. */
static size_t websocket_needs(const uint8_t *buf)
{
	unsigned int len = buf[1] & 0x7f;

	return 2 + (len == 126 ? 2 : len == 127 ? 8 : 0);
}

/*
 * One record of header and len bytes, the header cut at `at` of its `size` bytes; `needs` of them
 * are needed. Then one byte more, which stays.
 */
#define record_cut(header, size, needs, at, len)					\
	do {										\
		forward(1);								\
		ASSERT_EQ(0, put_bytes(self->r.c, header, at));				\
		if ((at) < (size) + (len))						\
			ASSERT_EQ(0, wait_moved(self->s, self->token, (at) < (needs) ? 0 : (at))); \
		ASSERT_EQ(0, put_bytes(self->r.c, (header) + (at), (size) - (at)));	\
		ASSERT_EQ(0, put(self->r.c, SEED, 0, len));				\
		ASSERT_EQ(0, put_bytes(self->r.c, "!", 1));				\
		ASSERT_EQ(0, take_bytes(self->r.s, header, size));			\
		ASSERT_EQ(0, take(self->r.s, SEED, 0, len));				\
		ends(self->token, SPL_DONE, 0, (size) + (len));				\
		ASSERT_EQ(0, take_bytes(self->r.a, "!", 1));				\
		ASSERT_EQ(1, _metadata->passed);					\
	} while (0)

TEST_F_TIMEOUT(framers, length32, 60)
{
	static const unsigned int lens[] = { 0, 1, 2, 1000, 70000 };
	uint8_t header[HEADER_MAX];
	unsigned int i, at;

	with_length32();
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		length32_header(header, lens[i]);
		for (at = 0; at <= 4; at++)
			record_cut(header, 4, 4, at, lens[i]);
	}
}

TEST_F_TIMEOUT(framers, websocket, 120)
{
	static const unsigned int lens[] = { 0, 125, 126, 65535, 65536 };
	uint8_t header[HEADER_MAX];
	unsigned int i, at;
	size_t size;

	with_websocket();
	for (i = 0; i < 2 * ARRAY_SIZE(lens); i++) {
		size = websocket_header(header, lens[i / 2], i % 2);
		for (at = 0; at <= size; at++)
			record_cut(header, size, websocket_needs(header), at, lens[i / 2]);
	}
}

/* Lengths that cannot be told, and the largest that can. */
#define length_of(hdr, size, err)							\
	do {										\
		forward(1);								\
		ASSERT_EQ(0, put_bytes(self->r.c, hdr, size));				\
		if (err) {								\
			ends(self->token, SPL_SOURCE_FAILED, err, 0);			\
			ASSERT_EQ(0, take_bytes(self->r.a, hdr, size));			\
		} else {								\
			ASSERT_EQ(0, take_bytes(self->r.s, hdr, size));			\
			ASSERT_EQ(0, spl_cancel(self->s, self->token));			\
			ends(self->token, SPL_CANCELED, 0, size);			\
		}									\
	} while (0)

TEST_F(framers, length32_too_long)
{
	uint8_t header[HEADER_MAX];

	with_length32();
	length32_header(header, UINT32_MAX);
	length_of(header, 4, EMSGSIZE);
	length32_header(header, INT32_MAX);
	length_of(header, 4, EMSGSIZE);
	length32_header(header, INT32_MAX - 3);
	length_of(header, 4, EMSGSIZE);
	length32_header(header, INT32_MAX - 4);
	length_of(header, 4, 0);
}

TEST_F(framers, websocket_too_long)
{
	uint8_t header[HEADER_MAX];
	size_t size;

	with_websocket();
	size = websocket_header(header, UINT64_MAX, false);
	length_of(header, size, EMSGSIZE);
	size = websocket_header(header, INT32_MAX - 13, true);
	length_of(header, size, EMSGSIZE);
	size = websocket_header(header, INT32_MAX - 14, true);
	length_of(header, size, 0);
	size = websocket_header(header, INT32_MAX - 10, false);
	length_of(header, size, 0);
}

/* A stream of records, written in pieces of any size by a thread. */
struct source {
	int fd;
	uint8_t *buf;
	size_t len;
	uint64_t state;
	int err;
};

static void *write_pieces(void *arg)
{
	struct source *src = arg;
	size_t at, n;

	for (at = 0; at < src->len && !src->err; at += n) {
		n = rnd_size(&src->state, src->len - at < 50000 ? src->len - at : 50000);
		src->err = put_bytes(src->fd, src->buf + at, n);
		if (!rnd_below(&src->state, 20))
			usleep(rnd_below(&src->state, 1000));
	}
	return NULL;
}

/* ends[i]: where record i ends. Random sizes, small ones as likely as big ones. */
static size_t make_records(uint8_t *buf, size_t *ends_at, unsigned int nr, bool websocket, uint64_t *state)
{
	unsigned int i;
	size_t len, at = 0;

	for (i = 0; i < nr; i++) {
		len = rnd_size(state, i % 10 ? 300 : 100000) - 1;
		at += websocket ? websocket_header(buf + at, len, rnd_below(state, 2)) :
				  length32_header(buf + at, len);
		pattern_fill(buf + at, len, SEED, at);
		at += len;
		ends_at[i] = at;
	}
	return at;
}

#define SELF struct __test_metadata *_metadata, FIXTURE_DATA(framers) *self

/* Bytes from @at to @to are the sink's. */
static void delivered(SELF, const struct source *src, size_t at, size_t to)
{
	ASSERT_EQ(0, take_bytes(self->r.s, src->buf + at, to - at));
}

/* A forward from @at on that is to end at @to, or is cancelled before that; where it ended. */
static size_t some_records(SELF, const struct source *src, size_t at, unsigned int n, size_t to,
			   unsigned int cancel_us)
{
	struct spl_event ev;

	forward(n);
	if (cancel_us) {
		usleep(cancel_us);
		spl_cancel(self->s, self->token);
	} else {
		delivered(_metadata, self, src, at, to);
	}
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	if (cancel_us)
		delivered(_metadata, self, src, at, at + ev.bytes);
	if (!cancel_us || ev.cause == SPL_DONE)
		EXPECT_EQ(to - at, ev.bytes);
	EXPECT_EQ(cancel_us && ev.cause != SPL_DONE ? SPL_CANCELED : SPL_DONE, ev.cause);
	return at + ev.bytes;
}

/*
 * All records, by forwards of a random number each, some of them cancelled: those end anywhere,
 * and the rest of a record is then read.
 */
static void all_records(SELF, struct source *src, const size_t *ends_at, unsigned int nr)
{
	unsigned int done = 0, n, cancel_us;
	uint64_t state = 3;
	size_t pos = 0;

	while (done < nr) {
		n = 1 + rnd_below(&state, nr - done < 40 ? nr - done : 40);
		cancel_us = rnd_below(&state, 3) ? 0 : 1 + rnd_below(&state, 2000);
		pos = some_records(_metadata, self, src, pos, n, ends_at[done + n - 1], cancel_us);
		while (done < nr && ends_at[done] <= pos)
			done++;
		if (pos == (done ? ends_at[done - 1] : 0))
			continue;
		ASSERT_EQ(0, take_bytes(self->r.a, src->buf + pos, ends_at[done] - pos));
		pos = ends_at[done++];
	}
}

static void stress(SELF, bool websocket)
{
	unsigned int nr = scaled(2000) + 50;
	size_t *ends_at = calloc(nr, sizeof(*ends_at));
	struct source src = { .fd = self->r.c, .state = 7 };
	uint64_t state = 5;
	pthread_t thread;

	src.buf = malloc(nr * (size_t)(100000 + HEADER_MAX));
	ASSERT_NE(NULL, ends_at);
	ASSERT_NE(NULL, src.buf);
	src.len = make_records(src.buf, ends_at, nr, websocket, &state);
	ASSERT_EQ(0, pthread_create(&thread, NULL, write_pieces, &src));
	all_records(_metadata, self, &src, ends_at, nr);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, src.err);
	EXPECT_EQ(0, at_quiet(self->r.a));
	EXPECT_EQ(0, at_quiet(self->r.s));
	free(src.buf);
	free(ends_at);
}

TEST_F_TIMEOUT(framers, stress_length32, 120)
{
	with_length32();
	stress(_metadata, self, false);
}

TEST_F_TIMEOUT(framers, stress_websocket, 120)
{
	with_websocket();
	stress(_metadata, self, true);
}

/* How many records a sockmap's parser finds in bytes that arrive at once, on r.a. */
static int sockmap_records(struct bpf_object *obj, const char *name, const struct relay *r,
			   const uint8_t *buf, size_t len)
{
	struct bpf_object *progs = framer_load(FRAMER_PROGS, 0);
	unsigned int key = 0;
	uint64_t value = r->a;
	int map, err;

	if (!progs || !obj)
		return -ENOENT;
	map = bpf_map__fd(bpf_object__find_map_by_name(progs, "socks"));
	err = bpf_prog_attach(framer_fd(obj, name), map, BPF_SK_SKB_STREAM_PARSER, 0);
	if (!err)
		err = bpf_prog_attach(framer_fd(progs, "verdict"), map, BPF_SK_SKB_STREAM_VERDICT, 0);
	if (!err)
		err = bpf_map_update_elem(map, &key, &value, BPF_ANY);
	if (!err)
		err = put_bytes(r->c, buf, len);
	if (!err)
		err = take_bytes(r->a, buf, len);
	if (!err)
		err = framer_seen(progs).verdicts;
	bpf_map_delete_elem(map, &key);
	bpf_object__close(progs);
	return err;
}

FIXTURE(sockmap) {
	struct spl *s;
	struct relay r;
	uint64_t token;
	int strp_at, framer;
};

FIXTURE_VARIANT(sockmap) {
	enum spl_engine engine;
	enum net net;
};

VARIANT(sockmap, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);

FIXTURE_SETUP(sockmap)
{
	self->strp_at = framer_strp_at();
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
}

FIXTURE_TEARDOWN(sockmap)
{
	spl_close(self->s);
	relay_close(&self->r);
}

#define need_btf()									\
	do {										\
		if (self->strp_at < 0)							\
			SKIP(return, "this kernel has no BTF of its own");		\
	} while (0)

/* What is loaded for one is right in forwards, too. */
TEST_F(sockmap, forward)
{
	struct bpf_object *obj;
	uint8_t header[HEADER_MAX];

	need_btf();
	obj = framer_load(FRAMER_LENGTH32, self->strp_at);
	ASSERT_NE(NULL, obj);
	self->framer = framer_fd(obj, "length32");
	length32_header(header, 1000);
	record_cut(header, 4, 4, 2, 1000);
	bpf_object__close(obj);
}

/* Several records in a segment: all but the first begin within an skb. */
TEST_F(sockmap, parser)
{
	struct bpf_object *obj;
	uint8_t buf[2000] = { 0 };
	size_t at;

	need_btf();
	obj = framer_load(FRAMER_LENGTH32, self->strp_at);
	at = length32_header(buf, 5) + 5;
	at += length32_header(buf + at, 0);
	at += length32_header(buf + at, 300) + 300;
	at += length32_header(buf + at, 1) + 1;
	EXPECT_EQ(4, sockmap_records(obj, "length32", &self->r, buf, at));
	bpf_object__close(obj);
	obj = framer_load(FRAMER_WEBSOCKET, self->strp_at);
	at = websocket_header(buf, 5, true) + 5;
	at += websocket_header(buf + at, 300, false) + 300;
	at += websocket_header(buf + at, 0, true);
	EXPECT_EQ(3, sockmap_records(obj, "websocket", &self->r, buf, at));
	bpf_object__close(obj);
}

SUITE_MAIN
