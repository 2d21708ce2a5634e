// SPDX-License-Identifier: GPL-2.0
/* splicectl probe: what works on this machine, why the rest does not, and what to do about it. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../libsplice/libsplice.h"
#include "../libsplice/probe.h"
#include "splicectl.h"

struct machine {
	struct utsname uts;
	bool loaded;			/* the module is there */
	char version[64];		/* of the module; may be empty */
	int unprivileged;		/* net.sksplice.unprivileged, -1: there is none */
	uint64_t capabilities;		/* effective ones of this process */
};

static const struct {
	const char *name;
	unsigned int bit;
} capabilities[] = {
	{ "CAP_NET_ADMIN", 12 }, { "CAP_SYS_MODULE", 16 }, { "CAP_SYS_ADMIN", 21 }, { "CAP_PERFMON", 38 }, { "CAP_BPF", 39 },
};

static const struct {
	const char *name;
	uint32_t bit;
} promises[] = {
	{ "exact", SPL_CAP_EXACT }, { "lossless", SPL_CAP_LOSSLESS }, { "exclusive", SPL_CAP_EXCLUSIVE },
	{ "survives", SPL_CAP_SURVIVES }, { "admin", SPL_CAP_ADMIN }, { "zerocopy", SPL_CAP_ZEROCOPY },
};

/* First line of a small file, without its end; false: there is none to read. */
static bool read_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok;

	*line = '\0';
	if (!f)
		return false;
	ok = fgets(line, (int)size, f);
	fclose(f);
	line[strcspn(line, "\n")] = '\0';
	return ok;
}

static uint64_t read_capabilities(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	uint64_t caps = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "CapEff: %" SCNx64, &caps) == 1)
			break;
	if (f)
		fclose(f);
	return caps;
}

static void look(struct machine *m)
{
	char line[16];

	memset(m, 0, sizeof(*m));
	uname(&m->uts);
	m->loaded = !access("/sys/module/sksplice", F_OK);
	read_line("/sys/module/sksplice/version", m->version, sizeof(m->version));
	m->unprivileged = -1;
	if (read_line("/proc/sys/net/sksplice/unprivileged", line, sizeof(line)) && isdigit((unsigned char)*line))
		m->unprivileged = *line != '0';
	m->capabilities = read_capabilities();
}

/*
 * The module takes requests of everybody, and looks at who asks when it is given a socket: what the
 * engine's own probe finds to work may still be of no use to this user.
 */
static void consider_privilege(const struct machine *m, struct spl_probe *p)
{
	if (p->engine != SPL_ENGINE_KMOD || p->error || m->unprivileged ||
	    m->capabilities >> capabilities[0].bit & 1)
		return;
	p->error = -EPERM;
	p->caps = 0;
	snprintf(p->reason, sizeof(p->reason), "the kernel module takes no sockets of users without CAP_NET_ADMIN");
	snprintf(p->advice, sizeof(p->advice), "run as root, or set net.sksplice.unprivileged=1");
}

static const char *cgroup;		/* for sockmap; NULL: none was named */

/* What a working engine promises only to a program that requires it. */
static uint32_t promises_on_request(const struct spl_probe *p)
{
	uint32_t found = 0;
	struct spl *s;

	for (size_t i = 0; i < ARRAY_SIZE(promises) && !p->error; i++) {
		struct spl_open_opts opts = {
			.sz = sizeof(opts), .engine = p->engine, .require = promises[i].bit, .cgroup = cgroup,
		};

		if (p->caps & promises[i].bit || spl_open(&s, &opts))
			continue;
		found |= promises[i].bit;
		spl_close(s);
	}
	return found;
}

static void print_promises(const char *before, uint32_t caps)
{
	for (size_t i = 0; i < ARRAY_SIZE(promises); i++) {
		if (!(caps & promises[i].bit))
			continue;
		printf("%s%s", before, promises[i].name);
		before = ", ";
	}
}

static void print_engine(const struct spl_probe *p)
{
	printf("%-14s %s", spl_engine_name(p->engine), p->error ? "no: " : "yes");
	if (!p->error) {
		print_promises(": ", p->caps);
		print_promises("; if required: ", promises_on_request(p));
		putchar('\n');
		return;
	}
	puts(*p->reason ? p->reason : strerror(-p->error));
	if (*p->advice)
		printf("%14s %s\n", "", p->advice);
}

static void print_machine(const struct machine *m)
{
	const char *between = "";

	out_field("kernel", "%s %s %s", m->uts.sysname, m->uts.release, m->uts.machine);
	out_field("module", "%s%s%s", m->loaded ? "sksplice is loaded" : "sksplice is not loaded",
		  *m->version ? ", version " : "", m->version);
	if (m->unprivileged >= 0)
		out_field("unprivileged", "net.sksplice.unprivileged = %d", m->unprivileged);
	printf("%-14s ", "privileges");
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		if (!(m->capabilities >> capabilities[i].bit & 1))
			continue;
		printf("%s%s", between, capabilities[i].name);
		between = ", ";
	}
	puts(*between ? "" : "none that matters");
}

/* What a program that names no engine gets: "" for none. flags: SPL_OPEN_* */
static const char *chosen(uint32_t flags)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .cgroup = cgroup, .flags = flags };
	struct spl *s;
	const char *name;

	if (spl_open(&s, &opts))
		return "";
	name = spl_engine_name(spl_engine(s));
	spl_close(s);
	return name;
}

static void print_text(const struct machine *m, const struct spl_probe *p, size_t n)
{
	const char *named = getenv("SPL_ENGINE"), *automatic = chosen(0);

	print_machine(m);
	printf("\n%-14s %s\n", "ENGINE", "WORKS HERE");
	for (size_t i = 0; i < n; i++)
		print_engine(&p[i]);
	printf("\nauto: %s%s%s\n", *automatic ? automatic : "none", named && *named ? ", by SPL_ENGINE=" : "",
	       named ? named : "");
	if (cgroup)
		printf("auto, with --bypass: %s\n", chosen(SPL_OPEN_BYPASS));
}

static struct json_object *promises_json(uint32_t caps)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; i < ARRAY_SIZE(promises); i++)
		if (caps & promises[i].bit)
			json_object_array_add(a, json_object_new_string(promises[i].name));
	return a;
}

static struct json_object *engine_json(const struct spl_probe *p)
{
	struct json_object *o = json_object_new_object();

	out_add_string(o, "engine", spl_engine_name(p->engine));
	out_add_bool(o, "works", !p->error);
	out_add_u64(o, "error", (uint64_t)-p->error);
	json_object_object_add(o, "caps", promises_json(p->caps));
	json_object_object_add(o, "caps_if_required", promises_json(promises_on_request(p)));
	out_add_string(o, "reason", p->reason);
	out_add_string(o, "advice", p->advice);
	return o;
}

static void print_json(const struct machine *m, const struct spl_probe *p, size_t n)
{
	struct json_object *o = json_object_new_object(), *engines = json_object_new_array(),
			   *held = json_object_new_array();

	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++)
		if (m->capabilities >> capabilities[i].bit & 1)
			json_object_array_add(held, json_object_new_string(capabilities[i].name));
	for (size_t i = 0; i < n; i++)
		json_object_array_add(engines, engine_json(&p[i]));
	out_add_string(o, "kernel", m->uts.release);
	out_add_string(o, "machine", m->uts.machine);
	out_add_bool(o, "module_loaded", m->loaded);
	out_add_string(o, "module_version", m->version);
	if (m->unprivileged >= 0)
		out_add_bool(o, "unprivileged", m->unprivileged);
	json_object_object_add(o, "privileges", held);
	json_object_object_add(o, "engines", engines);
	out_add_string(o, "auto", chosen(0));
	if (cgroup)
		out_add_string(o, "auto_bypass", chosen(SPL_OPEN_BYPASS));
	out_json(o);
}

int cmd_probe(const struct command *cmd, int argc, char **argv)
{
	static const struct option options[] = { { "cgroup", required_argument, NULL, 'c' }, CLI_COMMON_OPTIONS };
	struct spl_probe engines[SPL_PROBE_ENGINES] = { 0 };
	struct machine machine;
	bool works = false;
	int n;

	while (cli_option(cmd, argc, argv, options) != -1)
		cgroup = optarg;
	cli_no_operands(cmd, argc, argv);
	n = spl_probe(engines, SPL_PROBE_ENGINES, cgroup);
	if (n < 0) {
		cli_error("cannot probe: %s", strerror(-n));
		return CLI_FAILED;
	}
	look(&machine);
	for (int i = 0; i < n; i++) {
		consider_privilege(&machine, &engines[i]);
		works |= !engines[i].error;
	}
	if (cli_json)
		print_json(&machine, engines, (size_t)n);
	else
		print_text(&machine, engines, (size_t)n);
	return works ? CLI_OK : CLI_UNAVAILABLE;
}
