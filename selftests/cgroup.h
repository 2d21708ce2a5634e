/* SPDX-License-Identifier: GPL-2.0 */
/* cgroup.h: a cgroup v2 for the sockets of this process, which the engine sockmap needs. */
#ifndef SELFTESTS_CGROUP_H
#define SELFTESTS_CGROUP_H

/* Makes one and moves this process there; its children begin there. NULL, or why that cannot be done. */
const char *cgroup_enter(void);
void cgroup_leave(void);		/* back to where it was; the cgroup goes */
const char *cgroup_path(void);		/* NULL: not entered */
int cgroup_outside(int (*fn)(void *arg), void *arg);	/* calls it outside: sockets made there are not learned */

#endif /* SELFTESTS_CGROUP_H */
