// SPDX-License-Identifier: GPL-2.0
/* splicectl cancel, kill, flush: ending operations. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nl.h"

/* What is done to each operation named on the command line. */
struct ending {
	uint8_t cmd;
	uint32_t error;			/* 0: none is sent */
	const char *done;
};

static int end_one(struct nl *nl, const struct ending *how, uint64_t token)
{
	struct nlmsghdr *nlh = nl_request(nl, how->cmd, NLM_F_ACK);

	mnl_attr_put_u64(nlh, SKSPLICE_A_TOKEN, token);
	if (how->error)
		mnl_attr_put_u32(nlh, SKSPLICE_A_ERROR, how->error);
	return nl_talk(nl, nlh, NULL, NULL);
}

static struct json_object *ended_json(uint64_t token, int error)
{
	struct json_object *o = json_object_new_object();

	out_add_u64(o, "token", token);
	out_add_bool(o, "ended", !error);
	out_add_u64(o, "error", (uint64_t)-error);
	return o;
}

/* One failure does not keep the others from being ended. */
static int end_all(const struct ending *how, const uint64_t *tokens, size_t n)
{
	struct json_object *list;
	struct nl nl;
	int error, status = nl_open_or_say(&nl);

	if (status)
		return status;
	list = json_object_new_array();
	for (size_t i = 0; i < n; i++) {
		error = end_one(&nl, how, tokens[i]);
		if (error) {
			cli_error("operation %" PRIu64 ": %s", tokens[i], nl_why(&nl, error));
			status = CLI_FAILED;
		} else if (!cli_json) {
			printf("%" PRIu64 " %s\n", tokens[i], how->done);
		}
		json_object_array_add(list, ended_json(tokens[i], error));
	}
	if (cli_json)
		out_json(list);
	else
		json_object_put(list);
	nl_close(&nl);
	return status;
}

/* All of them are looked at before the first is ended. */
static int end_named(const struct command *cmd, const struct ending *how, int argc, char **argv)
{
	size_t n = (size_t)(argc - optind);
	uint64_t *tokens;
	int status;

	if (!n)
		cli_usage(cmd, "which operation?");
	tokens = out_alloc(NULL, n * sizeof(*tokens));
	for (size_t i = 0; i < n; i++)
		if (cli_parse_u64(argv[optind + (int)i], 1, UINT64_MAX, &tokens[i]))
			cli_usage(cmd, "'%s' is not the number of an operation", argv[optind + (int)i]);
	status = end_all(how, tokens, n);
	free(tokens);
	return status;
}

int cmd_cancel(const struct command *cmd, int argc, char **argv)
{
	struct ending how = { .cmd = SKSPLICE_CMD_OP_CANCEL, .done = "canceled" };

	cli_option(cmd, argc, argv, cli_common_options);
	return end_named(cmd, &how, argc, argv);
}

/* A name as in errno.h, or a number that has one; 0: neither. */
static uint32_t parse_errno(const char *text)
{
	uint64_t number;
	const char *name;

	if (!cli_parse_u64(text, 1, 4095, &number))
		return strerrorname_np((int)number) ? (uint32_t)number : 0;
	for (int i = 1; i < 4096; i++) {
		name = strerrorname_np(i);
		if (name && !strcasecmp(name, text))
			return (uint32_t)i;
	}
	return 0;
}

int cmd_kill(const struct command *cmd, int argc, char **argv)
{
	static const struct option options[] = {
		{ "error", required_argument, NULL, 'e' },
		CLI_COMMON_OPTIONS
	};
	struct ending how = { .cmd = SKSPLICE_CMD_OP_REVOKE, .error = ECONNABORTED, .done = "killed" };

	while (cli_option(cmd, argc, argv, options) != -1) {
		how.error = parse_errno(optarg);
		if (!how.error)
			cli_usage(cmd, "'%s' is not an errno", optarg);
	}
	return end_named(cmd, &how, argc, argv);
}

static bool confirmed(bool everywhere)
{
	char answer[16];

	fprintf(stderr, "Reset all connections that the module forwards in %s? [y/N] ",
		everywhere ? "every network namespace" : "this network namespace");
	return fgets(answer, sizeof(answer), stdin) && (*answer == 'y' || *answer == 'Y');
}

struct flushed {
	bool found;
	uint32_t count;
};

static int keep_count(const struct nlmsghdr *nlh, void *arg)
{
	const struct nlattr *tb[SKSPLICE_A_MAX + 1];
	struct flushed *flushed = arg;

	if (nl_parse(NULL, nlh, tb, SKSPLICE_A_MAX) || !tb[SKSPLICE_A_COUNT] ||
	    mnl_attr_validate(tb[SKSPLICE_A_COUNT], MNL_TYPE_U32) < 0)
		return -EBADMSG;
	flushed->count = mnl_attr_get_u32(tb[SKSPLICE_A_COUNT]);
	flushed->found = true;
	return 0;
}

static void print_count(uint32_t count)
{
	struct json_object *o;

	if (!cli_json) {
		printf("%" PRIu32 " operation%s ended\n", count, count == 1 ? "" : "s");
		return;
	}
	o = json_object_new_object();
	out_add_u64(o, "ended", count);
	out_json(o);
}

static int flush_now(struct nl *nl, bool everywhere)
{
	struct nlmsghdr *nlh = nl_request(nl, SKSPLICE_CMD_FLUSH, NLM_F_ACK);
	struct flushed flushed = { .found = false };
	int error;

	if (everywhere)
		mnl_attr_put(nlh, SKSPLICE_A_ALL_NETNS, 0, NULL);
	error = nl_talk(nl, nlh, keep_count, &flushed);
	if (!error && !flushed.found)
		error = -EBADMSG;
	if (error)
		cli_error("cannot flush: %s", nl_why(nl, error));
	else
		print_count(flushed.count);
	return error ? CLI_FAILED : CLI_OK;
}

int cmd_flush(const struct command *cmd, int argc, char **argv)
{
	static const struct option options[] = {
		{ "yes", no_argument, NULL, 'y' },
		{ "all-netns", no_argument, NULL, 'a' },
		CLI_COMMON_OPTIONS
	};
	bool yes = false, everywhere = false;
	struct nl nl;
	int c, status;

	while ((c = cli_option(cmd, argc, argv, options)) != -1)
		*(c == 'y' ? &yes : &everywhere) = true;
	cli_no_operands(cmd, argc, argv);
	status = nl_open_or_say(&nl);
	if (status)
		return status;
	if (!yes && isatty(STDIN_FILENO) && !confirmed(everywhere)) {
		cli_error("nothing was ended");
		status = CLI_FAILED;
	} else {
		status = flush_now(&nl, everywhere);
	}
	nl_close(&nl);
	return status;
}
