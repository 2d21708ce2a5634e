// SPDX-License-Identifier: GPL-2.0
/* splicectl list, show: the operations that are running. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "nl.h"

#define LIST_TRIES	3

enum { COL_TOKEN, COL_KIND, COL_STATE, COL_SOURCE, COL_SINK, COL_BYTES, COL_BACK, COL_AGE, COL_QUIET, COL_WHO,
       COL_ORPHAN, COL_ENGINE, COLUMNS };

static const char *const titles[COLUMNS] = {
	"TOKEN", "KIND", "STATE", "SOURCE", "SINK", "BYTES", "BACK", "AGE", "QUIET", "UID/PID", "ORPHAN", "ENGINE",
};

static int keep_op(const struct nlmsghdr *nlh, void *arg)
{
	return op_parse(nlh, op_list_add(arg));
}

/* A dump that changed under way may miss or repeat an operation: asked again, a few times. */
static int dump(struct nl *nl, struct op_list *list)
{
	int error = 0;

	for (int try = 0; try < LIST_TRIES; try++) {
		list->n = 0;
		error = nl_talk(nl, nl_request(nl, SKSPLICE_CMD_OP_GET, NLM_F_DUMP), keep_op, list);
		if (error || !nl->interrupted)
			break;
	}
	if (!error && nl->interrupted)
		cli_error("operations came and went during the listing: some may be missing");
	return error;
}

static void put_number(struct out_table *t, size_t column, bool exact, uint64_t value,
		       const char *(*human)(uint64_t, char *))
{
	char text[OUT_TEXT];

	if (exact)
		out_table_cell(t, column, "%" PRIu64, value);
	else
		out_table_cell(t, column, "%s", human(value, text));
}

static void put_states(struct out_table *t, const struct op *op)
{
	if (OP_SEEN(op, SKSPLICE_A_STATE_BACK))
		out_table_cell(t, COL_STATE, "%s/%s", op_state(op->state), op_state(op->state_back));
	else
		out_table_cell(t, COL_STATE, "%s", op_state(op->state));
}

static void put_row(struct out_table *t, const struct op *op, bool exact)
{
	char text[2 * ADDR_TEXT];

	out_table_row(t);
	out_table_cell(t, COL_TOKEN, "%" PRIu64, op->token);
	out_table_cell(t, COL_KIND, "%s", op_kind(op->kind));
	put_states(t, op);
	out_table_cell(t, COL_SOURCE, "%s", op_sock_text(&op->source, text));
	out_table_cell(t, COL_SINK, "%s", op_sock_text(&op->sink, text));
	put_number(t, COL_BYTES, exact, op->bytes, out_bytes);
	if (OP_SEEN(op, SKSPLICE_A_BYTES_BACK))
		put_number(t, COL_BACK, exact, op->bytes_back, out_bytes);
	put_number(t, COL_AGE, exact, op->age_ms, out_ms);
	put_number(t, COL_QUIET, exact, op->quiet_ms, out_ms);
	out_table_cell(t, COL_WHO, "%" PRIu32 "/%" PRIu32, op->uid, op->pid);
	out_table_cell(t, COL_ORPHAN, "%s", OP_SEEN(op, SKSPLICE_A_ORPHAN) ? "orphan" : "");
	out_table_cell(t, COL_ENGINE, op->mode ? "%s/%s" : "%s", op_engine(op), op->mode);
}

static void print_table(const struct op_list *list, bool exact)
{
	struct out_table t;

	out_table_init(&t, titles, COLUMNS);
	for (size_t i = 0; i < list->n; i++)
		if (!list->ops[i].unlisted)
			put_row(&t, &list->ops[i], exact);
	out_table_print(&t);
	for (size_t i = 0; i < list->n; i++)
		if (list->ops[i].unlisted)
			printf("process %" PRIu32 ": %" PRIu32 " more so far had no place in the list\n", list->ops[i].pid,
			       list->ops[i].unlisted);
}

static void print_json(const struct op_list *list)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < list->n; i++)
		json_object_array_add(array, op_json(&list->ops[i]));
	out_json(array);
}

/* Of the module, which need not be there where other engines are. *any: it has answered. */
static int list_module(struct op_list *list, bool alone, bool *any)
{
	struct nl nl;
	int error = nl_open(&nl);

	if (error)
		return nl_absent(error) && !alone ? CLI_OK : nl_say(&nl, error);
	error = dump(&nl, list);
	if (error) {
		cli_error("cannot list: %s", nl_why(&nl, error));
		list->n = 0;
	}
	nl_close(&nl);
	*any |= !error;
	return error ? CLI_FAILED : CLI_OK;
}

/* What could be read is printed, whatever has been said of the rest. */
static int list_now(bool exact)
{
	struct op_list list = { 0 }, others = { 0 };
	int n = listed_read(&others);
	bool any = n >= 0;
	int error = list_module(&list, n == -ENOENT, &any);

	for (size_t i = 0; i < others.n; i++)
		*op_list_add(&list) = others.ops[i];
	if (any && cli_json)
		print_json(&list);
	else if (any)
		print_table(&list, exact);
	free(list.ops);
	free(others.ops);
	return error ? error : n < 0 && n != -ENOENT ? CLI_FAILED : CLI_OK;
}

int cmd_list(const struct command *cmd, int argc, char **argv)
{
	static const struct option options[] = {
		{ "bytes", no_argument, NULL, 'b' },
		CLI_COMMON_OPTIONS
	};
	bool exact = false;

	while (cli_option(cmd, argc, argv, options) != -1)
		exact = true;
	cli_no_operands(cmd, argc, argv);
	return list_now(exact);
}

struct one_op {
	struct op op;
	bool found;
};

static int keep_one(const struct nlmsghdr *nlh, void *arg)
{
	struct one_op *one = arg;

	one->found = true;
	return op_parse(nlh, &one->op);
}

static int print_one(const struct op *op)
{
	if (cli_json)
		out_json(op_json(op));
	else
		op_print(op);
	return CLI_OK;
}

static int show_module(uint64_t token)
{
	struct one_op one = { .found = false };
	struct nlmsghdr *nlh;
	struct nl nl;
	int error = nl_open_or_say(&nl);

	if (error)
		return error;
	nlh = nl_request(&nl, SKSPLICE_CMD_OP_GET, NLM_F_ACK);
	mnl_attr_put_u64(nlh, SKSPLICE_A_TOKEN, token);
	error = nl_talk(&nl, nlh, keep_one, &one);
	if (!error && !one.found)
		error = -EBADMSG;
	if (error)
		cli_error("operation %" PRIu64 ": %s", token, nl_why(&nl, error));
	else
		print_one(&one.op);
	nl_close(&nl);
	return error ? CLI_FAILED : CLI_OK;
}

/* Each process numbers its own, and each PID namespace its processes: all that have this one. */
static int show_listed(uint64_t pid, uint64_t token)
{
	struct op_list list = { 0 };
	int n = listed_read(&list), result = CLI_FAILED;

	for (size_t i = 0; i < list.n; i++) {
		if (list.ops[i].pid != pid || list.ops[i].token != token)
			continue;
		if (!result && !cli_json)
			putchar('\n');
		result = print_one(&list.ops[i]);
	}
	if (result && (n >= 0 || n == -ENOENT))
		cli_error("process %" PRIu64 " lists no operation %" PRIu64, pid, token);
	free(list.ops);
	return result;
}

int cmd_show(const struct command *cmd, int argc, char **argv)
{
	uint64_t token, pid = 0;
	char *slash;

	cli_option(cmd, argc, argv, cli_common_options);
	if (optind == argc)
		cli_usage(cmd, "which operation?");
	slash = strchr(argv[optind], '/');
	if (slash)
		*slash = '\0';
	if ((slash && cli_parse_u64(argv[optind], 1, INT32_MAX, &pid)) ||
	    cli_parse_u64(slash ? slash + 1 : argv[optind], 1, UINT64_MAX, &token))
		cli_usage(cmd, "'%s' is not the number of an operation", argv[optind]);
	optind++;
	cli_no_operands(cmd, argc, argv);
	return slash ? show_listed(pid, token) : show_module(token);
}
