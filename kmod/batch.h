/* SPDX-License-Identifier: GPL-2.0 */
/* What is sent in one call: segments of the source's receive queue, all of one kind. */
#ifndef _SKSPLICE_BATCH_H
#define _SKSPLICE_BATCH_H

#include <linux/bvec.h>

#define SKSPLICE_BATCH 24

struct sksplice_batch {
	struct bio_vec vec[SKSPLICE_BATCH];
	unsigned int nr;
	size_t len;
	bool copy;	/* copy the bytes; else hand on references to the pages */
	bool more;	/* the source has more that could move now */
	bool broken;	/* the next bytes cannot be read by anybody */
};

#endif /* _SKSPLICE_BATCH_H */
