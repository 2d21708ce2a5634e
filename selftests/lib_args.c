// SPDX-License-Identifier: GPL-2.0
/* lib_args.c: what the library answers by itself, without any module: runs on the host. */
#include "kselftest_harness.h"
#include "util.h"

#include <dirent.h>

static bool module_here(void)
{
	return !access("/sys/module/sksplice", F_OK);
}

TEST(open_without_module)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = SPL_ENGINE_KMOD };
	struct spl *s = (void *)1;
	int err;

	if (module_here())
		SKIP(return, "the module is here");
	errno = 77;
	err = spl_open(&s, &opts);
	EXPECT_TRUE(err == -EOPNOTSUPP || err == -ENOENT || err == -EPERM) {
		TH_LOG("%s", strerror(-err));
	}
	EXPECT_EQ(77, errno);
}

TEST(open_of_an_unknown_engine)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = 99 };
	struct spl *s;

	EXPECT_EQ(-EINVAL, spl_open(&s, &opts));
}

/* sz covers a size_t at least; a larger struct's tail must be zero. */
TEST(open_sizes)
{
	struct { struct spl_open_opts opts; char more[16]; } grown = {
		.opts = { .sz = sizeof(grown), .engine = SPL_ENGINE_KMOD },
	};
	struct spl_open_opts opts = { .engine = SPL_ENGINE_KMOD };
	struct spl *s;
	int usual;

	for (opts.sz = 0; opts.sz < sizeof(size_t); opts.sz++) {
		EXPECT_EQ(-EINVAL, spl_open(&s, &opts));
	}
	opts.sz = sizeof(opts);
	usual = spl_open(&s, &opts);
	if (!usual)
		spl_close(s);
	EXPECT_EQ(usual, spl_open(&s, &grown.opts));
	if (!usual)
		spl_close(s);
	grown.more[15] = 1;
	EXPECT_EQ(-EINVAL, spl_open(&s, &grown.opts));
}

TEST(open_with_what_cannot_be_had)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .require = 1u << 31 };
	struct spl *s;

	EXPECT_EQ(-EOPNOTSUPP, spl_open(&s, &opts));
}

static unsigned int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

TEST(open_leaks_nothing)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = SPL_ENGINE_KMOD };
	unsigned int before = count_fds(), i;
	struct spl *s;

	for (i = 0; i < 20; i++) {
		if (!spl_open(&s, &opts))
			spl_close(s);
	}
	EXPECT_EQ(before, count_fds());
}

TEST(names)
{
	static const char * const causes[] = {
		[SPL_DONE] = "done", [SPL_EOF] = "eof", [SPL_DELIM] = "delim",
		[SPL_CANCELED] = "canceled", [SPL_IDLE] = "idle", [SPL_REVOKED] = "revoked",
		[SPL_SOURCE_FAILED] = "source-failed", [SPL_SINK_FAILED] = "sink-failed",
	};
	static const char * const engines[] = {
		[SPL_ENGINE_AUTO] = "auto", [SPL_ENGINE_KMOD] = "kmod",
		[SPL_ENGINE_SOCKMAP] = "sockmap", [SPL_ENGINE_USER] = "user",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(causes); i++) {
		EXPECT_STREQ(causes[i], spl_cause_name(i));
	}
	for (i = 0; i < ARRAY_SIZE(engines); i++) {
		EXPECT_STREQ(engines[i], spl_engine_name(i));
	}
	/* out of range there is still something to print */
	EXPECT_NE(NULL, spl_cause_name(1000));
	EXPECT_NE(NULL, spl_engine_name(1000));
	EXPECT_NE(NULL, spl_cause_name((enum spl_cause)-1));
}

TEST(values_of_the_interface)
{
	EXPECT_EQ(UINT64_MAX, SPL_ALL);
	EXPECT_EQ(0, SPL_DONE);
	EXPECT_EQ(7, SPL_SINK_FAILED);
	EXPECT_EQ(8, SPL_F_KEEP);
	EXPECT_EQ(0, offsetof(struct spl_opts, sz));
	EXPECT_EQ(0, offsetof(struct spl_open_opts, sz));
}

TEST_HARNESS_MAIN
