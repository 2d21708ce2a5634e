// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* sockmap_flow.c: how a flow gets into the maps and out of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/types.h>

#include <bpf/bpf.h>

#include "sockmap_flow.h"
#include "sockmap_maps.h"
#include "sockmap_tcp.h"

static struct sockmap_flow *flows[SOCKMAP_FLOWS];

/* The flow that has the other half of that end's socket, or NULL. Under the lock of the maps. */
static struct sockmap_flow *flow_back(const struct sockmap_end *end)
{
	struct sockmap_end other = { .cookie = end->cookie, .half = !end->half };
	__u32 number;

	return bpf_map_lookup_elem(sockmap_maps.ends, &other, &number) ? NULL : flows[number];
}

static int claim(const struct sockmap_end *end, __u32 number)
{
	if (!bpf_map_update_elem(sockmap_maps.ends, end, &number, BPF_NOEXIST))
		return 0;
	return errno == EEXIST ? -EBUSY : -errno;
}

static int enter(int map, __u32 number, int fd)
{
	__u64 value = (__u64)fd;

	return bpf_map_update_elem(map, &number, &value, BPF_NOEXIST) ? -errno : 0;
}

static int take_number(struct sockmap_flow *f)
{
	static __u32 next;
	__u32 i;

	for (i = 0; i < SOCKMAP_FLOWS && flows[next]; i++)
		next = (next + 1) % SOCKMAP_FLOWS;
	if (flows[next])
		return -ENFILE;
	f->number = next;
	flows[next] = f;
	next = (next + 1) % SOCKMAP_FLOWS;
	f->way = &sockmap_maps.ways[f->number];
	memset(f->way, 0, sizeof(*f->way));
	f->way->limit = f->limit;
	return 0;
}

/* What two directions cannot share. */
static int way_back_allows(const struct sockmap_flow *f)
{
	const struct sockmap_flow *of_source = flow_back(&f->from), *of_sink = flow_back(&f->to);

	if (f->limit != SOCKMAP_ALL && (of_source || of_sink))
		return -EOPNOTSUPP;
	if ((of_source && (of_source->limit != SOCKMAP_ALL || of_source->sink_parsed)) ||
	    (of_sink && of_sink->limit != SOCKMAP_ALL))
		return -EOPNOTSUPP;
	return 0;
}

/* The sink first: what comes has a place to go to from the beginning. */
int sockmap_flow_join(struct sockmap_flow *f)
{
	int err = way_back_allows(f);

	if (err || (err = take_number(f)))
		return err;
	if ((err = claim(&f->from, f->number)))
		goto number;
	if ((err = claim(&f->to, f->number)))
		goto from;
	if ((err = enter(sockmap_maps.targets, f->number, f->sink)))
		goto to;
	if ((err = enter(sockmap_maps.sources, f->number, f->source)))
		goto sink;
	f->in_kernel = true;
	return 0;
sink:
	bpf_map_delete_elem(sockmap_maps.targets, &f->number);
to:
	bpf_map_delete_elem(sockmap_maps.ends, &f->to);
from:
	bpf_map_delete_elem(sockmap_maps.ends, &f->from);
number:
	flows[f->number] = NULL;
	return err;
}

void sockmap_flow_leave(struct sockmap_flow *f)
{
	struct sockmap_flow *back;
	int error;

	if (!f->in_kernel)
		return;
	sockmap_maps_lock();
	bpf_map_delete_elem(sockmap_maps.sources, &f->number);
	back = flow_back(&f->from);
	if (back)
		back->sink_parsed = true;
	sockmap_maps_unlock();
	f->in_kernel = false;
	error = sockmap_tcp_error(f->source);
	if (error)
		f->source_error = error;
}

void sockmap_flow_part(struct sockmap_flow *f)
{
	sockmap_flow_leave(f);
	sockmap_maps_lock();
	bpf_map_delete_elem(sockmap_maps.targets, &f->number);
	bpf_map_delete_elem(sockmap_maps.ends, &f->from);
	bpf_map_delete_elem(sockmap_maps.ends, &f->to);
	flows[f->number] = NULL;
	sockmap_maps_unlock();
	free(f);
}

void sockmap_flow_forget(struct sockmap_flow *f)
{
	if (flows[f->number] == f)
		flows[f->number] = NULL;
	free(f);
}
