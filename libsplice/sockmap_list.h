/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/* sockmap_list.h: the splices of this process, for splicectl to see; and those of others. */
#ifndef SPL_SOCKMAP_LIST_H
#define SPL_SOCKMAP_LIST_H

#include "listed.h"
#include "sockmap_skb.h"
#include "user.h"

/* sockmap_list.c. Any thread; a child makes its own. inherited: who got it was its parent. */
void sockmap_list_get(void);
void sockmap_list_put(bool inherited);
void sockmap_list_ways(int ways);
extern const struct user_book sockmap_book;

/* sockmap_listed.c */
uint64_t sockmap_listed_namespace(void);
uint64_t sockmap_listed_started(pid_t pid);	/* 0: there is none */
bool sockmap_listed_sweep(void);		/* removes what dead processes have left; false: there is no such directory */

#endif /* SPL_SOCKMAP_LIST_H */
