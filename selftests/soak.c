// SPDX-License-Identifier: GPL-2.0
/*
 * soak.c: both sides of many connections through a relay, for a while. Each connection carries a stream each way, of sizes
 * and in pieces drawn at random; every byte of them is looked at, and that they end where they should.
 *   soak [-c CONNECTIONS] [-t SECONDS] [-s MOST_BYTES] [-r SEED] [-x COMMAND] LISTEN:PORT CONNECT:PORT      of IPv4
 * -x: what is run when connections are stuck, before they are closed: it says in what state they are.
 */
#include "util.h"

#include <arpa/inet.h>
#include <sys/epoll.h>

#define PIECE		65536
#define TURNS		4		/* pieces in a row */
#define STALL_MS	150000		/* without a byte: it is stuck */
#define GRACE_MS	240000		/* for what is under way when the time is over */

/* What a client says first. */
struct hello { uint64_t seed, up, down; };

struct side {
	struct side *prev, *next;
	int fd;
	bool client, known, shut, ended;	/* known: hello has gone, or come */
	struct hello hello;
	size_t hello_done;
	uint64_t tx, tx_len, rx, rx_len;
	uint64_t moved_ms;
};

static struct {
	int epoll, listening;
	struct sockaddr_in to;
	unsigned int clients, servers, errors;
	uint64_t most, random, streams, bytes, seed;
	struct side *sides;
	const char *when_stuck;
} soak;

static uint8_t piece[PIECE];

static void blame(const struct side *s, const char *what, int error)
{
	soak.errors++;
	fprintf(stderr, "%s of stream %llu: %s%s%s; received %llu of %llu, sent %llu of %llu\n",
		s->client ? "client" : "server", (unsigned long long)s->hello.seed, what, error ? ": " : "",
		error ? strerror(error) : "", (unsigned long long)s->rx, (unsigned long long)s->rx_len,
		(unsigned long long)s->tx, (unsigned long long)s->tx_len);
}

static void watch(struct side *s, int how)
{
	struct epoll_event ev = {
		.events = (s->ended ? 0 : EPOLLIN) | (s->known && !s->shut ? EPOLLOUT : 0), .data.ptr = s,
	};

	epoll_ctl(soak.epoll, how, s->fd, &ev);
}

static struct side *side_new(int fd, bool client)
{
	struct side *s = calloc(1, sizeof(*s));

	if (!s || fcntl(fd, F_SETFL, O_NONBLOCK))
		exit(2);
	s->fd = fd;
	s->client = client;
	s->moved_ms = now_ms();
	s->next = soak.sides;
	if (s->next)
		s->next->prev = s;
	soak.sides = s;
	*(client ? &soak.clients : &soak.servers) += 1;
	return s;
}

static void side_free(struct side *s)
{
	*(s->client ? &soak.clients : &soak.servers) -= 1;
	*(s->prev ? &s->prev->next : &soak.sides) = s->next;
	if (s->next)
		s->next->prev = s->prev;
	close(s->fd);
	free(s);
}

/* The streams of a connection are two of many thousand, and each knows its bytes' positions. */
static uint64_t tx_seed(const struct side *s) { return 2 * s->hello.seed + !s->client; }
static uint64_t rx_seed(const struct side *s) { return 2 * s->hello.seed + s->client; }

static void know(struct side *s)
{
	s->known = true;
	s->tx_len = s->client ? s->hello.up : s->hello.down;
	s->rx_len = s->client ? s->hello.down : s->hello.up;
	watch(s, EPOLL_CTL_MOD);
}

static void connect_one(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct side *s = side_new(fd, true);

	s->hello = (struct hello){ ++soak.seed, rnd_size(&soak.random, soak.most), rnd_size(&soak.random, soak.most) };
	if (connect(fd, (struct sockaddr *)&soak.to, sizeof(soak.to)) && errno != EINPROGRESS) {
		blame(s, "connect", errno);
		side_free(s);
		return;
	}
	s->known = true;
	watch(s, EPOLL_CTL_ADD);
	know(s);
}

static void accept_all(void)
{
	int fd;

	while ((fd = accept4(soak.listening, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		watch(side_new(fd, false), EPOLL_CTL_ADD);
}

/* ---- bytes. 1: some moved, 0: none for now, or all are, negative: it is over */

static int give_hello(struct side *s)
{
	ssize_t n = send(s->fd, (char *)&s->hello + s->hello_done, sizeof(s->hello) - s->hello_done, MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	s->hello_done += n;
	return 1;
}

static int give(struct side *s)
{
	size_t n = rnd_size(&soak.random, sizeof(piece));
	ssize_t sent;

	if (s->client && s->hello_done < sizeof(s->hello))
		return give_hello(s);
	if (s->tx == s->tx_len) {
		s->shut = true;
		watch(s, EPOLL_CTL_MOD);
		return shutdown(s->fd, SHUT_WR) ? -errno : 0;
	}
	if (n > s->tx_len - s->tx)
		n = s->tx_len - s->tx;
	pattern_fill(piece, n, tx_seed(s), s->tx);
	sent = send(s->fd, piece, n, MSG_NOSIGNAL);
	if (sent < 0)
		return errno == EAGAIN ? 0 : -errno;
	s->tx += sent;
	return 1;
}

static int take_hello(struct side *s)
{
	ssize_t n = recv(s->fd, (char *)&s->hello + s->hello_done, sizeof(s->hello) - s->hello_done, 0);

	if (n <= 0)
		return !n ? -ECONNABORTED : errno == EAGAIN ? 0 : -errno;
	s->hello_done += n;
	if (s->hello_done == sizeof(s->hello))
		know(s);
	return 1;
}

static int take_some(struct side *s)
{
	ssize_t n;

	if (!s->known)
		return take_hello(s);
	n = recv(s->fd, piece, rnd_size(&soak.random, sizeof(piece)), 0);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (!n) {
		s->ended = true;
		watch(s, EPOLL_CTL_MOD);
		return s->rx == s->rx_len ? 0 : -ENODATA;
	}
	if (n > s->rx_len - s->rx || pattern_check(piece, n, rx_seed(s), s->rx))
		return -EILSEQ;
	s->rx += n;
	return 1;
}

static int move(struct side *s, uint32_t events)
{
	unsigned int turn;
	int n = 0, all = 0;

	for (turn = 0; turn < TURNS && events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !s->ended; turn++, all |= n)
		if ((n = take_some(s)) <= 0)
			break;
	for (turn = 0; turn < TURNS && n >= 0 && events & EPOLLOUT && s->known && !s->shut; turn++, all |= n)
		if ((n = give(s)) <= 0)
			break;
	if (all > 0)
		s->moved_ms = now_ms();
	return n;
}

static void turn(struct side *s, uint32_t events)
{
	int err = move(s, events);

	if (err < 0)
		blame(s, err == -EILSEQ ? "wrong bytes" : err == -ENODATA ? "cut off" : "failed", -err);
	if (err >= 0 && !(s->ended && s->shut))
		return;
	if (err >= 0 && s->client) {
		soak.streams += 2;
		soak.bytes += s->tx + s->rx;
	}
	side_free(s);
}

static int port_of(int fd)
{
	struct sockaddr_in in = { 0 };
	socklen_t len = sizeof(in);

	return getsockname(fd, (struct sockaddr *)&in, &len) ? -errno : ntohs(in.sin_port);
}

static bool any_stuck(void)
{
	uint64_t now = now_ms();
	struct side *s;
	bool any = false;

	for (s = soak.sides; s; s = s->next) {
		if (now - s->moved_ms > STALL_MS) {
			blame(s, "stuck", 0);
			fprintf(stderr, "its port: %d\n", port_of(s->fd));
			any = true;
		}
	}
	if (any && soak.when_stuck && system(soak.when_stuck))
		fprintf(stderr, "%s: failed\n", soak.when_stuck);
	return any;
}

/* ---- */

static int address(const char *text, struct sockaddr_in *in)
{
	char host[64];
	int port;

	if (sscanf(text, "%63[0-9.]:%d", host, &port) != 2)
		return -EINVAL;
	*in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
	return inet_pton(AF_INET, host, &in->sin_addr) == 1 ? 0 : -EINVAL;
}

static int listen_at(const struct sockaddr_in *in)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int one = 1;

	soak.listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(soak.listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(soak.listening, (const struct sockaddr *)in, sizeof(*in)) || listen(soak.listening, 1024))
		return -errno;
	return epoll_ctl(soak.epoll, EPOLL_CTL_ADD, soak.listening, &ev) ? -errno : 0;
}

static void run(unsigned int connections, uint64_t until)
{
	struct epoll_event ev[64];
	uint64_t looked = now_ms(), now = looked;
	int i, n;

	while (now < until || soak.sides) {
		while (now < until && soak.clients < connections && soak.errors < 20)
			connect_one();
		n = epoll_wait(soak.epoll, ev, 64, 1000);
		for (i = 0; i < n; i++) {
			if (ev[i].data.ptr)
				turn(ev[i].data.ptr, ev[i].events);
			else
				accept_all();
		}
		now = now_ms();
		if (soak.errors >= 20 || now > until + GRACE_MS)
			break;
		if (now - looked > 5000) {
			looked = now;
			if (any_stuck())
				break;
		}
	}
	for (; soak.sides; side_free(soak.sides))
		blame(soak.sides, "not over", 0);
}

int main(int argc, char **argv)
{
	unsigned int connections = 200, seconds = 60;
	struct sockaddr_in from;
	int c;

	soak.most = 4 << 20;
	soak.random = 1;
	while ((c = getopt(argc, argv, "c:t:s:r:x:")) > 0) {
		switch (c) {
		case 'c': connections = atoi(optarg); break;
		case 't': seconds = atoi(optarg); break;
		case 's': soak.most = strtoull(optarg, NULL, 10); break;
		case 'r': soak.random = strtoull(optarg, NULL, 10); break;
		case 'x': soak.when_stuck = optarg; break;
		default: return 2;
		}
	}
	raise_nofile(2 * connections + 64);
	soak.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (argc != optind + 2 || address(argv[optind], &from) || address(argv[optind + 1], &soak.to) || listen_at(&from)) {
		fprintf(stderr, "soak: cannot listen, or wrong arguments\n");
		return 2;
	}
	run(connections, now_ms() + seconds * 1000ull);
	printf("%llu streams, %llu MB, %u errors\n", (unsigned long long)soak.streams,
	       (unsigned long long)(soak.bytes >> 20), soak.errors);
	return soak.errors || !soak.streams;
}
