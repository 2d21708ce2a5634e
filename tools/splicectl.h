/* SPDX-License-Identifier: GPL-2.0 */
/* splicectl: private header of the tool; the prototypes of each file stand under its name. */
#ifndef SPLICECTL_H
#define SPLICECTL_H

#include <getopt.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/vm_sockets.h>

#include <json-c/json.h>

#define PRINTF(fmt, first)	__attribute__((format(printf, fmt, first)))
#define NORETURN		__attribute__((noreturn))
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))

/* What splicectl exits with. */
enum cli_exit {
	CLI_OK,
	CLI_FAILED,
	CLI_USAGE,
	CLI_UNAVAILABLE,		/* this machine has no module, or no engine */
};

struct command {
	const char *name;
	const char *args;		/* synopsis after the name */
	const char *summary;
	const char *options;		/* one line each, beside --json and --help */
	int (*run)(const struct command *cmd, int argc, char **argv);
	bool no_json;
};

/* splicectl.c */
extern bool cli_json;			/* --json was given */
int cli_option(const struct command *cmd, int argc, char **argv, const struct option *longopts);
void cli_no_operands(const struct command *cmd, int argc, char **argv);
NORETURN void cli_usage(const struct command *cmd, const char *fmt, ...) PRINTF(2, 3);
void cli_error(const char *fmt, ...) PRINTF(1, 2);
int cli_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out);
int cli_parse_ms(const char *text, uint32_t *ms);
/* Options every command takes; the last entries of its table. */
#define CLI_COMMON_OPTIONS			\
	{ "json", no_argument, NULL, 'j' },	\
	{ "help", no_argument, NULL, 'h' },	\
	{ NULL, 0, NULL, 0 }
extern const struct option cli_common_options[];

/* cmd_*.c */
int cmd_probe(const struct command *cmd, int argc, char **argv);
int cmd_relay(const struct command *cmd, int argc, char **argv);
int cmd_list(const struct command *cmd, int argc, char **argv);
int cmd_show(const struct command *cmd, int argc, char **argv);
int cmd_stats(const struct command *cmd, int argc, char **argv);
int cmd_monitor(const struct command *cmd, int argc, char **argv);
int cmd_cancel(const struct command *cmd, int argc, char **argv);
int cmd_kill(const struct command *cmd, int argc, char **argv);
int cmd_flush(const struct command *cmd, int argc, char **argv);

/* addr.c */
struct addr {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_vm vm;
		struct sockaddr_storage storage;
	};
	socklen_t len;			/* 0: none */
};
enum addr_use { ADDR_LISTEN, ADDR_CONNECT };
#define ADDR_TEXT	128		/* room for addr_format() */
#define ADDR_MOST	8		/* addresses of one name that are looked at */
int addr_parse(const char *text, enum addr_use use, struct addr *out, const char **why);
const char *addr_format(const struct addr *addr, char text[ADDR_TEXT]);
int addr_from_wire(const void *data, size_t len, struct addr *out);
struct json_object *addr_json(const struct addr *addr);
bool addr_is_loopback(const struct addr *addr);
uint16_t addr_port(const struct addr *addr);	/* 0: none */

/* out.c */
#define OUT_TEXT	32		/* room for one human number */
struct out_table {
	const char *const *titles;
	size_t columns, rows, room;
	char **cells;
};
void out_json(struct json_object *object);
void out_json_line(struct json_object *object);
void out_field(const char *name, const char *fmt, ...) PRINTF(2, 3);
const char *out_bytes(uint64_t bytes, char text[OUT_TEXT]);
const char *out_ms(uint64_t ms, char text[OUT_TEXT]);
void *out_alloc(void *old, size_t size);
void out_table_init(struct out_table *t, const char *const *titles, size_t columns);
void out_table_cell(struct out_table *t, size_t column, const char *fmt, ...) PRINTF(3, 4);
void out_table_row(struct out_table *t);
void out_table_print(struct out_table *t);
static inline void out_add_u64(struct json_object *to, const char *name, uint64_t value)
{
	json_object_object_add(to, name, json_object_new_uint64(value));
}
static inline void out_add_string(struct json_object *to, const char *name, const char *value)
{
	json_object_object_add(to, name, json_object_new_string(value));
}
static inline void out_add_bool(struct json_object *to, const char *name, bool value)
{
	json_object_object_add(to, name, json_object_new_boolean(value));
}

#endif /* SPLICECTL_H */
