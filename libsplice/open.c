// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* Choosing an engine, and the life of a context. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

/* What is built, in the order in which SPL_ENGINE_AUTO tries. */
static const struct spl_engine_ops *const engines[] = { &spl_engine_kmod, &spl_engine_sockmap, &spl_engine_user };

#define ENGINES (sizeof(engines) / sizeof(engines[0]))

static const char *const engine_names[] = {
	[SPL_ENGINE_AUTO] = "auto",
	[SPL_ENGINE_KMOD] = "kmod",
	[SPL_ENGINE_SOCKMAP] = "sockmap",
	[SPL_ENGINE_USER] = "user",
};

const char *spl_engine_name(enum spl_engine e)
{
	return (unsigned int)e <= SPL_ENGINE_USER ? engine_names[e] : "unknown";
}

/* What the environment says instead of AUTO. */
static int engine_from_env(enum spl_engine *engine)
{
	const char *name = secure_getenv("SPL_ENGINE");
	unsigned int e;

	if (!name || !*name)
		return 0;
	for (e = SPL_ENGINE_AUTO; e <= SPL_ENGINE_USER; e++) {
		if (!strcmp(name, engine_names[e])) {
			*engine = (enum spl_engine)e;
			return 0;
		}
	}
	return spl_refuse(NULL, -EINVAL, "SPL_ENGINE=%.64s in the environment: no such engine", name);
}

static int open_engine(struct spl **out, const struct spl_engine_ops *ops, const struct spl_open_opts *opts)
{
	uint32_t lacking = opts->require & ~(ops->caps | ops->optional);
	struct spl *s;
	int r;

	if (lacking)
		return spl_refuse(NULL, -EOPNOTSUPP, "the engine %s lacks required capabilities: %#x",
				  spl_engine_name(ops->engine), lacking);
	s = calloc(1, sizeof(*s));
	if (!s)
		return spl_refuse(NULL, -ENOMEM, NULL);
	s->ops = ops;
	s->caps = ops->caps | (ops->optional & opts->require);
	s->cgroup = opts->cgroup;
	s->ports = opts->ports;
	s->open_flags = opts->flags;
	s->engine_fd = s->poll_fd = s->wake_fd = s->also_fd = -1;
	r = ops->open(s);
	s->cgroup = s->ports = NULL;
	if (r) {
		spl_refuse(NULL, r, "%s", s->sentence);
		free(s);
		return r;
	}
	r = spl_wait_open(s);
	if (r) {
		spl_refuse(NULL, r, NULL);
		spl_close(s);
		return r;
	}
	*out = s;
	return 0;
}

/* There, but not for us? It is for the next engine then. */
static int try_out(struct spl **s)
{
	int r = spl_probe_forward(*s);

	if (!r)
		return 0;
	spl_refuse(NULL, r, "%s", spl_strerror_last(*s));
	spl_close(*s);
	*s = NULL;
	return r;
}

/* AUTO takes the engine sockmap only where it is faster than user: past the relay, in a cgroup that the caller has named. */
static bool is_meant(const struct spl_open_opts *opts, enum spl_engine engine)
{
	if (opts->engine != SPL_ENGINE_AUTO)
		return opts->engine == engine;
	return engine != SPL_ENGINE_SOCKMAP || (opts->cgroup && (opts->flags & SPL_OPEN_BYPASS));
}

/* The first that opens; when none does, why the best one did not. */
static int open_any(struct spl **out, const struct spl_open_opts *opts)
{
	char sentence[SPL_SENTENCE_MAX];
	int error = 0, r;
	size_t i;

	for (i = 0; i < ENGINES; i++) {
		if (!is_meant(opts, engines[i]->engine))
			continue;
		r = open_engine(out, engines[i], opts);
		if (!r && opts->engine == SPL_ENGINE_AUTO && i + 1 < ENGINES)
			r = try_out(out);
		if (!r)
			return 0;
		if (!error) {
			error = r;
			memcpy(sentence, spl_strerror_last(NULL), sizeof(sentence));
		}
	}
	if (!error)
		return spl_refuse(NULL, -EOPNOTSUPP, "the engine %s is not built into this version",
				  spl_engine_name(opts->engine));
	return spl_refuse(NULL, error, "%s", sentence);
}

int spl_open(struct spl **out, const struct spl_open_opts *in)
{
	struct spl_open_opts opts;
	SPL_ERRNO_GUARD;
	int r;

	if (!out)
		return spl_refuse(NULL, -EINVAL, "nowhere to put the context");
	*out = NULL;
	r = spl_args_open(in, &opts);
	if (!r && opts.engine == SPL_ENGINE_AUTO)
		r = engine_from_env(&opts.engine);
	return r ? r : open_any(out, &opts);
}

void spl_close(struct spl *s)
{
	SPL_ERRNO_GUARD;

	if (!s)
		return;
	spl_wait_close(s);
	s->ops->close(s);
	spl_queue_free(s);
	free(s);
}

int spl_fd(const struct spl *s)
{
	return s ? s->poll_fd : -EINVAL;
}

enum spl_engine spl_engine(const struct spl *s)
{
	return s ? s->ops->engine : SPL_ENGINE_AUTO;
}

uint32_t spl_caps(const struct spl *s)
{
	return s ? s->caps : 0;
}
