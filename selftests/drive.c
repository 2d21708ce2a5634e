// SPDX-License-Identifier: GPL-2.0
/* drive.c: many verified connections driven by one event loop. */
#include "drive.h"

#include <sys/epoll.h>

static int peer_fail(const struct peer *p, const char *what, int err)
{
	fprintf(stderr, "# connection %llu: %s: %s; sent %llu of %llu, received %llu of %llu\n",
		(unsigned long long)p->tx_seed, what, strerror(-err),
		(unsigned long long)p->tx_done, (unsigned long long)p->tx_len,
		(unsigned long long)p->rx_done, (unsigned long long)p->rx_len);
	return err;
}

/* Bytes moved, or -errno. */
static int peer_send(struct peer *p, uint64_t *state)
{
	size_t n = rnd_size(state, p->chunk);
	uint8_t buf[65536];
	ssize_t sent;
	int err;

	if (p->tx_over)
		return 0;
	n = n < sizeof(buf) ? n : sizeof(buf);
	n = n < p->tx_len - p->tx_done ? n : p->tx_len - p->tx_done;
	pattern_fill(buf, n, p->tx_seed, p->tx_done);
	sent = n ? send(p->fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
	if (sent < 0)
		return errno == EAGAIN ? 0 : peer_fail(p, "send", -errno);
	p->tx_done += sent;
	if (p->tx_done == p->tx_len) {
		p->tx_over = true;
		err = fin(&p->fd);
		return err ? peer_fail(p, "shutdown", err) : sent + 1;
	}
	return sent;
}

static int peer_recv(struct peer *p, uint64_t *state)
{
	size_t n = rnd_size(state, p->chunk);
	uint8_t buf[65536];
	ssize_t got;

	if (p->rx_over)
		return 0;
	got = recv_now(p->fd, buf, n < sizeof(buf) ? n : sizeof(buf));
	if (got < 0)
		return errno == EAGAIN ? 0 : peer_fail(p, "recv", -errno);
	if (!got) {
		p->rx_over = true;
		return p->rx_done == p->rx_len ? 1 : peer_fail(p, "early end", -ENODATA);
	}
	if (pattern_check(buf, got, p->rx_seed, p->rx_done))
		return peer_fail(p, "wrong bytes", -EILSEQ);
	p->rx_done += got;
	return p->rx_done <= p->rx_len ? got : peer_fail(p, "too much", -EMSGSIZE);
}

static int watch(int ep, int op, struct peer *p)
{
	struct epoll_event ev = {
		.events = (p->tx_over ? 0 : EPOLLOUT) | (p->rx_over ? 0 : EPOLLIN),
		.data.ptr = p,
	};

	if (p->tx_over && p->rx_over)
		op = EPOLL_CTL_DEL;
	return epoll_ctl(ep, op, p->fd, &ev) ? -errno : 0;
}

/* Bytes moved, or -errno; *left counts down when the peer is done. */
static int peer_step(int ep, struct peer *p, uint64_t *state, unsigned int *left)
{
	int before = p->tx_over + 2 * p->rx_over;
	int out, in;

	out = peer_send(p, state);
	if (out < 0)
		return out;
	in = peer_recv(p, state);
	if (in < 0)
		return in;
	if (before != p->tx_over + 2 * p->rx_over) {
		int err = watch(ep, EPOLL_CTL_MOD, p);

		if (err)
			return peer_fail(p, "epoll", err);
		*left -= p->tx_over && p->rx_over;
	}
	return out + in;
}

int drive(struct peer *peers, unsigned int count, uint64_t *state)
{
	uint64_t moved_at = now_ms();
	struct epoll_event ev[64];
	unsigned int left = count, i;
	int ep = epoll_create1(EPOLL_CLOEXEC), err = 0, n, k;

	for (i = 0; i < count && !err; i++)
		err = watch(ep, EPOLL_CTL_ADD, peers + i);
	while (!err && left) {
		n = epoll_wait(ep, ev, 64, 500);
		for (k = 0; k < n && err >= 0; k++) {
			err = peer_step(ep, ev[k].data.ptr, state, &left);
			if (err > 0)
				moved_at = now_ms();
		}
		err = err < 0 ? err : 0;
		if (!err && now_ms() - moved_at > WAIT_MS)
			err = -ETIMEDOUT;
	}
	for (i = 0; err == -ETIMEDOUT && i < count; i++)
		if (!peers[i].tx_over || !peers[i].rx_over)
			peer_fail(peers + i, "stalled", err);
	close(ep);
	return err;
}

static void *drive_thread(void *arg)
{
	struct driver *d = arg;

	d->err = drive(d->peers, d->count, &d->state);
	return NULL;
}

int driver_start(struct driver *d)
{
	return -pthread_create(&d->thread, NULL, drive_thread, d);
}

int driver_join(struct driver *d)
{
	pthread_join(d->thread, NULL);
	return d->err;
}
