// SPDX-License-Identifier: GPL-2.0
/* Addresses: from the command line, from netlink, to text and to JSON. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "splicectl.h"

static int parse_unix(const char *path, struct addr *out, const char **why)
{
	size_t len = strlen(path);

	/* sun_path of a named socket keeps its final zero, so that every reader gets a string */
	if (!len || len >= sizeof(out->un.sun_path)) {
		*why = "a unix path has 1 to 107 characters";
		return -EINVAL;
	}
	memset(out, 0, sizeof(*out));
	out->un.sun_family = AF_UNIX;
	memcpy(out->un.sun_path, path, len);
	out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	if (*path == '@') {
		if (len == 1) {
			*why = "an abstract unix address needs a name";
			return -EINVAL;
		}
		out->un.sun_path[0] = '\0';
		out->len--;
	}
	return 1;
}

/* Parts "host:port" or "[v6]:port"; host gets a copy, the port's text is returned. */
static const char *split_host(const char *text, char *host, size_t size, const char **why)
{
	const char *begin = text, *end, *colon = strrchr(text, ':');

	*why = "ADDR is HOST:PORT, [IPV6]:PORT or unix:/PATH";
	if (!colon)
		return NULL;
	end = colon;
	if (*text == '[') {
		begin = text + 1;
		end = colon - 1;
		if (end <= begin || *end != ']')
			return NULL;
	} else if (memchr(text, ':', (size_t)(colon - text))) {
		*why = "an IPv6 address is written in brackets: [::1]:80";
		return NULL;
	}
	if ((size_t)(end - begin) >= size) {
		*why = "the host name is too long";
		return NULL;
	}
	memcpy(host, begin, (size_t)(end - begin));
	host[end - begin] = '\0';
	return colon + 1;
}

static int any_address(uint16_t port, struct addr *out)
{
	memset(out, 0, sizeof(*out));
	out->in6.sin6_family = AF_INET6;
	out->in6.sin6_port = htons(port);
	out->len = sizeof(out->in6);
	return 1;
}

static int resolve(const char *host, uint16_t port, int flags, struct addr *out, const char **why)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags }, *list, *ai;
	int n = 0, error = getaddrinfo(host, NULL, &hints, &list);

	if (error) {
		*why = error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error);
		return -ENOENT;
	}
	for (ai = list; ai && n < ADDR_MOST; ai = ai->ai_next) {
		if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
			continue;
		memset(&out[n], 0, sizeof(out[n]));
		memcpy(&out[n].storage, ai->ai_addr, ai->ai_addrlen);
		out[n].len = ai->ai_addrlen;
		/* sin_port and sin6_port lie at the same place */
		out[n++].in.sin_port = htons(port);
	}
	freeaddrinfo(list);
	*why = "the name has no IPv4 or IPv6 address";
	return n ? n : -ENOENT;
}

/* The addresses `text` stands for, at most ADDR_MOST: their number, or -errno and a sentence. */
int addr_parse(const char *text, enum addr_use use, struct addr *out, const char **why)
{
	const char *port_text;
	uint64_t port;
	char host[256];
	int flags = 0;

	if (!strncmp(text, "unix:", 5))
		return parse_unix(text + 5, out, why);
	port_text = split_host(text, host, sizeof(host), why);
	if (!port_text)
		return -EINVAL;
	if (cli_parse_u64(port_text, use == ADDR_LISTEN ? 0 : 1, 65535, &port)) {
		*why = use == ADDR_LISTEN ? "the port is a number from 0 to 65535"
					  : "the port is a number from 1 to 65535";
		return -EINVAL;
	}
	if (!*host && use == ADDR_LISTEN)
		return any_address((uint16_t)port, out);
	if (!*host) {
		*why = "the host is missing";
		return -EINVAL;
	}
	if (*text == '[')
		flags = AI_NUMERICHOST;
	return resolve(host, (uint16_t)port, flags, out, why);
}

static void format_unix(const struct addr *addr, char text[ADDR_TEXT])
{
	size_t len = addr->len - offsetof(struct sockaddr_un, sun_path);
	const char *path = addr->un.sun_path;
	size_t n = (size_t)snprintf(text, ADDR_TEXT, "unix:");

	if (!len) {
		snprintf(text, ADDR_TEXT, "unix:*");	/* bound to nothing, as most clients are */
		return;
	}
	if (!*path) {
		text[n++] = '@';
		path++;
		len--;
	} else {
		len = strnlen(path, len);
	}
	/* names are made by others: nothing of them steers a terminal */
	for (size_t i = 0; i < len && n + 1 < ADDR_TEXT; i++)
		text[n++] = isprint((unsigned char)path[i]) ? path[i] : '?';
	text[n] = '\0';
}

const char *addr_format(const struct addr *addr, char text[ADDR_TEXT])
{
	char host[INET6_ADDRSTRLEN];

	snprintf(text, ADDR_TEXT, "?");
	if (!addr->len)
		return text;
	if (addr->sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &addr->in.sin_addr, host, sizeof(host));
		snprintf(text, ADDR_TEXT, "%s:%u", host, ntohs(addr->in.sin_port));
	} else if (addr->sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &addr->in6.sin6_addr, host, sizeof(host));
		if (addr->in6.sin6_scope_id)
			snprintf(text, ADDR_TEXT, "[%s%%%u]:%u", host, addr->in6.sin6_scope_id, ntohs(addr->in6.sin6_port));
		else
			snprintf(text, ADDR_TEXT, "[%s]:%u", host, ntohs(addr->in6.sin6_port));
	} else if (addr->sa.sa_family == AF_UNIX) {
		format_unix(addr, text);
	} else if (addr->sa.sa_family == AF_VSOCK) {
		snprintf(text, ADDR_TEXT, "vsock:%u:%u", addr->vm.svm_cid, addr->vm.svm_port);
	}
	return text;
}

/* Takes a socket address out of a message; -EBADMSG unless its length fits its family. */
int addr_from_wire(const void *data, size_t len, struct addr *out)
{
	size_t want;

	memset(out, 0, sizeof(*out));
	if (len < sizeof(sa_family_t) || len > sizeof(out->storage))
		return -EBADMSG;
	memcpy(&out->storage, data, len);
	want = out->sa.sa_family == AF_INET ? sizeof(out->in) :
	       out->sa.sa_family == AF_INET6 ? sizeof(out->in6) :
	       out->sa.sa_family == AF_VSOCK ? sizeof(out->vm) : len;
	if (len != want || (out->sa.sa_family == AF_UNIX && len > sizeof(out->un))) {
		memset(out, 0, sizeof(*out));
		return -EBADMSG;
	}
	out->len = (socklen_t)len;
	return 0;
}

struct json_object *addr_json(const struct addr *addr)
{
	struct json_object *o = json_object_new_object();
	char text[ADDR_TEXT];

	if (addr->len && addr->sa.sa_family == AF_INET) {
		out_add_string(o, "family", "inet");
		out_add_string(o, "address", inet_ntop(AF_INET, &addr->in.sin_addr, text, sizeof(text)));
		out_add_u64(o, "port", ntohs(addr->in.sin_port));
	} else if (addr->len && addr->sa.sa_family == AF_INET6) {
		out_add_string(o, "family", "inet6");
		out_add_string(o, "address", inet_ntop(AF_INET6, &addr->in6.sin6_addr, text, sizeof(text)));
		out_add_u64(o, "port", ntohs(addr->in6.sin6_port));
		if (addr->in6.sin6_scope_id)
			out_add_u64(o, "scope", addr->in6.sin6_scope_id);
	} else if (addr->len && addr->sa.sa_family == AF_UNIX) {
		out_add_string(o, "family", "unix");
		out_add_string(o, "address", addr_format(addr, text) + strlen("unix:"));
	} else if (addr->len && addr->sa.sa_family == AF_VSOCK) {
		out_add_string(o, "family", "vsock");
		out_add_u64(o, "cid", addr->vm.svm_cid);
		out_add_u64(o, "port", addr->vm.svm_port);
	} else {
		out_add_string(o, "family", "unknown");
	}
	return o;
}

bool addr_is_loopback(const struct addr *addr)
{
	if (addr->sa.sa_family == AF_INET)
		return ntohl(addr->in.sin_addr.s_addr) >> 24 == 127;
	return addr->sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&addr->in6.sin6_addr);
}

uint16_t addr_port(const struct addr *addr)
{
	return addr->sa.sa_family == AF_INET ? ntohs(addr->in.sin_port) : addr->sa.sa_family == AF_INET6 ? ntohs(addr->in6.sin6_port) : 0;
}
