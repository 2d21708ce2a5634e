/* SPDX-License-Identifier: GPL-2.0 */
/*
 * driven.h: the tests are written as if somebody else moved the bytes. An engine that has no
 * thread moves them only inside calls of the library, so a context which engine_open() opened with
 * such an engine gets a thread here that makes such calls, and the test's own calls take turns with
 * it. Contexts of an engine that needs none, and those which spl_open() opened, are called directly.
 */
#ifndef SELFTESTS_DRIVEN_H
#define SELFTESTS_DRIVEN_H

#include "libsplice.h"

/* As spl_open(); the thread ends in driven_close(). */
int driven_open(struct spl **s, const struct spl_open_opts *opts);
void driven_close(struct spl *s);

int driven_forward(struct spl *s, int source, int sink, uint64_t n, const struct spl_opts *opts,
		   uint64_t *token);
int driven_splice(struct spl *s, int source, int sink, const struct spl_opts *opts, uint64_t *token);
int driven_splice_pair(struct spl *s, int a, int b, const struct spl_opts *opts, uint64_t *token);
int driven_send(struct spl *s, int sink, const void *buf, size_t len, const struct spl_opts *opts,
		uint64_t *token);
int driven_cancel(struct spl *s, uint64_t token);
int driven_revoke(struct spl *s, uint64_t token, int error);
int driven_reclaim(struct spl *s, uint64_t token, int fds[2]);
int driven_stat(struct spl *s, uint64_t token, struct spl_stat *out);
int driven_residue(struct spl *s, uint64_t token, void *buf, size_t len);
int driven_next(struct spl *s, struct spl_event *ev, int timeout_ms);
int driven_wait(struct spl *s, uint64_t token, struct spl_event *ev, int timeout_ms);
int driven_writeable(struct spl *s, int sink);

#ifndef DRIVEN_ITSELF
#define spl_close driven_close
#define spl_forward driven_forward
#define spl_splice driven_splice
#define spl_splice_pair driven_splice_pair
#define spl_send driven_send
#define spl_cancel driven_cancel
#define spl_revoke driven_revoke
#define spl_reclaim driven_reclaim
#define spl_stat(s, token, out) driven_stat(s, token, out)	/* there is a struct of that name */
#define spl_residue driven_residue
#define spl_next driven_next
#define spl_wait driven_wait
#define spl_writeable driven_writeable
#endif

#endif /* SELFTESTS_DRIVEN_H */
