// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The sentence behind a refusal, and errno, which is the caller's. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "engine.h"

/* For refusals with no context to hold them: a failed spl_open(), a context of NULL. */
static __thread char orphan_sentence[SPL_SENTENCE_MAX];

/* Returns error, so that a refusal is one statement. A format of NULL: the system's own words. */
int spl_refuse(struct spl *s, int error, const char *fmt, ...)
{
	char *to = s ? s->sentence : orphan_sentence;
	va_list args;

	if (!fmt) {
		SPL_ERRNO_GUARD;
		errno = -error;
		snprintf(to, SPL_SENTENCE_MAX, "%m");
		return error;
	}
	va_start(args, fmt);
	vsnprintf(to, SPL_SENTENCE_MAX, fmt, args);
	va_end(args);
	return error;
}

const char *spl_strerror_last(const struct spl *s)
{
	return s ? s->sentence : orphan_sentence;
}

void spl_errno_restore(struct spl_errno_guard *g)
{
	errno = g->saved;
}
