// SPDX-License-Identifier: GPL-2.0
/*
 * Finds the next bytes of a source's receive queue and describes them as a batch. Takes no
 * reference to anything: what a batch points at is good for as long as the slock is held.
 */
#include <linux/mm.h>
#include <linux/skbuff.h>
#include <net/tcp.h>

#include "batch.h"
#include "compat.h"
#include "sksplice.h"

/* Below this a copy is cheaper than a page reference, which pins a page or more per fragment. */
#define SKSPLICE_COPYBREAK 1024

/* Deeper nesting of frag_list than any driver or GRO makes. */
#define SKSPLICE_FRAG_LIST_DEPTH 8

struct sksplice_gather {
	struct sksplice_batch *batch;
	const struct sock *sink;
	const struct sk_buff *outer;	/* the receive queue's skb: what its truesize is charged to */
	size_t room;			/* bytes that may still be taken */
};

/*
 * Does what is handed on pin the memory of this fragment anyway? Then a small one costs nothing
 * more, and the tail of a large write does not break up the batch.
 */
static bool sksplice_pinned(const struct sksplice_batch *b, const struct page *page)
{
	return b->nr && !b->copy &&
	       compound_head(b->vec[b->nr - 1].bv_page) == compound_head((struct page *)page);
}

static bool sksplice_must_copy(const struct sksplice_gather *g, const struct sk_buff *skb,
			       const struct page *page, size_t len)
{
	const struct sk_buff *outer = g->outer;

	if ((len < SKSPLICE_COPYBREAK || outer->truesize > 4 * outer->len) &&
	    !sksplice_pinned(g->batch, page))
		return true;
	return skb_zcopy((struct sk_buff *)skb) || !sendpage_ok((struct page *)page) ||
	       !(g->sink->sk_route_caps & NETIF_F_SG);
}

/* Who writes little at a time fills a page piece by piece: does this one begin where the last ended? */
static bool sksplice_gather_joins(const struct sksplice_batch *b, const struct page *page,
				  size_t off)
{
	const struct bio_vec *last;

	if (!b->nr || b->copy)
		return false;
	last = &b->vec[b->nr - 1];
	return last->bv_page == page && last->bv_offset + last->bv_len == off;
}

/*
 * Adds a segment, cut to what may still be taken. False: the batch is full, or the segment is
 * of the other kind and must go into the next batch.
 */
static bool sksplice_gather_add(struct sksplice_gather *g, struct page *page, size_t off,
				size_t len, bool copy)
{
	struct sksplice_batch *b = g->batch;

	if (!g->room)
		return false;
	len = min(len, g->room);
	if (!copy && sksplice_gather_joins(b, page, off)) {
		b->vec[b->nr - 1].bv_len += len;
	} else if (b->nr == SKSPLICE_BATCH || (b->nr && b->copy != copy)) {
		b->more = true;
		return false;
	} else {
		b->copy = copy;
		b->vec[b->nr++] = (struct bio_vec) {
			.bv_page = page, .bv_offset = off, .bv_len = len,
		};
	}
	b->len += len;
	g->room -= len;
	return true;
}

/* The part of the linear head from *@off on; a head out of the slab can only be copied. */
static bool sksplice_gather_head(struct sksplice_gather *g, const struct sk_buff *skb,
				 size_t *off, size_t *len)
{
	size_t n = skb_headlen(skb);
	struct page *page;
	void *data;

	if (*off >= n) {
		*off -= n;
		return true;
	}
	n = min(n - *off, *len);
	data = skb->data + *off;
	page = virt_to_page(data);
	*off = 0;
	*len -= n;
	if (!skb->head_frag)
		return sksplice_gather_add(g, page, offset_in_page(data), n, true);
	page = virt_to_head_page(data);
	return sksplice_gather_add(g, page, data - page_address(page), n,
				   sksplice_must_copy(g, skb, page, n));
}

static bool sksplice_gather_frags(struct sksplice_gather *g, const struct sk_buff *skb,
				  size_t *off, size_t *len)
{
	int i;

	for (i = 0; i < skb_shinfo(skb)->nr_frags && *len; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];
		size_t n = skb_frag_size(frag);

		if (*off >= n) {
			*off -= n;
			continue;
		}
		n = min(n - *off, *len);
		if (!sksplice_gather_add(g, skb_frag_page(frag), skb_frag_off(frag) + *off, n,
					 sksplice_must_copy(g, skb, skb_frag_page(frag), n)))
			return false;
		*off = 0;
		*len -= n;
	}
	return true;
}

/* @len bytes of @skb from @off on. False: the batch ends here. */
static bool sksplice_gather_skb(struct sksplice_gather *g, const struct sk_buff *skb, size_t off,
				size_t len, int depth)
{
	const struct sk_buff *frag;

	if (!sksplice_frags_readable(skb) || depth > SKSPLICE_FRAG_LIST_DEPTH) {
		g->batch->broken = !g->batch->nr;
		return false;
	}
	if (!sksplice_gather_head(g, skb, &off, &len) ||
	    !sksplice_gather_frags(g, skb, &off, &len))
		return false;
	skb_walk_frags(skb, frag) {
		size_t n;

		if (!len)
			break;
		if (off >= frag->len) {
			off -= frag->len;
			continue;
		}
		n = min_t(size_t, frag->len - off, len);
		if (!sksplice_gather_skb(g, frag, off, n, depth + 1))
			return false;
		off = 0;
		len -= n;
	}
	return true;
}

/* How much of @len bytes at @seq comes before the urgent byte. */
static size_t sksplice_before_urgent(const struct sock *sk, u32 seq, size_t len)
{
	const struct tcp_sock *tp = tcp_sk(sk);

	if (likely(!tp->urg_data) || sock_flag(sk, SOCK_URGINLINE))
		return len;
	return min_t(size_t, len, (u32)(tp->urg_seq - seq));
}

/*
 * Both slocks held, not owned. Fills @batch with at most @max bytes from copied_seq on, stopping
 * before an urgent byte. Skbs in the queue may overlap: each one's offset follows from its seq.
 */
void sksplice_gather(struct sksplice_flow *flow, struct sksplice_batch *batch, size_t max)
{
	struct sock *sk = sksplice_src(flow);
	u32 off, seq = tcp_sk(sk)->copied_seq;
	struct sksplice_gather g = {
		.batch = batch, .sink = sksplice_dst(flow), .room = max,
	};
	struct sk_buff *skb = tcp_recv_skb(sk, seq, &off);

	sksplice_assert_slock(sk);
	sksplice_assert_slock(sksplice_dst(flow));
	batch->nr = 0;
	batch->len = 0;
	batch->more = false;
	batch->broken = false;
	for (; skb; skb = skb_queue_next(&sk->sk_receive_queue, skb)) {
		size_t n, whole;

		off = seq - TCP_SKB_CB(skb)->seq;
		if (off < skb->len) {
			whole = skb->len - off;
			n = sksplice_before_urgent(sk, seq, whole);
			g.outer = skb;
			if (n && !sksplice_gather_skb(&g, skb, off, n, 0))
				return;
			seq += n;
			if (n < whole)
				return;
		}
		if (skb_queue_is_last(&sk->sk_receive_queue, skb))
			return;
	}
}

/*
 * slock held, not owned. Copies at most @max bytes of the stream, @skip bytes after copied_seq, to
 * @to; an urgent byte out of line is none of them, and none was among those skipped. How many there
 * were, -EFAULT when they cannot be read.
 */
int sksplice_gather_copy(struct sock *sk, size_t skip, u8 *to, size_t max)
{
	u32 off, seq = tcp_sk(sk)->copied_seq;
	struct sk_buff *skb = tcp_recv_skb(sk, seq, &off);
	size_t done = 0;

	sksplice_assert_slock(sk);
	for (seq += skip; skb; skb = skb_queue_next(&sk->sk_receive_queue, skb)) {
		for (off = seq - TCP_SKB_CB(skb)->seq; off < skb->len && done < max;
		     off = seq - TCP_SKB_CB(skb)->seq) {
			size_t n = min_t(size_t, skb->len - off, max - done);

			n = sksplice_before_urgent(sk, seq, n);
			if (n && skb_copy_bits(skb, off, to + done, n))
				return -EFAULT;
			done += n;
			seq += n ? : 1;		/* steps over the urgent byte */
		}
		if (done == max || skb_queue_is_last(&sk->sk_receive_queue, skb))
			break;
	}
	return done;
}
