/* SPDX-License-Identifier: GPL-2.0 */
/* drive.h: many verified connections driven by one event loop. */
#ifndef SELFTESTS_DRIVE_H
#define SELFTESTS_DRIVE_H

#include "util.h"

/* One end of a connection: sends tx_len bytes and FIN, and verifies rx_len bytes and FIN. */
struct peer {
	int fd;
	uint64_t tx_seed, tx_len, tx_done;
	uint64_t rx_seed, rx_len, rx_done;
	bool tx_over, rx_over;
	size_t chunk;
};

/* Until all are done, or one has failed, or nothing has moved for WAIT_MS: 0 or -errno. */
int drive(struct peer *peers, unsigned int count, uint64_t *state);

/* The same in a thread. */
struct driver {
	struct peer *peers;
	unsigned int count;
	uint64_t state;
	int err;
	pthread_t thread;
};
int driver_start(struct driver *d);
int driver_join(struct driver *d);

#endif /* SELFTESTS_DRIVE_H */
