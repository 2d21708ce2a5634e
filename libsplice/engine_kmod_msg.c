// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * From messages of the sksplice family to values. Takes what spl_genl_walk() hands out, a
 * message whose own length is within its buffer, and trusts nothing else; has no socket and no
 * state, so that any bytes can be thrown at it.
 */
#include <errno.h>
#include <string.h>

#include "engine_kmod.h"
#include "genl.h"
#include "libsplice.h"

#define ERRNO_MAX 4095

static const struct {
	uint8_t size;			/* 0: of no interest to the library */
	uint8_t offset;
} fields[SKSPLICE_A_MAX + 1] = {
#define FIELD(attr, name) [attr] = { \
	sizeof(((struct spl_kmod_attrs *)0)->name), offsetof(struct spl_kmod_attrs, name) }
	FIELD(SKSPLICE_A_TOKEN, token),
	FIELD(SKSPLICE_A_OWNER, owner),
	FIELD(SKSPLICE_A_SOURCE_FD, source_fd),
	FIELD(SKSPLICE_A_SINK_FD, sink_fd),
	FIELD(SKSPLICE_A_USER_DATA, user_data),
	FIELD(SKSPLICE_A_ERROR, error),
	FIELD(SKSPLICE_A_BYTES, bytes),
	FIELD(SKSPLICE_A_BYTES_BACK, bytes_back),
	FIELD(SKSPLICE_A_CAUSE, cause),
	FIELD(SKSPLICE_A_ENDED, ended),
	FIELD(SKSPLICE_A_UNACKED, unacked),
	FIELD(SKSPLICE_A_STATE, state),
	FIELD(SKSPLICE_A_STATE_BACK, state_back),
	FIELD(SKSPLICE_A_AGE_MS, age_ms),
	FIELD(SKSPLICE_A_QUIET_MS, quiet_ms),
#undef FIELD
};

_Static_assert(SKSPLICE_A_MAX < 64, "seen has a bit per attribute");
_Static_assert(sizeof(struct spl_kmod_attrs) < 256, "offsets fit");
_Static_assert((int)SPL_SINK_FAILED == SKSPLICE_CAUSE_SINK_FAILED && (int)SPL_DONE == SKSPLICE_CAUSE_DONE,
	       "causes are passed on as they are");
_Static_assert((int)SPL_F_SHUTDOWN == SKSPLICE_F_SHUTDOWN && (int)SPL_F_KEEP == SKSPLICE_F_KEEP &&
	       (int)SPL_F_DRAIN == SKSPLICE_F_DRAIN && (int)SPL_F_CONNECTING == SKSPLICE_F_CONNECTING,
	       "flags are passed on as they are");
_Static_assert((int)SPL_END_SOURCE == SKSPLICE_END_SOURCE && (int)SPL_END_SINK == SKSPLICE_END_SINK,
	       "ended is passed on as it is");

/* Attributes of a newer kernel are skipped. -EPROTO: one that we know has the wrong length. */
int spl_kmod_parse(const struct nlmsghdr *nlh, struct spl_kmod_attrs *a)
{
	const struct nlattr *attr;

	memset(a, 0, sizeof(*a));
	spl_genl_for_each_attr(attr, nlh) {
		unsigned int type = attr->nla_type & NLA_TYPE_MASK;
		const char *from = (const char *)attr + MNL_ATTR_HDRLEN;
		char *to;

		if (type > SKSPLICE_A_MAX || !fields[type].size)
			continue;
		if (attr->nla_len != MNL_ATTR_HDRLEN + fields[type].size)
			return -EPROTO;
		to = (char *)a + fields[type].offset;
		/* of a known size: no call */
		if (fields[type].size == sizeof(uint64_t))
			memcpy(to, from, sizeof(uint64_t));
		else if (fields[type].size == sizeof(uint32_t))
			memcpy(to, from, sizeof(uint32_t));
		else
			memcpy(to, from, fields[type].size);
		a->seen |= UINT64_C(1) << type;
	}
	return 0;
}

/* 0 and *ev; 1: not the end of an operation; -EPROTO: not what the interface promises. */
int spl_kmod_parse_event(const struct nlmsghdr *nlh, struct spl_event *ev)
{
	const struct genlmsghdr *genl = mnl_nlmsg_get_payload(nlh);
	struct spl_kmod_attrs a;

	if (genl->cmd != SKSPLICE_CMD_EVENT_NTF)
		return 1;
	if (spl_kmod_parse(nlh, &a))
		return -EPROTO;
	if (!spl_kmod_seen(&a, SKSPLICE_A_TOKEN) || !spl_kmod_seen(&a, SKSPLICE_A_CAUSE))
		return -EPROTO;
	/* A cause or an error of a newer kernel is no reason to lose the one event of an operation. */
	*ev = (struct spl_event) {
		.token = a.token,
		.user_data = a.user_data,
		.bytes = a.bytes,
		.bytes_back = a.bytes_back,
		.cause = (enum spl_cause)a.cause,
		.error = a.error <= ERRNO_MAX ? (int)a.error : EPROTO,
		.ended = a.ended,
		.unacked = a.unacked,
	};
	return 0;
}

static enum spl_wants wants_of(uint32_t state)
{
	switch (state) {
	case SKSPLICE_STATE_IDLE:
		return SPL_WANTS_READ;
	case SKSPLICE_STATE_BLOCKED:
		return SPL_WANTS_WRITE;
	default:
		return SPL_WANTS_NOTHING;
	}
}

int spl_kmod_parse_stat(const struct spl_kmod_attrs *a, struct spl_stat *out)
{
	if (!spl_kmod_seen(a, SKSPLICE_A_BYTES) || !spl_kmod_seen(a, SKSPLICE_A_STATE))
		return -EPROTO;
	*out = (struct spl_stat) {
		.bytes = a->bytes,
		.bytes_back = a->bytes_back,
		.age_ms = a->age_ms,
		.idle_ms = a->quiet_ms,
		.wants = wants_of(a->state),
		.wants_back = spl_kmod_seen(a, SKSPLICE_A_STATE_BACK) ? wants_of(a->state_back) : SPL_WANTS_NOTHING,
	};
	return 0;
}
