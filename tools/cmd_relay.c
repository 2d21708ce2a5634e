// SPDX-License-Identifier: GPL-2.0
/* splicectl relay: its options, the engine, the summary. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "../libsplice/probe.h"
#include "relay.h"

enum { OPT_LISTEN = 256, OPT_TO, OPT_ENGINE, OPT_IDLE, OPT_CONNECT, OPT_MAX, OPT_DRAIN, OPT_METRICS, OPT_SHARE,
       OPT_QUIET, OPT_VERBOSE, OPT_CGROUP, OPT_BYPASS };

static const struct option options[] = {
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "to", required_argument, NULL, OPT_TO },
	{ "engine", required_argument, NULL, OPT_ENGINE },
	{ "cgroup", required_argument, NULL, OPT_CGROUP },
	{ "bypass", no_argument, NULL, OPT_BYPASS },
	{ "idle", required_argument, NULL, OPT_IDLE },
	{ "connect-timeout", required_argument, NULL, OPT_CONNECT },
	{ "max-connections", required_argument, NULL, OPT_MAX },
	{ "drain", required_argument, NULL, OPT_DRAIN },
	{ "metrics", required_argument, NULL, OPT_METRICS },
	{ "reuse-port", no_argument, NULL, OPT_SHARE },
	{ "quiet", no_argument, NULL, OPT_QUIET },
	{ "verbose", no_argument, NULL, OPT_VERBOSE },
	CLI_COMMON_OPTIONS
};

/* The addresses of a name that is there, or an end with a sentence. */
static size_t addresses(const struct command *cmd, const char *text, enum addr_use use, struct addr out[ADDR_MOST])
{
	const char *why;
	int n = addr_parse(text, use, out, &why);

	if (n == -ENOENT) {
		cli_error("%s: %s", text, why);
		exit(CLI_FAILED);
	}
	if (n < 0)
		cli_usage(cmd, "'%s': %s", text, why);
	return (size_t)n;
}

static void add_listeners(const struct command *cmd, struct relay_options *o, const char *text)
{
	struct addr found[ADDR_MOST];
	size_t n = addresses(cmd, text, ADDR_LISTEN, found);

	if (o->n_listeners + n > RELAY_LISTENERS)
		cli_usage(cmd, "more than %d addresses to listen on", RELAY_LISTENERS);
	for (size_t i = 0; i < n; i++)
		o->listeners[o->n_listeners++] = (struct listener){ .watch.fd = -1, .addr = found[i] };
}

static void add_targets(const struct command *cmd, struct relay_options *o, const char *text)
{
	struct addr found[ADDR_MOST];
	size_t n = addresses(cmd, text, ADDR_CONNECT, found);

	if (o->n_targets + n > RELAY_TARGETS)
		cli_usage(cmd, "more than %d addresses to connect to", RELAY_TARGETS);
	o->first[o->n_first++] = o->n_targets;
	memcpy(&o->targets[o->n_targets], found, n * sizeof(*found));
	o->n_targets += n;
}

static void set_metrics(const struct command *cmd, struct relay_options *o, const char *text)
{
	struct addr found[ADDR_MOST];

	addresses(cmd, text, ADDR_LISTEN, found);
	/* who may read them is not asked for: only this machine can */
	if (!addr_is_loopback(&found[0]))
		cli_usage(cmd, "'%s' is not a loopback address", text);
	o->metrics.addr = found[0];
}

static enum spl_engine parse_engine(const struct command *cmd, const char *text)
{
	static const enum spl_engine engines[] = {
		SPL_ENGINE_AUTO, SPL_ENGINE_KMOD, SPL_ENGINE_SOCKMAP, SPL_ENGINE_USER,
	};

	for (size_t i = 0; i < ARRAY_SIZE(engines); i++)
		if (!strcmp(spl_engine_name(engines[i]), text))
			return engines[i];
	cli_usage(cmd, "no engine '%s': auto, kmod, sockmap or user", text);
}

static uint32_t parse_seconds(const struct command *cmd, const char *text)
{
	uint32_t ms;

	if (cli_parse_ms(text, &ms))
		cli_usage(cmd, "'%s' is not a number of seconds", text);
	return ms;
}

static void take_option(const struct command *cmd, struct relay_options *o, int option)
{
	switch (option) {
	case OPT_LISTEN:
		return add_listeners(cmd, o, optarg);
	case OPT_TO:
		return add_targets(cmd, o, optarg);
	case OPT_METRICS:
		return set_metrics(cmd, o, optarg);
	case OPT_ENGINE:
		o->engine = parse_engine(cmd, optarg);
		return;
	case OPT_CGROUP:
		o->cgroup = optarg;
		return;
	case OPT_BYPASS:
		o->bypass = true;
		return;
	case OPT_IDLE:
		o->idle_ms = parse_seconds(cmd, optarg);
		return;
	case OPT_CONNECT:
		o->connect_ms = parse_seconds(cmd, optarg);
		if (!o->connect_ms)
			cli_usage(cmd, "connecting takes more than 0 seconds");
		return;
	case OPT_DRAIN:
		o->drain_ms = parse_seconds(cmd, optarg);
		return;
	case OPT_MAX:
		if (cli_parse_u64(optarg, 0, UINT32_MAX, &o->max))
			cli_usage(cmd, "'%s' is not a number of connections", optarg);
		return;
	case OPT_SHARE:
		o->share = true;
		return;
	case OPT_QUIET:
		o->talk = TALK_QUIET;
		return;
	case OPT_VERBOSE:
		o->talk = TALK_VERBOSE;
		return;
	}
}

static void parse_options(const struct command *cmd, struct relay_options *o, int argc, char **argv)
{
	int option;

	*o = (struct relay_options){
		.metrics.watch.fd = -1,
		.engine = SPL_ENGINE_AUTO,
		.talk = TALK_NORMAL,
		.connect_ms = 5000,
		.drain_ms = 30000,
	};
	while ((option = cli_option(cmd, argc, argv, options)) != -1)
		take_option(cmd, o, option);
	cli_no_operands(cmd, argc, argv);
	if (!o->n_listeners)
		cli_usage(cmd, "--listen is missing");
	if (!o->n_targets)
		cli_usage(cmd, "--to is missing");
	for (size_t i = 0; i < o->n_listeners && o->share; i++)
		if (o->listeners[i].addr.sa.sa_family == AF_UNIX)
			cli_usage(cmd, "--reuse-port: relays can share ports, not unix sockets");
}

/* What the probe advises for those engines that were asked for. */
static void advise(const struct relay_options *o)
{
	struct spl_probe found[SPL_PROBE_ENGINES] = { 0 };
	int n = spl_probe(found, ARRAY_SIZE(found), o->cgroup);

	for (int i = 0; i < n; i++)
		if (*found[i].advice && (o->engine == found[i].engine ||
		    (o->engine == SPL_ENGINE_AUTO && ((o->cgroup && o->bypass) || found[i].engine != SPL_ENGINE_SOCKMAP))))
			cli_error("engine %s: %s", spl_engine_name(found[i].engine), found[i].advice);
}

/* What nobody named was chosen: which engine it is, and what spoke against the module. */
static void say_engine(const struct spl *spl)
{
	const char *named = getenv("SPL_ENGINE");
	struct spl_probe kmod = { 0 };

	fprintf(stderr, "relay: engine %s", spl_engine_name(spl_engine(spl)));
	if (named && *named && strcmp(named, "auto"))
		fprintf(stderr, ", as SPL_ENGINE says");
	else if (spl_engine(spl) != SPL_ENGINE_KMOD && spl_probe(&kmod, 1, NULL) == 1 && kmod.error)
		fprintf(stderr, "; not kmod: %s", *kmod.reason ? kmod.reason : strerror(-kmod.error));
	fputc('\n', stderr);
}

#define PORTS_TEXT	(6 * (RELAY_LISTENERS + RELAY_TARGETS) + 1)

/* False: any port may be served. */
static bool add_port(char text[PORTS_TEXT], const struct addr *addr)
{
	uint16_t port = addr_port(addr);
	size_t len = strlen(text);

	if (addr->sa.sa_family != AF_INET && addr->sa.sa_family != AF_INET6)
		return true;
	snprintf(text + len, PORTS_TEXT - len, "%s%u", len ? "," : "", port);
	return port;
}

/* Of the connections of the cgroup those that can be ours. NULL: a port is only chosen when we listen. */
static const char *ports(const struct relay_options *o, char text[PORTS_TEXT])
{
	bool known = true;

	*text = '\0';
	for (size_t i = 0; i < o->n_listeners; i++)
		known &= add_port(text, &o->listeners[i].addr);
	for (size_t i = 0; i < o->n_targets; i++)
		known &= add_port(text, &o->targets[i]);
	return known && *text ? text : NULL;
}

static int open_engine(struct spl **spl, const struct relay_options *o)
{
	char text[PORTS_TEXT];
	struct spl_open_opts opts = {
		.sz = sizeof(opts), .engine = o->engine, .cgroup = o->cgroup, .ports = ports(o, text),
		.flags = o->bypass ? SPL_OPEN_BYPASS : 0,
	};
	int error = spl_open(spl, &opts);

	if (!error) {
		if (o->engine == SPL_ENGINE_AUTO && o->talk != TALK_QUIET)
			say_engine(*spl);
		return CLI_OK;
	}
	cli_error("no engine: %s", spl_strerror_last(NULL));
	if (error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -EINVAL)
		return CLI_FAILED;
	advise(o);
	return CLI_UNAVAILABLE;
}

static int open_listener(struct listener *l, bool shared)
{
	char text[ADDR_TEXT];
	int error = relay_listen(l, shared);

	if (error)
		cli_error("cannot listen on %s: %s", addr_format(&l->addr, text), strerror(-error));
	return error;
}

static int open_listeners(struct relay_options *o)
{
	for (size_t i = 0; i < o->n_listeners; i++)
		if (open_listener(&o->listeners[i], o->share))
			return CLI_FAILED;
	if (o->metrics.addr.len && open_listener(&o->metrics, false))
		return CLI_FAILED;
	return CLI_OK;
}

static void close_listeners(struct relay_options *o)
{
	for (size_t i = 0; i < o->n_listeners; i++)
		relay_listener_close(&o->listeners[i]);
	relay_listener_close(&o->metrics);
}

static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void summary(const struct relay *r)
{
	char forth[OUT_TEXT], back[OUT_TEXT], took[OUT_TEXT];

	fprintf(stderr, "relay: connections: %" PRIu64 " in %s, %" PRIu64 " ended, %" PRIu64 " unreachable, %" PRIu64
		" refused, %" PRIu64 " %s; bytes: %s forth, %s back\n", r->count.accepted,
		out_ms(relay_now() - r->began, took), r->count.ended, r->count.unreachable, r->count.refused,
		r->count.active, spl_caps(r->spl) & SPL_CAP_SURVIVES ? "left to the kernel" : "cut off",
		out_bytes(r->count.bytes, forth), out_bytes(r->count.bytes_back, back));
}

static int serve(struct relay *r)
{
	int error, status = open_listeners(r->opts);

	if (!status) {
		error = relay_run(r);
		if (error) {
			cli_error("the relay ends: %s", strerror(-error));
			status = CLI_FAILED;
		}
		summary(r);
	}
	close_listeners(r->opts);
	return status;
}

int cmd_relay(const struct command *cmd, int argc, char **argv)
{
	static struct relay_options o;
	struct relay r = { .opts = &o };
	int status;

	parse_options(cmd, &o, argc, argv);
	raise_limit();
	status = open_engine(&r.spl, &o);
	if (status)
		return status;
	status = serve(&r);
	spl_close(r.spl);
	return status;
}
