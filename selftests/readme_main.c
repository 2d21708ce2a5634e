// SPDX-License-Identifier: GPL-2.0
/* What readme.sh and packages.sh put behind the README's program: two connections to join, and, with an argument, none. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	int a[2], b[2];
	char got[8] = "";

	(void)argv;
	if (argc > 1)
		return join(-1, -1) == 0;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, a) || socketpair(AF_UNIX, SOCK_STREAM, 0, b))
		return 1;
	if (write(a[1], "hello", 5) != 5 || shutdown(a[1], SHUT_WR) || shutdown(b[1], SHUT_WR) || join(a[0], b[0]))
		return 1;
	return read(b[1], got, sizeof(got)) != 5 || strcmp(got, "hello");
}
