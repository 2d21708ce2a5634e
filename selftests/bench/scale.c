// SPDX-License-Identifier: GPL-2.0
/* scale: how the module scales and behaves, in a guest; see usage(). A report, then a line of JSON behind the word "scale". */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "scale.h"

static char json[8192];
static size_t json_len;
static unsigned int not_met;

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fflush(stdout);
	fputs("scale: ", stdout);
	vprintf(fmt, ap);
	putchar('\n');
	fflush(stdout);
	_Exit(1);
}

double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void add_json(const char *key, double value, double limit)
{
	size_t room = sizeof(json) - json_len;
	int n = snprintf(json + json_len, room, ", \"%s\": %.6g", key, value);

	if (n > 0 && (size_t)n < room)
		json_len += (size_t)n;
	if (limit == 0)
		return;
	room = sizeof(json) - json_len;
	n = snprintf(json + json_len, room, ", \"%s target\": %.6g", key, limit);
	if (n > 0 && (size_t)n < room)
		json_len += (size_t)n;
}

static void line(const char *key, double value, const char *unit, double limit, bool good, const char *sign)
{
	printf("  %-58s %12.6g %-10s", key, value, unit);
	if (limit != 0) {
		printf(" target %s %g: %s", sign, limit, good ? "met" : "NOT MET");
		not_met += !good;
	}
	putchar('\n');
	fflush(stdout);
	add_json(key, value, limit);
}

void figure(const char *key, double value, const char *unit, double limit)
{
	line(key, value, unit, limit, value <= limit, "<=");
}

void least(const char *key, double value, const char *unit, double limit)
{
	line(key, value, unit, limit, value >= limit, ">=");
}

void remark(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static const struct {
	const char *name, *arguments, *meaning;
	void (*run)(int argc, char **argv);
} modes[] = {
	{ "memory", "[PAIRS]", "kernel memory of idle pairs beyond their sockets; to set them up and to end them", memory_run },
	{ "end", "[PAIRS]", "idle pairs that end at once: by a flush, with the owner of forwards, with the process that has all", end_run },
	{ "latency", "[TRIPS]", "round trips of 64 B one by one, the largest of them", latency_run },
	{ "loop", "[BYTES]", "two pairs that feed each other: what the machine still does, and how it ends", loop_run },
	{ "duplex", "[SECONDS]", "both ways of one pair at once, beside one way and a relay on splice(2)", duplex_run },
	{ "churn", "[SECONDS]", "pairs set up and ended by one process, and by two at once", churn_run },
};

#define MODES (sizeof(modes) / sizeof(*modes))

static int usage(void)
{
	unsigned int i;

	for (i = 0; i < MODES; i++)
		printf("scale %-8s %-10s %s\n", modes[i].name, modes[i].arguments, modes[i].meaning);
	return 2;
}

int main(int argc, char **argv)
{
	unsigned int i;

	signal(SIGPIPE, SIG_IGN);
	for (i = 0; argc > 1 && i < MODES; i++) {
		if (strcmp(argv[1], modes[i].name))
			continue;
		modes[i].run(argc - 2, argv + 2);
		printf("scale {\"mode\": \"%s\"%s, \"not met\": %u}\n", modes[i].name, json, not_met);
		return 0;
	}
	return usage();
}
