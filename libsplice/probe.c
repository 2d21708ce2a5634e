// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* What works on this machine and why the rest does not: by trying, never by version. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"
#include "probe.h"

#define TRIAL_MS 1000

static const char *advice_kmod(int error)
{
	switch (error) {
	case -EPERM:
	case -EACCES:
		return "run with CAP_NET_ADMIN, or have root set: sysctl net.sksplice.unprivileged=1";
	case -EOPNOTSUPP:
		/* /proc itself may be missing: only then does a missing /proc/modules say nothing. */
		if (access("/proc/modules", F_OK) && !access("/proc/self", F_OK))
			return "this kernel has no loadable modules: use another kernel, or a virtual machine";
		return "load the module: modprobe sksplice";
	case -ENFILE:
		return "have root raise the sysctls net.sksplice.max_ops and net.sksplice.max_ops_per_user";
	default:
		return "";
	}
}

static const char *advice_sockmap(int error)
{
	switch (error) {
	case -EPERM:
	case -EACCES:
		return "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON in the first user namespace";
	case -ENOENT:
		return "make the directory where the cgroup v2 is mounted, and start the local peers in it";
	case -EINVAL:
	case -ENOTDIR:
		return "name a directory below where the cgroup v2 is mounted: grep cgroup2 /proc/mounts";
	case -EOPNOTSUPP:
		return "use a kernel from 6.1.122 or 6.12.4 on, with BTF, CGROUP_BPF and BPF_STREAM_PARSER, or another engine";
	default:
		return "";
	}
}

/*
 * fds[0] listens, fds[1] is connected to it: the connection is there without being accepted, as
 * long as the listener is. False: the loopback device does not serve. Either way the caller
 * closes what is not -1.
 */
static bool connect_loopback(int fds[2])
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct pollfd pfd = { .events = POLLOUT };
	socklen_t len = sizeof(sin);

	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	pfd.fd = fds[1];
	return fds[0] >= 0 && fds[1] >= 0 && !bind(fds[0], (struct sockaddr *)&sin, len) &&
	       !listen(fds[0], 1) && !getsockname(fds[0], (struct sockaddr *)&sin, &len) &&
	       (!connect(fds[1], (struct sockaddr *)&sin, len) || errno == EINPROGRESS) &&
	       poll(&pfd, 1, TRIAL_MS) == 1 && pfd.revents == POLLOUT;
}

/* A forward of nothing, from a socket to itself: may we? Where there is no loopback: nothing said. */
int spl_probe_forward(struct spl *s)
{
	struct spl_event ev;
	uint64_t token;
	int fds[2], i, r = 0;

	if (connect_loopback(fds)) {
		r = spl_forward(s, fds[1], fds[1], 0, NULL, &token);
		if (!r)
			r = spl_wait(s, token, &ev, TRIAL_MS);
		if (!r)
			r = spl_refuse(s, -ETIMEDOUT, "a forward of no bytes did not end");
	}
	for (i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return r < 0 ? r : 0;
}

static void probe_one(struct spl_probe *p, enum spl_engine engine, const char *cgroup)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = engine, .cgroup = cgroup };
	struct spl *s;

	*p = (struct spl_probe) { .engine = engine };
	p->error = spl_open(&s, &opts);
	if (!p->error) {
		p->error = spl_probe_forward(s);
		p->caps = p->error ? 0 : spl_caps(s);
	}
	if (p->error)
		snprintf(p->reason, sizeof(p->reason), "%s", spl_strerror_last(s));
	if (p->error && engine == SPL_ENGINE_KMOD)
		snprintf(p->advice, sizeof(p->advice), "%s", advice_kmod(p->error));
	if (p->error && engine == SPL_ENGINE_SOCKMAP)
		snprintf(p->advice, sizeof(p->advice), "%s", advice_sockmap(p->error));
	spl_close(s);
}

int spl_probe(struct spl_probe *out, size_t n, const char *cgroup)
{
	static const enum spl_engine all[SPL_PROBE_ENGINES] = {
		SPL_ENGINE_KMOD, SPL_ENGINE_SOCKMAP, SPL_ENGINE_USER,
	};
	SPL_ERRNO_GUARD;
	size_t i;

	for (i = 0; out && i < n && i < SPL_PROBE_ENGINES; i++)
		probe_one(&out[i], all[i], cgroup);
	return (int)i;
}
