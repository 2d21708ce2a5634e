// SPDX-License-Identifier: GPL-2.0
/* splicectl stats: the counters of the module. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "nl.h"

static const struct {
	const char *name, *meaning;
} counters[SKSPLICE_A_STAT_MAX + 1] = {
	[SKSPLICE_A_STAT_OPS] = { "ops", "operations alive now" },
	[SKSPLICE_A_STAT_OWNERS] = { "owners", "owners alive now" },
	[SKSPLICE_A_STAT_STARTED] = { "started", "operations begun" },
	[SKSPLICE_A_STAT_REFUSED] = { "refused", "operations refused" },
	[SKSPLICE_A_STAT_ENDED] = { "ended", "operations ended" },
	[SKSPLICE_A_STAT_BYTES] = { "bytes", "bytes accepted by sinks" },
	[SKSPLICE_A_STAT_INLINE] = { "inline", "runs in the receive softirq" },
	[SKSPLICE_A_STAT_WORKER] = { "worker", "runs in the worker" },
	[SKSPLICE_A_STAT_MISSED] = { "missed", "runs put off because a socket was locked" },
	[SKSPLICE_A_STAT_BLOCKED] = { "blocked", "times a sink was found full" },
	[SKSPLICE_A_STAT_NOMEM] = { "nomem", "times memory for a send was short" },
	[SKSPLICE_A_STAT_ZEROCOPY] = { "zerocopy", "bytes handed on by page reference" },
	[SKSPLICE_A_STAT_COPIED] = { "copied", "bytes copied" },
	[SKSPLICE_A_STAT_EVENTS] = { "events", "completions delivered" },
	[SKSPLICE_A_STAT_OVERRUNS] = { "overruns", "completions put off: receive buffer full" },
	[SKSPLICE_A_STAT_INTRUDED] = { "intruded", "flows failed because a busy end was used" },
};

struct stats {
	bool found;
	uint64_t seen;
	uint64_t value[SKSPLICE_A_STAT_MAX + 1];
};

static int keep_stats(const struct nlmsghdr *nlh, void *arg)
{
	const struct nlattr *tb[SKSPLICE_A_MAX + 1], *nest[SKSPLICE_A_STAT_MAX + 1];
	struct stats *stats = arg;

	if (nl_parse(NULL, nlh, tb, SKSPLICE_A_MAX) || !tb[SKSPLICE_A_STATS] ||
	    mnl_attr_validate(tb[SKSPLICE_A_STATS], MNL_TYPE_NESTED) < 0 ||
	    nl_parse(tb[SKSPLICE_A_STATS], NULL, nest, SKSPLICE_A_STAT_MAX))
		return -EBADMSG;
	for (unsigned int i = 0; i <= SKSPLICE_A_STAT_MAX; i++) {
		if (!counters[i].name || !nest[i])
			continue;
		if (mnl_attr_validate(nest[i], MNL_TYPE_U64) < 0)
			return -EBADMSG;
		stats->value[i] = mnl_attr_get_u64(nest[i]);
		stats->seen |= (uint64_t)1 << i;
	}
	stats->found = true;
	return 0;
}

static void print_stats(const struct stats *stats)
{
	for (unsigned int i = 0; i <= SKSPLICE_A_STAT_MAX; i++)
		if (stats->seen >> i & 1)
			printf("%-10s %20" PRIu64 "  %s\n", counters[i].name, stats->value[i], counters[i].meaning);
}

static void json_stats(const struct stats *stats)
{
	struct json_object *o = json_object_new_object();

	for (unsigned int i = 0; i <= SKSPLICE_A_STAT_MAX; i++)
		if (stats->seen >> i & 1)
			out_add_u64(o, counters[i].name, stats->value[i]);
	out_json(o);
}

int cmd_stats(const struct command *cmd, int argc, char **argv)
{
	struct stats stats = { .found = false };
	struct nl nl;
	int error;

	cli_option(cmd, argc, argv, cli_common_options);
	cli_no_operands(cmd, argc, argv);
	error = nl_open_or_say(&nl);
	if (error)
		return error;
	error = nl_talk(&nl, nl_request(&nl, SKSPLICE_CMD_STATS_GET, NLM_F_ACK), keep_stats, &stats);
	if (!error && !stats.found)
		error = -EBADMSG;
	if (error)
		cli_error("cannot read the counters: %s", nl_why(&nl, error));
	else if (cli_json)
		json_stats(&stats);
	else
		print_stats(&stats);
	nl_close(&nl);
	return error ? CLI_FAILED : CLI_OK;
}
