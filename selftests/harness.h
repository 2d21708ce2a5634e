/* SPDX-License-Identifier: GPL-2.0 */
/*
 * harness.h: the kernel's test harness, and which of the tests a run is about.
 *
 * One suite, several engines: a variant is called ENGINE_ENDS or ENGINE_ENDS_MODE, as in
 * kmod_v4 or user_unix_lossless, and a run has those of the engine in $SPL_TEST_ENGINE (sk_skb: those of sockmap, which then is
 * given no cgroup); when it
 * says nothing, kmod, or user if the program knows kmod not at all, or what else it knows. TLS in the kernel is what a guest surely has: there
 * the ends of that kind are tried on user, too. What a test cannot do without it says with NEEDS(); a point that is not for
 * this run is not planned, so that no skip stands for what was never meant.
 *   PROGRAM [-l] [-v VARIANT] [-t TEST]     patterns as of the shell; no match is a failure; -l: names what would run
 */
#ifndef SELFTESTS_HARNESS_H
#define SELFTESTS_HARNESS_H

#include "kselftest_harness.h"
#include "cgroup.h"
#include "tls.h"

#include <fnmatch.h>
#include <getopt.h>

/* What a variant offers: SPL_CAP_*, and of its ends: */
#define NEEDS_TCP_CLIENT	(1u << 16)	/* c and a are TCP sockets, or TLS over them: what resets, and says FIN */
#define NEEDS_TCP_SERVER	(1u << 17)	/* b and s are */
#define NEEDS_PLAIN		(1u << 21)	/* none is TLS: TCP's own bytes are the stream */
#define NEEDS_TWO_WAY		(1u << 18)	/* no pipes: all ends have both halves */
#define NEEDS_KMOD		(1u << 19)
#define NEEDS_USER		(1u << 20)
#define NEEDS_UNIX_CLIENT	(1u << 23)
#define NEEDS_UNIX_SERVER	(1u << 24)
#define NEEDS_TLS13		(1u << 22)	/* what is TLS is 1.3 */
#define NEEDS_CHEAP_ENDS	(1u << 25)	/* hundreds of them: on a debug kernel not of TCP */
#define NEEDS_LIMITED_PAIR	(1u << 26)	/* max on sockets that are spliced both ways */
#define NEEDS_TCP		(NEEDS_TCP_CLIENT | NEEDS_TCP_SERVER)

struct test_need {
	const char *fixture, *test;
	uint32_t what;
	struct test_need *next;
};

static struct test_need *needs_list __attribute__((unused));

#define NEEDS(fixture_name, test_name, bits)						\
	static void __attribute__((constructor))					\
	_needs_##fixture_name##_##test_name(void)					\
	{										\
		static struct test_need n = { #fixture_name, #test_name, bits, NULL };	\
		n.next = needs_list;							\
		needs_list = &n;							\
	}										\
	struct test_need

/* The ends that every engine of user space has to know, by name. */
#define VARIANT(fixture, name, ...)							\
	FIXTURE_VARIANT_ADD(fixture, name) { __VA_ARGS__ }

#define KMOD_TCP(fixture)								\
	VARIANT(fixture, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);		\
	VARIANT(fixture, kmod_v6, .engine = SPL_ENGINE_KMOD, .net = NET_V6);		\
	VARIANT(fixture, kmod_mixed, .engine = SPL_ENGINE_KMOD, .net = NET_MIXED);	\
	VARIANT(fixture, kmod_mapped, .engine = SPL_ENGINE_KMOD, .net = NET_MAPPED)

/* Those which the zero-copy path has nothing to do with. */
#define KMOD_UNIX(fixture)								\
	VARIANT(fixture, kmod_unix, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX);	\
	VARIANT(fixture, kmod_tcp2unix, .engine = SPL_ENGINE_KMOD, .net = NET_TCP_TO_UNIX); \
	VARIANT(fixture, kmod_unix2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX_TO_TCP)

#define KMOD_TLS(fixture)								\
	VARIANT(fixture, kmod_tls, .engine = SPL_ENGINE_KMOD, .net = NET_TLS);		\
	VARIANT(fixture, kmod_tls2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_TLS_TO_TCP)

/* Where bytes are the subject, and every way that they may take is worth its time. */
#define KMOD_MORE_TLS(fixture)								\
	VARIANT(fixture, kmod_tls12, .engine = SPL_ENGINE_KMOD, .net = NET_TLS12);	\
	VARIANT(fixture, kmod_tcp2tls, .engine = SPL_ENGINE_KMOD, .net = NET_TCP_TO_TLS)

#define KMOD_SOCKETS(fixture)								\
	KMOD_TCP(fixture);								\
	KMOD_UNIX(fixture);								\
	KMOD_TLS(fixture)

/* Where one of each will do. */
#define KMOD_FEW(fixture)								\
	VARIANT(fixture, kmod_v4, .engine = SPL_ENGINE_KMOD, .net = NET_V4);		\
	VARIANT(fixture, kmod_unix, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX);	\
	VARIANT(fixture, kmod_unix2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_UNIX_TO_TCP); \
	VARIANT(fixture, kmod_tls, .engine = SPL_ENGINE_KMOD, .net = NET_TLS);		\
	VARIANT(fixture, kmod_tls2tcp, .engine = SPL_ENGINE_KMOD, .net = NET_TLS_TO_TCP)

#define USER_TLS(fixture)								\
	VARIANT(fixture, user_tls, .engine = SPL_ENGINE_USER, .net = NET_TLS);		\
	VARIANT(fixture, user_tls2tcp, .engine = SPL_ENGINE_USER, .net = NET_TLS_TO_TCP)

#define USER_MORE_TLS(fixture)								\
	VARIANT(fixture, user_tls12, .engine = SPL_ENGINE_USER, .net = NET_TLS12);	\
	VARIANT(fixture, user_tcp2tls, .engine = SPL_ENGINE_USER, .net = NET_TCP_TO_TLS); \
	VARIANT(fixture, user_tls_lossless, .engine = SPL_ENGINE_USER, .net = NET_TLS,	\
		.require = SPL_CAP_LOSSLESS)

/* Both sides of a relay are on this host: what the relay sends is redirected, both ways. */
#define SOCKMAP_SOCKETS(fixture)							\
	VARIANT(fixture, sockmap_v4, .engine = SPL_ENGINE_SOCKMAP, .net = NET_V4);	\
	VARIANT(fixture, sockmap_v6, .engine = SPL_ENGINE_SOCKMAP, .net = NET_V6);	\
	VARIANT(fixture, sockmap_mapped, .engine = SPL_ENGINE_SOCKMAP, .net = NET_MAPPED)

#define USER_SOCKETS(fixture)								\
	SOCKMAP_SOCKETS(fixture);							\
	VARIANT(fixture, user_v4, .engine = SPL_ENGINE_USER, .net = NET_V4);		\
	VARIANT(fixture, user_v6, .engine = SPL_ENGINE_USER, .net = NET_V6);		\
	VARIANT(fixture, user_mixed, .engine = SPL_ENGINE_USER, .net = NET_MIXED);	\
	VARIANT(fixture, user_unix, .engine = SPL_ENGINE_USER, .net = NET_UNIX);	\
	VARIANT(fixture, user_tcp2unix, .engine = SPL_ENGINE_USER, .net = NET_TCP_TO_UNIX); \
	VARIANT(fixture, user_unix2tcp, .engine = SPL_ENGINE_USER, .net = NET_UNIX_TO_TCP)

#define USER_PIPES(fixture)								\
	VARIANT(fixture, user_pipe, .engine = SPL_ENGINE_USER, .net = NET_PIPE);	\
	VARIANT(fixture, user_pipe2tcp, .engine = SPL_ENGINE_USER, .net = NET_PIPE_TO_TCP); \
	VARIANT(fixture, user_tcp2pipe, .engine = SPL_ENGINE_USER, .net = NET_TCP_TO_PIPE)

/* The same promises kept in another way: nothing is taken that the sink has not accepted. */
#define USER_LOSSLESS(fixture)								\
	VARIANT(fixture, user_v4_lossless, .engine = SPL_ENGINE_USER, .net = NET_V4,	\
		.require = SPL_CAP_LOSSLESS);						\
	VARIANT(fixture, user_unix_lossless, .engine = SPL_ENGINE_USER, .net = NET_UNIX, \
		.require = SPL_CAP_LOSSLESS)

/* A call that must succeed, and why it did not. */
#define begun(call)									\
	ASSERT_EQ(0, call) {								\
		TH_LOG("refused: %s", spl_strerror_last(self->s));			\
	}

/* The one event of that operation. */
#define ends(tok, why, err, count)							\
	do {										\
		struct spl_event __ev;							\
		ASSERT_EQ(0, event_of(self->s, tok, &__ev));				\
		EXPECT_EQ(why, __ev.cause) {						\
			TH_LOG("ended %s: %s", spl_cause_name(__ev.cause),		\
			       strerror(__ev.error));					\
		}									\
		EXPECT_EQ(err, __ev.error);						\
		EXPECT_EQ((uint64_t)(count), __ev.bytes);				\
	} while (0)

static struct run {
	const char *engine, *variants, *tests;
	bool asked;		/* $SPL_TEST_ENGINE says which engine */
	bool skb;		/* it says sk_skb: sockmap without a cgroup */
	bool list;
	void (*test)(struct __test_metadata *t, struct __fixture_variant_metadata *v);
} run_now;

static bool offers(const char *ends, const char *kind)
{
	return strstr(ends, kind);
}

/* kmod_v4_lossless offers what the engine, its ends and its mode do. */
static uint32_t variant_offers(const char *name)
{
	const char *ends = strchrnul(name, '_');
	uint32_t have = strncmp(name, "kmod", 4) ?
		NEEDS_USER | SPL_CAP_EXACT :
		NEEDS_KMOD | SPL_CAP_EXACT | SPL_CAP_LOSSLESS | SPL_CAP_EXCLUSIVE |
		SPL_CAP_SURVIVES | SPL_CAP_ADMIN;

	if (!run_now.skb)
		have |= NEEDS_LIMITED_PAIR;
	if (offers(ends, "_lossless"))
		have |= SPL_CAP_LOSSLESS;
	if (!offers(ends, "unix") && !offers(ends, "pipe") && !offers(ends, "vsock"))
		have |= NEEDS_TCP;
	if (!(have & NEEDS_TCP) || !on_debug_kernel())
		have |= NEEDS_CHEAP_ENDS;
	if (offers(ends, "_tcp2"))
		have |= NEEDS_TCP_CLIENT;
	if (offers(ends, "2tcp"))
		have |= NEEDS_TCP_SERVER;
	if (offers(ends, "_unix"))
		have |= NEEDS_UNIX_CLIENT;
	if (offers(ends, "unix") && !offers(ends, "unix2"))
		have |= NEEDS_UNIX_SERVER;
	have |= offers(ends, "tls12") ? 0 : offers(ends, "tls") ? NEEDS_TLS13 : NEEDS_PLAIN;
	if (have & NEEDS_KMOD && have & NEEDS_PLAIN && (have & NEEDS_TCP) == NEEDS_TCP)
		have |= SPL_CAP_ZEROCOPY;
	return offers(ends, "pipe") ? have : have | NEEDS_TWO_WAY;
}

static bool of_engine(const char *variant, const char *engine)
{
	size_t len = strlen(engine);

	return !strncmp(variant, engine, len) && (!variant[len] || variant[len] == '_');
}

static bool has_variant(const struct __fixture_metadata *f, const char *name)
{
	struct __fixture_variant_metadata *v;

	for (v = f->variant; v; v = v->next)
		if (!strcmp(v->name, name))
			return true;
	return false;
}

/*
 * In a brief run, as on a debug kernel, where each byte is dear: not those that differ from others only in which side
 * is which, and of TCP's families, which are one code path with locks of two classes, v4 and the one that has both.
 */
static bool variant_spared(const struct __fixture_metadata *f, const char *name)
{
	if (!brief_run())
		return false;
	if (!strcmp(name, "kmod_v6") || !strcmp(name, "kmod_mapped"))
		return has_variant(f, "kmod_mixed");
	return strstr(name, "tcp2unix") || strstr(name, "tcp2tls") ||
	       (strstr(name, "tls12") && strncmp(f->name, "ktls", 4));
}

/* User and TLS: where nobody has asked for an engine, beside kmod; where user was asked for, if it can be done. */
static bool variant_selected(const char *name)
{
	static int tls = -1;

	if (!of_engine(name, "user") || !strstr(name, "tls"))
		return of_engine(name, run_now.engine);
	if (!run_now.asked)
		return !brief_run();
	if (tls < 0)
		tls = tls_here();
	return tls && of_engine(name, run_now.engine);
}

static bool test_selected(const struct __fixture_metadata *f,
			  const struct __fixture_variant_metadata *v, const struct __test_metadata *t)
{
	const struct test_need *n;

	if (f->variant && (!variant_selected(v->name) || variant_spared(f, v->name)))
		return false;
	for (n = needs_list; n; n = n->next)
		if (!strcmp(n->fixture, f->name) && !strcmp(n->test, t->name) &&
		    n->what & ~variant_offers(v->name))
			return false;
	return (!run_now.variants || !fnmatch(run_now.variants, v->name, 0)) &&
	       (!run_now.tests || !fnmatch(run_now.tests, t->name, 0));
}

/*
 * The harness leaves by _exit(), which the leak detector does not notice: it is asked. Of valgrind it
 * is known that it looks at every end of a process.
 */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static void test_and_leaks(struct __test_metadata *t, struct __fixture_variant_metadata *v)
{
	run_now.test(t, v);
	if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check())
		t->passed = 0;
}

/* Runs what is selected, or counts it. */
static unsigned int tests_run(struct __test_results *results, unsigned int *passed)
{
	static struct __fixture_variant_metadata none = { .name = "" };
	struct __fixture_variant_metadata *v;
	struct __fixture_metadata *f;
	struct __test_metadata *t;
	unsigned int count = 0;

	for (f = __fixture_list; f; f = f->next) {
		for (v = f->variant ?: &none; v; v = v->next) {
			for (t = f->tests; t; t = t->next) {
				if (!test_selected(f, v, t))
					continue;
				count++;
				if (!results && run_now.list)
					printf("%s.%s.%s\n", f->name, v->name, t->name);
				if (!results)
					continue;
				t->results = results;
				run_now.test = t->fn;
				t->fn = test_and_leaks;
				__run_test(f, v, t);
				t->fn = run_now.test;
				*passed += t->passed;
			}
		}
	}
	return count;
}

static bool knows_engine(const char *engine)
{
	struct __fixture_variant_metadata *v;
	struct __fixture_metadata *f;

	for (f = __fixture_list; f; f = f->next) {
		for (v = f->variant; v; v = v->next)
			if (!strncmp(v->name, engine, strlen(engine)))
				return true;
	}
	return false;
}

static int suite_run(int argc, char **argv)
{
	unsigned int passed = 0, count;
	const char *why;
	void *results;
	int c;

	run_now.engine = getenv("SPL_TEST_ENGINE");
	run_now.asked = run_now.engine;
	run_now.skb = run_now.asked && !strcmp(run_now.engine, "sk_skb");
	if (run_now.skb)
		run_now.engine = "sockmap";
	if (!run_now.asked)
		run_now.engine = knows_engine("kmod") ? "kmod" : knows_engine("user") ? "user" :
				 knows_engine("sockmap") ? "sockmap" : "kmod";
	while ((c = getopt(argc, argv, "lv:t:")) > 0) {
		if (c == 'l')
			run_now.list = true;
		else
			*(c == 'v' ? &run_now.variants : &run_now.tests) = c == '?' ? exit(2), "" : optarg;
	}
	why = run_now.list || run_now.skb || strcmp(run_now.engine, "sockmap") ? NULL : cgroup_enter();
	if (why)
		ksft_exit_skip("%s\n", why);
	results = mmap(NULL, sizeof(struct __test_results), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	count = tests_run(NULL, NULL);
	if (run_now.list)
		return !count;
	ksft_print_header();
	ksft_set_plan(count);
	tests_run(results, &passed);
	munmap(results, sizeof(struct __test_results));
	cgroup_leave();
	ksft_print_msg("%u / %u tests passed.\n", passed, count);
	ksft_exit(count && passed == count);
	return 1;
}

#define SUITE_MAIN									\
	static __attribute__((unused)) int (*unused_run)(int, char **) = test_harness_run; \
	static void __attribute__((constructor))					\
	__constructor_order_last(void)							\
	{										\
		if (!__constructor_order)						\
			__constructor_order = _CONSTRUCTOR_ORDER_BACKWARD;		\
	}										\
	int main(int argc, char **argv)							\
	{										\
		return suite_run(argc, argv);						\
	}

#endif /* SELFTESTS_HARNESS_H */
