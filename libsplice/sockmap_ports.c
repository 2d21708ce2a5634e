// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Which ports are served: of all contexts of the process together, as they share the programs. */
#include <errno.h>
#include <stdlib.h>

#include <bpf/bpf.h>

#include "sockmap.h"

struct sockmap_ports {
	struct sockmap_ports *next;
	struct local_ports set;
};

/* Under the lock of sockmap_load.c. */
static struct sockmap_ports *all;

static void set_bits(struct local_ports *set, unsigned long from, unsigned long to)
{
	for (; from <= to; from++)
		set->bits[from >> 6] |= 1ull << (from & 63);
	set->some = 1;
}

static bool take_port(const char **text, unsigned long *port)
{
	char *end;

	*port = **text >= '0' && **text <= '9' ? strtoul(*text, &end, 10) : 0;
	if (!*port || *port > 65535)
		return false;
	*text = end;
	return true;
}

/* "80,8000-8010" */
static bool parse(const char *text, struct local_ports *set)
{
	unsigned long from, to;

	for (;; text++) {
		if (!take_port(&text, &from))
			return false;
		to = from;
		if (*text == '-' && (text++, !take_port(&text, &to) || to < from))
			return false;
		set_bits(set, from, to);
		if (*text != ',')
			return !*text;
	}
}

int sockmap_ports_parse(struct spl *s, const char *text, struct sockmap_ports **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return spl_refuse(s, -ENOMEM, NULL);
	if (!text || parse(text, &(*out)->set))
		return 0;
	free(*out);
	return spl_refuse(s, -EINVAL, "no list of ports: \"%.64s\"", text);
}

/* Who has no list wants all. */
static void tell(void)
{
	struct local_ports sum = { .some = 1 };
	const struct sockmap_ports *p;
	uint32_t first = 0;
	size_t i;

	for (p = all; p; p = p->next) {
		sum.some &= p->set.some;
		for (i = 0; i < sizeof(sum.bits) / sizeof(sum.bits[0]); i++)
			sum.bits[i] |= p->set.bits[i];
	}
	bpf_map_update_elem(sockmap_load_maps()->ports, &first, &sum, BPF_ANY);
}

void sockmap_ports_add(struct sockmap_ports *p)
{
	p->next = all;
	all = p;
	tell();
}

/* In a child, which has a map of its own from now on. */
void sockmap_ports_disown(void)
{
	all = NULL;
}

/* inherited: a child gives up what it has of its parent's, whose map it is. */
void sockmap_ports_remove(struct sockmap_ports *p, bool inherited)
{
	struct sockmap_ports **at;

	for (at = &all; *at && *at != p; at = &(*at)->next)
		;
	if (*at)
		*at = p->next;
	free(p);
	if (!inherited)
		tell();
}
