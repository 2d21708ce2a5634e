// SPDX-License-Identifier: GPL-2.0
/*
 * hold.c: keeps flows alive for scripts.
 *   hold N    N spliced pairs, a byte through each; says "ready N" and stays until it is killed
 */
#include "util.h"

int main(int argc, char **argv)
{
	unsigned int n = argc > 1 ? strtoul(argv[1], NULL, 10) : 1, i;
	struct relay *r = calloc(n, sizeof(*r));
	uint64_t token;
	struct spl *s;
	int err;

	if (!r || raise_nofile(20000))
		return 1;
	err = engine_open(&s, SPL_ENGINE_KMOD);
	for (i = 0; i < n && !err; i++) {
		err = relay_open(r + i, i % 2 ? NET_V6 : NET_V4);
		err = err ? err : spl_splice_pair(s, r[i].a, r[i].b, NULL, &token);
		r[i].a = r[i].b = -1;
		err = err ? err : alive(r[i].c, r[i].s);
	}
	if (err) {
		fprintf(stderr, "hold: pair %u: %s (%s)\n", i, strerror(-err),
			i ? spl_strerror_last(s) : "open");
		return 1;
	}
	printf("ready %u\n", n);
	fflush(stdout);
	for (;;)
		pause();
}
