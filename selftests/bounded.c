// SPDX-License-Identifier: GPL-2.0
/* bounded.c: a sink that does not drain stops its source; nothing piles up in the kernel. */
#include "harness.h"

#define SEED 1
#define GROWTH_KB (16 << 10)
#define SENT (2ull << 30)

FIXTURE(bounded) {
	struct spl *s;
	struct relay r;
	uint64_t token;
};

FIXTURE_VARIANT(bounded) {
	enum spl_engine engine;
	enum net net;
	uint32_t require;
	size_t chunk;		/* of the source's writes */
};

/* Small fragments: a few bytes may pin a page each. */
VARIANT(bounded, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4, .chunk = 65536);
VARIANT(bounded, kmod_mixed_small, .engine = SPL_ENGINE_KMOD, .net = NET_MIXED, .chunk = 200);
VARIANT(bounded, kmod_unix, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX, .chunk = 65536);
VARIANT(bounded, kmod_unix2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX_TO_TCP, .chunk = 65536);
VARIANT(bounded, kmod_tls, .engine = SPL_ENGINE_KMOD, .net = NET_TLS, .chunk = 65536);
VARIANT(bounded, kmod_tls2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_TLS_TO_TCP, .chunk = 65536);
VARIANT(bounded, sockmap_v4, .engine = SPL_ENGINE_SOCKMAP, .net = NET_V4, .chunk = 65536);
VARIANT(bounded, user_v4, .engine = SPL_ENGINE_USER, .net = NET_V4, .chunk = 65536);
VARIANT(bounded, user_v6_small, .engine = SPL_ENGINE_USER, .net = NET_V6, .chunk = 200);
VARIANT(bounded, user_v4_lossless, .engine = SPL_ENGINE_USER, .net = NET_V4, .chunk = 65536,
	.require = SPL_CAP_LOSSLESS);
VARIANT(bounded, user_unix, .engine = SPL_ENGINE_USER, .net = NET_UNIX, .chunk = 65536);
VARIANT(bounded, user_tls2tcp, .engine = SPL_ENGINE_USER, .net = NET_TLS_TO_TCP, .chunk = 65536);
VARIANT(bounded, user_tcp2pipe, .engine = SPL_ENGINE_USER, .net = NET_TCP_TO_PIPE, .chunk = 65536);
VARIANT(bounded, user_pipe2tcp, .engine = SPL_ENGINE_USER, .net = NET_PIPE_TO_TCP, .chunk = 65536);

/* Of what is no socket they are small already. */
static void small_buffers(const struct relay *r, int size)
{
	set_opt(r->a, SOL_SOCKET, SO_RCVBUF, size);
	set_opt(r->b, SOL_SOCKET, SO_SNDBUF, size);
	set_opt(r->c, SOL_SOCKET, SO_SNDBUF, size);
	set_opt(r->s, SOL_SOCKET, SO_RCVBUF, size);
}

FIXTURE_SETUP(bounded)
{
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	if (variant->chunk < 1000)
		ASSERT_EQ(0, nodelay(self->r.c));
	/* where every byte is dear, less of them fills smaller buffers */
	if (variant->chunk < 1000 && scaled(1000) < 1000) {
		small_buffers(&self->r, 65536);
	}
}

FIXTURE_TEARDOWN(bounded)
{
	spl_close(self->s);
	relay_close(&self->r);
}

/* What grows when bytes pile up: of the machine, or where that has other users too, of the process. */
enum { TCP_MEM, SLAB, USED, OWN, MEMORIES };
struct memory { long kb[MEMORIES]; };

static long find_number(const char *path, const char *key)
{
	char line[256], *at;
	long value = -1;
	FILE *f = fopen(path, "r");

	while (f && fgets(line, sizeof(line), f)) {
		at = strstr(line, key);
		if (at) {
			value = strtol(at + strlen(key), NULL, 10);
			break;
		}
	}
	if (f)
		fclose(f);
	return value;
}

static long tcp_pages(void)
{
	char line[256], *at;
	long value = -1;
	FILE *f = fopen("/proc/net/sockstat", "r");

	while (f && fgets(line, sizeof(line), f)) {
		at = strncmp(line, "TCP:", 4) ? NULL : strstr(line, " mem ");
		if (at)
			value = strtol(at + 5, NULL, 10);
	}
	if (f)
		fclose(f);
	return value;
}

/* Free pages that a processor keeps for itself are not in MemFree; compaction makes it let go. */
static void drain_caches(void)
{
	static const char *const files[] = { "/proc/sys/vm/drop_caches", "/proc/sys/vm/compact_memory" };
	unsigned int i;
	FILE *f;

	for (i = 0; i < 2; i++) {
		f = fopen(files[i], "w");
		if (f) {
			fputs("1\n", f);
			fclose(f);
		}
	}
}

static struct memory memory_now(enum spl_engine engine)
{
	if (engine != SPL_ENGINE_KMOD)
		return (struct memory){ .kb[OWN] = find_number("/proc/self/status", "VmRSS:") };
	drain_caches();
	return (struct memory){ .kb = {
		[TCP_MEM] = tcp_pages() * (sysconf(_SC_PAGESIZE) >> 10),
		[SLAB] = find_number("/proc/meminfo", "Slab:"),
		[USED] = find_number("/proc/meminfo", "MemTotal:") -
			 find_number("/proc/meminfo", "MemFree:"),
	} };
}

static const char *const memories[] = { "tcp mem", "slab", "used", "own" };

/* A pair; one way where pipes are. */
#define begin()									\
	do {									\
		begun((variant->net < NET_PIPE ? spl_splice_pair : spl_splice)	\
		      (self->s, self->r.a, self->r.b, NULL, &self->token));	\
		self->r.a = self->r.b = -1;					\
	} while (0)

/* Nothing more comes from the server either. */
#define finish()								\
	do {									\
		if (variant->net < NET_PIPE)					\
			ASSERT_EQ(0, fin(&self->r.s));				\
	} while (0)

/* The sink never reads while the source would send 2 GB; then it reads, and all is intact. */
TEST_F_TIMEOUT(bounded, sink_that_never_reads, 400)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SENT, .patience_ms = 120000,
			     .chunk = variant->chunk };
	struct stream rx = { .fd = self->r.s, .seed = SEED, .len = SPL_ALL };
	struct memory before, after;
	struct spl_event ev;
	struct spl_stat st;
	uint64_t stuck, more;
	int i;

	begin();
	sleep_ms(300);
	before = memory_now(variant->engine);
	ASSERT_LT(0, before.kb[variant->engine == SPL_ENGINE_KMOD ? SLAB : OWN]);
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, stream_stuck(&tx, 2000));
	after = memory_now(variant->engine);
	stuck = tx.done;
	ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
	TH_LOG("source stuck after %llu bytes, sink accepted %llu", (unsigned long long)stuck,
	       (unsigned long long)st.bytes);
	for (i = 0; i < MEMORIES; i++) {
		EXPECT_GT(GROWTH_KB, after.kb[i] - before.kb[i]) {
			TH_LOG("kB: %s %ld -> %ld", memories[i], before.kb[i], after.kb[i]);
		}
	}
	EXPECT_GT(SENT / 16, stuck);
	EXPECT_EQ(SPL_WANTS_WRITE, st.wants);
	/* the sink reads: it goes on by itself */
	more = bulk(variant->net, scaled(variant->chunk < 1000 ? 4000000 : 20000000));
	ASSERT_EQ(0, stream_recv(&rx));
	while (tx.done < stuck + more && !tx.err && !rx.err)
		sleep_ms(5);
	tx.stop = tx.fin = true;
	EXPECT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, stream_join(&rx));
	self->r.c = tx.fd;
	EXPECT_EQ(tx.done, rx.done);
	finish();
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_EOF, ev.cause);
	EXPECT_EQ(tx.done, ev.bytes);
}

/* A sink that reads a little now and then: the source trickles on, nothing is lost. */
TEST_F_TIMEOUT(bounded, sink_that_reads_slowly, 200)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL,
			     .chunk = variant->chunk };
	unsigned int i, rounds = bulk(variant->net, scaled(200));
	uint64_t state = 4, pos = 0;
	struct spl_event ev;
	int64_t rest;
	size_t n;

	/* small buffers all the way, so that the end does not take for ever */
	small_buffers(&self->r, 65536);
	begin();
	ASSERT_EQ(0, stream_send(&tx));
	for (i = 0; i < rounds; i++, pos += n) {
		usleep(rnd_below(&state, 20000));
		n = rnd_size(&state, 40000);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, n));
	}
	tx.stop = tx.fin = true;
	finish();
	rest = take_rest(self->r.s, SEED, pos);
	ASSERT_LE(0, rest);
	EXPECT_EQ(0, stream_join(&tx));
	self->r.c = tx.fd;
	EXPECT_EQ(tx.done, pos + rest);
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(tx.done, ev.bytes);
}

/*
 * What was sent first is not kept for as long as the operation lives, whatever the sink makes of it: not over TLS, where
 * it takes long.
 */
#define PREFIXES 64
NEEDS(bounded, prefixes, NEEDS_KMOD | NEEDS_PLAIN);
TEST_F_TIMEOUT(bounded, prefixes, 60)
{
	static struct relay r[PREFIXES];
	static uint8_t bytes[65536];
	struct memory before, after;
	struct spl_event ev;
	uint64_t token;
	int i;

	pattern_fill(bytes, sizeof(bytes), SEED, 0);
	for (i = 0; i < PREFIXES; i++)
		ASSERT_EQ(0, relay_open(&r[i], variant->net));
	before = memory_now(variant->engine);
	for (i = 0; i < PREFIXES; i++) {
		begun(spl_forward(self->s, r[i].a, r[i].b, SPL_ALL,
				  OPTS(.prefix = bytes, .prefix_len = sizeof(bytes)), &token));
		ASSERT_EQ(0, take(r[i].s, SEED, 0, sizeof(bytes)));
	}
	sleep_ms(QUIET_MS);
	after = memory_now(variant->engine);
	EXPECT_GT(PREFIXES * 64 / 4, after.kb[SLAB] - before.kb[SLAB]) {
		TH_LOG("slab: %ld -> %ld kB", before.kb[SLAB], after.kb[SLAB]);
	}
	for (i = 0; i < PREFIXES; i++) {
		ASSERT_EQ(0, fin(&r[i].c));
		ASSERT_EQ(1, spl_next(self->s, &ev, WAIT_MS));
		EXPECT_EQ(SPL_EOF, ev.cause);
		relay_close(&r[i]);
	}
}

/*
 * What has passed a byte each way keeps no pages: copied bytes lie in a fragment of the processor, where each sink could
 * have 32 KiB of its own for as long as it lives.
 */
#define TALKERS 500
#define TALKER_KB 16
NEEDS(bounded, talkers, SPL_CAP_ZEROCOPY | NEEDS_CHEAP_ENDS);
TEST_F_TIMEOUT(bounded, talkers, 60)
{
	struct relay *r = calloc(TALKERS, sizeof(*r));
	struct memory before, after;
	struct spl_event ev;
	uint64_t token;
	int i;

	ASSERT_NE(NULL, r);
	ASSERT_EQ(0, raise_nofile(4 * TALKERS + 100));
	for (i = 0; i < TALKERS; i++) {
		ASSERT_EQ(0, relay_open(&r[i], variant->net));
		ASSERT_EQ(0, alive(r[i].c, r[i].a));
		ASSERT_EQ(0, alive(r[i].b, r[i].s));
	}
	before = memory_now(variant->engine);
	for (i = 0; i < TALKERS; i++) {
		begun(spl_splice_pair(self->s, r[i].a, r[i].b, NULL, &token));
		r[i].a = r[i].b = -1;
		ASSERT_EQ(0, alive(r[i].c, r[i].s));
	}
	sleep_ms(QUIET_MS);
	after = memory_now(variant->engine);
	TH_LOG("a pair: %ld bytes", (after.kb[USED] - before.kb[USED]) * 1024 / TALKERS);
	EXPECT_GT(TALKERS * TALKER_KB, after.kb[USED] - before.kb[USED]);
	for (i = 0; i < TALKERS; i++) {
		relay_close(&r[i]);
		ASSERT_EQ(1, spl_next(self->s, &ev, WAIT_MS));
	}
	free(r);
}

SUITE_MAIN
