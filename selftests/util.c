// SPDX-License-Identifier: GPL-2.0
/* util.c: time, sockets, the engine, the machine. Streams are in stream.c. */
#include "util.h"

#include <arpa/inet.h>
#include <grp.h>
#include <sys/resource.h>
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

int raise_nofile(unsigned int n)
{
	struct rlimit r = { .rlim_cur = n, .rlim_max = n };

	return setrlimit(RLIMIT_NOFILE, &r) ? -errno : 0;
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

int relay_open(struct relay *r, enum net net)
{
	int fds[2], err;

	*r = (struct relay){ -1, -1, -1, -1 };
	err = tcp_pair(net, false, fds);
	if (err)
		return err;
	r->c = fds[0];
	r->a = fds[1];
	err = tcp_pair(net, true, fds);
	if (err) {
		relay_close(r);
		return err;
	}
	r->b = fds[0];
	r->s = fds[1];
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

int engine_open(struct spl **s, enum spl_engine engine)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = engine };

	return spl_open(s, &opts);
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
