// SPDX-License-Identifier: GPL-2.0
/* Operations as the module describes them: one table reads, prints and writes JSON. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "nl.h"

enum op_show { SHOW_NUMBER, SHOW_BYTES, SHOW_MS, SHOW_KIND, SHOW_STATE, SHOW_CAUSE, SHOW_FLAGS, SHOW_ENDED, SHOW_ERRNO };

struct op_field {
	const char *name;
	size_t offset;
	uint16_t attr;
	bool wide;			/* u64, else u32 */
	enum op_show show;
};

#define WIDE(attr, name, member, show)		{ name, offsetof(struct op, member), attr, true, show }
#define NARROW(attr, name, member, show)	{ name, offsetof(struct op, member), attr, false, show }

static const struct op_field fields[] = {
	WIDE(SKSPLICE_A_TOKEN, "token", token, SHOW_NUMBER),
	NARROW(SKSPLICE_A_KIND, "kind", kind, SHOW_KIND),
	NARROW(SKSPLICE_A_STATE, "state", state, SHOW_STATE),
	NARROW(SKSPLICE_A_STATE_BACK, "state_back", state_back, SHOW_STATE),
	NARROW(SKSPLICE_A_CAUSE, "cause", cause, SHOW_CAUSE),
	NARROW(SKSPLICE_A_ERROR, "error", error, SHOW_ERRNO),
	NARROW(SKSPLICE_A_ENDED, "ended", ended, SHOW_ENDED),
	WIDE(SKSPLICE_A_BYTES, "bytes", bytes, SHOW_BYTES),
	WIDE(SKSPLICE_A_BYTES_BACK, "bytes_back", bytes_back, SHOW_BYTES),
	NARROW(SKSPLICE_A_UNACKED, "unacked", unacked, SHOW_BYTES),
	WIDE(SKSPLICE_A_LIMIT, "limit", limit, SHOW_BYTES),
	NARROW(SKSPLICE_A_FLAGS, "flags", flags, SHOW_FLAGS),
	NARROW(SKSPLICE_A_IDLE_MS, "idle_ms", idle_ms, SHOW_MS),
	WIDE(SKSPLICE_A_AGE_MS, "age_ms", age_ms, SHOW_MS),
	WIDE(SKSPLICE_A_QUIET_MS, "quiet_ms", quiet_ms, SHOW_MS),
	NARROW(SKSPLICE_A_UID, "uid", uid, SHOW_NUMBER),
	NARROW(SKSPLICE_A_PID, "pid", pid, SHOW_NUMBER),
	WIDE(SKSPLICE_A_USER_DATA, "user_data", user_data, SHOW_NUMBER),
	WIDE(SKSPLICE_A_INLINE, "inline", inlined, SHOW_NUMBER),
	WIDE(SKSPLICE_A_WORKER, "worker", worker, SHOW_NUMBER),
	WIDE(SKSPLICE_A_MISSED, "missed", missed, SHOW_NUMBER),
};

static const char *const flag_names[] = { "shutdown", "drain", "connecting", "keep" };
static const char *const end_names[] = { "source", "sink" };

static const char *pick(const char *const *names, size_t n, uint32_t value)
{
	return value < n && names[value] ? names[value] : "unknown";
}

const char *op_kind(uint32_t kind)
{
	static const char *const names[] = {
		[SKSPLICE_KIND_FORWARD] = "forward", [SKSPLICE_KIND_SPLICE] = "splice", [SKSPLICE_KIND_PAIR] = "pair",
		[SKSPLICE_KIND_SEND] = "send",
	};

	return pick(names, ARRAY_SIZE(names), kind);
}

const char *op_state(uint32_t state)
{
	static const char *const names[] = {
		[SKSPLICE_STATE_IDLE] = "idle", [SKSPLICE_STATE_RUNNING] = "running",
		[SKSPLICE_STATE_BLOCKED] = "blocked", [SKSPLICE_STATE_CLOSING] = "closing",
		[SKSPLICE_STATE_DONE] = "done",
	};

	return pick(names, ARRAY_SIZE(names), state);
}

const char *op_cause(uint32_t cause)
{
	static const char *const names[] = {
		[SKSPLICE_CAUSE_DONE] = "done", [SKSPLICE_CAUSE_EOF] = "eof", [SKSPLICE_CAUSE_DELIM] = "delim",
		[SKSPLICE_CAUSE_CANCELED] = "canceled", [SKSPLICE_CAUSE_IDLE] = "idle",
		[SKSPLICE_CAUSE_REVOKED] = "revoked", [SKSPLICE_CAUSE_SOURCE_FAILED] = "source-failed",
		[SKSPLICE_CAUSE_SINK_FAILED] = "sink-failed",
	};

	return pick(names, ARRAY_SIZE(names), cause);
}

const char *op_engine(const struct op *op)
{
	return op->engine ? op->engine : "kmod";
}

/* Room for one more, at the end. */
struct op *op_list_add(struct op_list *list)
{
	if (list->n == list->room) {
		list->room = list->room ? 2 * list->room : 64;
		list->ops = out_alloc(list->ops, list->room * sizeof(*list->ops));
	}
	return &list->ops[list->n++];
}

static int parse_address(const struct nlattr *attr, struct addr *out)
{
	if (!attr)
		return 0;
	return addr_from_wire(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr), out);
}

static int parse_sock(const struct nlattr *nest, struct op_sock *sock)
{
	const struct nlattr *tb[SKSPLICE_A_SOCK_MAX + 1];
	const struct nlattr *inode;

	if (!nest)
		return 0;
	if (mnl_attr_validate(nest, MNL_TYPE_NESTED) < 0 || nl_parse(nest, NULL, tb, SKSPLICE_A_SOCK_MAX))
		return -EBADMSG;
	inode = tb[SKSPLICE_A_SOCK_INODE];
	if (inode && mnl_attr_validate(inode, MNL_TYPE_U32) < 0)
		return -EBADMSG;
	if (parse_address(tb[SKSPLICE_A_SOCK_LOCAL], &sock->local) ||
	    parse_address(tb[SKSPLICE_A_SOCK_REMOTE], &sock->remote))
		return -EBADMSG;
	sock->inode = inode ? mnl_attr_get_u32(inode) : 0;
	sock->seen = true;
	return 0;
}

static int parse_field(const struct op_field *f, const struct nlattr *attr, struct op *op)
{
	void *to = (char *)op + f->offset;

	if (mnl_attr_validate(attr, f->wide ? MNL_TYPE_U64 : MNL_TYPE_U32) < 0)
		return -EBADMSG;
	memcpy(to, mnl_attr_get_payload(attr), f->wide ? sizeof(uint64_t) : sizeof(uint32_t));
	return 0;
}

/* -EBADMSG: a message that no kernel of ours sends. */
int op_parse(const struct nlmsghdr *nlh, struct op *op)
{
	const struct nlattr *tb[SKSPLICE_A_MAX + 1];

	memset(op, 0, sizeof(*op));
	if (nl_parse(NULL, nlh, tb, SKSPLICE_A_MAX) || !tb[SKSPLICE_A_TOKEN])
		return -EBADMSG;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (tb[fields[i].attr] && parse_field(&fields[i], tb[fields[i].attr], op))
			return -EBADMSG;
	if (parse_sock(tb[SKSPLICE_A_SOURCE], &op->source) || parse_sock(tb[SKSPLICE_A_SINK], &op->sink))
		return -EBADMSG;
	for (unsigned int i = 0; i <= SKSPLICE_A_MAX; i++)
		op->seen |= (uint64_t)!!tb[i] << i;
	return 0;
}

static uint64_t field_value(const struct op_field *f, const struct op *op)
{
	const void *from = (const char *)op + f->offset;

	return f->wide ? *(const uint64_t *)from : *(const uint32_t *)from;
}

static const char *field_word(const struct op_field *f, uint64_t value)
{
	switch (f->show) {
	case SHOW_KIND:
		return op_kind((uint32_t)value);
	case SHOW_STATE:
		return op_state((uint32_t)value);
	default:
		return op_cause((uint32_t)value);
	}
}

/* Bits by name; one that this program does not know shows as its number. */
static struct json_object *bits_json(uint32_t bits, const char *const *names, size_t n)
{
	struct json_object *list = json_object_new_array();

	for (uint32_t bit = 0; bit < 32; bit++) {
		if (!(bits >> bit & 1))
			continue;
		json_object_array_add(list, bit < n ? json_object_new_string(names[bit])
						    : json_object_new_uint64((uint64_t)1 << bit));
	}
	return list;
}

static const char *bits_text(uint32_t bits, const char *const *names, size_t n, char *text, size_t size)
{
	size_t used = 0;

	snprintf(text, size, "-");
	for (uint32_t bit = 0; bit < n && used < size; bit++)
		if (bits >> bit & 1)
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? "," : "", names[bit]);
	if (n < 32 && bits >> n && used < size)
		snprintf(text + used, size - used, "%s0x%x", used ? "," : "", bits >> n << n);
	return text;
}

static void print_field(const struct op_field *f, uint64_t value)
{
	char text[64];

	switch (f->show) {
	case SHOW_NUMBER:
		return out_field(f->name, "%" PRIu64, value);
	case SHOW_BYTES:
		if (value < 1024)
			return out_field(f->name, "%" PRIu64, value);
		return out_field(f->name, "%" PRIu64 " (%s)", value, out_bytes(value, text));
	case SHOW_MS:
		return out_field(f->name, "%" PRIu64 " (%s)", value, out_ms(value, text));
	case SHOW_FLAGS:
		return out_field(f->name, "%s", bits_text((uint32_t)value, flag_names, ARRAY_SIZE(flag_names), text, sizeof(text)));
	case SHOW_ENDED:
		return out_field(f->name, "%s", bits_text((uint32_t)value, end_names, ARRAY_SIZE(end_names), text, sizeof(text)));
	case SHOW_ERRNO:
		return out_field(f->name, "%" PRIu64 " (%s)", value, value ? strerror((int)value) : "none");
	default:
		return out_field(f->name, "%s", field_word(f, value));
	}
}

const char *op_sock_text(const struct op_sock *s, char text[2 * ADDR_TEXT])
{
	char local[ADDR_TEXT], remote[ADDR_TEXT];

	if (!s->seen)
		return "-";
	snprintf(text, 2 * ADDR_TEXT, "%s->%s", addr_format(&s->local, local), addr_format(&s->remote, remote));
	return text;
}

static void print_sock(const char *name, const struct op_sock *s)
{
	char text[2 * ADDR_TEXT];

	if (s->seen && s->inode)
		out_field(name, "%s inode %" PRIu32, op_sock_text(s, text), s->inode);
	else if (s->seen)
		out_field(name, "%s", op_sock_text(s, text));
}

/* Everything that came, a line each. */
void op_print(const struct op *op)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (OP_SEEN(op, fields[i].attr))
			print_field(&fields[i], field_value(&fields[i], op));
	print_sock("source", &op->source);
	print_sock("sink", &op->sink);
	out_field("engine", "%s", op_engine(op));
	if (op->mode)
		out_field("mode", "%s", op->mode);
	if (op->pid_ns)
		out_field("pid_ns", "%" PRIu64, op->pid_ns);
	if (OP_SEEN(op, SKSPLICE_A_STATE))
		out_field("orphan", "%s", OP_SEEN(op, SKSPLICE_A_ORPHAN) ? "yes" : "no");
}

static void json_field(struct json_object *o, const struct op_field *f, uint64_t value)
{
	switch (f->show) {
	case SHOW_NUMBER:
	case SHOW_BYTES:
	case SHOW_MS:
		return out_add_u64(o, f->name, value);
	case SHOW_FLAGS:
		json_object_object_add(o, f->name, bits_json((uint32_t)value, flag_names, ARRAY_SIZE(flag_names)));
		return;
	case SHOW_ENDED:
		json_object_object_add(o, f->name, bits_json((uint32_t)value, end_names, ARRAY_SIZE(end_names)));
		return;
	case SHOW_ERRNO:
		out_add_u64(o, f->name, value);
		if (value && strerrorname_np((int)value))
			out_add_string(o, "error_name", strerrorname_np((int)value));
		return;
	default:
		return out_add_string(o, f->name, field_word(f, value));
	}
}

static void json_sock(struct json_object *o, const char *name, const struct op_sock *s)
{
	struct json_object *sock;

	if (!s->seen)
		return;
	sock = json_object_new_object();
	json_object_object_add(sock, "local", addr_json(&s->local));
	json_object_object_add(sock, "remote", addr_json(&s->remote));
	if (s->inode)
		out_add_u64(sock, "inode", s->inode);
	json_object_object_add(o, name, sock);
}

struct json_object *op_json(const struct op *op)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (OP_SEEN(op, fields[i].attr))
			json_field(o, &fields[i], field_value(&fields[i], op));
	json_sock(o, "source", &op->source);
	json_sock(o, "sink", &op->sink);
	out_add_string(o, "engine", op_engine(op));
	if (op->mode)
		out_add_string(o, "mode", op->mode);
	if (op->pid_ns)
		out_add_u64(o, "pid_ns", op->pid_ns);
	if (op->unlisted)
		out_add_u64(o, "unlisted", op->unlisted);
	/* a flag's absence says something only of an operation that lives */
	if (OP_SEEN(op, SKSPLICE_A_STATE))
		out_add_bool(o, "orphan", OP_SEEN(op, SKSPLICE_A_ORPHAN));
	return o;
}
