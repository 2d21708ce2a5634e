// SPDX-License-Identifier: GPL-2.0
/* relay.c: relay splice|copy|uring LISTEN[,LISTEN...] TARGET, each ADDRESS:PORT. Runs until it is killed. */
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

static int watch_listeners(void)
{
	static struct end ends[LISTENERS];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev;
	unsigned int i;

	for (i = 0; i < n_listeners; i++) {
		ends[i].fd = listeners[i];
		ev = (struct epoll_event){ .events = EPOLLIN, .data.ptr = &ends[i] };
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, listeners[i], &ev))
			relay_stop("epoll", errno);
	}
	return epoll;
}

static void __attribute__((noreturn)) epoll_loop(int epoll)
{
	struct epoll_event ev[EVENTS];
	bool more = false;
	struct end *e;
	int n, i;

	for (;;) {
		n = epoll_wait(epoll, ev, EVENTS, more ? 0 : -1);
		for (i = 0; i < n; i++) {
			e = ev[i].data.ptr;
			if (e->conn)
				conn_event(e, ev[i].events);
			else
				conn_accept(epoll, e->fd);
		}
		more = conn_run_queued();
		conn_bury();
	}
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	bool uring = argc == 4 && !strcmp(argv[1], "uring");

	if (argc == 4)
		mover = !strcmp(argv[1], "splice") ? &splice_mover : !strcmp(argv[1], "copy") ? &copy_mover : NULL;
	if (!mover && !uring) {
		fputs("relay splice|copy|uring LISTEN[,LISTEN...] TARGET\n", stderr);
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
