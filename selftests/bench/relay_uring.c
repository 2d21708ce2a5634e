// SPDX-License-Identifier: GPL-2.0
/*
 * relay_uring.c: the relay on io_uring: one ring, and nearly all its work in one system call for each batch.
 *
 * Small messages: each source has one multishot receive, out of a ring of buffers that all share. Bulk: a source that
 * fills a buffer is read one large piece at a time, each when the one before is sent, so that a piece stays in the cache.
 * A sink that does not take what is held for it has its source's receive cancelled: no more than a few pieces are held.
 */
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay.h"

#define ENTRIES 1024
#define COMPLETIONS 16384
#define SHARED_SIZE (32 << 10)
#define SHARED_STRIDE (SHARED_SIZE + 192)	/* not all first lines in the same set of the cache */
#define SHARED_READY 64				/* in the ring of buffers; a power of two */
#define SHARED_MORE 32				/* are made at a time */
#define SHARED_MAX 32768			/* as many as a completion can name */
#define OWN_SIZE (128 << 10)
#define OWN SHARED_MAX				/* id of a piece that is not in the ring of buffers */
#define HELD 4					/* pieces a way may hold before its source is stopped */

struct piece {
	STAILQ_ENTRY(piece) next;
	char *data;
	unsigned int len, at, id;
};

STAILQ_HEAD(pieces, piece);

enum receiving { RECEIVING_NOT, RECEIVING_MANY, RECEIVING_ONE, RECEIVING_STOPS };

/* One direction. */
struct course {
	struct pair *pair;
	struct course *back;
	struct pieces held;		/* in order; the first is being sent if any is */
	struct piece *own;		/* what RECEIVING_ONE receives into */
	int from, to;
	unsigned int n_held;
	enum receiving receiving;
	bool sending;
	bool bulk;			/* a shared buffer was not enough, or there was none */
	bool last;			/* the end was read */
	bool over;			/* and what came before it is sent */
};

struct pair {
	struct course up, down;
	unsigned int pending;		/* operations whose last completion is to come */
	bool failed;
};

/* In the low bits of user_data, beside a pointer; no pointer: nothing is to be done. */
enum { OP_ACCEPT, OP_RECEIVE, OP_SEND, OP_MASK = 3 };
#define NAME(of, op) ((uint64_t)(uintptr_t)(of) | (op))

static struct io_uring ring;
static struct io_uring_buf_ring *ready;
static unsigned int n_ready, n_made;
static struct piece *made[SHARED_MAX / SHARED_MORE];
static struct pieces spare = STAILQ_HEAD_INITIALIZER(spare);

/* ---- pieces */

static struct piece *take(struct pieces *from)
{
	struct piece *p = STAILQ_FIRST(from);

	STAILQ_REMOVE_HEAD(from, next);
	return p;
}

static void make_ready(struct piece *p)
{
	io_uring_buf_ring_add(ready, p->data, SHARED_SIZE, (unsigned short)p->id, SHARED_READY - 1, 0);
	io_uring_buf_ring_advance(ready, 1);
	n_ready++;
}

/* All that can be named may be held by sinks that do not take it: then sources get pieces of their own. */
static bool make_more(void)
{
	struct piece *p = calloc(SHARED_MORE, sizeof(*p));
	char *data = malloc((size_t)SHARED_MORE * SHARED_STRIDE);
	unsigned int i;

	if (n_made == SHARED_MAX || !p || !data) {
		free(p);
		free(data);
		return false;
	}
	made[n_made / SHARED_MORE] = p;
	for (i = 0; i < SHARED_MORE; i++, p++) {
		*p = (struct piece){ .data = data + (size_t)i * SHARED_STRIDE, .id = n_made++ };
		STAILQ_INSERT_HEAD(&spare, p, next);
	}
	return true;
}

static void refill(void)
{
	while (n_ready < SHARED_READY) {
		if (STAILQ_EMPTY(&spare) && !make_more())
			return;
		make_ready(take(&spare));
	}
}

static struct piece *new_own(void)
{
	struct piece *p = malloc(sizeof(*p) + OWN_SIZE);

	if (p)
		*p = (struct piece){ .data = (char *)(p + 1), .id = OWN };
	return p;
}

static void release(struct piece *p)
{
	if (p->id == OWN)
		free(p);
	else if (n_ready < SHARED_READY)
		make_ready(p);
	else
		STAILQ_INSERT_HEAD(&spare, p, next);
}

/* ---- operations */

static struct io_uring_sqe *new_op(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	while (!sqe) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	return sqe;
}

static void start_send(struct course *c)
{
	struct piece *p = STAILQ_FIRST(&c->held);
	struct io_uring_sqe *sqe = new_op();

	io_uring_prep_send(sqe, c->to, p->data + p->at, p->len - p->at, MSG_NOSIGNAL | MSG_WAITALL);
	sqe->user_data = NAME(c, OP_SEND);
	c->sending = true;
	c->pair->pending++;
}

static void start_receive(struct course *c)
{
	struct io_uring_sqe *sqe = new_op();

	if (c->own) {
		io_uring_prep_recv(sqe, c->from, c->own->data, OWN_SIZE, 0);
		c->receiving = RECEIVING_ONE;
	} else {
		io_uring_prep_recv_multishot(sqe, c->from, NULL, 0, 0);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = 0;
		c->receiving = RECEIVING_MANY;
	}
	sqe->user_data = NAME(c, OP_RECEIVE);
	c->pair->pending++;
}

/* Nobody waits for its completion. */
static void unwatched(struct io_uring_sqe *sqe)
{
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	sqe->user_data = 0;
}

static void stop_receive(struct course *c)
{
	struct io_uring_sqe *sqe = new_op();

	io_uring_prep_cancel64(sqe, NAME(c, OP_RECEIVE), 0);
	unwatched(sqe);
	c->receiving = RECEIVING_STOPS;
}

static void cancel_all(int fd)
{
	struct io_uring_sqe *sqe = new_op();

	io_uring_prep_cancel_fd(sqe, fd, IORING_ASYNC_CANCEL_ALL);
	unwatched(sqe);
}

static void start_close(int fd)
{
	struct io_uring_sqe *sqe = new_op();

	io_uring_prep_close(sqe, fd);
	unwatched(sqe);
}

/* ---- pairs */

/* Nothing is pending: no completion will name it any more. */
static void pair_free(struct pair *pair)
{
	STAILQ_CONCAT(&pair->up.held, &pair->down.held);
	while (!STAILQ_EMPTY(&pair->up.held))
		release(take(&pair->up.held));
	start_close(pair->up.from);
	start_close(pair->up.to);
	free(pair);
}

static void pair_fail(struct pair *pair)
{
	struct linger linger = { .l_onoff = 1 };

	if (pair->failed)
		return;
	pair->failed = true;
	setsockopt(pair->up.from, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	setsockopt(pair->up.to, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	cancel_all(pair->up.from);
	cancel_all(pair->up.to);
}

/* Starts what can be under way now. */
static void go_on(struct course *c)
{
	if (c->n_held && !c->sending)
		start_send(c);
	if (c->receiving == RECEIVING_MANY && (c->bulk || c->n_held > HELD))
		stop_receive(c);
	if (c->n_held || c->receiving)
		return;
	c->over = c->last;
	if (c->over && !c->back->over)
		shutdown(c->to, SHUT_WR);	/* the second to be over needs none: closing does it */
	if (c->over)
		return;
	if (c->bulk)
		c->own = new_own();
	if (c->bulk && !c->own)
		pair_fail(c->pair);
	else
		start_receive(c);
}

static void completed(struct course *c)
{
	struct pair *pair = c->pair;

	if (!pair->failed && !c->over)
		go_on(c);
	if (!pair->pending && (pair->failed || (pair->up.over && pair->down.over)))
		pair_free(pair);
}

static struct piece *received_into(struct course *c, const struct io_uring_cqe *cqe)
{
	unsigned int id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
	struct piece *p = c->own;

	c->own = NULL;
	if (!(cqe->flags & IORING_CQE_F_BUFFER))
		return p;
	n_ready--;
	return &made[id / SHARED_MORE][id % SHARED_MORE];
}

/* An end that was read: a send that waits for the same socket may have got the error, and complete later. */
static bool was_reset(const struct course *c)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	return c->back->sending && !getsockopt(c->from, IPPROTO_TCP, TCP_INFO, &info, &len) && info.tcpi_state == TCP_CLOSE;
}

static void received(struct course *c, const struct io_uring_cqe *cqe)
{
	struct piece *p = received_into(c, cqe);

	if (!(cqe->flags & IORING_CQE_F_MORE)) {
		c->receiving = RECEIVING_NOT;
		c->pair->pending--;
	}
	if (cqe->res > 0) {
		p->len = (unsigned int)cqe->res;
		p->at = 0;
		STAILQ_INSERT_TAIL(&c->held, p, next);
		c->n_held++;
		c->bulk = cqe->res >= SHARED_SIZE;
	} else if (p) {
		release(p);
	}
	c->last = c->last || !cqe->res;
	if (cqe->res == -ENOBUFS)
		c->bulk = true;
	else if (cqe->res ? cqe->res < 0 && cqe->res != -ECANCELED : was_reset(c))
		pair_fail(c->pair);
	completed(c);
}

static void sent(struct course *c, int res)
{
	struct piece *p = STAILQ_FIRST(&c->held);

	c->sending = false;
	c->pair->pending--;
	if (res < 0)
		pair_fail(c->pair);
	else
		p->at += (unsigned int)res;
	if (p->at == p->len) {
		release(take(&c->held));
		c->n_held--;
	}
	completed(c);
}

/* ---- connections */

static void pair_new(struct pair *pair, int client, int server)
{
	pair->up = (struct course){ .pair = pair, .back = &pair->down, .from = client, .to = server };
	pair->down = (struct course){ .pair = pair, .back = &pair->up, .from = server, .to = client };
	STAILQ_INIT(&pair->up.held);
	STAILQ_INIT(&pair->down.held);
	start_receive(&pair->up);
	start_receive(&pair->down);
}

static int dial(void)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!connect(fd, (struct sockaddr *)&relay_target, sizeof(relay_target)) || errno == EINPROGRESS)
		return fd;
	close(fd);
	return -1;
}

static void start_accept(int *listener)
{
	struct io_uring_sqe *sqe = new_op();

	io_uring_prep_multishot_accept(sqe, *listener, NULL, NULL, SOCK_CLOEXEC);
	sqe->user_data = NAME(listener, OP_ACCEPT);
}

static void accepted(int *listener, const struct io_uring_cqe *cqe)
{
	struct pair *pair;
	int server;

	if (!(cqe->flags & IORING_CQE_F_MORE))
		start_accept(listener);
	if (cqe->res < 0)
		return;
	server = dial();
	pair = server < 0 ? NULL : calloc(1, sizeof(*pair));
	if (pair) {
		pair_new(pair, cqe->res, server);
		return;
	}
	close(cqe->res);
	close(server);
}

/* ---- the ring */

static void complete(const struct io_uring_cqe *cqe)
{
	void *of = (void *)(uintptr_t)(cqe->user_data & ~(uint64_t)OP_MASK);
	unsigned int op = cqe->user_data & OP_MASK;

	if (of && op == OP_ACCEPT)
		accepted(of, cqe);
	else if (of && op == OP_RECEIVE)
		received(of, cqe);
	else if (of)
		sent(of, cqe->res);
}

/* Without the two flags, which 6.1 has, it is slower and no different otherwise. */
static void open_ring(void)
{
	struct io_uring_params plain = { .flags = IORING_SETUP_CQSIZE, .cq_entries = COMPLETIONS }, params = plain;
	int error;

	params.flags |= IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	error = io_uring_queue_init_params(ENTRIES, &ring, &params);
	if (error == -EINVAL)
		error = io_uring_queue_init_params(ENTRIES, &ring, &plain);
	if (error)
		relay_stop("io_uring", -error);
	io_uring_register_ring_fd(&ring);
}

static void open_buffers(void)
{
	struct io_uring_buf_reg reg = { .ring_entries = SHARED_READY };
	int error;

	ready = aligned_alloc(4096, 4096);
	reg.ring_addr = (uint64_t)(uintptr_t)ready;
	error = ready ? io_uring_register_buf_ring(&ring, &reg, 0) : -ENOMEM;
	if (error)
		relay_stop("buffers", -error);
	io_uring_buf_ring_init(ready);
	refill();
}

void uring_loop(int *listeners, unsigned int n)
{
	struct io_uring_cqe *cqe;
	unsigned int i, head, seen;
	int error;

	open_ring();
	open_buffers();
	for (i = 0; i < n; i++)
		start_accept(&listeners[i]);
	for (;;) {
		error = io_uring_submit_and_wait(&ring, 1);
		if (error < 0 && error != -EINTR && error != -EBUSY)
			relay_stop("io_uring", -error);
		seen = 0;
		io_uring_for_each_cqe(&ring, head, cqe) {
			complete(cqe);
			seen++;
		}
		io_uring_cq_advance(&ring, seen);
		refill();
	}
}
