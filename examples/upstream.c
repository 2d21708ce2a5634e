// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Upstreams: names, and for each the addresses that are tried one after the other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "examples.h"

/* "NAME=ADDR:PORT[,ADDR:PORT]..." */
static bool parse(char *arg, struct upstream *u)
{
	char *next, *at = strchr(arg, '=');

	if (!at || at == arg)
		return false;
	*at++ = '\0';
	u->name = arg;
	while ((next = strsep(&at, ",")))
		if (u->addrs == UPSTREAM_ADDRS || addr_parse(next, &u->addr[u->addrs++]))
			return false;
	return true;
}

struct upstream *upstreams_parse(char **args, unsigned int n)
{
	struct upstream *u = calloc(n, sizeof(*u));
	unsigned int i;

	for (i = 0; u && i < n; i++) {
		if (parse(args[i], &u[i]))
			continue;
		fprintf(stderr, "%s: NAME=ADDR:PORT[,ADDR:PORT]... is wanted, %d addresses at most\n", args[i],
			UPSTREAM_ADDRS);
		free(u);
		return NULL;
	}
	return u;
}

/* The one of that name, else the one called "*", else NULL. */
const struct upstream *upstream_find(const struct upstream *u, unsigned int n, const char *name)
{
	const struct upstream *other = NULL;
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (!strcasecmp(u[i].name, name))
			return &u[i];
		if (!strcmp(u[i].name, "*"))
			other = &u[i];
	}
	return other;
}
