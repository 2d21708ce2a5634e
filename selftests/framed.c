// SPDX-License-Identifier: GPL-2.0
/* framed.c: see framed.h. */
#include "framed.h"
#include "util.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#define EMBED(name, path)				\
	asm(".pushsection .rodata\n"			\
	    ".balign 8\n"				\
	    #name ": .incbin \"" path "\"\n"		\
	    #name "_end:\n"				\
	    ".popsection\n");				\
	extern const char name[], name##_end[]

EMBED(framer_progs, PROGS_DIR "framer_progs.bpf.o");
EMBED(framer_length32, BPF_DIR "length32.bpf.o");
EMBED(framer_websocket, BPF_DIR "websocket.bpf.o");

static const struct { const char *from, *to; } objects[] = {
	[FRAMER_PROGS] = { framer_progs, framer_progs_end },
	[FRAMER_LENGTH32] = { framer_length32, framer_length32_end },
	[FRAMER_WEBSOCKET] = { framer_websocket, framer_websocket_end },
};

/* The map that is a section of that name. */
static struct bpf_map *section(const struct bpf_object *obj, const char *name)
{
	struct bpf_map *map;
	const char *dot;

	bpf_object__for_each_map(map, obj) {
		dot = strchr(bpf_map__name(map), '.');
		if (dot && !strcmp(dot, name))
			return map;
	}
	return NULL;
}

struct bpf_object *framer_load(enum framer_object which, uint32_t strp_at)
{
	struct bpf_object *obj;
	int err = 0;

	obj = bpf_object__open_mem(objects[which].from, objects[which].to - objects[which].from, NULL);
	if (!obj)
		return NULL;
	if (which != FRAMER_PROGS)
		err = bpf_map__set_initial_value(section(obj, ".rodata"), &strp_at, sizeof(strp_at));
	if (err || bpf_object__load(obj)) {
		bpf_object__close(obj);
		return NULL;
	}
	return obj;
}

int framer_fd(const struct bpf_object *obj, const char *prog)
{
	return bpf_program__fd(bpf_object__find_program_by_name(obj, prog));
}

struct seen framer_seen(const struct bpf_object *obj)
{
	struct seen seen = { .asked = UINT64_MAX };
	uint32_t key = 0;

	bpf_map_lookup_elem(bpf_map__fd(section(obj, ".bss")), &key, &seen);
	return seen;
}

static int member_at(const struct btf *btf, const char *name, const char *member)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT), i;
	const struct btf_type *t;

	if (id < 0)
		return id;
	t = btf__type_by_id(btf, id);
	for (i = 0; i < btf_vlen(t); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_members(t)[i].name_off), member))
			return btf_member_bit_offset(t, i) / 8;
	return -ENOENT;
}

int framer_strp_at(void)
{
	static const char * const path[][2] = {
		{ "sk_buff", "cb" }, { "sk_skb_cb", "strp" }, { "strp_msg", "offset" },
	};
	struct btf *btf = btf__load_vmlinux_btf();
	int i, at, sum = 0;

	if (!btf)
		return -ENOENT;
	for (i = 0; i < 3 && sum >= 0; i++) {
		at = member_at(btf, path[i][0], path[i][1]);
		sum = at < 0 ? at : sum + at;
	}
	btf__free(btf);
	return sum;
}
