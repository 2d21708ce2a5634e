// SPDX-License-Identifier: GPL-2.0
/* splicectl: the table of commands, what they share of the command line, help and version. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "splicectl.h"

#ifndef SPLICECTL_VERSION
#error "tools/build.mk defines SPLICECTL_VERSION"
#endif

static int cmd_version(const struct command *cmd, int argc, char **argv);
static int cmd_help(const struct command *cmd, int argc, char **argv);

static const struct command commands[] = {
	{
		.name = "probe", .args = "[--cgroup PATH]", .run = cmd_probe,
		.options =
		"  --cgroup PATH           try sockmap with this directory of a cgroup v2\n",
		.summary = "say which engines work here, and why the others do not",
	}, {
		.name = "relay", .args = "--listen ADDR --to ADDR [OPTION]...", .run = cmd_relay, .no_json = true,
		.summary = "forward TCP and unix connections",
		.options =
		"  --listen ADDR           accept connections here; may be repeated\n"
		"  --to ADDR               connect to this; may be repeated: taken in turn, the next one on failure\n"
		"  --engine ENGINE         auto (default), kmod, sockmap or user\n"
		"  --cgroup PATH           directory of the cgroup v2 that has the local peers, for sockmap:\n"
		"                          connections with one of the ports of --listen and --to\n"
		"  --bypass                bytes between two local peers may go without the relay, for sockmap\n"
		"  --idle SECONDS          end a connection after so long without a byte; 0 (default): never\n"
		"  --connect-timeout SECS  give an address up after so long (default 5)\n"
		"  --max-connections N     accept no more while N are open; 0 (default): no limit\n"
		"  --drain SECONDS         on SIGTERM or SIGINT wait so long for open connections (default 30),\n"
		"                          then end; a second signal ends at once\n"
		"  --metrics ADDR          serve Prometheus metrics over HTTP on this loopback address\n"
		"  --reuse-port            share the ports with other relays that have this option: one for each\n"
		"                          processor, connections are distributed among them\n"
		"  --quiet                 no message about the engine, nor about single connections\n"
		"  --verbose               a message for each connection\n"
		"ADDR: IPV4:PORT, [IPV6]:PORT, NAME:PORT (resolved once, at the start), unix:/PATH, unix:@NAME;\n"
		"      --listen also takes :PORT (any address) and port 0 (one is chosen and printed)\n"
		"Engines: kmod, the kernel module, forwards in the kernel: connections go on when the relay ends or is\n"
		"killed. user forwards in this process, on any machine and for any user: what is open when the relay ends\n"
		"is reset. sockmap is user with a shorter way to peers on this host; without --cgroup the kernel moves the\n"
		"bytes, for those who want to see that. auto takes kmod where it works, else\n"
		"sockmap if there are --cgroup and --bypass, else user; \"splicectl probe\" tells which.\n",
	}, {
		.name = "list", .args = "[--bytes]", .run = cmd_list,
		.summary = "list the operations of this network namespace, and the splices of the engine sockmap in any",
		.options = "  -b, --bytes             exact numbers of bytes and milliseconds\n",
	}, {
		.name = "show", .args = "ID", .run = cmd_show,
		.options = "ID: as in the list; of the engine sockmap, PID/ID; of every PID namespace that has that PID\n",
		.summary = "show all that is known of one operation",
	}, {
		.name = "stats", .args = "", .run = cmd_stats, .options = "",
		.summary = "show the counters of the module",
	}, {
		.name = "monitor", .args = "[--count N]", .run = cmd_monitor,
		.summary = "print operations as they begin and end",
		.options = "  -n, --count N           end after N lines\n",
	}, {
		.name = "cancel", .args = "ID...", .run = cmd_cancel, .options = "",
		.summary = "end operations, without a reset",
	}, {
		.name = "kill", .args = "[--error ERRNO] ID...", .run = cmd_kill,
		.summary = "end operations by force: both sockets are reset",
		.options = "  -e, --error ERRNO       report this, a name or a number (default ECONNABORTED)\n",
	}, {
		.name = "flush", .args = "[--all-netns] [--yes]", .run = cmd_flush,
		.summary = "kill all operations of this network namespace",
		.options =
		"  -a, --all-netns         of every network namespace; only from the initial one\n"
		"  -y, --yes               do not ask on a terminal\n",
	}, {
		.name = "version", .args = "", .run = cmd_version, .options = "",
		.summary = "print the version",
	}, {
		.name = "help", .args = "[COMMAND]", .run = cmd_help, .options = "", .no_json = true,
		.summary = "print help",
	},
};

bool cli_json;
const struct option cli_common_options[] = { CLI_COMMON_OPTIONS };

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static void print_help(void)
{
	printf("Usage: splicectl [--json] COMMAND [OPTION]... [ID]...\n\n"
	       "Shows and ends the stream operations of the sksplice kernel module, and relays TCP.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-9s %s\n", commands[i].name, commands[i].summary);
	printf("\nsplicectl COMMAND --help tells more. Exit status: 0 done, 1 failed, 2 wrong usage,\n"
	       "3 not available on this machine (no module, no engine).\n");
}

static void print_command_help(const struct command *cmd)
{
	printf("Usage: splicectl %s%s%s\n%c%s.\n\n%s", cmd->name, *cmd->args ? " " : "", cmd->args,
	       toupper((unsigned char)cmd->summary[0]), cmd->summary + 1, cmd->options);
	if (!cmd->no_json)
		printf("  -j, --json              print JSON\n");
	printf("  -h, --help              print this\n");
}

/* Whoever reads our output must not take half of it for all: a full disk is a failure. */
static int finish(int status)
{
	if (ferror(stdout) | fflush(stdout)) {
		cli_error("standard output: %s", strerror(errno));
		return status == CLI_OK ? CLI_FAILED : status;
	}
	return status;
}

void cli_error(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("splicectl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void cli_usage(const struct command *cmd, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "splicectl%s%s: ", cmd ? " " : "", cmd ? cmd->name : "");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry: splicectl %s%s--help\n", cmd ? cmd->name : "", cmd ? " " : "");
	exit(CLI_USAGE);
}

/* Short options are those of the table that are printable; ":" and "+" as getopt(3) has them. */
static void short_options(const struct option *longopts, char *to, size_t size)
{
	size_t n = 0;

	to[n++] = ':';
	for (; longopts->name && n + 3 < size; longopts++) {
		if (longopts->val > 'z')
			continue;
		to[n++] = (char)longopts->val;
		if (longopts->has_arg == required_argument)
			to[n++] = ':';
	}
	to[n] = '\0';
}

/* The next option that is the command's own, or -1; the common ones and mistakes are dealt with here. */
int cli_option(const struct command *cmd, int argc, char **argv, const struct option *longopts)
{
	char shorts[64];
	int c;

	short_options(longopts, shorts, sizeof(shorts));
	opterr = 0;
	while ((c = getopt_long(argc, argv, shorts, longopts, NULL)) == 'j')
		cli_json = true;
	if (c == 'h') {
		print_command_help(cmd);
		exit(finish(CLI_OK));
	}
	if (c == ':')
		cli_usage(cmd, "option '%s' needs a value", argv[optind - 1]);
	if (c == '?' && optopt > 0 && optopt <= 'z' && strncmp(argv[optind - 1], "--", 2))
		cli_usage(cmd, "unknown option '-%c'", optopt);
	if (c == '?')
		cli_usage(cmd, "unknown, ambiguous or wrongly used option '%s'", argv[optind - 1]);
	if (c == -1 && cli_json && cmd->no_json)
		cli_usage(cmd, "has no JSON output");
	return c;
}

void cli_no_operands(const struct command *cmd, int argc, char **argv)
{
	if (optind < argc)
		cli_usage(cmd, "unexpected operand '%s'", argv[optind]);
}

/* Decimal digits only: strtoull() alone takes signs, spaces and other bases. */
int cli_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	*out = strtoull(text, &end, 10);
	if (errno || *end)
		return -EINVAL;
	return *out < min || *out > max ? -ERANGE : 0;
}

/* "SECONDS" or "SECONDS.FRACTION", down to the millisecond. */
int cli_parse_ms(const char *text, uint32_t *ms)
{
	uint64_t seconds = 0, scale = 1000, value;

	for (; isdigit((unsigned char)*text) && seconds <= UINT32_MAX; text++) {
		seconds = seconds * 10 + (uint64_t)(*text - '0');
		scale = 100;	/* at least one digit was seen */
	}
	if (scale != 100)
		return -EINVAL;
	value = seconds * 1000;
	if (*text == '.' && isdigit((unsigned char)text[1]))
		for (text++; isdigit((unsigned char)*text); text++, scale /= 10)
			value += (uint64_t)(*text - '0') * scale;
	if (*text)
		return -EINVAL;
	if (value > UINT32_MAX)
		return -ERANGE;
	*ms = (uint32_t)value;
	return 0;
}

static int cmd_version(const struct command *cmd, int argc, char **argv)
{
	cli_option(cmd, argc, argv, cli_common_options);
	cli_no_operands(cmd, argc, argv);
	if (cli_json) {
		struct json_object *o = json_object_new_object();

		out_add_string(o, "version", SPLICECTL_VERSION);
		out_json(o);
	} else {
		printf("splicectl %s\n", SPLICECTL_VERSION);
	}
	return CLI_OK;
}

static int cmd_help(const struct command *cmd, int argc, char **argv)
{
	const struct command *about;

	cli_option(cmd, argc, argv, cli_common_options);
	if (optind == argc) {
		print_help();
		return CLI_OK;
	}
	about = find_command(argv[optind]);
	if (!about)
		cli_usage(NULL, "no command '%s'", argv[optind]);
	optind++;
	cli_no_operands(cmd, argc, argv);
	print_command_help(about);
	return CLI_OK;
}

/* Options before the command; leaves optind at the command. */
static void global_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "version", no_argument, NULL, 'V' },
		CLI_COMMON_OPTIONS
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+jhV", options, NULL)) != -1) {
		if (c == 'j') {
			cli_json = true;
		} else if (c == 'h') {
			print_help();
			exit(finish(CLI_OK));
		} else if (c == 'V') {
			printf("splicectl %s\n", SPLICECTL_VERSION);
			exit(finish(CLI_OK));
		} else {
			cli_usage(NULL, "unknown option '%s'", argv[optind - 1]);
		}
	}
}

int main(int argc, char **argv)
{
	const struct command *cmd;
	char **rest;

	if (argc < 1)	/* execve() with no argument at all */
		return CLI_USAGE;
	global_options(argc, argv);
	if (optind == argc)
		cli_usage(NULL, "which command?");
	rest = argv + optind;
	cmd = find_command(*rest);
	if (!cmd)
		cli_usage(NULL, "no command '%s'", *rest);
	argc -= optind;
	optind = 0;	/* glibc: start afresh */
	return finish(cmd->run(cmd, argc, rest));
}
