// SPDX-License-Identifier: GPL-2.0
/*
 * collect NAME LIMIT [PROGRAM [ARGUMENT...]]
 * Runs a test and passes its output on as whole lines, each stream through an assembler of its own, so that
 * no unfinished line of anybody's can hide a point of TAP: standard output as it is, standard error as
 * comments. What it leaves says how much that was, for tap-sum to see whether all of it has arrived:
 *   # test NAME sent lines=N sum=S
 * Without a PROGRAM it passes standard input on. The result is the program's, as in a shell.
 * Nothing but this program writes between the marks "begin" and "sent" of a test.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct source {
	int fd;
	bool is_error, middle;		/* middle: of a line that was too long for one */
	size_t len;
	char line[4000];
};

static unsigned long lines, sum;
static volatile pid_t child;

static void die(const char *what)
{
	perror(what);
	if (child > 0)
		kill(-child, SIGKILL);
	exit(125);
}

static void write_all(const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, p, len);

		if (n < 0 && errno != EINTR)
			die("collect: write");
		p += n > 0 ? n : 0;
		len -= n > 0 ? n : 0;
	}
}

/* tap-sum counts the same over what has arrived. */
static void sum_up(const char *p, size_t len)
{
	for (; len; len--, p++)
		sum = (sum * 31 + (unsigned char)*p) % 2147483647;
	lines++;
}

static bool starts(const struct source *s, const char *with)
{
	size_t n = strlen(with);

	return s->len >= n && !memcmp(s->line, with, n);
}

/* The marks are the harness's alone. */
static bool must_be_comment(const struct source *s)
{
	return s->middle || (s->is_error && !starts(s, "#")) || starts(s, "# test ") || starts(s, "# vm ");
}

static void put_line(struct source *s)
{
	char out[sizeof(s->line) + 3];
	size_t n = 0, i;

	if (must_be_comment(s)) {
		out[n++] = '#';
		out[n++] = ' ';
	}
	for (i = 0; i < s->len; i++) {
		unsigned char c = s->line[i];

		out[n++] = (c < ' ' && c != '\t') || c == 127 ? '?' : c;
	}
	out[n++] = '\n';
	sum_up(out, n);
	write_all(out, n);
	s->len = 0;
}

static void finish_line(struct source *s)
{
	if (s->len)
		put_line(s);
}

static void add(struct source *s, const char *p, size_t len)
{
	for (; len; len--, p++) {
		if (*p == '\n') {
			put_line(s);
			s->middle = false;
			continue;
		}
		if (s->len == sizeof(s->line)) {
			put_line(s);
			s->middle = true;
		}
		s->line[s->len++] = *p;
	}
}

/* Takes what is there, at most max; 0 at the end. */
static size_t take(struct source *s, size_t max)
{
	char buf[16384];
	ssize_t n;

	do {
		n = read(s->fd, buf, max < sizeof(buf) ? max : sizeof(buf));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		die("collect: read");
	add(s, buf, n);
	return n;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/*
 * Waits for something to read. False: the time is up. As long as the whole machine stands still nobody's time
 * goes by: a turn counts one second at most.
 */
static bool await(struct pollfd p[3], double *left)
{
	double since = now(), took;
	int i;

	for (i = 0; i < 3; i++)
		p[i].revents = 0;
	if (poll(p, 3, 500) < 0 && errno != EINTR)
		die("collect: poll");
	took = now() - since;
	*left -= took < 1 ? took : 1;
	return *left > 0;
}

/*
 * Until the program is gone, whoever still holds its pipes. What it wrote is in them by then: that, and no more,
 * is taken after it, as what it left running may write for ever.
 */
static void follow(struct source src[2], int pidfd, double left)
{
	struct pollfd p[3] = {
		{ .fd = src[0].fd, .events = POLLIN },
		{ .fd = src[1].fd, .events = POLLIN },
		{ .fd = pidfd, .events = POLLIN },
	};
	int i, rest;

	do {
		if (!await(p, &left))
			kill(-child, SIGKILL);
		for (i = 1; i >= 0; i--)
			if (p[i].revents && !take(src + i, SIZE_MAX))
				p[i].fd = -1;
	} while (!p[2].revents);
	for (i = 1; i >= 0; i--) {
		if (ioctl(src[i].fd, FIONREAD, &rest))
			die("collect: FIONREAD");
		while (rest > 0)
			rest -= take(src + i, rest);
		finish_line(src + i);
	}
}

static void start(char **argv, int out, int err)
{
	setsid();
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execvp(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* On the host somebody may have had enough: the test goes, too. */
static void give_up(int sig)
{
	if (child > 0)
		kill(-child, SIGKILL);
	_exit(128 + sig);
}

static int run(char **argv, double limit)
{
	struct source src[2] = { { .is_error = false }, { .is_error = true } };
	int out[2], err[2], pidfd, status;

	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		die("collect: pipe");
	child = fork();
	if (child < 0)
		die("collect: fork");
	if (!child)
		start(argv, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	src[0].fd = out[0];
	src[1].fd = err[0];
	pidfd = pidfd_open(child, 0);
	if (pidfd < 0)
		die("collect: pidfd_open");
	follow(src, pidfd, limit);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int pass_on(void)
{
	struct source in = { .fd = STDIN_FILENO };

	while (take(&in, SIZE_MAX))
		;
	finish_line(&in);
	return 0;
}

int main(int argc, char **argv)
{
	char mark[200];
	int ret;

	if (argc < 3) {
		fprintf(stderr, "usage: collect NAME LIMIT [PROGRAM [ARGUMENT...]]\n");
		return 2;
	}
	signal(SIGINT, give_up);
	signal(SIGTERM, give_up);
	signal(SIGHUP, give_up);
	ret = argc > 3 ? run(argv + 3, atof(argv[2])) : pass_on();
	snprintf(mark, sizeof(mark), "# test %s sent lines=%lu sum=%lu\n", argv[1], lines, sum);
	write_all(mark, strlen(mark));
	return ret;
}
