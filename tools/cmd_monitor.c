// SPDX-License-Identifier: GPL-2.0
/* splicectl monitor: a line for each operation that begins or ends. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "nl.h"

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

struct monitor {
	uint64_t left;			/* operations still to be printed */
};

static void print_json(const struct op *op, const char *what, const struct timespec *now)
{
	struct json_object *o = op_json(op);

	out_add_string(o, "event", what);
	out_add_u64(o, "time_ms", (uint64_t)now->tv_sec * 1000 + (uint64_t)now->tv_nsec / 1000000);
	out_json_line(o);
}

static void print_end(const struct op *op)
{
	char forth[OUT_TEXT], back[OUT_TEXT];

	printf(" %s", op_cause(op->cause));
	if (op->error)
		printf(" (%s)", strerror((int)op->error));
	printf(" %s", out_bytes(op->bytes, forth));
	if (op->kind == SKSPLICE_KIND_PAIR)
		printf("/%s", out_bytes(op->bytes_back, back));
}

static void print_text(const struct op *op, const char *what, const struct timespec *now)
{
	char clock[16], source[2 * ADDR_TEXT], sink[2 * ADDR_TEXT];
	struct tm tm;

	strftime(clock, sizeof(clock), "%H:%M:%S", localtime_r(&now->tv_sec, &tm));
	printf("%s.%03ld %-5s %" PRIu64 " %s", clock, now->tv_nsec / 1000000, what, op->token, op_kind(op->kind));
	/* the sockets are gone when an operation has ended */
	if (op->source.seen || op->sink.seen)
		printf(" %s %s", op_sock_text(&op->source, source), op_sock_text(&op->sink, sink));
	if (OP_SEEN(op, SKSPLICE_A_CAUSE))
		print_end(op);
	putchar('\n');
	fflush(stdout);
}

static int print_event(const struct nlmsghdr *nlh, void *arg)
{
	const struct genlmsghdr *genl = mnl_nlmsg_get_payload(nlh);
	struct monitor *m = arg;
	struct timespec now;
	const char *what;
	struct op op;
	int error = op_parse(nlh, &op);

	if (error)
		return error;
	if (genl->cmd != SKSPLICE_CMD_START_NTF && genl->cmd != SKSPLICE_CMD_EVENT_NTF)
		return 0;
	if (!m->left)
		return 0;
	what = genl->cmd == SKSPLICE_CMD_START_NTF ? "start" : "end";
	clock_gettime(CLOCK_REALTIME, &now);
	if (cli_json)
		print_json(&op, what, &now);
	else
		print_text(&op, what, &now);
	m->left--;
	return ferror(stdout) ? -EPIPE : 0;
}

/* Until a message is there: 0; -ECANCELED: a signal said stop, or nobody reads our output any more. */
static int wait_message(struct nl *nl, const sigset_t *unblocked)
{
	struct pollfd fds[] = {
		{ .fd = mnl_socket_get_fd(nl->sock), .events = POLLIN },
		{ .fd = STDOUT_FILENO },
	};

	for (;;) {
		if (ppoll(fds, ARRAY_SIZE(fds), NULL, unblocked) < 0 && errno != EINTR)
			return -errno;
		if (stopped || fds[1].revents)
			return -ECANCELED;
		if (fds[0].revents)
			return 0;
	}
}

static int watch(struct nl *nl, struct monitor *m, const sigset_t *unblocked)
{
	int error;

	while (m->left) {
		error = wait_message(nl, unblocked);
		if (!error)
			error = nl_monitor_read(nl, print_event, m);
		if (error == -ECANCELED)
			return CLI_OK;
		if (error == -ENOBUFS) {
			cli_error("events came too fast: some are lost");
		} else if (error) {
			cli_error("cannot monitor: %s", nl_why(nl, error));
			return CLI_FAILED;
		}
	}
	return CLI_OK;
}

/* The signals are taken only inside ppoll(): none comes between looking and waiting. */
static void catch_signals(sigset_t *unblocked)
{
	struct sigaction action = { .sa_handler = stop };
	sigset_t blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGINT);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, unblocked);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static int monitor_now(struct monitor *m)
{
	sigset_t unblocked;
	struct nl nl;
	int error = nl_open_or_say(&nl);

	if (error)
		return error;
	catch_signals(&unblocked);
	error = nl_monitor_join(&nl);
	if (error) {
		cli_error("cannot monitor: %s", nl_why(&nl, error));
		error = CLI_FAILED;
	} else {
		/* scripts wait for this line: from here on nothing is missed */
		fprintf(stderr, "splicectl: monitoring\n");
		error = watch(&nl, m, &unblocked);
	}
	nl_close(&nl);
	return error;
}

int cmd_monitor(const struct command *cmd, int argc, char **argv)
{
	static const struct option options[] = {
		{ "count", required_argument, NULL, 'n' },
		CLI_COMMON_OPTIONS
	};
	struct monitor m = { .left = UINT64_MAX };

	while (cli_option(cmd, argc, argv, options) != -1)
		if (cli_parse_u64(optarg, 1, UINT64_MAX, &m.left))
			cli_usage(cmd, "'%s' is not a number of operations", optarg);
	cli_no_operands(cmd, argc, argv);
	return monitor_now(&m);
}
