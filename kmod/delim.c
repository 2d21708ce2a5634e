// SPDX-License-Identifier: GPL-2.0
/*
 * Finding a delimiter in a stream that is seen in pieces. The state is how many bytes of it the
 * bytes so far end with. At 16 bytes at most it is advanced by trial, and needs no table.
 *
 * Looked for in a batch before that is sent; what counts is what the sink accepted of it.
 */
#include <linux/highmem.h>
#include <linux/string.h>

#include "batch.h"
#include "sksplice.h"

/* The state after one more byte. */
static u8 sksplice_delim_next(const struct sksplice_extra *x, u8 matched, u8 byte)
{
	u8 tail[SKSPLICE_DELIM_MAX + 1];
	u8 n;

	if (x->delim[matched] == byte)
		return matched + 1;
	/* the longest beginning of the delimiter that these bytes end with */
	memcpy(tail, x->delim, matched);
	tail[matched] = byte;
	for (n = matched; n; n--)
		if (!memcmp(tail + matched + 1 - n, x->delim, n))
			return n;
	return 0;
}

/* How many of these bytes there are up to the delimiter's last; all, when it is not there. */
static size_t sksplice_delim_scan(const struct sksplice_extra *x, u8 *matched, const u8 *p,
				  size_t len)
{
	size_t i = 0;

	while (i < len && *matched < x->delim_len) {
		const u8 *at;

		if (!*matched) {
			at = memchr(p + i, x->delim[0], len - i);
			if (!at)
				return len;
			i = at - p;
		}
		*matched = sksplice_delim_next(x, *matched, p[i++]);
	}
	return i;
}

/* Run. How many of these bytes, which are peeked at, the flow may send. */
size_t sksplice_delim_find(struct sksplice_extra *x, const u8 *p, size_t len)
{
	x->matching = x->matched;
	return x->delim_len ? sksplice_delim_scan(x, &x->matching, p, len) : len;
}

/* Run. Of the @len bytes that the last look allowed, the sink has accepted @sent. */
void sksplice_delim_took(struct sksplice_extra *x, const u8 *p, size_t sent, size_t len)
{
	if (x->delim_len && sent < len) {
		x->matching = x->matched;
		sksplice_delim_scan(x, &x->matching, p, sent);
	}
	x->matched = x->matching;
}

/* Run. Have all its bytes been accepted? */
bool sksplice_delim_met(const struct sksplice_extra *x)
{
	return unlikely(x) && x->delim_len && x->matched == x->delim_len;
}

/*
 * Source's slock held: the pages are there. As above, of at most @len bytes of one segment, which
 * may be of several pages, and of such that have no address.
 */
static size_t sksplice_delim_segment(const struct sksplice_extra *x, u8 *matched,
				     const struct bio_vec *v, size_t len)
{
	size_t done = 0;

	while (done < len && *matched < x->delim_len) {
		size_t off = v->bv_offset + done;
		size_t n = min(len - done, PAGE_SIZE - offset_in_page(off));
		u8 *page = kmap_local_page(v->bv_page + (off >> PAGE_SHIFT));

		done += sksplice_delim_scan(x, matched, page + offset_in_page(off), n);
		kunmap_local(page);
	}
	return done;
}

/* Both slocks held. Cuts the batch after the delimiter, if that is in it. */
void sksplice_delim_cut(struct sksplice_extra *x, struct sksplice_batch *batch)
{
	unsigned int i;
	size_t len = 0;

	x->matching = x->matched;
	for (i = 0; i < batch->nr && x->delim_len; i++) {
		struct bio_vec *v = &batch->vec[i];

		v->bv_len = sksplice_delim_segment(x, &x->matching, v, v->bv_len);
		len += v->bv_len;
		if (x->matching < x->delim_len)
			continue;
		batch->nr = i + 1;
		batch->len = len;
		batch->more = false;
	}
}

/*
 * Source's slock held, under which the batch was made, and @sent bytes of it were accepted by the
 * sink but not yet consumed: then its pages would be anybody's. True: the delimiter's last byte
 * was among them.
 */
bool sksplice_delim_passed(struct sksplice_extra *x, const struct sksplice_batch *batch,
			   size_t sent)
{
	unsigned int i;

	if (!x->delim_len)
		return false;
	if (sent < batch->len) {
		x->matching = x->matched;
		for (i = 0; i < batch->nr && sent; i++)
			sent -= sksplice_delim_segment(x, &x->matching, &batch->vec[i],
						       min_t(size_t, sent, batch->vec[i].bv_len));
	}
	x->matched = x->matching;
	return x->matched == x->delim_len;
}
