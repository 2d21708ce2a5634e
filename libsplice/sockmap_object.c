// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* sockmap_object.c: see sockmap_object.h. */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sockmap_object.h"

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
static libbpf_print_fn_t before;
static __thread char *heard;	/* by the thread that listens; NULL: does not */

/* What libbpf says to other threads meanwhile is theirs. */
static int note(enum libbpf_print_level level, const char *format, va_list args)
{
	if (!heard)
		return before ? before(level, format, args) : 0;
	if (level == LIBBPF_WARN && !heard[0]) {
		vsnprintf(heard, SOCKMAP_REASON, format, args);
		heard[strcspn(heard, "\n")] = '\0';
	}
	return 0;
}

void sockmap_object_listen(char reason[SOCKMAP_REASON])
{
	pthread_mutex_lock(&one);
	heard = reason;
	heard[0] = '\0';
	before = libbpf_set_print(note);
}

void sockmap_object_hush(void)
{
	libbpf_print_fn_t now = libbpf_set_print(before);

	/* the program has set its own meanwhile */
	if (now != note)
		libbpf_set_print(now);
	heard = NULL;
	pthread_mutex_unlock(&one);
}

int sockmap_object_load(const char *from, const char *to, char reason[SOCKMAP_REASON], struct bpf_object **out)
{
	int r;

	sockmap_object_listen(reason);
	*out = bpf_object__open_mem(from, (size_t)(to - from), NULL);
	r = *out ? bpf_object__load(*out) : -errno;
	sockmap_object_hush();
	return r;
}
