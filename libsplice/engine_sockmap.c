// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The engine sockmap, its beginning and its end. All the rest is the engine user's, with the hooks of sockmap_hop.c. */
#include <errno.h>

#include "probe.h"
#include "user.h"

#ifdef SPL_SOCKMAP

#include "sockmap.h"

int sockmap_open(struct spl *s)
{
	struct sockmap_attachment *attachment;
	struct sockmap_ports *ports;
	struct user *u;
	int r;

	if (!s->cgroup)
		return spl_refuse(s, -EOPNOTSUPP, "the engine sockmap needs a cgroup: name the directory of the cgroup v2 that has "
				  "the local peers in spl_open_opts.cgroup");
	r = sockmap_ports_parse(s, s->ports, &ports);
	if (r)
		return r;
	r = sockmap_load_get(s, s->cgroup, ports, &attachment);
	if (r)
		return r;
	r = user_open(s);
	if (r) {
		sockmap_load_put(attachment, ports);
		return r;
	}
	u = s->priv;
	u->hop = &sockmap_hop;
	u->bypass = s->open_flags & SPL_OPEN_BYPASS ? &sockmap_bypass : NULL;
	u->attachment = attachment;
	u->ports = ports;
	u->splices = sockmap_load_splices();
	return 0;
}

void sockmap_close(struct spl *s)
{
	struct user *u = s->priv;
	struct sockmap_attachment *attachment = u->attachment;
	struct sockmap_ports *ports = u->ports;
	struct sockmap_waits *waits = u->waits;

	/* nothing is sent any more that could wait, but sinks leave */
	user_close(s);
	sockmap_wait_free(waits);
	sockmap_load_put(attachment, ports);
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

#endif
