// SPDX-License-Identifier: GPL-2.0
/* The splices that processes with the engine sockmap list, as operations beside the module's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../libsplice/listed.h"
#include "nl.h"

#define BIT(attr)	((uint64_t)1 << SKSPLICE_A_##attr)

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void put_address(const struct sockaddr_in6 *from, struct addr *to)
{
	if (!IN6_IS_ADDR_V4MAPPED(&from->sin6_addr)) {
		to->in6 = *from;
		to->len = sizeof(to->in6);
		return;
	}
	to->in = (struct sockaddr_in) { .sin_family = AF_INET, .sin_port = from->sin6_port };
	memcpy(&to->in.sin_addr, &from->sin6_addr.s6_addr[12], sizeof(to->in.sin_addr));
	to->len = sizeof(to->in);
}

static void put_sock(const struct spl_listed *r, unsigned int i, struct op_sock *s)
{
	s->seen = r->local[i].sin6_family == AF_INET6;
	if (!s->seen)
		return;
	put_address(&r->local[i], &s->local);
	put_address(&r->remote[i], &s->remote);
}

static uint32_t state_of(uint8_t state)
{
	static const uint32_t states[] = {
		[SPL_LISTED_IDLE] = SKSPLICE_STATE_IDLE, [SPL_LISTED_RUNNING] = SKSPLICE_STATE_RUNNING,
		[SPL_LISTED_BLOCKED] = SKSPLICE_STATE_BLOCKED, [SPL_LISTED_CLOSING] = SKSPLICE_STATE_CLOSING,
		[SPL_LISTED_DONE] = SKSPLICE_STATE_DONE,
	};

	return state < ARRAY_SIZE(states) ? states[state] : UINT32_MAX;
}

static void put_unlisted(const struct spl_listed *r, struct op *op)
{
	*op = (struct op) {
		.seen = BIT(UID) | BIT(PID), .engine = "sockmap",
		.uid = r->uid, .pid = r->pid, .pid_ns = r->ns, .unlisted = r->unlisted,
	};
}

static void put_op(const struct spl_listed *r, uint64_t now, struct op *op)
{
	*op = (struct op) {
		.seen = BIT(TOKEN) | BIT(KIND) | BIT(STATE) | BIT(BYTES) | BIT(AGE_MS) | BIT(QUIET_MS) | BIT(UID) | BIT(PID),
		.engine = "sockmap",
		.mode = r->mode == SPL_LISTED_SK_SKB ? "sk_skb" : "local",
		.token = r->token,
		.kind = r->pair ? SKSPLICE_KIND_PAIR : SKSPLICE_KIND_SPLICE,
		.state = state_of(r->state[0]), .state_back = state_of(r->state[1]),
		.bytes = r->bytes[0], .bytes_back = r->bytes[1],
		.age_ms = now > r->began ? now - r->began : 0, .quiet_ms = now > r->moved ? now - r->moved : 0,
		.uid = r->uid, .pid = r->pid, .pid_ns = r->ns,
	};
	if (r->pair)
		op->seen |= BIT(STATE_BACK) | BIT(BYTES_BACK);
	put_sock(r, 0, &op->source);
	put_sock(r, 1, &op->sink);
}

/*
 * Appends them, and what their processes could not list. The number; negative: -ENOENT where no process lists any, anything else
 * has been said on stderr.
 */
int listed_read(struct op_list *list)
{
	struct spl_listed *records;
	int n = spl_sockmap_listed(&records);
	uint64_t now = now_ms();

	for (int i = 0; i < n; i++) {
		if (records[i].token)
			put_op(&records[i], now, op_list_add(list));
		else
			put_unlisted(&records[i], op_list_add(list));
	}
	free(records);
	if (n < 0 && n != -ENOENT)
		cli_error("cannot read what the engine sockmap lists in " SPL_LISTED_DIR ": %s%s", strerror(-n),
			  n == -EPERM ? " (this needs root)" : "");
	return n;
}
