// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/*
 * What is refused on every engine alike: the shape of a request first, -EINVAL; then
 * descriptors that cannot be any, -EBADF; then what the engine in use does not do, -EOPNOTSUPP.
 */
#include <errno.h>
#include <string.h>

#include "engine.h"

#define OPTS_SIZE_MAX	4096	/* a size beyond this was never set by anyone */
#define KNOWN_FLAGS	(SPL_F_SHUTDOWN | SPL_F_DRAIN | SPL_F_CONNECTING | SPL_F_KEEP)

/* The caller's structure holds the field; one that is cut through does not count. */
#define HAS(in, field) \
	(offsetof(__typeof__(*(in)), field) + sizeof((in)->field) <= (in)->sz)
#define GET(in, field) (HAS(in, field) ? (in)->field : 0)

/* A larger structure comes from a newer header: fine as long as it uses nothing that is new. */
static int check_size(struct spl *s, const void *opts, size_t sz, size_t known)
{
	const unsigned char *byte = opts;
	size_t i;

	if (sz < sizeof(size_t) || sz > OPTS_SIZE_MAX)
		return spl_refuse(s, -EINVAL, "sz of the options is not set: %zu", sz);
	for (i = known; i < sz; i++)
		if (byte[i])
			return spl_refuse(s, -EINVAL, "options that this version of the library does not know");
	return 0;
}

int spl_args_open(const struct spl_open_opts *in, struct spl_open_opts *out)
{
	int r;

	*out = (struct spl_open_opts) { .sz = sizeof(*out), .engine = SPL_ENGINE_AUTO };
	if (!in)
		return 0;
	r = check_size(NULL, in, in->sz, sizeof(*in));
	if (r)
		return r;
	out->engine = (enum spl_engine)GET(in, engine);
	out->require = GET(in, require);
	out->cgroup = GET(in, cgroup);
	out->ports = GET(in, ports);
	out->flags = GET(in, flags);
	if ((unsigned int)out->engine > SPL_ENGINE_USER)
		return spl_refuse(NULL, -EINVAL, "no such engine: %u", (unsigned int)out->engine);
	if (out->flags & ~(uint32_t)SPL_OPEN_BYPASS)
		return spl_refuse(NULL, -EINVAL, "unknown flags of spl_open_opts: %#x", out->flags);
	return 0;
}

static int load_opts(struct spl *s, const struct spl_opts *in, struct spl_opts *out)
{
	int r;

	*out = (struct spl_opts) { .sz = sizeof(*out) };
	if (!in)
		return 0;
	r = check_size(s, in, in->sz, sizeof(*in));
	if (r)
		return r;
	out->flags = GET(in, flags);
	out->idle_ms = GET(in, idle_ms);
	out->max = GET(in, max);
	out->user_data = GET(in, user_data);
	out->prefix = GET(in, prefix);
	out->prefix_len = GET(in, prefix_len);
	out->suffix = GET(in, suffix);
	out->suffix_len = GET(in, suffix_len);
	out->delim = GET(in, delim);
	out->delim_len = GET(in, delim_len);
	out->framer = GET(in, framer);
	return 0;
}

static int check_bytes(struct spl *s, const char *name, const void *bytes, size_t len, size_t max)
{
	if (len > max)
		return spl_refuse(s, -EINVAL, "%s of %zu bytes: %zu are the most", name, len, max);
	if (len && !bytes)
		return spl_refuse(s, -EINVAL, "%s is NULL, its length is %zu", name, len);
	return 0;
}

/* Options that have no meaning for this kind of operation. */
static int check_kind(struct spl *s, const struct spl_request *req)
{
	const struct spl_opts *o = &req->opts;

	if (req->kind != SPL_OP_FORWARD && (o->delim_len || o->framer))
		return spl_refuse(s, -EINVAL, "a delimiter or a framer is for forwards only");
	if (o->delim_len && o->framer)
		return spl_refuse(s, -EINVAL, "a delimiter and a framer exclude each other");
	if ((req->kind == SPL_OP_FORWARD || req->kind == SPL_OP_SEND) && o->max)
		return spl_refuse(s, -EINVAL, "max is for splices only");
	if ((req->kind == SPL_OP_FORWARD || req->kind == SPL_OP_SEND) && (o->flags & SPL_F_KEEP))
		return spl_refuse(s, -EINVAL, "SPL_F_KEEP is for splices only: anything else keeps the descriptors");
	if (req->kind == SPL_OP_SEND && (o->flags & SPL_F_SHUTDOWN))
		return spl_refuse(s, -EINVAL, "SPL_F_SHUTDOWN follows the end of a source: a send has none");
	return 0;
}

/* Fills req->opts and, of a splice, req->n; kind, source and sink are set. */
int spl_args_request(struct spl *s, struct spl_request *req, const struct spl_opts *in)
{
	struct spl_opts *o = &req->opts;
	int r = load_opts(s, in, o);

	if (r)
		return r;
	if (o->flags & ~(uint32_t)KNOWN_FLAGS)
		return spl_refuse(s, -EINVAL, "unknown flags: %#x", o->flags & ~(uint32_t)KNOWN_FLAGS);
	r = check_bytes(s, "prefix", o->prefix, o->prefix_len, SPL_INSERT_MAX);
	if (!r)
		r = check_bytes(s, "suffix", o->suffix, o->suffix_len, SPL_INSERT_MAX);
	if (!r)
		r = check_bytes(s, "delim", o->delim, o->delim_len, SPL_DELIM_MAX);
	if (!r)
		r = check_kind(s, req);
	if (r)
		return r;
	if (req->source < 0 || req->sink < 0 || o->framer < 0)
		return spl_refuse(s, -EBADF, "a descriptor is negative");
	if (req->kind == SPL_OP_SPLICE || req->kind == SPL_OP_PAIR) {
		req->n = o->max;
		o->flags &= ~(uint32_t)SPL_F_SHUTDOWN;	/* a splice always does */
	}
	return 0;
}

/* Whether the engine in use can do what was asked for. */
int spl_args_supported(struct spl *s, const struct spl_request *req)
{
	static const struct { uint32_t flag; const char *name; } flags[] = {
		{ SPL_F_SHUTDOWN, "SPL_F_SHUTDOWN" },
		{ SPL_F_DRAIN, "SPL_F_DRAIN" },
		{ SPL_F_CONNECTING, "SPL_F_CONNECTING" },
		{ SPL_F_KEEP, "SPL_F_KEEP" },
	};
	const struct spl_opts *o = &req->opts;
	const struct { bool asked; uint32_t feature; const char *name; } features[] = {
		{ req->kind == SPL_OP_SEND, SPL_FEATURE_SEND, "spl_send" },
		{ o->prefix_len, SPL_FEATURE_PREFIX, "a prefix" },
		{ o->suffix_len, SPL_FEATURE_SUFFIX, "a suffix" },
		{ o->delim_len, SPL_FEATURE_DELIM, "a delimiter" },
		{ o->framer, SPL_FEATURE_FRAMER, "a framer" },
	};
	const char *what = NULL;
	size_t i;

	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (o->flags & ~s->ops->flags & flags[i].flag)
			what = flags[i].name;
	for (i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		if (features[i].asked && !(s->ops->features & features[i].feature))
			what = features[i].name;
	if (!what)
		return 0;
	return spl_refuse(s, -EOPNOTSUPP, "the engine %s does not support %s",
			  spl_engine_name(s->ops->engine), what);
}
