/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* Private to the library: the attributes of the sksplice family, apart from any socket. */
#ifndef SPL_ENGINE_KMOD_H
#define SPL_ENGINE_KMOD_H

#include <stdbool.h>
#include <stdint.h>

#include "../kmod/uapi/sksplice.h"

struct nlmsghdr;
struct spl_event;
struct spl_stat;

/* The attributes of one message that the library makes use of. */
struct spl_kmod_attrs {
	uint64_t seen;			/* a bit per SKSPLICE_A_* that was there */
	uint64_t token, user_data, bytes, bytes_back, age_ms, quiet_ms;
	uint32_t owner, source_fd, sink_fd, cause, error, ended, unacked, state, state_back;
};

static inline bool spl_kmod_seen(const struct spl_kmod_attrs *a, enum sksplice_attr attr)
{
	return a->seen & (UINT64_C(1) << attr);
}

/* engine_kmod_msg.c */
int spl_kmod_parse(const struct nlmsghdr *nlh, struct spl_kmod_attrs *a);
int spl_kmod_parse_event(const struct nlmsghdr *nlh, struct spl_event *ev);
int spl_kmod_parse_stat(const struct spl_kmod_attrs *a, struct spl_stat *out);

#endif /* SPL_ENGINE_KMOD_H */
