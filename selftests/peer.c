// SPDX-License-Identifier: GPL-2.0
/*
 * peer.c: verified clients and servers for scripts, over IPv4 loopback.
 *   peer serve PORT              serves what "peer load" asks for, for ever
 *   peer load PORT COUNT BYTES [GO]
 *                                COUNT connections at once, BYTES/2 to BYTES each way, random chunks;
 *                                sends nothing before the file GO is there
 * A connection begins with a struct order: which stream, how much up, how much down.
 */
#include <arpa/inet.h>
#include <sys/epoll.h>

#include "drive.h"

struct order { uint64_t seed, up, down; };

#define BACK(seed) ((seed) + (1 << 20))

static int send_order(int fd, const struct order *o)
{
	return send(fd, o, sizeof(*o), MSG_NOSIGNAL) == sizeof(*o) ? 0 : -EIO;
}

static int connect_to(int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	if (fd < 0 || !connect(fd, (void *)&to, sizeof(to)))
		return fd < 0 ? -errno : fd;
	err = -errno;
	close(fd);
	return err;
}

static uint64_t about(uint64_t *state, uint64_t bytes)
{
	return bytes / 2 + rnd(state) % (bytes / 2 + 1);
}

static int load(int port, unsigned int count, uint64_t bytes, const char *go)
{
	struct peer *peers = calloc(count, sizeof(*peers));
	uint64_t state = getpid();
	unsigned int i;
	int err = 0;

	for (i = 0; i < count && !err; i++) {
		struct order o = { .seed = i + 1, .up = about(&state, bytes),
				   .down = about(&state, bytes) };

		peers[i] = (struct peer){
			.fd = connect_to(port), .chunk = 1 + rnd_below(&state, 60000),
			.tx_seed = o.seed, .tx_len = o.up,
			.rx_seed = BACK(o.seed), .rx_len = o.down,
		};
		err = peers[i].fd < 0 ? peers[i].fd : send_order(peers[i].fd, &o);
	}
	if (!err)
		printf("connected %u\n", count);
	fflush(stdout);
	while (!err && go && access(go, F_OK))
		sleep_ms(10);
	err = err ? err : drive(peers, count, &state);
	printf("%s\n", err ? strerror(-err) : "complete");
	return err ? 1 : 0;
}

/* One connection each: what is simplest holds for a server of tests. */
static void *serve_one(void *arg)
{
	struct peer p = { .fd = (intptr_t)arg, .chunk = 30000 };
	struct order o;
	uint64_t state;

	if (recv(p.fd, &o, sizeof(o), MSG_WAITALL) == sizeof(o)) {
		state = o.seed;
		p.tx_seed = BACK(o.seed);
		p.tx_len = o.down;
		p.rx_seed = o.seed;
		p.rx_len = o.up;
		drive(&p, 1, &state);
	}
	close(p.fd);
	return NULL;
}

static int serve(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_attr_t attr;
	pthread_t thread;
	intptr_t fd;

	if (set_opt(listening, SOL_SOCKET, SO_REUSEADDR, 1) ||
	    bind(listening, (void *)&at, sizeof(at)) || listen(listening, 1024)) {
		perror("peer: serve");
		return 1;
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 << 10);
	for (;;) {
		fd = accept(listening, NULL, NULL);
		if (fd >= 0 && pthread_create(&thread, &attr, serve_one, (void *)fd))
			close(fd);
	}
}

int main(int argc, char **argv)
{
	raise_nofile(20000);
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if ((argc == 5 || argc == 6) && !strcmp(argv[1], "load"))
		return load(atoi(argv[2]), strtoul(argv[3], NULL, 10),
			    strtoull(argv[4], NULL, 10), argv[5]);
	fprintf(stderr, "usage: peer serve PORT | peer load PORT COUNT BYTES [GO]\n");
	return 2;
}
