// SPDX-License-Identifier: GPL-2.0
/* stress.c: many at once, and everything in any order. */
#include "harness.h"
#include "drive.h"
#include "nl.h"

#define SEED 1

FIXTURE(stress) {
	struct spl *s;
};

FIXTURE_VARIANT(stress) {
	enum spl_engine engine;
	enum net from, to;	/* the kinds of ends, to each its turn */
	uint32_t require;
};

VARIANT(stress, kmod_any, .engine = SPL_ENGINE_KMOD, .from = NET_V4, .to = NET_MAPPED);
VARIANT(stress, kmod_any_unix, .engine = SPL_ENGINE_KMOD, .from = NET_V4, .to = NET_UNIX_TO_TCP);
VARIANT(stress, kmod_any_tls, .engine = SPL_ENGINE_KMOD, .from = NET_UNIX, .to = NET_TCP_TO_TLS);
VARIANT(stress, sockmap_any, .engine = SPL_ENGINE_SOCKMAP, .from = NET_V4, .to = NET_MAPPED);
VARIANT(stress, user_any, .engine = SPL_ENGINE_USER, .from = NET_V4, .to = NET_UNIX_TO_TCP);
VARIANT(stress, user_any_lossless, .engine = SPL_ENGINE_USER, .from = NET_V4, .to = NET_UNIX_TO_TCP,
	.require = SPL_CAP_LOSSLESS);
VARIANT(stress, user_any_tls, .engine = SPL_ENGINE_USER, .from = NET_TLS, .to = NET_TCP_TO_TLS);

FIXTURE_SETUP(stress)
{
	ASSERT_EQ(0, raise_nofile(20000));
	ASSERT_EQ(0, engine_open_with(&self->s, variant->engine, variant->require));
}

FIXTURE_TEARDOWN(stress)
{
	spl_close(self->s);
}

static struct peer peer_of(int fd, unsigned int i, bool client, uint64_t up, uint64_t down)
{
	return (struct peer){
		.fd = fd, .chunk = 1 + i * 131 % 40000,
		.tx_seed = 2 * i + !client, .tx_len = client ? up : down,
		.rx_seed = 2 * i + client, .rx_len = client ? down : up,
	};
}

/* 500 connections, random lengths and chunks both ways; each ends with EOF and the right counts. */
TEST_F_TIMEOUT(stress, many_pairs, 500)
{
	unsigned int i, kinds = variant->to - variant->from + 1, count = bulk(variant->to, scaled(500));
	struct relay *r = calloc(count, sizeof(*r));
	struct driver c = { .count = count, .state = 1 }, s = { .count = count, .state = 2 };
	uint64_t state = 3, *token = calloc(count, sizeof(*token));
	struct spl_event ev;

	c.peers = calloc(count, sizeof(*c.peers));
	s.peers = calloc(count, sizeof(*s.peers));
	ASSERT_TRUE(r && token && c.peers && s.peers);
	for (i = 0; i < count; i++) {
		uint64_t up = rnd_size(&state, 200000), down = rnd_size(&state, 200000);

		ASSERT_EQ(0, relay_open(r + i, variant->from + i % kinds));
		ASSERT_EQ(0, spl_splice_pair(self->s, r[i].a, r[i].b, NULL, token + i)) {
			TH_LOG("%u: %s", i, spl_strerror_last(self->s));
		}
		c.peers[i] = peer_of(r[i].c, i, true, up, down);
		s.peers[i] = peer_of(r[i].s, i, false, up, down);
	}
	ASSERT_EQ(0, driver_start(&c));
	ASSERT_EQ(0, driver_start(&s));
	EXPECT_EQ(0, driver_join(&c));
	EXPECT_EQ(0, driver_join(&s));
	for (i = 0; i < count; i++) {
		ASSERT_EQ(0, event_of(self->s, token[i], &ev)) {
			TH_LOG("connection %u", i);
		}
		ASSERT_EQ(SPL_EOF, ev.cause);
		ASSERT_EQ(c.peers[i].tx_len, ev.bytes);
		ASSERT_EQ(s.peers[i].tx_len, ev.bytes_back);
	}
	EXPECT_EQ(0, no_event(self->s));
	for (i = 0; i < count; i++) {
		r[i].a = r[i].b = -1;
		relay_close(r + i);
	}
	free(r);
	free(token);
	free(c.peers);
	free(s.peers);
}

/* Setting up and tearing down; nothing may be left of them. */
TEST_F_TIMEOUT(stress, rate, 300)
{
	unsigned int i, kinds = variant->to - variant->from + 1, rounds = bulk(variant->to, scaled(2000));
	uint64_t token, began = now_ms();
	struct spl_event ev;
	struct relay r;
	struct nl nl;

	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, relay_open(&r, variant->from + i % kinds));
		ASSERT_EQ(0, spl_splice_pair(self->s, r.a, r.b, NULL, &token));
		r.a = r.b = -1;
		ASSERT_EQ(0, alive(r.c, r.s));
		/* who has gone is no reader of a close_notify any more */
		if (is_tls(r.s) || is_tls(r.c))
			ASSERT_EQ(0, fin(&r.s) | fin(&r.c) | at_eof(r.s) | at_eof(r.c));
		relay_close(&r);
		ASSERT_EQ(0, event_of(self->s, token, &ev));
		ASSERT_EQ(SPL_EOF, ev.cause) {
			TH_LOG("round %u: %s: %s", i, spl_cause_name(ev.cause), strerror(ev.error));
		}
		ASSERT_EQ(1, ev.bytes);
		ASSERT_EQ(1, ev.bytes_back);
	}
	TH_LOG("%llu connections a second", rounds * 1000ull / (now_ms() - began + 1));
	if (variant->engine == SPL_ENGINE_KMOD) {
		ASSERT_EQ(0, nl_open(&nl));
		EXPECT_EQ(0, stat_now(&nl, SKSPLICE_A_STAT_OPS));
		nl_close(&nl);
	}
}

/* One connection of the anything-goes test: what it did, for the report. */
struct play {
	struct spl *s;
	enum spl_engine engine;
	uint32_t require;
	enum net from, to;
	struct relay r;
	uint64_t state, token, sent, seen;
	enum { FORWARD_N, FORWARD_ALL, SPLICE, PAIR, PAIR_KEPT, KINDS } kind;
	enum { NOTHING, CANCEL, REVOKE, RECLAIM, CLOSE_FDS, FIN, RESET_C, RESET_S, CLOSE_CONTEXT,
	       TWO_CANCELS, ACTS } act;
	uint64_t n;
	bool ended;		/* the event has been seen */
};

static int play_start(struct play *p)
{
	struct spl_opts *keep = OPTS(.flags = SPL_F_KEEP);
	int err;

	switch (p->kind) {
	case FORWARD_N:
		return spl_forward(p->s, p->r.a, p->r.b, p->n, NULL, &p->token);
	case FORWARD_ALL:
		return spl_forward(p->s, p->r.a, p->r.b, SPL_ALL, NULL, &p->token);
	case SPLICE:
		err = spl_splice(p->s, p->r.a, p->r.b, NULL, &p->token);
		break;
	case PAIR:
		err = spl_splice_pair(p->s, p->r.a, p->r.b, NULL, &p->token);
		break;
	default:
		return spl_splice_pair(p->s, p->r.a, p->r.b, keep, &p->token);
	}
	if (!err)
		p->r.a = p->r.b = -1;
	return err;
}

/* Sends for a moment without waiting, and reads what has come; wrong bytes: -EILSEQ. */
static int play_move(struct play *p, unsigned int steps)
{
	uint8_t buf[20000];
	ssize_t n;
	int err;

	while (steps--) {
		n = rnd_size(&p->state, sizeof(buf));
		pattern_fill(buf, n, SEED, p->sent);
		n = p->r.c < 0 ? -1 : send(p->r.c, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		p->sent += n > 0 ? n : 0;
		n = p->r.s < 0 ? -1 : recv(p->r.s, buf, rnd_size(&p->state, sizeof(buf)),
					   MSG_DONTWAIT);
		if (n <= 0)
			continue;
		err = pattern_check(buf, n, SEED, p->seen);
		if (err)
			return err;
		p->seen += n;
	}
	return 0;
}

static int play_act(struct play *p)
{
	int fds[2], err;

	switch (p->act) {
	case CANCEL:
		err = spl_cancel(p->s, p->token);
		return err == -ENOENT ? 0 : err;
	case TWO_CANCELS:
		spl_cancel(p->s, p->token);
		return spl_cancel(p->s, p->token) == -ENOENT ? 0 : -EEXIST;
	case REVOKE:
		err = spl_revoke(p->s, p->token, ECONNABORTED);
		return err == -ENOENT ? 0 : err;
	case RECLAIM:
		err = spl_reclaim(p->s, p->token, fds);
		if (err == -EAGAIN)
			return 0;
		if (!err) {
			close_fd(&p->r.a);
			close_fd(&p->r.b);
			p->r.a = fds[0];
			p->r.b = fds[1];
		}
		return p->kind >= SPLICE && err != -ENOENT ? err : 0;
	case CLOSE_FDS:
		close_fd(&p->r.a);
		close_fd(&p->r.b);
		return 0;
	case FIN:
		/* TLS has no FIN that waits for its turn: see fin() */
		if (is_tls(p->r.c))
			return 0;
		return shutdown(p->r.c, SHUT_WR) && errno != ENOTCONN ? -errno : 0;
	case RESET_C:
		return tcp_reset(&p->r.c);
	case RESET_S:
		return tcp_reset(&p->r.s);
	case CLOSE_CONTEXT:
		spl_close(p->s);
		p->ended = true;
		return engine_open_with(&p->s, p->engine, p->require);
	default:
		return 0;
	}
}

/* However it went, there is one event once it has been told to end, and the counts agree. */
static int play_end(struct play *p)
{
	struct spl_event ev;
	int err;

	if (p->ended)
		return 0;
	spl_cancel(p->s, p->token);
	err = event_of(p->s, p->token, &ev);
	if (err)
		return err;
	if (spl_cancel(p->s, p->token) != -ENOENT)
		return -EEXIST;
	/* what the sink was given is never more than was sent, nor less than was seen */
	if (ev.bytes > p->sent || ev.bytes < p->seen)
		return -ERANGE;
	if (p->kind == FORWARD_N && (ev.bytes > p->n || (ev.cause == SPL_DONE && ev.bytes != p->n)))
		return -EOVERFLOW;
	if (p->kind <= FORWARD_ALL && ev.cause == SPL_CANCELED && p->r.a >= 0 && p->r.s >= 0 &&
	    p->r.c >= 0)
		return take(p->r.s, SEED, p->seen, ev.bytes - p->seen) ? -EILSEQ :
		       take_back(p->s, p->token, p->r.a, SEED, ev.bytes, p->sent - ev.bytes);
	return 0;
}

static int play_once(struct play *p)
{
	int err = relay_open(&p->r, p->from + rnd_below(&p->state, p->to - p->from + 1));

	p->sent = p->seen = 0;
	p->ended = false;
	p->kind = rnd_below(&p->state, KINDS);
	p->act = rnd_below(&p->state, ACTS);
	p->n = rnd_size(&p->state, 100000);
	err = err ? err : play_move(p, rnd_below(&p->state, 3));
	err = err ? err : play_start(p);
	err = err ? err : play_move(p, rnd_below(&p->state, 12));
	err = err ? err : play_act(p);
	err = err ? err : play_move(p, rnd_below(&p->state, 12));
	err = err ? err : play_end(p);
	if (err)
		fprintf(stderr, "# kind %d act %d n %llu sent %llu seen %llu: %s (%s)\n", p->kind,
			p->act, (unsigned long long)p->n, (unsigned long long)p->sent,
			(unsigned long long)p->seen, strerror(-err), spl_strerror_last(p->s));
	relay_close(&p->r);
	return err;
}

static int play(struct play p, unsigned int seconds)
{
	uint64_t until = now_ms() + seconds * 1000, rounds = 0, seed = p.state;
	int err = engine_open_with(&p.s, p.engine, p.require);

	for (; !err && now_ms() < until; rounds++)
		err = play_once(&p);
	if (err)
		fprintf(stderr, "# seed %llu round %llu\n", (unsigned long long)seed,
			(unsigned long long)rounds);
	else if (no_event(p.s))
		err = -EEXIST;
	spl_close(p.s);
	return err ? 1 : rounds ? 0 : 2;
}

/* Four processes do anything to anything, for a while. */
TEST_F_TIMEOUT(stress, anything, 300)
{
	unsigned int most = variant->engine == SPL_ENGINE_KMOD ? 15 : 4;
	unsigned int i, seconds = scaled(150) > most ? most : scaled(150);
	const char *text = getenv("SPL_TEST_SEED");
	unsigned int seed = text ? strtoul(text, NULL, 0) : 1;
	uint64_t until = now_ms() + (seconds + 90) * 1000;
	pid_t pid[4];
	int status;

	for (i = 0; i < 4; i++) {
		pid[i] = fork();
		if (!pid[i])
			_exit(play((struct play){ .engine = variant->engine, .require = variant->require,
						  .from = variant->from, .to = variant->to, .state = seed * 4 + i },
				   seconds));
	}
	for (i = 0; i < 4; i++) {
		while (!waitpid(pid[i], &status, WNOHANG)) {
			ASSERT_GT(until, now_ms());
			sleep_ms(50);
		}
		EXPECT_EQ(0, status) {
			TH_LOG("SPL_TEST_SEED=%u process %u", seed, i);
		}
	}
}

SUITE_MAIN
