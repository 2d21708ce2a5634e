/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* Not for programs: what splicectl asks about the engines on this machine. May change at any time. */
#ifndef SPL_PROBE_H
#define SPL_PROBE_H

#include "libsplice.h"

#define SPL_PROBE_ENGINES 3

struct spl_probe {
	enum spl_engine engine;
	int error;			/* 0: it works; else the negative errno of the call that failed */
	uint32_t caps;			/* SPL_CAP_*, when it works */
	char reason[160];		/* why not; empty when it works */
	char advice[160];		/* what to do about it; empty when nothing helps */
};

/* Tries each engine, at most n of them, best first; cgroup: for sockmap, or NULL. Returns how many lines were filled. */
SPL_API int spl_probe(struct spl_probe *out, size_t n, const char *cgroup);

/* spl_next() and spl_wait() also return, with 0, when fd is readable. One descriptor at most, open as long as s is. */
SPL_API int spl_also(struct spl *s, int fd);

/*
 * The descriptor that is readable when spl_next() has something to read, unless spl_pending(): then it is to be called
 * anyway. -1: the engine waits itself, and moves the bytes then: see spl_also(). Cheaper than spl_fd(), a set around it.
 */
SPL_API int spl_own_fd(const struct spl *s);
SPL_API int spl_pending(const struct spl *s);

/*
 * From now on the sockets that are spliced for good are new ones: nobody has touched SO_RCVLOWAT, TCP_CORK and SO_LINGER,
 * so they are not looked at.
 */
SPL_API void spl_plain(struct spl *s);

/*
 * What the engine sockmap of this process has done, in the order of enum local_count in bpf/local.h: messages and bytes that were
 * redirected, those that went through TCP, streams whose peer did not read, sockets learned. The number filled, or -ENOENT.
 */
SPL_API int spl_sockmap_counts(uint64_t *out, size_t n);

/*
 * From now on the events of pairs that end well, without an idle limit, may come some milliseconds late, several at
 * once; their sockets are closed then.
 */
SPL_API void spl_lazy(struct spl *s);

#endif /* SPL_PROBE_H */
