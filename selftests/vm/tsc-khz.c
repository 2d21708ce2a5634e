// SPDX-License-Identifier: GPL-2.0
/*
 * Prints the frequency of the host's time stamp counter, which is the guest's under TCG. A guest that has to
 * find it out by itself, against a timer of a busy host, gets it wrong now and then and boots without a clock.
 */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(void)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	unsigned long long from = __rdtsc();
	double since = now_ms();

	nanosleep(&pause, NULL);
	printf("%.0f\n", (__rdtsc() - from) / (now_ms() - since));
	return 0;
}
