// SPDX-License-Identifier: GPL-2.0
/*
 * kload.c: the load of "make bench-uml": a client and a server as kernel threads, for a kernel whose
 * system calls cost more than what is measured. It does all its work while it is loaded:
 *   insmod kload.ko mode=rr|bulk conns=N size=BYTES ms=N listen=PORT to=PORT
 * and leaves what it measured in its parameter "result": nanoseconds on the clock, those that the
 * kernel's process on the host was given a processor for, and round trips or bytes.
 * rr: all connections' messages go out, then all replies are awaited.
 */
#include <linux/in.h>
#include <linux/inet.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <net/sock.h>
#include <net/tcp.h>

#define KLOAD_CONNS	64
#define KLOAD_SIZE	(1 << 20)
#define KLOAD_PATIENCE	(4 * HZ)	/* nothing moves for so long: it failed */
#define KLOAD_WARM_MS	150

static char *mode = "rr";
module_param(mode, charp, 0400);
static unsigned int conns = 1, size = 64, ms = 500, listen, to;
module_param(conns, uint, 0400);
module_param(size, uint, 0400);
module_param(ms, uint, 0400);
module_param(listen, uint, 0400);
module_param(to, uint, 0400);
static char text[128], *result = text;
module_param(result, charp, 0400);

struct kload {
	struct socket *listener, *client[KLOAD_CONNS], *server[KLOAD_CONNS];
	char *sent, *came;		/* SIZE bytes each */
	struct completion client_over, server_over;
	bool stop;
	int error;			/* of the first to fail */
	u64 done;
};

static struct kload k;

static int kload_failed(int err)
{
	if (!k.error)
		k.error = err;
	WRITE_ONCE(k.stop, true);
	return err;
}

static struct sockaddr_in kload_addr(unsigned int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int kload_send(struct socket *sock)
{
	struct kvec vec = { .iov_base = k.sent, .iov_len = size };
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL };
	int n = kernel_sendmsg(sock, &msg, &vec, 1, size);

	return n == size ? 0 : n < 0 ? n : -EPIPE;
}

/* The whole of a message: 0; the end: 1. */
static int kload_receive(struct socket *sock)
{
	struct kvec vec = { .iov_base = k.came, .iov_len = size };
	struct msghdr msg = { };
	int n = kernel_recvmsg(sock, &msg, &vec, 1, size, MSG_WAITALL);

	return n == size ? 0 : !n ? 1 : n < 0 ? n : -EPIPE;
}

static int kload_trips(void)
{
	unsigned int i;
	int err;

	for (i = 0; i < conns; i++) {
		err = kload_send(k.client[i]);
		if (err)
			return err;
	}
	for (i = 0; i < conns; i++) {
		err = kload_receive(k.client[i]);
		if (err)
			return err < 0 ? err : -EPIPE;
	}
	WRITE_ONCE(k.done, k.done + conns);
	return 0;
}

static int kload_client(void *bulk)
{
	unsigned int i;
	int err = 0;

	while (!READ_ONCE(k.stop) && !err)
		err = bulk ? kload_send(k.client[0]) : kload_trips();
	if (err)
		kload_failed(err);
	for (i = 0; i < conns; i++)
		kernel_sock_shutdown(k.client[i], SHUT_WR);
	kthread_complete_and_exit(&k.client_over, 0);
}

/* 1: the end */
static int kload_echo(void)
{
	unsigned int i;
	int err;

	for (i = 0; i < conns; i++) {
		err = kload_receive(k.server[i]);
		if (!err)
			err = kload_send(k.server[i]);
		if (err)
			return err;
	}
	return 0;
}

/* Thrown away uncopied: what carries it is what is measured. */
static int kload_gulp(void)
{
	struct kvec vec = { .iov_base = k.came, .iov_len = KLOAD_SIZE };
	struct msghdr msg = { };
	int n = kernel_recvmsg(k.server[0], &msg, &vec, 1, KLOAD_SIZE, MSG_TRUNC);

	if (n > 0)
		WRITE_ONCE(k.done, k.done + n);
	return n < 0 ? n : !n;
}

static int kload_server(void *bulk)
{
	int err = 0;

	while (!err)
		err = bulk ? kload_gulp() : kload_echo();
	if (err < 0)
		kload_failed(err);
	kthread_complete_and_exit(&k.server_over, 0);
}

static int kload_socket(struct socket **sock)
{
	int err = sock_create_kern(&init_net, AF_INET, SOCK_STREAM, IPPROTO_TCP, sock);

	if (err)
		return err;
	tcp_sock_set_nodelay((*sock)->sk);
	sock_set_reuseaddr((*sock)->sk);
	(*sock)->sk->sk_rcvtimeo = KLOAD_PATIENCE;
	(*sock)->sk->sk_sndtimeo = KLOAD_PATIENCE;
	return 0;
}

static int kload_listen(void)
{
	struct sockaddr_in addr = kload_addr(listen);
	int err = kload_socket(&k.listener);

	if (!err)
		err = kernel_bind(k.listener, (void *)&addr, sizeof(addr));
	return err ?: kernel_listen(k.listener, KLOAD_CONNS);
}

/* One after the other: what comes through a relay comes in that order. */
static int kload_connect(unsigned int i)
{
	struct sockaddr_in addr = kload_addr(to);
	int err = kload_socket(&k.client[i]);

	if (!err)
		err = kernel_connect(k.client[i], (void *)&addr, sizeof(addr), 0);
	return err ?: kernel_accept(k.listener, &k.server[i], 0);
}

struct kload_mark { u64 ns, cpu_ns, done; };

/*
 * Asks the host: clock_gettime(CLOCK_PROCESS_CPUTIME_ID). Whatever else the host does meanwhile is not
 * in it, and as client and server never wait for anything but each other, nothing else is missing.
 */
static u64 kload_cpu_ns(void)
{
	struct { s64 sec, nsec; } now = { };
	long ret;

	asm volatile("syscall" : "=a" (ret) : "0" (228L), "D" (2L), "S" (&now) : "rcx", "r11", "memory");
	return ret ? 0 : now.sec * NSEC_PER_SEC + now.nsec;
}

static struct kload_mark kload_mark(void)
{
	return (struct kload_mark){ .ns = ktime_get_ns(), .cpu_ns = kload_cpu_ns(), .done = READ_ONCE(k.done) };
}

static void kload_measure(void)
{
	struct kload_mark from, to;

	msleep(KLOAD_WARM_MS);
	from = kload_mark();
	msleep(ms);
	to = kload_mark();
	WRITE_ONCE(k.stop, true);
	snprintf(text, sizeof(text), "{\"ns\": %llu, \"cpu_ns\": %llu, \"done\": %llu}", to.ns - from.ns,
		 to.cpu_ns - from.cpu_ns, to.done - from.done);
}

static int kload_run(void)
{
	void *bulk = !strcmp(mode, "bulk") ? &k : NULL;
	struct task_struct *server = kthread_run(kload_server, bulk, "kload-server"), *client;

	if (IS_ERR(server))
		return PTR_ERR(server);
	client = kthread_run(kload_client, bulk, "kload-client");
	if (IS_ERR(client))
		complete(&k.client_over);
	else
		kload_measure();
	wait_for_completion(&k.client_over);
	if (IS_ERR(client))
		kernel_sock_shutdown(k.client[0], SHUT_RDWR);
	wait_for_completion(&k.server_over);
	return PTR_ERR_OR_ZERO(client);
}

static void kload_close(struct socket *sock)
{
	if (sock)
		sock_release(sock);
}

static void kload_free(void)
{
	unsigned int i;

	for (i = 0; i < KLOAD_CONNS; i++) {
		kload_close(k.client[i]);
		kload_close(k.server[i]);
	}
	kload_close(k.listener);
	kvfree(k.sent);
	kvfree(k.came);
}

static int __init kload_init(void)
{
	unsigned int i;
	int err;

	if (!conns || conns > KLOAD_CONNS || !size || size > KLOAD_SIZE || (!strcmp(mode, "bulk") && conns > 1))
		return -EINVAL;
	init_completion(&k.client_over);
	init_completion(&k.server_over);
	k.sent = kvzalloc(KLOAD_SIZE, GFP_KERNEL);
	k.came = kvzalloc(KLOAD_SIZE, GFP_KERNEL);
	err = k.sent && k.came ? kload_listen() : -ENOMEM;
	for (i = 0; !err && i < conns; i++)
		err = kload_connect(i);
	if (!err)
		err = kload_run();
	kload_free();
	if (!err && k.error)
		snprintf(text, sizeof(text), "{\"error\": %d}", k.error);
	return err;
}

static void __exit kload_exit(void)
{
}

module_init(kload_init);
module_exit(kload_exit);
MODULE_DESCRIPTION("load for measuring sksplice");
MODULE_LICENSE("GPL");
