/* SPDX-License-Identifier: GPL-2.0 */
/* framed.h: framers for tests, out of objects that are part of the program. */
#ifndef SELFTESTS_FRAMED_H
#define SELFTESTS_FRAMED_H

#include <stdint.h>

struct bpf_object;
struct spl;

enum framer_object { FRAMER_PROGS, FRAMER_LENGTH32, FRAMER_WEBSOCKET };

/* What the programs of framer_progs.bpf.c have counted. */
struct seen {
	uint64_t asked;		/* how often script() ran */
	uint64_t most;		/* bytes that it saw at a time */
	uint64_t verdicts;	/* what a stream verdict saw go by */
};

/* strp_at: see bpf/framer.h. A loaded object, or NULL. bpf_object__close() ends it. */
struct bpf_object *framer_load(enum framer_object which, uint32_t strp_at);
int framer_fd(const struct bpf_object *obj, const char *prog);
struct seen framer_seen(const struct bpf_object *obj);
int framer_strp_at(void);			/* of this kernel; -errno: it does not tell */

#endif /* SELFTESTS_FRAMED_H */
