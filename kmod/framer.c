// SPDX-License-Identifier: GPL-2.0
/*
 * Records whose length a BPF program tells. It is of the type that a sockmap takes for its stream
 * parser, and is run as one: on an skb that begins with the record, or with as much of it as has
 * come. Here that skb is a linear copy of the first bytes, so the program may do with it what it
 * likes; what it says is all that counts:
 *   > 0  the length of the whole record, which may go on far behind what has come
 *   0    more bytes are needed to know; the record's first bytes stay on the source until then
 *   < 0  -errno: this is no record, the source has failed
 *
 * It is asked once for each record, and for a few of them ahead, so that small ones are sent
 * together. The flow's limit in bytes is none until the last record has moved, and 0 from then on.
 */
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <net/sock.h>

#include "batch.h"
#include "sksplice.h"

/* Records known at most: what a program may be asked for in one batch. */
#define SKSPLICE_FRAMER_AHEAD 32

struct sksplice_framer {
	struct bpf_prog *prog;				/* c: a reference */
	u64 records;					/* S: not yet moved as a whole; U64_MAX: all */
	unsigned int nr;				/* S: of known */
	u32 known[SKSPLICE_FRAMER_AHEAD];		/* S: bytes left of the next records */
};

/* Where the next bytes of the source are. */
struct sksplice_framer_view {
	const u8 *bytes;				/* NULL: in its receive queue */
	size_t len;
};

static struct bpf_prog *sksplice_framer_prog(u32 fd, const char **why)
{
	struct bpf_prog *prog = bpf_prog_get_type(fd, BPF_PROG_TYPE_SK_SKB);

	if (prog == ERR_PTR(-EBADF))
		*why = "the framer is not an open descriptor";
	else if (prog == ERR_PTR(-EINVAL))
		*why = "the framer is not a BPF program of type sk_skb";
	if (IS_ERR(prog))
		return prog;
	/* 0: from a loader that says nothing */
	if (prog->expected_attach_type && prog->expected_attach_type != BPF_SK_SKB_STREAM_PARSER) {
		bpf_prog_put(prog);
		*why = "the framer is not a program for stream parsers";
		return ERR_PTR(-EINVAL);
	}
	return prog;
}

/* Context: process, the descriptor is the caller's. @records: when the flow ends; U64_MAX: never. */
struct sksplice_framer *sksplice_framer_new(u32 fd, u64 records, const char **why)
{
	struct bpf_prog *prog = sksplice_framer_prog(fd, why);
	struct sksplice_framer *framer;

	if (IS_ERR(prog))
		return ERR_CAST(prog);
	framer = kzalloc(sizeof(*framer), GFP_KERNEL_ACCOUNT);
	if (!framer) {
		bpf_prog_put(prog);
		return ERR_PTR(-ENOMEM);
	}
	framer->prog = prog;
	framer->records = records;
	return framer;
}

/* Context: process; no run is left that could ask the program. NULL is fine. */
void sksplice_framer_free(struct sksplice_framer *framer)
{
	if (!framer)
		return;
	bpf_prog_put(framer->prog);
	kfree(framer);
}

/* How many bytes the known records are. */
static u64 sksplice_framer_known(const struct sksplice_framer *framer)
{
	unsigned int i;
	u64 sum = 0;

	for (i = 0; i < framer->nr; i++)
		sum += framer->known[i];
	return sum;
}

/* The bytes from @skip on, as many as a program sees; how many, or -errno. */
static int sksplice_framer_look(struct sk_buff *skb, struct sock *sk,
				const struct sksplice_framer_view *view, size_t skip)
{
	int n;

	if (view->bytes) {
		n = min_t(size_t, view->len - skip, SKSPLICE_FRAMER_WINDOW);
		memcpy(skb->data, view->bytes + skip, n);
	} else {
		n = sksplice_gather_copy(sk, skip, skb->data, SKSPLICE_FRAMER_WINDOW);
	}
	if (n > 0)
		skb_put(skb, n);
	return n;
}

/*
 * As a stream parser is run, and BH off in a generic run, too. The helpers look at skb->sk, and at
 * the headers' offsets. What bpf_sk_redirect_map() leaves behind is in the place of a route, which
 * the skb must not be freed with.
 */
static int sksplice_framer_run(const struct bpf_prog *prog, struct sk_buff *skb, struct sock *sk)
{
	int ret;

	skb_reset_mac_header(skb);
	skb_reset_network_header(skb);
	skb_reset_transport_header(skb);
	skb->sk = sk;
	local_bh_disable();
	rcu_read_lock();
	ret = bpf_prog_run_pin_on_cpu(prog, skb);
	rcu_read_unlock();
	local_bh_enable();
	skb->sk = NULL;
	skb->_skb_refdst = 0;
	return ret;
}

/* What a program says is passed on when it is an errno that a user can have heard of. */
static int sksplice_framer_error(int answer)
{
	return answer < 0 && answer > -ERESTARTSYS ? -answer : EPROTO;
}

/*
 * In a run. Asks for the length of the record that begins @skip bytes from here. GO: it is known
 * now; EMPTY: not enough of it has come. That it is no record fails the flow once all before it
 * has moved.
 */
static enum sksplice_verdict sksplice_framer_ask(struct sksplice_flow *flow,
						 const struct sksplice_framer_view *view,
						 size_t skip)
{
	struct sksplice_framer *framer = flow->extra->framer;
	struct sock *sk = sksplice_src(flow);
	struct sk_buff *skb;
	int seen, answer;

	skb = alloc_skb(SKSPLICE_FRAMER_WINDOW, GFP_ATOMIC | __GFP_NOWARN);
	if (!skb) {
		sksplice_count(nomem);
		return SKSPLICE_NOMEM;
	}
	answer = seen = sksplice_framer_look(skb, sk, view, skip);
	if (seen > 0)
		answer = sksplice_framer_run(framer->prog, skb, sk);
	consume_skb(skb);
	if (answer > 0) {
		framer->known[framer->nr++] = answer;
		return SKSPLICE_GO;
	}
	if (!answer && seen < SKSPLICE_FRAMER_WINDOW)
		return SKSPLICE_EMPTY;
	if (!skip)
		sksplice_flow_fail(flow, true, sksplice_framer_error(answer));
	return SKSPLICE_STOPPED;
}

/*
 * In a run. How many of the next *@len bytes may move: *@len is cut to those of known records. GO:
 * so many, and none is as if none had come; else the run ends.
 */
static enum sksplice_verdict sksplice_framer_allow(struct sksplice_flow *flow,
						   const struct sksplice_framer_view *view,
						   size_t *len)
{
	struct sksplice_framer *framer = flow->extra->framer;
	u64 known = sksplice_framer_known(framer);
	enum sksplice_verdict v = SKSPLICE_GO;

	sksplice_assert_run(flow);
	while (v == SKSPLICE_GO && known < *len && framer->nr < SKSPLICE_FRAMER_AHEAD &&
	       framer->nr < framer->records) {
		v = sksplice_framer_ask(flow, view, known);
		if (v == SKSPLICE_GO)
			known += framer->known[framer->nr - 1];
	}
	*len = min_t(u64, *len, known);
	return *len || v == SKSPLICE_EMPTY ? SKSPLICE_GO : v;
}

/*
 * Both slocks held. The same of a batch from the source's receive queue, perhaps to nothing. What
 * is held back for more to come must be sure to come: only the rest of a record that is known.
 */
enum sksplice_verdict sksplice_framer_cut(struct sksplice_flow *flow, struct sksplice_batch *batch)
{
	struct sksplice_framer_view view = { .bytes = NULL };
	enum sksplice_verdict v;
	size_t left;

	if (!flow->extra->framer)
		return SKSPLICE_GO;
	v = sksplice_framer_allow(flow, &view, &batch->len);
	batch->more &= sksplice_framer_known(flow->extra->framer) > batch->len;
	left = batch->len;
	for (batch->nr = 0; left; batch->nr++) {
		struct bio_vec *vec = &batch->vec[batch->nr];

		vec->bv_len = min_t(size_t, vec->bv_len, left);
		left -= vec->bv_len;
	}
	return v;
}

/*
 * Mutex held. The same of bytes in a buffer: it holds all there is, or SKSPLICE_FRAMER_WINDOW
 * bytes at least.
 */
enum sksplice_verdict sksplice_framer_cut_bytes(struct sksplice_flow *flow, const u8 *bytes,
						size_t *len)
{
	struct sksplice_framer_view view = { .bytes = bytes, .len = *len };

	return flow->extra->framer ? sksplice_framer_allow(flow, &view, len) : SKSPLICE_GO;
}

/* In a run. The sink accepted @sent of what was cut, and they are counted as moved. */
void sksplice_framer_passed(struct sksplice_flow *flow, size_t sent)
{
	struct sksplice_framer *framer = flow->extra->framer;

	while (framer && sent) {
		u32 n = min_t(size_t, sent, framer->known[0]);

		sent -= n;
		framer->known[0] -= n;
		if (framer->known[0])
			return;
		framer->nr--;
		memmove(framer->known, framer->known + 1, framer->nr * sizeof(framer->known[0]));
		if (!--framer->records)
			flow->left = 0;
	}
}
