// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The kmod engine: the module sksplice moves the bytes, asked through generic netlink.
 *
 * A context has two sockets. The kernel sends the events of an owner to the one that made it,
 * and they may fill its buffer; so requests have another, whose answers always find room.
 * Closing the first ends the owner: its forwards are cancelled, its splices go on.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"
#include "engine_kmod.h"
#include "genl.h"

struct kmod {
	struct spl_genl ev, cmd;
	uint32_t owner;
	char buf[SPL_GENL_BUF] __attribute__((aligned(8)));
};

struct request {
	struct nlmsghdr *nlh;
	char buf[SPL_GENL_REQUEST] __attribute__((aligned(8)));
};

static void request_begin(struct kmod *k, struct request *req, enum sksplice_cmd cmd, uint16_t flags)
{
	req->nlh = spl_genl_request(req->buf, k->cmd.family, (uint8_t)cmd, flags);
}

/* A request about one operation of this context. */
static void request_token(struct kmod *k, struct request *req, enum sksplice_cmd cmd, uint16_t flags,
			  uint64_t token)
{
	request_begin(k, req, cmd, flags);
	mnl_attr_put_u64(req->nlh, SKSPLICE_A_TOKEN, token);
	mnl_attr_put_u32(req->nlh, SKSPLICE_A_OWNER, k->owner);
}

static int answer_cb(const struct nlmsghdr *nlh, void *data)
{
	return spl_kmod_parse(nlh, data);
}

/* Sends on g; *answer, when wanted, is the one answer. A refusal leaves the kernel's sentence. */
static int transact(struct spl *s, struct spl_genl *g, struct request *req, struct spl_kmod_attrs *answer)
{
	struct spl_genl_walk walk = { .cb = answer ? answer_cb : NULL, .data = answer };
	struct kmod *k = s->priv;
	int r = spl_genl_transact(g, req->nlh, k->buf, &walk);

	if (r < 0)
		return spl_refuse(s, r, walk.text[0] ? "%s" : NULL, walk.text);
	return 0;
}

static int malformed(struct spl *s)
{
	return spl_refuse(s, -EPROTO, "the module's answer is not what its interface promises");
}

static int resolve(struct spl *s)
{
	struct kmod *k = s->priv;
	struct spl_genl_walk walk = { 0 };
	int r = spl_genl_resolve(&k->cmd, SKSPLICE_GENL_NAME, k->buf, &walk);

	if (r == -ENOENT)
		return spl_refuse(s, -EOPNOTSUPP, "the kernel module sksplice is not loaded");
	if (r)
		return spl_refuse(s, r, walk.text[0] ? "%s" : NULL, walk.text);
	k->ev.family = k->cmd.family;
	return 0;
}

/* Makes the socket of the events an owner; answers are read from it this once. */
static int own(struct spl *s)
{
	struct spl_kmod_attrs answer = { 0 };
	struct kmod *k = s->priv;
	struct request req;
	int r;

	request_begin(k, &req, SKSPLICE_CMD_OWNER_NEW, 0);
	r = transact(s, &k->ev, &req, &answer);
	if (r == -EPERM)
		return spl_refuse(s, r, "not permitted: this needs CAP_NET_ADMIN or net.sksplice.unprivileged=1");
	if (r)
		return r;
	if (!spl_kmod_seen(&answer, SKSPLICE_A_OWNER))
		return malformed(s);
	k->owner = answer.owner;
	return 0;
}

static void kmod_close(struct spl *s)
{
	struct kmod *k = s->priv;

	spl_genl_close(&k->ev);
	spl_genl_close(&k->cmd);
	free(k);
	s->priv = NULL;
}

static int kmod_open(struct spl *s)
{
	struct kmod *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return spl_refuse(s, -ENOMEM, NULL);
	s->priv = k;
	r = spl_genl_open(&k->cmd);
	if (!r)
		r = spl_genl_open(&k->ev);
	if (r == -EPROTONOSUPPORT || r == -EAFNOSUPPORT)
		r = spl_refuse(s, -EOPNOTSUPP, "this kernel has no generic netlink");
	else if (r)
		spl_refuse(s, r, NULL);
	if (!r)
		r = resolve(s);
	if (!r)
		r = own(s);
	if (r) {
		kmod_close(s);
		return r;
	}
	s->engine_fd = mnl_socket_get_fd(k->ev.nl);
	return 0;
}

/* Room for so many bytes in pieces, beside SPL_GENL_REQUEST. */
static size_t pieces_size(size_t len)
{
	return len + (len / SKSPLICE_PIECE_MAX + 1) * 2 * MNL_ATTR_HDRLEN;
}

static void put_pieces(struct nlmsghdr *nlh, enum sksplice_attr attr, const void *bytes, size_t len)
{
	const char *at = bytes;
	size_t n;

	for (; len; len -= n, at += n) {
		n = len < SKSPLICE_PIECE_MAX ? len : SKSPLICE_PIECE_MAX;
		mnl_attr_put(nlh, (uint16_t)attr, n, at);
	}
}

static bool is_lazy(const struct spl *s, const struct spl_request *op)
{
	return s->lazy && op->kind == SPL_OP_PAIR && !(op->opts.flags & SPL_F_KEEP);
}

static void put_op(const struct spl *s, struct nlmsghdr *nlh, const struct spl_request *op)
{
	static const enum sksplice_kind kinds[] = {
		[SPL_OP_FORWARD] = SKSPLICE_KIND_FORWARD,
		[SPL_OP_SPLICE] = SKSPLICE_KIND_SPLICE,
		[SPL_OP_PAIR] = SKSPLICE_KIND_PAIR,
		[SPL_OP_SEND] = SKSPLICE_KIND_SEND,
	};
	bool sends = op->kind == SPL_OP_SEND;
	bool limited = op->kind == SPL_OP_FORWARD ? op->n != SPL_ALL : !sends && op->n;
	uint32_t flags = op->opts.flags | (is_lazy(s, op) ? SKSPLICE_F_LAZY : 0);
	const struct kmod *k = s->priv;

	mnl_attr_put_u32(nlh, SKSPLICE_A_OWNER, k->owner);
	mnl_attr_put_u32(nlh, SKSPLICE_A_KIND, kinds[op->kind]);
	if (!sends)
		mnl_attr_put_u32(nlh, SKSPLICE_A_SOURCE_FD, (uint32_t)op->source);
	mnl_attr_put_u32(nlh, SKSPLICE_A_SINK_FD, (uint32_t)op->sink);
	if (limited)
		mnl_attr_put_u64(nlh, SKSPLICE_A_LIMIT, op->n);
	if (flags)
		mnl_attr_put_u32(nlh, SKSPLICE_A_FLAGS, flags);
	if (op->opts.idle_ms)
		mnl_attr_put_u32(nlh, SKSPLICE_A_IDLE_MS, op->opts.idle_ms);
	mnl_attr_put_u64(nlh, SKSPLICE_A_USER_DATA, op->opts.user_data);
	if (op->opts.delim_len)
		mnl_attr_put(nlh, SKSPLICE_A_DELIM, op->opts.delim_len, op->opts.delim);
	if (op->opts.framer)
		mnl_attr_put_u32(nlh, SKSPLICE_A_FRAMER, (uint32_t)op->opts.framer);
	put_pieces(nlh, SKSPLICE_A_PREFIX, op->opts.prefix, op->opts.prefix_len);
	put_pieces(nlh, SKSPLICE_A_SUFFIX, op->opts.suffix, op->opts.suffix_len);
	if (sends)
		put_pieces(nlh, SKSPLICE_A_DATA, op->buf, (size_t)op->n);
}

/* The kernel takes no message larger than the sending socket's buffer, which an administrator may have made small. */
static int transact_large(struct spl *s, struct request *req, struct spl_kmod_attrs *answer)
{
	struct kmod *k = s->priv;
	int size = (int)req->nlh->nlmsg_len, r = transact(s, &k->cmd, req, answer);

	if (r != -EMSGSIZE || setsockopt(mnl_socket_get_fd(k->cmd.nl), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)))
		return r;
	return transact(s, &k->cmd, req, answer);
}

/* A request with bytes of the caller's does not fit into one of the usual size. */
static int transact_op(struct spl *s, const struct spl_request *op, struct spl_kmod_attrs *answer)
{
	size_t bytes = op->opts.prefix_len + op->opts.suffix_len + (op->kind == SPL_OP_SEND ? (size_t)op->n : 0);
	struct kmod *k = s->priv;
	struct request req;
	char *large;
	int r;

	if (!bytes) {
		request_begin(k, &req, SKSPLICE_CMD_OP_NEW, 0);
		put_op(s, req.nlh, op);
		return transact(s, &k->cmd, &req, answer);
	}
	large = malloc(SPL_GENL_REQUEST + pieces_size(bytes) + 3 * 2 * MNL_ATTR_HDRLEN);
	if (!large)
		return spl_refuse(s, -ENOMEM, NULL);
	req.nlh = spl_genl_request(large, k->cmd.family, SKSPLICE_CMD_OP_NEW, 0);
	put_op(s, req.nlh, op);
	r = transact_large(s, &req, answer);
	free(large);
	return r;
}

/* -ENOENT says elsewhere that an operation is over; of a request without a token it is the owner, or the family. */
static int heed_unload(struct spl *s, int r)
{
	if (r != -ENOENT)
		return r;
	return spl_refuse(s, -ENODEV, "the module was unloaded since spl_open(): open a new context");
}

static int kmod_start(struct spl *s, const struct spl_request *op, struct spl_op *unused, uint64_t *token)
{
	struct spl_kmod_attrs answer = { 0 };
	int r = transact_op(s, op, &answer);

	(void)unused;
	/* a module older than this library does not know the flag */
	if (r == -EINVAL && is_lazy(s, op)) {
		s->lazy = false;
		r = transact_op(s, op, &answer);
		s->lazy = r == -EINVAL;
		if (!r)
			s->sentence[0] = '\0';
	}
	r = heed_unload(s, r);
	if (r)
		return r;
	if (!spl_kmod_seen(&answer, SKSPLICE_A_TOKEN))
		return malformed(s);
	*token = answer.token;
	return 0;
}

/* The kernel answers what a send would be refused with. */
static int kmod_writeable(struct spl *s, int sink)
{
	struct kmod *k = s->priv;
	struct request req;
	int r;

	request_begin(k, &req, SKSPLICE_CMD_WRITEABLE, NLM_F_ACK);
	mnl_attr_put_u32(req.nlh, SKSPLICE_A_SINK_FD, (uint32_t)sink);
	r = heed_unload(s, transact(s, &k->cmd, &req, NULL));
	return r ? (r == -EAGAIN ? 0 : r) : 1;
}

static int kmod_adopt(struct spl *s, uint64_t token)
{
	struct kmod *k = s->priv;
	struct request req;

	request_token(k, &req, SKSPLICE_CMD_OP_ADOPT, NLM_F_ACK, token);
	return transact(s, &k->cmd, &req, NULL);
}

static int kmod_cancel(struct spl *s, uint64_t token)
{
	struct kmod *k = s->priv;
	struct request req;

	request_token(k, &req, SKSPLICE_CMD_OP_CANCEL, NLM_F_ACK, token);
	return transact(s, &k->cmd, &req, NULL);
}

static int kmod_revoke(struct spl *s, uint64_t token, int error)
{
	struct kmod *k = s->priv;
	struct request req;

	request_token(k, &req, SKSPLICE_CMD_OP_REVOKE, NLM_F_ACK, token);
	mnl_attr_put_u32(req.nlh, SKSPLICE_A_ERROR, (uint32_t)error);
	return transact(s, &k->cmd, &req, NULL);
}

static int kmod_reclaim(struct spl *s, uint64_t token, int fds[2])
{
	struct spl_kmod_attrs answer = { 0 };
	struct kmod *k = s->priv;
	bool source, sink;
	struct request req;
	int r;

	request_token(k, &req, SKSPLICE_CMD_OP_RECLAIM, 0, token);
	r = transact(s, &k->cmd, &req, &answer);
	source = spl_kmod_seen(&answer, SKSPLICE_A_SOURCE_FD);
	sink = spl_kmod_seen(&answer, SKSPLICE_A_SINK_FD);
	if (!r && source && sink) {
		fds[0] = (int)answer.source_fd;
		fds[1] = (int)answer.sink_fd;
		return 0;
	}
	/* The kernel has put these into our table: nobody else will close them. */
	if (source)
		close((int)answer.source_fd);
	if (sink)
		close((int)answer.sink_fd);
	return r ? r : malformed(s);
}

static int kmod_stat(struct spl *s, uint64_t token, struct spl_stat *out)
{
	struct spl_kmod_attrs answer = { 0 };
	struct kmod *k = s->priv;
	struct request req;
	int r;

	request_token(k, &req, SKSPLICE_CMD_OP_GET, 0, token);
	r = transact(s, &k->cmd, &req, &answer);
	if (r)
		return r;
	return spl_kmod_parse_stat(&answer, out) ? malformed(s) : 0;
}

static int event_cb(const struct nlmsghdr *nlh, void *data)
{
	struct spl_event ev;
	int r = spl_kmod_parse_event(nlh, &ev);

	if (!r)
		spl_op_end(data, &ev);
	return r < 0 ? r : 0;
}

/* Takes over the events that the kernel could not deliver; they follow those read so far. */
static int resync(struct spl *s)
{
	struct spl_genl_walk walk = { .cb = event_cb, .data = s };
	struct kmod *k = s->priv;
	struct request req;
	int r;

	request_begin(k, &req, SKSPLICE_CMD_EVENT_GET, NLM_F_DUMP);
	mnl_attr_put_u32(req.nlh, SKSPLICE_A_OWNER, k->owner);
	r = spl_genl_transact(&k->cmd, req.nlh, k->buf, &walk);
	if (r)
		return spl_refuse(s, r, walk.text[0] ? "%s" : NULL, walk.text);
	s->behind = walk.interrupted;
	return 1;
}

/*
 * One datagram. After an overrun the buffer is read empty first and the dump comes then: as
 * long as something is left in it the kernel takes the socket for congested, and reports no
 * second overrun for what it puts off meanwhile.
 */
static int kmod_receive(struct spl *s)
{
	struct kmod *k = s->priv;
	struct spl_genl_walk walk = { .unsolicited = true, .type = k->ev.family, .cb = event_cb, .data = s };
	size_t len;
	int r = spl_genl_receive(&k->ev, k->buf, &len);

	if (r == -ENOBUFS) {
		s->behind = true;
		return 1;
	}
	if (r == -EAGAIN)
		return s->behind ? resync(s) : 0;
	if (r)
		return spl_refuse(s, r, NULL);
	if (spl_genl_walk(k->buf, len, &walk))
		return malformed(s);
	return 1;
}

static int kmod_collect(struct spl *s, int timeout_ms)
{
	struct pollfd pfd[2] = {
		{ .fd = s->engine_fd, .events = POLLIN },
		{ .fd = s->also_fd, .events = POLLIN },
	};
	int r = kmod_receive(s);

	if (r || (!timeout_ms && s->also_fd < 0))
		return r;
	r = poll(pfd, 2, timeout_ms);
	if (r < 0 && errno != EINTR)
		return spl_refuse(s, -errno, NULL);
	if (r > 0 && pfd[1].revents)
		s->also_ready = true;
	return r > 0 && pfd[0].revents ? kmod_receive(s) : 0;
}

const struct spl_engine_ops spl_engine_kmod = {
	.engine = SPL_ENGINE_KMOD,
	.caps = SPL_CAP_EXACT | SPL_CAP_LOSSLESS | SPL_CAP_EXCLUSIVE | SPL_CAP_SURVIVES | SPL_CAP_ADMIN |
		SPL_CAP_ZEROCOPY,
	.flags = SPL_F_SHUTDOWN | SPL_F_DRAIN | SPL_F_CONNECTING | SPL_F_KEEP,
	.features = SPL_FEATURE_PREFIX | SPL_FEATURE_SUFFIX | SPL_FEATURE_DELIM | SPL_FEATURE_FRAMER | SPL_FEATURE_SEND,
	.open = kmod_open,
	.close = kmod_close,
	.start = kmod_start,
	.cancel = kmod_cancel,
	.revoke = kmod_revoke,
	.reclaim = kmod_reclaim,
	.stat = kmod_stat,
	.writeable = kmod_writeable,
	.adopt = kmod_adopt,
	.collect = kmod_collect,
};
