/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* sockmap_maps.h: the maps of bpf/sockmap.bpf.c, while sockmap_skb_get() holds them. */
#ifndef SPL_SOCKMAP_MAPS_H
#define SPL_SOCKMAP_MAPS_H

#include <stdbool.h>

#include "../bpf/sockmap.h"

struct sockmap_skb_maps {
	int sources, targets, ends;
	struct sockmap_way *ways;
};

extern struct sockmap_skb_maps sockmap_maps __attribute__((visibility("hidden")));

/* Around what more than one flow is concerned with. */
void sockmap_maps_lock(void);
void sockmap_maps_unlock(void);

/* This is a child of the process that has loaded them. */
bool sockmap_maps_inherited(void);

#endif /* SPL_SOCKMAP_MAPS_H */
