// SPDX-License-Identifier: GPL-2.0
/* sockmap_way.c: see sockmap_way.h. */
#include "util.h"
#include "sockmap_way.h"

/* For all tests of a program at once. */
static void __attribute__((constructor)) want_root(void)
{
	if (!geteuid())
		return;
	printf("TAP version 13\n1..1\nok 1 all # SKIP wants root\n");
	exit(0);
}

void *way_drive(void *arg)
{
	struct way *w = arg;

	do {
		struct pollfd p[2] = { { .fd = w->source }, { .fd = w->sink } };

		sockmap_skb_run(w->flow, &w->st);
		if (w->st.phase == SOCKMAP_EOF)
			shutdown(w->sink, SHUT_WR);
		if (w->st.phase >= SOCKMAP_EOF)
			break;
		p[0].events = w->st.source_events;
		p[1].events = w->st.sink_events;
		if (!p[0].events)
			p[0].fd = -1;
		poll(p, 2, w->st.tick ? SOCKMAP_TICK_MS : 100);
	} while (!w->stop);
	return NULL;
}

int way_begin_n(struct way *w, uint64_t n)
{
	return sockmap_skb_begin(w->source, w->sink, n, &w->flow);
}

int way_begin(struct way *w)
{
	return way_begin_n(w, SOCKMAP_ALL);
}

void way_let_run(struct way *w)
{
	w->stop = false;
	w->driven = !pthread_create(&w->thread, NULL, way_drive, w);
}

void way_halt(struct way *w)
{
	if (w->driven)
		pthread_join(w->thread, NULL);
	w->driven = false;
}

void way_stop(struct way *w)
{
	w->stop = true;
	way_halt(w);
}

/* Until the bytes are with the sink. */
int way_end(struct way *w)
{
	uint64_t until = now_ms() + WAIT_MS;
	int err;

	way_stop(w);
	while ((err = sockmap_skb_end(w->flow, &w->st)) == -EAGAIN && now_ms() < until)
		sleep_ms(1);
	if (err != -EAGAIN)
		w->flow = NULL;
	return err;
}

uint64_t way_taken_by(const struct way *w)
{
	return w->st.bytes + w->st.backlog;
}

int way_until_taken(struct way *w, uint64_t n)
{
	uint64_t until = now_ms() + WAIT_MS;

	do {
		sockmap_skb_run(w->flow, &w->st);
		if (way_taken_by(w) >= n)
			return 0;
		sleep_ms(1);
	} while (now_ms() < until);
	return -ETIMEDOUT;
}

void way_free(struct way *w)
{
	way_stop(w);
	if (w->flow)
		sockmap_skb_drop(w->flow);
	w->flow = NULL;
}
