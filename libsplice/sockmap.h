/* SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause */
/*
 * Private to the engine sockmap: the engine user and a hop. What goes to a TCP sink whose peer is on this host goes into that
 * peer's receive queue; see bpf/local.bpf.c for the kernel's part, Documentation/engines.md for what that means.
 */
#ifndef SPL_SOCKMAP_H
#define SPL_SOCKMAP_H

#include "../bpf/local.h"
#include "user.h"

/* Of the process; all contexts of the engine use the same. Constant from the first open to the last close. */
struct sockmap_maps {
	int peers, sinks, hops, counts, ports, ways;
	int arm, engage, steer;	/* and programs */
};

struct sockmap_attachment;
struct sockmap_ports;

/* sockmap_load.c */
int sockmap_load_get(struct spl *s, const char *cgroup, struct sockmap_ports *ports, struct sockmap_attachment **out);
void sockmap_load_put(struct sockmap_attachment *a, struct sockmap_ports *ports, bool inherited);
const struct sockmap_maps *sockmap_load_maps(void);
bool sockmap_load_splices(void);
int sockmap_load_counts(uint64_t out[LOCAL_COUNTS]);

/* sockmap_ports.c */
int sockmap_ports_parse(struct spl *s, const char *text, struct sockmap_ports **out);
void sockmap_ports_add(struct sockmap_ports *p);
void sockmap_ports_remove(struct sockmap_ports *p, bool inherited);
void sockmap_ports_disown(void);

/* sockmap_hop.c */
extern const struct user_hop sockmap_hop;
bool sockmap_hop_name(int fd, struct local_key *own, struct local_key *peer);
int sockmap_hop_enter(int fd, const struct local_key *peer, bool learned);

uint32_t sockmap_hop_ask(struct user_sock *sock, enum local_phase what);

/* sockmap_wait.c */
bool sockmap_wait_begin(struct user_sock *sock);
void sockmap_wait_end(struct user_sock *sock);
void sockmap_wait_tick(struct user *u);
void sockmap_wait_free(struct sockmap_waits *w);

/* sockmap_bypass.c */
extern const struct user_bypass sockmap_bypass;

/* sockmap_mover.c */
extern const struct user_mover sockmap_mover;

/* sockmap_test.c */
int sockmap_test(struct spl *s, bool *tried, bool *splices);
bool sockmap_test_connect(int fds[3]);

/* sockmap_skb_test.c */
int sockmap_skb_test(struct spl *s);

#endif /* SPL_SOCKMAP_H */
