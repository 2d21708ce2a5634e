// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The user engine: the library itself moves the bytes, inside the calls of the program's one
 * thread. What a call can move at once it moves; the rest is woken by an epoll set, in which the files of
 * all operations are and which spl_fd() shows. A round is what happens between two looks at it.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "user.h"

#define EVENTS 64		/* of one round */

/* ---- rounds */

static void round_begin(struct user *u)
{
	u->now = user_timer_now();
}

static void free_dead(struct user *u)
{
	struct user_sock *sock;

	while ((sock = u->dead)) {
		u->dead = sock->chain;
		free(sock->tls);
		free(sock);
	}
}

/* No event of the round is in hand any more. */
static void round_end(struct user *u)
{
	user_io_unhush(u);
	user_timer_arm(u);
	free_dead(u);
	u->spl->behind = !TAILQ_EMPTY(&u->run) || !TAILQ_EMPTY(&u->done);
}

static void heed_sock(struct user *u, struct user_sock *sock, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		sock->ready |= USER_READABLE;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		sock->ready |= USER_WRITABLE;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI))
		sock->ready |= USER_HUP;
	/* a hang-up may be an error that the caller has taken from the socket */
	if (events & (EPOLLERR | EPOLLHUP))
		sock->ready |= USER_ERROR;
	if (sock->connecting && sock->tx && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
		user_phase_connected(u, sock->tx->op);
	if (sock->rx && (events & EPOLLERR))
		user_phase_source_broke(u, sock->rx);
	/* first what the failed socket still had to say, then its failure */
	if (sock->rx && (sock->ready & USER_READABLE))
		user_flow_queue(u, sock->rx);
	if (sock->tx && ((sock->ready & USER_ERROR) || sock->tx->stalled != SPL_WANTS_READ))
		user_flow_queue(u, sock->tx);
}

static void heed(struct user *u, const struct epoll_event *ev)
{
	struct user_sock *sock = ev->data.ptr;

	/* the descriptor that says that events wait; the timer; a file that was let go in this round */
	if (!ev->data.ptr)
		return;
	if (ev->data.ptr == &u->timerfd)
		u->alarm = 0;
	else if (ev->data.ptr == &u->waits)
		u->hop->tick(u);
	else if (ev->data.ptr == &u->spl->also_fd)
		u->spl->also_ready = true;
	else if (sock->halves)
		heed_sock(u, sock, ev->events);
}

/* Every flow that is queued now gets one turn, as far as it is still there. */
static void run(struct user *u)
{
	size_t turns = u->runs;
	struct user_flow *flow;

	while (turns-- && (flow = TAILQ_FIRST(&u->run))) {
		user_flow_unqueue(u, flow);
		if (user_flow_run(u, flow) == USER_MORE)
			user_flow_queue(u, flow);
	}
}

/* Hands the events of what has ended over to the library. */
static int deliver(struct user *u)
{
	struct user_op *op;
	int n = 0;

	while ((op = TAILQ_FIRST(&u->done))) {
		TAILQ_REMOVE(&u->done, op, done);
		op->public->priv = NULL;
		spl_op_end(u->spl, &op->ev);
		op->public = NULL;
		if (op->phase == USER_LEAVING)
			TAILQ_INSERT_TAIL(&u->leaving, op, done);
		else
			user_op_free(u, op);
		n = 1;
	}
	u->spl->behind = !TAILQ_EMPTY(&u->run);
	return n;
}

/*
 * An idle limit is judged only when all that came is known. What is ready comes in turn, so it is after as many
 * full rounds as there are files to fill them.
 */
static bool all_known(struct user *u, int n, size_t watched)
{
	if (n >= EVENTS && !u->full)
		u->full = watched / EVENTS + 1;
	if (n < EVENTS)
		u->full = 0;
	else
		u->full--;
	return !u->full;
}

static int user_collect(struct spl *s, int timeout_ms)
{
	struct epoll_event ev[EVENTS];
	struct user *u = s->priv;
	size_t watched = u->watched;
	int i, n;

	if (deliver(u))
		return 1;
	if (!TAILQ_EMPTY(&u->run))
		timeout_ms = 0;
	if (timeout_ms)
		spl_wait_quiet(s);
	n = epoll_wait(u->epoll, ev, EVENTS, timeout_ms);
	if (n < 0 && errno != EINTR)
		return spl_refuse(s, -errno, NULL);
	round_begin(u);
	for (i = 0; i < n; i++)
		heed(u, &ev[i]);
	run(u);
	if (all_known(u, n, watched))
		user_timer_run(u);
	round_end(u);
	return deliver(u);
}

/* ---- the calls */

/* Of all contexts of the process: a token is the name of one operation. */
static uint64_t last_token;

static struct user_op *find(struct spl *s, uint64_t token)
{
	struct user_op *op = spl_op_find(s, token)->priv;

	if (op && op->phase < USER_LEAVING)
		return op;
	spl_refuse(s, -ENOENT, "the operation has ended");
	return NULL;
}

int user_open(struct spl *s)
{
	struct user *u = calloc(1, sizeof(*u));

	if (!u)
		return spl_refuse(s, -ENOMEM, NULL);
	u->spl = s;
	u->timerfd = -1;
	u->pid = getpid();
	TAILQ_INIT(&u->run);
	TAILQ_INIT(&u->done);
	TAILQ_INIT(&u->leaving);
	SLIST_INIT(&u->pipes);
	s->priv = u;
	u->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (u->epoll < 0) {
		int error = errno;

		free(u);
		return spl_refuse(s, -error, NULL);
	}
	s->engine_fd = u->epoll;
	user_busy_opened();
	return 0;
}

/* Forwards are cancelled; what is spliced cannot go on, and its peers learn that it did not come to its end. */
static void end_at_close(struct spl_op *public, void *user)
{
	struct user_op *op = public->priv;
	struct user *u = user;

	if (!op || op->phase >= USER_LEAVING)
		return;
	if (u->pid != getpid())
		user_op_disown(u, op);
	else if (op->owns)
		user_phase_end(user, op, SPL_REVOKED, ECONNRESET);
	else
		user_phase_end(user, op, SPL_CANCELED, 0);
}

void user_close(struct spl *s)
{
	struct user *u = s->priv;

	round_begin(u);
	spl_queue_each(s, end_at_close, u);
	if (u->pid == getpid())
		round_end(u);
	deliver(u);
	user_leave_all(u);
	free_dead(u);
	user_pipe_free_all(u);
	if (u->timerfd >= 0)
		close(u->timerfd);
	close(u->epoll);
	free(u->timers);
	free(u);
	s->priv = NULL;
	user_busy_closed();
}

/* All of a send is taken, or nothing: is there room at all? */
static int check_room(struct spl *s, const struct user_op *op)
{
	const struct user_sock *dst = op->flow[0].dst;

	if (op->kind != SPL_OP_SEND || dst->connecting || user_sock_poll(dst, POLLOUT))
		return 0;
	return spl_refuse(s, -EAGAIN, "the sink has no room");
}

static int begin(struct user *u, struct user_op *op, const struct spl_request *req)
{
	int r = user_op_attach(u, op, req);

	if (r)
		return r;
	r = check_room(u->spl, op);
	if (!r && u->mover)
		r = u->mover->admit(u, op);
	if (!r)
		r = user_phase_begin(u, op);
	if (r)
		user_op_detach(op, false);
	return r;
}

static int user_start(struct spl *s, const struct spl_request *req, struct spl_op *public, uint64_t *token)
{
	struct user *u = s->priv;
	struct user_op *op;
	int r;

	round_begin(u);
	r = user_op_new(u, req, &op);
	if (r)
		return spl_refuse(s, r, NULL);
	op->public = public;
	public->priv = op;
	public->token = __atomic_add_fetch(&last_token, 1, __ATOMIC_RELAXED);
	r = begin(u, op, req);
	if (r) {
		user_timer_stop(u, op);
		user_op_free(u, op);
	} else {
		*token = public->token;
		if (u->book)
			u->book->add(u, op);
	}
	round_end(u);
	return r;
}

static int user_cancel(struct spl *s, uint64_t token)
{
	struct user_op *op = find(s, token);
	struct user *u = s->priv;

	if (!op)
		return -ENOENT;
	round_begin(u);
	user_leave(u, op);
	round_end(u);
	return 0;
}

static int user_revoke(struct spl *s, uint64_t token, int error)
{
	struct user_op *op = find(s, token);
	struct user *u = s->priv;

	if (!op)
		return -ENOENT;
	round_begin(u);
	user_phase_end(u, op, SPL_REVOKED, error);
	round_end(u);
	return 0;
}

/*
 * A pair that holds bytes for a full sink cannot be dissolved: there is one residue and there
 * are two directions. It holds no more after those, so that the next attempt succeeds.
 */
static int settle(struct spl *s, struct user_op *op)
{
	unsigned int i;

	if (((struct user *)s->priv)->mover && !user_leave_kernel(s->priv, op))
		return spl_refuse(s, -EAGAIN, "bytes are on their way to a sink in the kernel: try again");
	for (i = 0; i < op->flows && op->phase != USER_ENDED; i++)
		if (user_flow_holds(&op->flow[i]))
			user_flow_queue(s->priv, &op->flow[i]);
	run(s->priv);
	if (op->phase == USER_ENDED)
		return spl_refuse(s, -ENOENT, "the operation has ended");
	for (i = 0; i < op->flows; i++) {
		op->flow[i].bulk = false;
		if (op->flows == 2 && user_flow_holds(&op->flow[i])) {
			op->peek = true;
			op->pipes = false;
			return spl_refuse(s, -EAGAIN, "bytes are on their way to a sink that is full: try again");
		}
	}
	return 0;
}

static int reclaim(struct spl *s, struct user_op *op, int fds[2])
{
	int r = settle(s, op);

	if (r)
		return r;
	fds[0] = user_sock_dup(op->flow[0].src);
	if (fds[0] < 0)
		return spl_refuse(s, fds[0], NULL);
	fds[1] = user_sock_dup(op->flow[0].dst);
	if (fds[1] < 0) {
		close(fds[0]);
		return spl_refuse(s, fds[1], NULL);
	}
	op->handed_back = true;
	user_phase_end(s->priv, op, SPL_CANCELED, 0);
	return 0;
}

static int user_reclaim(struct spl *s, uint64_t token, int fds[2])
{
	struct user_op *op = find(s, token);
	struct user *u = s->priv;
	int r;

	if (!op)
		return -ENOENT;
	if (!op->owns)
		return spl_refuse(s, -EINVAL, "only a splice is reclaimed: the descriptors of a forward are the caller's");
	round_begin(u);
	r = reclaim(s, op, fds);
	round_end(u);
	return r;
}

static enum spl_wants wants(const struct user_op *op, const struct user_flow *flow)
{
	if (op->phase == USER_CONNECTING || op->phase == USER_DRAINING)
		return SPL_WANTS_WRITE;
	return flow->stalled;
}

static int user_stat(struct spl *s, uint64_t token, struct spl_stat *out)
{
	struct user_op *op = find(s, token);
	uint64_t now = user_timer_now();
	struct user *u = s->priv;
	unsigned int i;

	if (!op)
		return -ENOENT;
	if (op->bypassed)
		u->bypass->look(op);
	for (i = 0; i < op->flows; i++)
		if (op->flow[i].kernel)
			u->mover->look(u, &op->flow[i]);
	*out = (struct spl_stat) {
		.bytes = op->flow[0].bytes,
		.age_ms = now - op->began,
		.idle_ms = now - op->moved,
		.wants = wants(op, &op->flow[0]),
	};
	if (op->flows == 2) {
		out->bytes_back = op->flow[1].bytes;
		out->wants_back = wants(op, &op->flow[1]);
	}
	return 0;
}

static int user_writeable(struct spl *s, int sink)
{
	struct user *u = s->priv;
	struct user_sock *sock;
	int r;

	round_begin(u);
	r = user_op_take_end(u, sink, USER_TX, 0, &sock);
	if (!r) {
		r = !!user_sock_poll(sock, POLLOUT);
		user_sock_put(sock, USER_TX, false);
	}
	round_end(u);
	return r;
}

/* The engine sockmap is this one, too, but for how it begins and ends, and for the hooks it sets. */
#define USER_ENGINE(which, opens, closes) {							\
	.engine = which,									\
	.caps = SPL_CAP_EXACT,									\
	.optional = SPL_CAP_LOSSLESS,								\
	.flags = SPL_F_SHUTDOWN | SPL_F_DRAIN | SPL_F_CONNECTING | SPL_F_KEEP,			\
	.features = SPL_FEATURE_PREFIX | SPL_FEATURE_SUFFIX | SPL_FEATURE_DELIM | SPL_FEATURE_SEND,\
	.epolls = true,										\
	.open = opens,										\
	.close = closes,									\
	.start = user_start,									\
	.cancel = user_cancel,									\
	.revoke = user_revoke,									\
	.reclaim = user_reclaim,								\
	.stat = user_stat,									\
	.writeable = user_writeable,								\
	.collect = user_collect,								\
}

const struct spl_engine_ops spl_engine_user = USER_ENGINE(SPL_ENGINE_USER, user_open, user_close);
const struct spl_engine_ops spl_engine_sockmap = USER_ENGINE(SPL_ENGINE_SOCKMAP, sockmap_open, sockmap_close);
