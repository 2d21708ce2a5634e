// SPDX-License-Identifier: GPL-2.0
/* relay.c: relay splice|copy|sockmap|uring LISTEN[,LISTEN...] TARGET, each ADDRESS:PORT. Runs until it is killed. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay.h"

#define EVENTS 256
#define LISTENERS 16

const struct mover *mover;
struct sockaddr_in relay_target;

static int listeners[LISTENERS];
static unsigned int n_listeners;
static struct end movers_end;

void relay_stop(const char *what, int error)
{
	fprintf(stderr, "relay: %s: %s\n", what, strerror(error));
	exit(1);
}

static struct sockaddr_in parse(char *text)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	char *colon = strchr(text, ':');

	if (colon)
		*colon = 0;
	if (!colon || inet_pton(AF_INET, text, &addr.sin_addr) != 1)
		relay_stop(text, EINVAL);
	addr.sin_port = htons((uint16_t)atoi(colon + 1));
	return addr;
}

/* What is set here the accepted sockets inherit. */
static void add_listener(char *text)
{
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in addr = parse(text);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (n_listeners == LISTENERS || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 4096))
		relay_stop("listen", errno);
	listeners[n_listeners++] = fd;
}

static void add_listeners(char *text)
{
	char *save, *word;

	for (word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save))
		add_listener(word);
}

/* The kernel frees a ring some time after its process: the next relay could not listen on the same port until then. */
static void stop_listening(int number)
{
	unsigned int i;

	(void)number;
	for (i = 0; i < n_listeners; i++)
		shutdown(listeners[i], SHUT_RDWR);
	_exit(0);
}

static void watch(int epoll, struct end *e)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = e };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, e->fd, &ev))
		relay_stop("epoll", errno);
}

static int watch_listeners(void)
{
	static struct end ends[LISTENERS];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	unsigned int i;

	for (i = 0; i < n_listeners; i++) {
		ends[i].fd = listeners[i];
		watch(epoll, &ends[i]);
	}
	if (mover->init) {
		movers_end.fd = mover->init();
		watch(epoll, &movers_end);
	}
	return epoll;
}

static void __attribute__((noreturn)) epoll_loop(int epoll)
{
	struct epoll_event ev[EVENTS];
	struct end *e;
	int n, i, wait = -1;

	for (;;) {
		n = epoll_wait(epoll, ev, EVENTS, wait);
		for (i = 0; i < n; i++) {
			e = ev[i].data.ptr;
			if (e == &movers_end)
				mover->event();
			else if (e->conn)
				conn_event(e, ev[i].events);
			else
				conn_accept(epoll, e->fd);
		}
		wait = conn_run_queued();
		conn_bury();
	}
}

static const struct mover *find_mover(const char *name)
{
	static const struct mover *const movers[] = { &splice_mover, &copy_mover, &sockmap_mover };
	unsigned int i;

	for (i = 0; i < sizeof(movers) / sizeof(*movers); i++)
		if (!strcmp(movers[i]->name, name))
			return movers[i];
	return NULL;
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	bool uring = argc == 4 && !strcmp(argv[1], "uring");

	if (argc == 4)
		mover = find_mover(argv[1]);
	if (!mover && !uring) {
		fputs("relay splice|copy|sockmap|uring LISTEN[,LISTEN...] TARGET\n", stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	add_listeners(argv[2]);
	relay_target = parse(argv[3]);
	if (uring) {
		signal(SIGTERM, stop_listening);
		uring_loop(listeners, n_listeners);
	}
	epoll_loop(watch_listeners());
}
