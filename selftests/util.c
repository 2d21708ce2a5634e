// SPDX-License-Identifier: GPL-2.0
/* util.c: time, sockets, the engine, the machine. Streams are in stream.c. */
#include "util.h"

#include <arpa/inet.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

unsigned int scaled(unsigned int n)
{
	const char *text = getenv("SPL_TEST_SCALE");
	struct utsname uts;
	unsigned int by = 1;

	if (text)
		by = strtoul(text, NULL, 10);
	else if (!uname(&uts) && strstr(uts.release, "debug"))
		by = 10;
	n /= by ? by : 1;
	return n ? n : 1;
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

static bool is_fifo(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISFIFO(st.st_mode);
}

int tcp_listen(int family, struct sockaddr_storage *addr, socklen_t *len)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	memset(addr, 0, sizeof(*addr));
	addr->ss_family = family;
	*len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	if (family == AF_INET)
		((struct sockaddr_in *)addr)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (void *)addr, *len) || listen(fd, 16) ||
	    getsockname(fd, (void *)addr, len)) {
		int err = -errno;

		close(fd);
		return err;
	}
	if (family == AF_INET6)
		((struct sockaddr_in6 *)addr)->sin6_addr = in6addr_loopback;
	return fd;
}

/* What a client must connect to so that the accepted IPv6 socket talks IPv4. */
static void as_mapped(struct sockaddr_storage *addr, int family, socklen_t *len)
{
	struct sockaddr_in6 *v6 = (void *)addr;
	struct sockaddr_in v4 = {
		.sin_family = AF_INET,
		.sin_port = v6->sin6_port,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	if (family == AF_INET6) {
		inet_pton(AF_INET6, "::ffff:127.0.0.1", &v6->sin6_addr);
		return;
	}
	memcpy(addr, &v4, sizeof(v4));
	*len = sizeof(v4);
}

int tcp_pair(enum net net, bool server_side, int fds[2])
{
	int listening = net == NET_V4 || (net == NET_MIXED && !server_side) ? AF_INET : AF_INET6;
	/* mapped: on the server side it is the connecting socket that must be the IPv6 one */
	int connecting = net == NET_MAPPED && !server_side ? AF_INET : listening;
	struct sockaddr_storage addr;
	socklen_t len;
	int fd, err;

	fds[0] = fds[1] = -1;
	fd = tcp_listen(listening, &addr, &len);
	if (fd < 0)
		return fd;
	if (net == NET_MAPPED)
		as_mapped(&addr, connecting, &len);
	fds[0] = socket(connecting, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fds[0] < 0 || connect(fds[0], (void *)&addr, len))
		goto fail;
	fds[1] = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (fds[1] < 0)
		goto fail;
	close(fd);
	return 0;
fail:
	err = -errno;
	close_fd(&fds[0]);
	close(fd);
	return err;
}

/* One side of a relay: fds[0] is the one that connects, or writes. */
static int side_open(enum net net, bool server_side, int fds[2])
{
	static const enum net sides[][2] = {
		[NET_TCP_TO_UNIX] = { NET_V4, NET_UNIX },
		[NET_UNIX_TO_TCP] = { NET_UNIX, NET_V4 },
		[NET_PIPE_TO_TCP] = { NET_PIPE, NET_V4 },
		[NET_TCP_TO_PIPE] = { NET_V4, NET_PIPE },
	};
	int own = server_side ? 0 : 1;

	if (net == NET_TCP_TO_UNIX || net == NET_UNIX_TO_TCP || net > NET_PIPE)
		net = sides[net][server_side];
	if (net == NET_UNIX)
		return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) ? -errno : 0;
	if (net != NET_PIPE)
		return tcp_pair(net, server_side, fds);
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	return fcntl(fds[own], F_SETFL, O_NONBLOCK) ? -errno : 0;
}

/* Fills the accept queue, until a connect gets no answer; the listening socket knows the others. */
int tcp_connecting(int family, int *listening)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int fd, i;

	*listening = tcp_listen(family, &addr, &len);
	if (*listening < 0 || listen(*listening, 0))
		return -1;
	for (i = 0; i < 64; i++) {
		fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0 || (connect(fd, (void *)&addr, len) && errno != EINPROGRESS))
			return -1;
		if (!poll_fd(fd, POLLOUT, 300))
			return fd;
		close(fd);
	}
	return -1;
}

int relay_open(struct relay *r, enum net net)
{
	int fds[2], err;

	*r = (struct relay){ -1, -1, -1, -1 };
	err = side_open(net, false, fds);
	if (err)
		return err;
	/* pipe() has the readable end first */
	r->c = fds[is_fifo(fds[0])];
	r->a = fds[!is_fifo(fds[0])];
	err = side_open(net, true, fds);
	if (err) {
		relay_close(r);
		return err;
	}
	r->b = fds[is_fifo(fds[0])];
	r->s = fds[!is_fifo(fds[0])];
	return 0;
}

void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void relay_close(struct relay *r)
{
	close_fd(&r->c);
	close_fd(&r->a);
	close_fd(&r->b);
	close_fd(&r->s);
}

int tcp_reset(int *fd)
{
	struct linger hard = { .l_onoff = 1, .l_linger = 0 };
	int err = setsockopt(*fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) ? -errno : 0;

	close_fd(fd);
	return err;
}

int fin(int *fd)
{
	if (!is_fifo(*fd))
		return shutdown(*fd, SHUT_WR) ? -errno : 0;
	close_fd(fd);
	return 0;
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

int queued(int fd)
{
	int n;

	return ioctl(fd, FIONREAD, &n) ? -errno : n;
}

int wait_queued(int fd, int n)
{
	uint64_t until = now_ms() + WAIT_MS;

	while (queued(fd) < n) {
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
		seen = state && state[2] == 'S' ? seen + 1 : 0;
		fclose(f);
		if (seen == 5)
			return 0;
		usleep(5000);
	}
	return -ETIMEDOUT;
}

int engine_open_with(struct spl **s, enum spl_engine engine, uint32_t require)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = engine, .require = require };

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
