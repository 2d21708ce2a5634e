// SPDX-License-Identifier: GPL-2.0
/*
 * stream.c: bytes that know their position. A lost, doubled or moved byte shows where it was
 * found and where it belongs.
 */
#include "tls.h"

#include <limits.h>
#include <sys/syscall.h>
#include <time.h>

#define CHUNK 65536

static uint64_t pattern_word(uint64_t seed, uint64_t index)
{
	uint64_t z = (seed << 40) + index * 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 29)) * 0xbf58476d1ce4e5b9ull;
	return z ^ (z >> 32);
}

static uint8_t pattern_byte(uint64_t seed, uint64_t pos)
{
	return pattern_word(seed, pos / 8) >> (pos % 8 * 8);
}

void pattern_fill(void *buf, size_t len, uint64_t seed, uint64_t pos)
{
	uint8_t *p = buf, *end = p + len;
	uint64_t word;

	for (; p < end && pos % 8; pos++)
		*p++ = pattern_byte(seed, pos);
	for (; end - p >= 8; p += 8, pos += 8) {
		word = pattern_word(seed, pos / 8);
		memcpy(p, &word, 8);
	}
	for (; p < end; pos++)
		*p++ = pattern_byte(seed, pos);
}

/* Where in the stream do these bytes belong? Only for the report. */
static void tell_origin(const uint8_t *p, size_t len, uint64_t seed, uint64_t pos)
{
	uint64_t from = pos > (1 << 18) ? pos - (1 << 18) : 0, at;
	size_t n = len < 12 ? len : 12, i;

	for (at = from; at < pos + (1 << 18); at++) {
		for (i = 0; i < n && p[i] == pattern_byte(seed, at + i); i++)
			;
		if (i == n && n >= 4) {
			fprintf(stderr, "# there stands what belongs at %llu (%+lld)\n",
				(unsigned long long)at, (long long)(at - pos));
			return;
		}
	}
	fprintf(stderr, "# there stands nothing of this stream nearby (%zu bytes looked at)\n", n);
}

int pattern_check(const void *buf, size_t len, uint64_t seed, uint64_t pos)
{
	const uint8_t *p = buf;
	uint8_t want[4096];
	size_t n, i;

	for (; len; p += n, len -= n, pos += n) {
		n = len < sizeof(want) ? len : sizeof(want);
		pattern_fill(want, n, seed, pos);
		if (!memcmp(want, p, n))
			continue;
		for (i = 0; p[i] == want[i]; i++)
			;
		fprintf(stderr, "# stream %llu: wrong byte at position %llu\n",
			(unsigned long long)seed, (unsigned long long)(pos + i));
		tell_origin(p + i, len - i, seed, pos + i);
		return -EILSEQ;
	}
	return 0;
}

/* Raises no SIGPIPE: one that a test sees is the library's. */
static ssize_t write_quietly(int fd, const void *buf, size_t len)
{
	struct timespec none = { 0 };
	sigset_t set, before;
	ssize_t n;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	n = write(fd, buf, len);
	if (n < 0 && errno == EPIPE) {
		sigtimedwait(&set, NULL, &none);
		errno = EPIPE;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return n;
}

/* recv() cannot tell of a record that is no data: close_notify is the end of the stream, all else is an error. */
static ssize_t recv_control(int fd)
{
	uint8_t type, bytes[TLS_RECORD];
	ssize_t n = tls_get(fd, &type, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n == 2 && type == TLS_ALERT && bytes[1] == 0)
		return 0;
	errno = n < 0 ? -n : EPROTO;
	return -1;
}

ssize_t recv_now(int fd, void *buf, size_t len)
{
	ssize_t n = recv(fd, buf, len, MSG_DONTWAIT);

	return n < 0 && errno == EIO && is_tls(fd) ? recv_control(fd) : n;
}

/*
 * What never waits, also of a pipe whose descriptor would: there is room for PIPE_BUF when poll() says so,
 * and no more than that is sure.
 */
static ssize_t move_now(int fd, void *buf, size_t len, bool out)
{
	ssize_t n = out ? send(fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) : recv_now(fd, buf, len);

	if (n >= 0 || errno != ENOTSOCK)
		return n;
	n = poll_fd(fd, out ? POLLOUT : POLLIN, 0);
	if (n <= 0) {
		errno = EAGAIN;
		return -1;
	}
	return out ? write_quietly(fd, buf, len < PIPE_BUF ? len : PIPE_BUF) : read(fd, buf, len);
}

/* One send or recv that waits no longer than ms; 0: end of stream. */
static ssize_t move(int fd, void *buf, size_t len, bool out, int ms)
{
	uint64_t until = now_ms() + ms;
	ssize_t n;

	for (;;) {
		n = move_now(fd, buf, len, out);
		if (n >= 0)
			return n;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (now_ms() >= until)
			return -ETIMEDOUT;
		poll_fd(fd, out ? POLLOUT : POLLIN, until - now_ms() < 100 ? 10 : 100);
	}
}

int put(int fd, uint64_t seed, uint64_t pos, size_t len)
{
	uint8_t buf[CHUNK];
	ssize_t n;

	for (; len; pos += n, len -= n) {
		n = len < sizeof(buf) ? len : sizeof(buf);
		pattern_fill(buf, n, seed, pos);
		n = move(fd, buf, n, true, WAIT_MS);
		if (n < 0)
			return n;
	}
	return 0;
}

int take(int fd, uint64_t seed, uint64_t pos, size_t len)
{
	uint8_t buf[CHUNK];
	ssize_t n;
	int err;

	for (; len; pos += n, len -= n) {
		n = move(fd, buf, len < sizeof(buf) ? len : sizeof(buf), false, WAIT_MS);
		if (n <= 0)
			return n ? n : -ENODATA;
		err = pattern_check(buf, n, seed, pos);
		if (err)
			return err;
	}
	return 0;
}

int put_bytes(int fd, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	ssize_t n;

	for (; len; p += n, len -= n) {
		n = move(fd, (void *)p, len, true, WAIT_MS);
		if (n < 0)
			return n;
	}
	return 0;
}

int take_bytes(int fd, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	uint8_t buf[CHUNK];
	ssize_t n;

	for (; len; p += n, len -= n) {
		n = move(fd, buf, len < sizeof(buf) ? len : sizeof(buf), false, WAIT_MS);
		if (n <= 0)
			return n ? n : -ENODATA;
		if (memcmp(buf, p, n))
			return -EILSEQ;
	}
	return 0;
}

int64_t stuff(int fd, uint64_t seed)
{
	uint8_t buf[4096];
	int64_t pos = 0;
	ssize_t n;

	/* what the peer takes over makes room once more */
	for (;;) {
		pattern_fill(buf, sizeof(buf), seed, pos);
		n = move(fd, buf, sizeof(buf), true, 50);
		if (n == -ETIMEDOUT)
			return pos;
		if (n < 0)
			return n;
		pos += n;
	}
}

int64_t take_rest(int fd, uint64_t seed, uint64_t pos)
{
	uint64_t start = pos;
	uint8_t buf[CHUNK];
	ssize_t n;
	int err;

	for (;; pos += n) {
		n = move(fd, buf, sizeof(buf), false, WAIT_MS);
		if (n <= 0)
			return n ? n : (int64_t)(pos - start);
		err = pattern_check(buf, n, seed, pos);
		if (err)
			return err;
	}
}

int64_t drain(int fd, uint8_t *buf, size_t max)
{
	size_t have = 0;
	ssize_t n;

	while (have < max) {
		n = move(fd, buf + have, max - have, false, WAIT_MS);
		if (n <= 0)
			return n ? n : (int64_t)have;
		have += n;
	}
	return -EMSGSIZE;
}

int at_eof(int fd)
{
	char byte;
	ssize_t n = move(fd, &byte, 1, false, WAIT_MS);

	return n > 0 ? -EMSGSIZE : n;
}

int at_reset(int fd)
{
	char buf[4096];
	ssize_t n;

	do {
		n = move(fd, buf, sizeof(buf), false, WAIT_MS);
	} while (n > 0);
	if (!n)
		return -ENODATA;
	return n == -ECONNRESET ? 0 : n;
}

int at_cut(int fd)
{
	int err = at_reset(fd);

	return err == -ENODATA && !is_tcp(fd) ? 0 : err;
}

int at_cut_by(enum spl_engine engine, int end, int peer)
{
	int err = at_cut(peer);

	return err == -ENODATA && engine == SPL_ENGINE_USER && is_tls(end) ? 0 : err;
}

int at_quiet(int fd)
{
	int got = poll_fd(fd, POLLIN | POLLRDHUP, QUIET_MS);

	return got <= 0 ? got : -EEXIST;
}

static int one_byte(int from, int to)
{
	uint64_t seed = now_us();
	int err = put(from, seed, 0, 1);

	return err ? err : take(to, seed, 0, 1);
}

int alive(int x, int y)
{
	int way_x = fcntl(x, F_GETFL) & O_ACCMODE, way_y = fcntl(y, F_GETFL) & O_ACCMODE, err = 0;

	if (way_x == way_y && way_x != O_RDWR)
		return -EINVAL;
	if (way_x != O_RDONLY && way_y != O_WRONLY)
		err = one_byte(x, y);
	if (!err && way_x != O_WRONLY && way_y != O_RDONLY)
		err = one_byte(y, x);
	return err;
}

int at_end(int fd)
{
	int got;

	if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY)
		return at_eof(fd);
	got = poll_fd(fd, 0, WAIT_MS);
	return got > 0 && got & POLLERR ? 0 : -ETIMEDOUT;
}

static void rest_a_little(struct stream *st, uint64_t *state)
{
	if (st->pause_us && !rnd_below(state, 8))
		usleep(rnd_below(state, st->pause_us));
}

static int patience(const struct stream *st)
{
	return st->patience_ms ? st->patience_ms : WAIT_MS;
}

static int send_loop(struct stream *st)
{
	uint64_t state = st->seed * 77 + 1;
	uint8_t buf[CHUNK];
	size_t n, off;
	ssize_t sent;

	while (st->done < st->len && !st->stop) {
		n = rnd_size(&state, st->chunk && st->chunk < CHUNK ? st->chunk : CHUNK);
		n = n < st->len - st->done ? n : st->len - st->done;
		pattern_fill(buf, n, st->seed, st->pos + st->done);
		for (off = 0; off < n && !st->stop; off += sent, st->done += sent) {
			sent = move(st->fd, buf + off, n - off, true,
				    st->len == SPL_ALL ? 100 : patience(st));
			if (sent == -ETIMEDOUT && st->len == SPL_ALL)
				sent = 0;	/* an endless sender looks at stop */
			if (sent < 0)
				return sent;
		}
		rest_a_little(st, &state);
	}
	return st->fin ? fin(&st->fd) : 0;
}

static int recv_loop(struct stream *st)
{
	uint64_t state = st->seed * 78 + 2;
	uint8_t buf[CHUNK];
	ssize_t n;
	int err;

	while (st->done < st->len) {
		n = rnd_size(&state, st->chunk && st->chunk < CHUNK ? st->chunk : CHUNK);
		n = (uint64_t)n < st->len - st->done ? (uint64_t)n : st->len - st->done;
		n = move(st->fd, buf, n, false, patience(st));
		if (n < 0)
			return n;
		if (!n)
			return st->len == SPL_ALL ? 0 : -ENODATA;
		err = pattern_check(buf, n, st->seed, st->pos + st->done);
		if (err)
			return err;
		st->done += n;
	}
	return 0;
}

static void *send_thread(void *arg)
{
	struct stream *st = arg;

	st->tid = syscall(SYS_gettid);
	st->err = send_loop(st);
	return NULL;
}

static void *recv_thread(void *arg)
{
	struct stream *st = arg;

	st->tid = syscall(SYS_gettid);
	st->err = recv_loop(st);
	return NULL;
}

int stream_send(struct stream *st)
{
	return -pthread_create(&st->thread, NULL, send_thread, st);
}

int stream_recv(struct stream *st)
{
	return -pthread_create(&st->thread, NULL, recv_thread, st);
}

int stream_stuck(const struct stream *st, unsigned int ms)
{
	uint64_t until = now_ms() + 120000, since = now_ms(), last = st->done;

	while (!last || now_ms() - since < ms) {
		if (now_ms() > until)
			return -ETIMEDOUT;
		sleep_ms(10);
		if (st->done != last) {
			last = st->done;
			since = now_ms();
		}
	}
	return 0;
}

int stream_join(struct stream *st)
{
	pthread_join(st->thread, NULL);
	return st->err;
}
