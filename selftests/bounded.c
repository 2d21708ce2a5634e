// SPDX-License-Identifier: GPL-2.0
/* bounded.c: a sink that does not drain stops its source; nothing piles up in the kernel. */
#include "kselftest_harness.h"
#include "util.h"

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
	size_t chunk;		/* of the source's writes */
};

FIXTURE_VARIANT_ADD(bounded, kmod_large) {
	.engine = SPL_ENGINE_KMOD, .net = NET_V4, .chunk = 65536,
};

/* Small fragments: a few bytes may pin a page each. */
FIXTURE_VARIANT_ADD(bounded, kmod_small) {
	.engine = SPL_ENGINE_KMOD, .net = NET_MIXED, .chunk = 200,
};

FIXTURE_SETUP(bounded)
{
	ASSERT_EQ(0, engine_open(&self->s, variant->engine));
	ASSERT_EQ(0, relay_open(&self->r, variant->net));
	if (variant->chunk < 1000)
		ASSERT_EQ(0, set_opt(self->r.c, IPPROTO_TCP, TCP_NODELAY, 1));
	/* where every byte is dear, less of them fills smaller buffers */
	if (variant->chunk < 1000 && scaled(1000) < 1000) {
		ASSERT_EQ(0, set_opt(self->r.a, SOL_SOCKET, SO_RCVBUF, 262144));
		ASSERT_EQ(0, set_opt(self->r.b, SOL_SOCKET, SO_SNDBUF, 262144));
		ASSERT_EQ(0, set_opt(self->r.c, SOL_SOCKET, SO_SNDBUF, 262144));
		ASSERT_EQ(0, set_opt(self->r.s, SOL_SOCKET, SO_RCVBUF, 262144));
	}
}

FIXTURE_TEARDOWN(bounded)
{
	spl_close(self->s);
	relay_close(&self->r);
}

struct memory { long tcp_kb, slab_kb, free_kb; };

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

static struct memory memory_now(void)
{
	drain_caches();
	return (struct memory){
		.tcp_kb = tcp_pages() * (sysconf(_SC_PAGESIZE) >> 10),
		.slab_kb = find_number("/proc/meminfo", "Slab:"),
		.free_kb = find_number("/proc/meminfo", "MemFree:"),
	};
}

/* Until nothing has moved for two seconds. */
static int wait_stuck(struct stream *tx)
{
	uint64_t until = now_ms() + 120000, since = now_ms(), last = tx->done;

	while (now_ms() - since < 2000) {
		if (now_ms() > until)
			return -ETIMEDOUT;
		sleep_ms(50);
		if (tx->done != last) {
			last = tx->done;
			since = now_ms();
		}
	}
	return 0;
}

/* The sink never reads while the source would send 2 GB; then it reads, and all is intact. */
TEST_F_TIMEOUT(bounded, sink_that_never_reads, 400)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SENT, .patience_ms = 120000,
			     .chunk = variant->chunk };
	struct stream rx = { .fd = self->r.s, .seed = SEED, .len = SPL_ALL };
	struct memory before, after;
	struct spl_event ev;
	struct spl_stat st;
	uint64_t stuck;

	ASSERT_EQ(0, spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	sleep_ms(300);
	before = memory_now();
	ASSERT_LE(0, before.tcp_kb);
	ASSERT_LT(0, before.slab_kb);
	ASSERT_EQ(0, stream_send(&tx));
	ASSERT_EQ(0, wait_stuck(&tx));
	after = memory_now();
	stuck = tx.done;
	ASSERT_EQ(0, spl_stat(self->s, self->token, &st));
	TH_LOG("source stuck after %llu bytes, sink accepted %llu", (unsigned long long)stuck,
	       (unsigned long long)st.bytes);
	TH_LOG("kB: tcp mem %ld -> %ld, slab %ld -> %ld, free %ld -> %ld", before.tcp_kb,
	       after.tcp_kb, before.slab_kb, after.slab_kb, before.free_kb, after.free_kb);
	EXPECT_GT(SENT / 16, stuck);
	EXPECT_EQ(SPL_WANTS_WRITE, st.wants);
	EXPECT_GT(GROWTH_KB, after.tcp_kb - before.tcp_kb);
	EXPECT_GT(GROWTH_KB, after.slab_kb - before.slab_kb);
	EXPECT_GT(GROWTH_KB, before.free_kb - after.free_kb);
	/* the sink reads: it goes on by itself */
	ASSERT_EQ(0, stream_recv(&rx));
	while (tx.done < stuck + scaled(20000000) && !tx.err && !rx.err)
		sleep_ms(5);
	tx.stop = tx.fin = true;
	EXPECT_EQ(0, stream_join(&tx));
	EXPECT_EQ(0, stream_join(&rx));
	EXPECT_EQ(tx.done, rx.done);
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(SPL_EOF, ev.cause);
	EXPECT_EQ(tx.done, ev.bytes);
}

/* A sink that reads a little now and then: the source trickles on, nothing is lost. */
TEST_F_TIMEOUT(bounded, sink_that_reads_slowly, 200)
{
	struct stream tx = { .fd = self->r.c, .seed = SEED, .len = SPL_ALL,
			     .chunk = variant->chunk };
	unsigned int i, rounds = scaled(200);
	uint64_t state = 4, pos = 0;
	struct spl_event ev;
	int64_t rest;
	size_t n;

	/* small buffers all the way, so that the end does not take for ever */
	ASSERT_EQ(0, set_opt(self->r.c, SOL_SOCKET, SO_SNDBUF, 65536));
	ASSERT_EQ(0, set_opt(self->r.a, SOL_SOCKET, SO_RCVBUF, 65536));
	ASSERT_EQ(0, set_opt(self->r.b, SOL_SOCKET, SO_SNDBUF, 65536));
	ASSERT_EQ(0, set_opt(self->r.s, SOL_SOCKET, SO_RCVBUF, 65536));
	ASSERT_EQ(0, spl_splice_pair(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, stream_send(&tx));
	for (i = 0; i < rounds; i++, pos += n) {
		usleep(rnd_below(&state, 20000));
		n = rnd_size(&state, 40000);
		ASSERT_EQ(0, take(self->r.s, SEED, pos, n));
	}
	tx.stop = tx.fin = true;
	ASSERT_EQ(0, shutdown(self->r.s, SHUT_WR));
	rest = take_rest(self->r.s, SEED, pos);
	ASSERT_LE(0, rest);
	EXPECT_EQ(0, stream_join(&tx));
	EXPECT_EQ(tx.done, pos + rest);
	ASSERT_EQ(0, event_of(self->s, self->token, &ev));
	EXPECT_EQ(tx.done, ev.bytes);
}

TEST_HARNESS_MAIN
