// SPDX-License-Identifier: GPL-2.0
/* util.c: time, sockets, the engine, the machine. Streams are in stream.c, connections in ends.c. */
#include "cgroup.h"
#include "tls.h"

#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

bool on_debug_kernel(void)
{
	struct utsname uts;

	return !uname(&uts) && strstr(uts.release, "debug");
}

bool brief_run(void)
{
	return getenv("SPL_TEST_BRIEF") || on_debug_kernel();
}

unsigned int scaled(unsigned int n)
{
	const char *text = getenv("SPL_TEST_SCALE");
	unsigned int by = text ? strtoul(text, NULL, 10) : brief_run() ? 10 : 1;

	n /= by ? by : 1;
	return n ? n : 1;
}

unsigned int bulk(enum net net, unsigned int n)
{
	bool costly = net >= NET_TLS && net < NET_PIPE;

	return costly ? n / 8 + 1 : n;
}

unsigned int repeats(enum net net, unsigned int n)
{
	return scaled(n) < bulk(net, n) ? scaled(n) : bulk(net, n);
}

uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

uint64_t now_ms(void)
{
	return now_us() / 1000;
}

void sleep_ms(unsigned int ms)
{
	usleep(ms * 1000);
}

/* splitmix64 */
uint64_t rnd(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

unsigned int rnd_below(uint64_t *state, unsigned int n)
{
	return n ? rnd(state) % n : 0;
}

size_t rnd_size(uint64_t *state, size_t max)
{
	size_t top = 1;

	while (top < max && rnd_below(state, 4))
		top *= 4;
	return 1 + rnd(state) % (top < max ? top : max);
}

/* Who may not raise his hard limit gets as much as it allows. */
int raise_nofile(unsigned int n)
{
	struct rlimit r = { .rlim_cur = n, .rlim_max = n }, now;

	if (!setrlimit(RLIMIT_NOFILE, &r))
		return 0;
	if (getrlimit(RLIMIT_NOFILE, &now))
		return -errno;
	now.rlim_cur = n < now.rlim_max ? n : now.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &now) ? -errno : 0;
}

int set_opt(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

int get_opt(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value;

	return getsockopt(fd, level, name, &value, &len) ? -errno : value;
}

bool is_fifo(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISFIFO(st.st_mode);
}

int tcp_reset(int *fd)
{
	struct linger hard = { .l_onoff = 1, .l_linger = 0 };
	int err = setsockopt(*fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) ? -errno : 0;

	close_fd(fd);
	return err;
}

/* As TLS ends: what has been written is out before the FIN, which the kernel does not see to. */
int fin(int *fd)
{
	int err;

	if (is_fifo(*fd)) {
		close_fd(fd);
		return 0;
	}
	err = is_tls(*fd) ? tls_close_notify(*fd) : 0;
	return err ? err : shutdown(*fd, SHUT_WR) ? -errno : 0;
}

bool is_tcp(int fd)
{
	return get_opt(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP;
}

int nodelay(int fd)
{
	return is_tcp(fd) ? set_opt(fd, IPPROTO_TCP, TCP_NODELAY, 1) : 0;
}

int cork(int fd)
{
	return is_tcp(fd) ? set_opt(fd, IPPROTO_TCP, TCP_CORK, 1) : 0;
}

bool fd_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Of a socket that may have redirected bytes FIONREAD counts those, or TCP's: the kernels differ. An error stays where it is. */
static int peeked(int fd)
{
	static uint8_t buf[4 << 20];
	int off = get_opt(fd, SOL_SOCKET, SO_PEEK_OFF);
	ssize_t n;

	if (!is_tcp(fd) || poll_fd(fd, 0, 0))
		return 0;
	set_opt(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
	n = recv(fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT);
	if (off >= 0)
		set_opt(fd, SOL_SOCKET, SO_PEEK_OFF, off);
	return n > 0 ? n : 0;
}

/* What has come, of TLS encrypted. */
static int received(int fd)
{
	int n;

	if (cgroup_path() && (n = peeked(fd)))
		return n;
	return ioctl(fd, FIONREAD, &n) ? -errno : n;
}

/* Of TLS that is busy nobody may look at the plaintext. */
int queued(int fd)
{
	int n = is_tls(fd) ? tls_queued(fd) : -EBUSY;

	return n == -EBUSY ? received(fd) : n;
}

/*
 * Of TLS looking for the plaintext changes where it stands, so that is done only when it cannot be told otherwise:
 * a part of a record was read before.
 */
int wait_queued(int fd, int n)
{
	uint64_t began = now_ms(), until = began + WAIT_MS;
	int more = is_tls(fd) ? (n + TLS_RECORD - 1) / TLS_RECORD * tls_overhead(TLS_1_3_VERSION) : 0;

	while (received(fd) < n + more) {
		if (more && now_ms() - began > 20 && queued(fd) >= n)
			return 0;
		if (now_ms() > until)
			return -ETIMEDOUT;
		usleep(500);
	}
	return 0;
}

int poll_fd(int fd, short events, int ms)
{
	struct pollfd p = { .fd = fd, .events = events };
	int n = poll(&p, 1, ms);

	return n < 0 ? -errno : n ? p.revents : 0;
}

int wait_blocked(pid_t tid)
{
	uint64_t until = now_ms() + WAIT_MS;
	char path[64], line[256], *state;
	unsigned int seen = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	while (now_ms() < until) {
		f = fopen(path, "r");
		if (!f)
			return -errno;
		state = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
		seen = state && (state[2] == 'S' || state[2] == 'D') ? seen + 1 : 0;
		fclose(f);
		if (seen == 5)
			return 0;
		usleep(5000);
	}
	return -ETIMEDOUT;
}

int engine_open_with(struct spl **s, enum spl_engine engine, uint32_t require)
{
	struct spl_open_opts opts = {
		.sz = sizeof(opts), .engine = engine, .require = require, .cgroup = cgroup_path(),
		.flags = getenv("SPL_TEST_BYPASS") ? SPL_OPEN_BYPASS : 0,
	};

	return driven_open(s, &opts);
}

int engine_open(struct spl **s, enum spl_engine engine)
{
	return engine_open_with(s, engine, 0);
}

int64_t take_residue(struct spl *s, uint64_t token, uint64_t seed, uint64_t pos)
{
	static uint8_t buf[4 << 20];
	int n = spl_residue(s, token, buf, sizeof(buf));

	if (n > 0 && pattern_check(buf, n, seed, pos))
		return -EILSEQ;
	return n;
}

int take_back(struct spl *s, uint64_t token, int source, uint64_t seed, uint64_t pos, uint64_t len)
{
	int64_t held = take_residue(s, token, seed, pos);

	if (held < 0)
		return held;
	if (held > len || (held && spl_caps(s) & SPL_CAP_LOSSLESS))
		return -EOVERFLOW;
	return take(source, seed, pos + held, len - held);
}

int event_of(struct spl *s, uint64_t token, struct spl_event *ev)
{
	int n;

	memset(ev, 0xa5, sizeof(*ev));
	n = spl_wait(s, token, ev, WAIT_MS);
	if (n < 0)
		return n;
	if (!n)
		return -ETIMEDOUT;
	return ev->token == token ? 0 : -EILSEQ;
}

int wait_moved(struct spl *s, uint64_t token, uint64_t bytes)
{
	uint64_t until = now_ms() + WAIT_MS;
	struct spl_stat st = { 0 };
	int err;

	do {
		err = spl_stat(s, token, &st);
		if (err || st.bytes >= bytes)
			return err;
		usleep(50);
	} while (now_ms() < until);
	return -ETIMEDOUT;
}

int no_event(struct spl *s)
{
	struct spl_event ev;
	int n = spl_next(s, &ev, QUIET_MS);

	return n <= 0 ? n : -EEXIST;
}

static FILE *sysctl_file(const char *name, const char *mode)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	return fopen(path, mode);
}

int sysctl_get(const char *name, long *value)
{
	FILE *f = sysctl_file(name, "r");
	int n;

	if (!f)
		return -errno;
	n = fscanf(f, "%ld", value);
	fclose(f);
	return n == 1 ? 0 : -EINVAL;
}

int sysctl_set(const char *name, long value)
{
	FILE *f = sysctl_file(name, "w");

	if (!f)
		return -errno;
	fprintf(f, "%ld\n", value);
	return fclose(f) ? -errno : 0;
}

int drop_privileges(void)
{
	return setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
	       setresuid(65534, 65534, 65534) ? -errno : 0;
}

int reap(pid_t pid)
{
	uint64_t until = now_ms() + WAIT_MS;
	int status;

	while (now_ms() < until) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		usleep(2000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -ETIMEDOUT;
}
