// SPDX-License-Identifier: GPL-2.0
/*
 * Prints the frequency of the host's time stamp counter, which is the guest's under TCG. A guest that has to
 * find it out by itself, against a timer of a busy host, gets it wrong now and then and boots without a clock.
 */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct instant {
	unsigned long long tsc;
	double ms;
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* The closest of some readings of both: between the two of one the host may have had something else to do. */
static struct instant now(void)
{
	struct instant best = { 0 };
	double closest = 1e9;
	int i;

	for (i = 0; i < 100; i++) {
		double before = now_ms();
		unsigned long long tsc = __rdtsc();
		double took = now_ms() - before;

		if (took < closest) {
			closest = took;
			best = (struct instant){ tsc, before + took / 2 };
		}
	}
	return best;
}

int main(void)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	struct instant from = now(), to;

	nanosleep(&pause, NULL);
	to = now();
	printf("%.0f\n", (to.tsc - from.tsc) / (to.ms - from.ms));
	return 0;
}
