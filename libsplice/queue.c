// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The operations of a context and their events. An operation is in the table from its start
 * until its event is read, and so an event that comes twice, or of an operation that is not
 * ours, finds nothing and is dropped: exactly once.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define FIRST_BUCKETS	64

/* Tokens are a sequence, so their low bits spread well by themselves. */
static struct spl_op **bucket_of(const struct spl_queue *q, uint64_t token)
{
	return &q->bucket[token & (q->buckets - 1)];
}

static int table_grow(struct spl_queue *q)
{
	struct spl_queue bigger = { .buckets = q->buckets ? q->buckets * 2 : FIRST_BUCKETS };
	struct spl_op *op, *chain;
	size_t i;

	bigger.bucket = calloc(bigger.buckets, sizeof(*bigger.bucket));
	if (!bigger.bucket)
		return -ENOMEM;
	for (i = 0; i < q->buckets; i++) {
		for (op = q->bucket[i]; op; op = chain) {
			struct spl_op **to = bucket_of(&bigger, op->token);

			chain = op->chain;
			op->chain = *to;
			*to = op;
		}
	}
	free(q->bucket);
	q->bucket = bigger.bucket;
	q->buckets = bigger.buckets;
	return 0;
}

/*
 * All memory an operation will ever need, taken before the operation starts. The caller frees
 * it with free(), or passes it to spl_op_begin(). NULL: no memory.
 */
struct spl_op *spl_op_new(struct spl *s)
{
	struct spl_op *op;

	/* A table that cannot grow is slower, not wrong: only the first one is needed. */
	if (s->queue.ops >= s->queue.buckets && table_grow(&s->queue) && !s->queue.buckets)
		return NULL;
	/* of malloc(), which keeps such at hand for each thread, where calloc() mostly does not */
	op = malloc(sizeof(*op));
	if (op)
		memset(op, 0, sizeof(*op));
	return op;
}

/* The table owns op from here. */
void spl_op_begin(struct spl *s, struct spl_op *op, uint64_t token)
{
	struct spl_op **to = bucket_of(&s->queue, token);

	op->token = token;
	op->chain = *to;
	*to = op;
	s->queue.ops++;
}

struct spl_op *spl_op_find(const struct spl *s, uint64_t token)
{
	struct spl_op *op;

	if (!s->queue.buckets)
		return NULL;
	for (op = *bucket_of(&s->queue, token); op; op = op->chain)
		if (op->token == token)
			return op;
	return NULL;
}

/* Queues the event of a live operation; drops that of any other. */
void spl_op_end(struct spl *s, const struct spl_event *ev)
{
	struct spl_op *op = spl_op_find(s, ev->token);

	if (!op || op->ended)
		return;
	op->ended = true;
	op->ev = *ev;
	op->prev = s->queue.last;
	*(op->prev ? &op->prev->next : &s->queue.first) = op;
	s->queue.last = op;
}

/* Hands the event of an ended operation to the caller and forgets the operation. */
void spl_op_read(struct spl *s, struct spl_op *op, struct spl_event *ev)
{
	struct spl_op **link = bucket_of(&s->queue, op->token);

	while (*link != op)
		link = &(*link)->chain;
	*link = op->chain;
	s->queue.ops--;
	*(op->prev ? &op->prev->next : &s->queue.first) = op->next;
	*(op->next ? &op->next->prev : &s->queue.last) = op->prev;
	s->last_read = op->token;
	free(s->last_residue);
	s->last_residue = op->residue;
	*ev = op->ev;
	free(op);
}

/*
 * What was taken from the source and not accepted by the sink, each byte handed out once. Asked
 * as long as the event is not read, or while it is the one read last.
 */
int spl_op_residue(struct spl *s, uint64_t token, void *buf, size_t len)
{
	const struct spl_op *op = spl_op_find(s, token);
	struct spl_bytes *b = op ? op->residue : s->last_residue;

	if (!op && (!token || token != s->last_read))
		return spl_refuse(s, -ENOENT, "no such operation in this context");
	if (!b)
		return 0;
	if (len > b->len - b->off)
		len = b->len - b->off;
	if (len > INT_MAX)
		len = INT_MAX;
	if (len)
		memcpy(buf, b->data + b->off, len);
	b->off += len;
	return (int)len;
}

/* Every operation whose event was not read. fn adds and removes none. */
void spl_queue_each(struct spl *s, void (*fn)(struct spl_op *op, void *data), void *data)
{
	struct spl_op *op;
	size_t i;

	for (i = 0; i < s->queue.buckets; i++)
		for (op = s->queue.bucket[i]; op; op = op->chain)
			fn(op, data);
}

void spl_queue_free(struct spl *s)
{
	struct spl_op *op, *chain;
	size_t i;

	for (i = 0; i < s->queue.buckets; i++) {
		for (op = s->queue.bucket[i]; op; op = chain) {
			chain = op->chain;
			free(op->residue);
			free(op);
		}
	}
	free(s->last_residue);
	free(s->queue.bucket);
}
