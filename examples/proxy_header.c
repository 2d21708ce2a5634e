// SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
/* The PROXY protocol, version 2: who connected, and to which of our addresses. */
#include <string.h>

#include "examples.h"

#define TCP_OVER_IPV4	0x11
#define TCP_OVER_IPV6	0x21

size_t proxy_header(int client, unsigned char to[PROXY_HEADER_MAX])
{
	static const unsigned char begin[13] = "\r\n\r\n\0\r\nQUIT\n\x21";	/* the signature; version 2, PROXY */
	union addr from, at;
	socklen_t from_len = sizeof(from), at_len = sizeof(at);
	bool v6;
	size_t ip;

	if (getpeername(client, &from.sa, &from_len) || getsockname(client, &at.sa, &at_len))
		return 0;
	v6 = at.sa.sa_family == AF_INET6;
	ip = v6 ? 16 : 4;
	memcpy(to, begin, sizeof(begin));
	to[13] = v6 ? TCP_OVER_IPV6 : TCP_OVER_IPV4;
	to[14] = 0;
	to[15] = (unsigned char)(2 * ip + 4);		/* what follows */
	memcpy(to + 16, v6 ? (void *)&from.in6.sin6_addr : &from.in.sin_addr, ip);
	memcpy(to + 16 + ip, v6 ? (void *)&at.in6.sin6_addr : &at.in.sin_addr, ip);
	memcpy(to + 16 + 2 * ip, &from.in.sin_port, 2);
	memcpy(to + 18 + 2 * ip, &at.in.sin_port, 2);
	return 20 + 2 * ip;
}
