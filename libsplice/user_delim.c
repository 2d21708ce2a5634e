// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * Finding a delimiter in a stream that is seen in pieces. The state is how many bytes of the delimiter
 * the bytes so far end with; at most 16 bytes long, so it is advanced by trial and needs no table.
 */
#include <string.h>

#include "user.h"

/* The state after one more byte. */
static unsigned int advance(const struct user_op *op, unsigned int matched, unsigned char byte)
{
	unsigned char tail[SPL_DELIM_MAX + 1];
	unsigned int n;

	if (op->delim[matched] == byte)
		return matched + 1;
	/* the longest beginning of the delimiter that these bytes end with */
	memcpy(tail, op->delim, matched);
	tail[matched] = byte;
	for (n = matched; n; n--)
		if (!memcmp(tail + matched + 1 - n, op->delim, n))
			return n;
	return 0;
}

/*
 * How many of these bytes are to be taken: all of them, or up to the delimiter's last. *matched is
 * the state before them and after them.
 */
size_t user_delim_find(const struct user_op *op, unsigned int *matched, const unsigned char *p, size_t len,
		       bool *found)
{
	const unsigned char *next;
	size_t i = 0;

	*found = false;
	while (i < len) {
		if (!*matched) {
			next = memchr(p + i, op->delim[0], len - i);
			if (!next)
				return len;
			i = (size_t)(next - p);
		}
		*matched = advance(op, *matched, p[i++]);
		if (*matched == op->delim_len) {
			*found = true;
			return i;
		}
	}
	return len;
}
