// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * The engine sockmap, its beginning and its end. All the rest is the engine user's, with the hooks of sockmap_hop.c where a
 * cgroup is named, local mode; of sockmap_mover.c where none is, sk_skb mode.
 */
#include <errno.h>

#include "listed.h"
#include "probe.h"
#include "user.h"

#ifdef SPL_SOCKMAP

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "sockmap.h"
#include "sockmap_list.h"
#include "sockmap_skb.h"

static int open_local(struct spl *s)
{
	struct sockmap_attachment *attachment;
	struct sockmap_ports *ports;
	struct user *u;
	int r = sockmap_ports_parse(s, s->ports, &ports);

	if (r)
		return r;
	r = sockmap_load_get(s, s->cgroup, ports, &attachment);
	if (r)
		return r;
	r = user_open(s);
	if (r) {
		sockmap_load_put(attachment, ports, false);
		return r;
	}
	u = s->priv;
	u->hop = &sockmap_hop;
	u->bypass = s->open_flags & SPL_OPEN_BYPASS ? &sockmap_bypass : NULL;
	u->attachment = attachment;
	u->ports = ports;
	u->splices = sockmap_load_splices();
	sockmap_list_get();
	u->book = &sockmap_book;
	return 0;
}

static int load_skb(struct spl *s)
{
	static atomic_bool tested;
	int r = sockmap_skb_get();

	if (r == -EPERM)
		return spl_refuse(s, r, "the engine sockmap needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
	if (r)
		return spl_refuse(s, r, "the kernel does not take the programs that redirect streams: %s", strerror(-r));
	if (!tested)
		r = sockmap_skb_test(s);
	if (r)
		sockmap_skb_put(false);
	tested |= !r;
	return r;
}

/* Whoever wants what waits for a sink back cannot have it from the kernel. */
static int open_skb(struct spl *s)
{
	struct user *u;
	int r;

	if (s->caps & SPL_CAP_LOSSLESS)
		return spl_refuse(s, -EOPNOTSUPP, "without a cgroup the engine sockmap cannot give back what waits for a sink");
	r = load_skb(s);
	if (r)
		return r;
	r = user_open(s);
	if (r) {
		sockmap_skb_put(false);
		return r;
	}
	u = s->priv;
	u->mover = &sockmap_mover;
	sockmap_list_get();
	sockmap_list_ways(sockmap_skb_ways());
	u->book = &sockmap_book;
	return 0;
}

int sockmap_open(struct spl *s)
{
	return s->cgroup ? open_local(s) : open_skb(s);
}

void sockmap_close(struct spl *s)
{
	struct user *u = s->priv;
	struct sockmap_attachment *attachment = u->attachment;
	struct sockmap_ports *ports = u->ports;
	struct sockmap_waits *waits = u->waits;
	bool inherited = u->pid != getpid();

	/* nothing is sent any more that could wait, but sinks leave */
	user_close(s);
	sockmap_list_put(inherited);
	if (attachment) {
		sockmap_wait_free(waits);
		sockmap_load_put(attachment, ports, inherited);
	} else {
		sockmap_skb_put(inherited);
	}
}

int spl_sockmap_counts(uint64_t *out, size_t n)
{
	uint64_t counts[LOCAL_COUNTS] = { 0 };
	SPL_ERRNO_GUARD;
	int r = sockmap_load_counts(counts);
	size_t i;

	for (i = 0; !r && i < n && i < LOCAL_COUNTS; i++)
		out[i] = counts[i];
	return r ? r : (int)i;
}

#else

int sockmap_open(struct spl *s)
{
	return spl_refuse(s, -EOPNOTSUPP, "the engine sockmap is not built into this library: build it where clang is");
}

void sockmap_close(struct spl *s)
{
	user_close(s);
}

int spl_sockmap_counts(uint64_t *out, size_t n)
{
	(void)out;
	(void)n;
	return -EOPNOTSUPP;
}

int spl_sockmap_listed(struct spl_listed **out)
{
	*out = NULL;
	return -ENOENT;
}

#endif
