// SPDX-License-Identifier: GPL-2.0
/* tls.c: see tls.h. */
#include "tls.h"

#include <sys/time.h>
#include <sys/utsname.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

bool is_tls(int fd)
{
	char name[16] = "";
	socklen_t len = sizeof(name);

	return !getsockopt(fd, IPPROTO_TCP, TCP_ULP, name, &len) && !strcmp(name, "tls");
}

int tls_attach(int fd)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) ? -errno : 0;
}

bool tls_here(void)
{
	int fds[2], err;

	if (tcp_pair(NET_V4, false, fds))
		return false;
	err = tls_attach(fds[0]);
	close(fds[0]);
	close(fds[1]);
	return !err;
}

int tls_overhead(uint16_t version)
{
	int tag = TLS_CIPHER_AES_GCM_128_TAG_SIZE;

	return version == TLS_1_2_VERSION ? 5 + TLS_CIPHER_AES_GCM_128_IV_SIZE + tag : 5 + 1 + tag;
}

/* What the client sends and the server receives has one key, the way back has the other. */
static int half_keys(int fd, uint16_t version, int name, bool from_server)
{
	struct tls12_crypto_info_aes_gcm_128 info = {
		.info = { .version = version, .cipher_type = TLS_CIPHER_AES_GCM_128 },
	};

	memset(info.key, from_server ? 0x5e : 0xc1, sizeof(info.key));
	memset(info.salt, from_server ? 0x51 : 0xc5, sizeof(info.salt));
	memset(info.iv, from_server ? 0x17 : 0x71, sizeof(info.iv));
	return setsockopt(fd, SOL_TLS, name, &info, sizeof(info)) ? -errno : 0;
}

int tls_keys(int fd, uint16_t version, bool server, int halves)
{
	int err = 0;

	if (halves & TLS_SENDS)
		err = half_keys(fd, version, TLS_TX, server);
	if (!err && halves & TLS_RECEIVES)
		err = half_keys(fd, version, TLS_RX, !server);
	return err;
}

bool tls_rekeys(void)
{
	struct utsname uts;
	unsigned int major, minor;

	return !uname(&uts) && sscanf(uts.release, "%u.%u", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 14));
}

int tls_upgrade(int fds[2], uint16_t version)
{
	int i, err = 0;

	for (i = 0; i < 2 && !err; i++) {
		err = tls_attach(fds[i]);
		err = err ? err : tls_keys(fds[i], version, i, TLS_BOTH);
	}
	return err;
}

/* The call that waits waits no longer than tests may; what it has taken it hands over whole. */
static int patience(int fd, int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000 };

	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) ? -errno : 0;
}

int tls_put(int fd, uint8_t type, const void *bytes, size_t len)
{
	union { struct cmsghdr hdr; char space[CMSG_SPACE(1)]; } control = { .hdr = {
		.cmsg_level = SOL_TLS, .cmsg_type = TLS_SET_RECORD_TYPE, .cmsg_len = CMSG_LEN(1),
	} };
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	int err = patience(fd, WAIT_MS);
	ssize_t n;

	if (err)
		return err;
	*CMSG_DATA(&control.hdr) = type;
	n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	err = n == (ssize_t)len ? 0 : n < 0 ? -errno : -EMSGSIZE;
	patience(fd, 0);
	return err;
}

int tls_close_notify(int fd)
{
	return tls_put(fd, TLS_ALERT, "\1\0", 2);
}

ssize_t tls_get(int fd, uint8_t *type, void *buf, size_t len, int flags)
{
	char control[CMSG_SPACE(64)];
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &msg, flags);
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&msg);

	*type = c && c->cmsg_level == SOL_TLS && c->cmsg_type == TLS_GET_RECORD_TYPE ?
		*CMSG_DATA(c) : TLS_DATA;
	return n < 0 ? -errno : n;
}

int tls_take(int fd, uint8_t type, const void *bytes, size_t len)
{
	uint8_t got_type, buf[TLS_RECORD];
	ssize_t n;
	int got;

	n = tls_get(fd, &got_type, buf, sizeof(buf), MSG_DONTWAIT);
	if (n == -EAGAIN) {
		got = poll_fd(fd, POLLIN, WAIT_MS);
		if (got <= 0)
			return got ? got : -ETIMEDOUT;
		n = tls_get(fd, &got_type, buf, sizeof(buf), MSG_DONTWAIT);
	}
	if (n < 0)
		return n;
	if (got_type != type) {
		fprintf(stderr, "# %zd bytes of a record of type %u, not %u\n", n, got_type, type);
		return -EPROTO;
	}
	return n == (ssize_t)len && !memcmp(buf, bytes, len) ? 0 : -EILSEQ;
}

/* Looking decrypts, but what was seen can be read all the same. */
int tls_queued(int fd)
{
	const size_t most = 1 << 20;
	uint8_t *buf = malloc(most);
	ssize_t n = buf ? recv(fd, buf, most, MSG_PEEK | MSG_DONTWAIT) : -1;
	int err = errno;

	free(buf);
	return n >= 0 ? n : err == EAGAIN || err == EIO ? 0 : -err;
}

int tls_by_hand(struct relay *r, uint16_t version, int cipher[2])
{
	int fds[2], err;

	close_fd(&r->c);
	close_fd(&r->a);
	err = tcp_pair(NET_V4, false, fds);
	if (err)
		return err;
	r->c = fds[0];
	r->a = fds[1];
	err = tls_attach(r->a);
	err = err ? err : tls_keys(r->a, version, true, TLS_BOTH);
	err = err ? err : tcp_pair(NET_V4, false, cipher);
	err = err ? err : tls_attach(cipher[0]);
	return err ? err : tls_keys(cipher[0], version, false, TLS_SENDS);
}

int tls_cipher(int cipher[2], uint16_t version, uint8_t type, const void *bytes, size_t len, uint8_t *out)
{
	int err = tls_put(cipher[0], type, bytes, len), all = len + tls_overhead(version);

	if (err)
		return err;
	return recv(cipher[1], out, all, MSG_WAITALL) == all ? all : -EIO;
}
