// SPDX-License-Identifier: GPL-2.0
/*
 * sockmap_skb_locked.c: bytes and their end come while somebody has the source, so that a worker of the kernel is to read
 * them: it is late, and nobody tells when it has. All sources of a machine have one worker, who waits for a socket that
 * somebody has.
 */
#include "harness.h"
#include "sockmap_way.h"
#include "../libsplice/sockmap_maps.h"

#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE	4096
#define LONG	(4u << 20)	/* a send of so much looks after what has come to its socket meanwhile */

/* Who sends on a socket has it as long as he waits for the first page of what he sends, and then for the last. */
struct holder {
	int fd, uffd;
	char *text;
	size_t len;
	bool sends;
	pthread_t thread;
};

static void *hold(void *arg)
{
	struct holder *h = arg;

	send(h->fd, h->text, h->len, MSG_NOSIGNAL | MSG_DONTWAIT);
	return NULL;
}

static int fill_pages(struct holder *h, size_t from, size_t to)
{
	struct uffdio_zeropage z = { .range = { .start = (uintptr_t)h->text + from, .len = to - from } };

	return from < to && ioctl(h->uffd, UFFDIO_ZEROPAGE, &z) ? -errno : 0;
}

static int until_held(struct holder *h)
{
	struct uffd_msg msg;

	if (poll_fd(h->uffd, POLLIN, WAIT_MS) != POLLIN)
		return -ETIMEDOUT;
	return read(h->uffd, &msg, sizeof(msg)) == sizeof(msg) && msg.event == UFFD_EVENT_PAGEFAULT ? 0 : -EIO;
}

/* -ENOSYS: this kernel has no such pages. */
static int holder_pages(struct holder *h)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	h->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (h->uffd < 0)
		return -ENOSYS;
	h->text = mmap(NULL, h->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (h->text == MAP_FAILED)
		return -errno;
	reg.range.start = (uintptr_t)h->text;
	reg.range.len = h->len;
	madvise(h->text, h->len, MADV_NOHUGEPAGE);
	return ioctl(h->uffd, UFFDIO_API, &api) || ioctl(h->uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

static int holder_begin(struct holder *h, int fd, size_t len)
{
	int err;

	h->fd = fd;
	h->len = len;
	err = holder_pages(h);
	if (!err)
		err = fill_pages(h, PAGE, len - PAGE);
	if (!err)
		err = -pthread_create(&h->thread, NULL, hold, h);
	h->sends = !err;
	return err ? err : until_held(h);
}

/* He goes on, and is to wait once more. */
static int holder_next(struct holder *h)
{
	int err = fill_pages(h, 0, PAGE);

	return err ? err : until_held(h);
}

static void holder_end(struct holder *h)
{
	if (h->sends) {
		fill_pages(h, 0, PAGE);
		fill_pages(h, h->len - PAGE, h->len);
		pthread_join(h->thread, NULL);
		munmap(h->text, h->len);
		close(h->uffd);
	}
	h->sends = false;
}

FIXTURE(sockmap_locked) {
	struct relay r, other;
	struct way way, others;
	struct holder worker, source;
	struct spl *s;
	struct spl_event ev;
	uint64_t token;
};

FIXTURE_SETUP(sockmap_locked)
{
	struct spl_open_opts opts = { .sz = sizeof(opts), .engine = SPL_ENGINE_SOCKMAP };

	ASSERT_EQ(0, relay_open(&self->r, NET_V4));
	ASSERT_EQ(0, relay_open(&self->other, NET_V4));
	ASSERT_EQ(0, sockmap_skb_get());
	ASSERT_EQ(0, spl_open(&self->s, &opts));
	self->way = (struct way){ .source = self->r.a, .sink = self->r.b };
	self->others = (struct way){ .source = self->other.a, .sink = self->other.b };
}

FIXTURE_TEARDOWN(sockmap_locked)
{
	holder_end(&self->source);
	holder_end(&self->worker);
	spl_close(self->s);
	way_free(&self->way);
	way_free(&self->others);
	sockmap_skb_put(false);
	relay_close(&self->r);
	relay_close(&self->other);
}

/* The worker waits for the other source, until worker ends. */
static int hold_worker(struct _test_data_sockmap_locked *self)
{
	int err = set_opt(self->other.a, SOL_SOCKET, SO_SNDBUFFORCE, 4 * LONG);

	if (!err)
		err = way_begin(&self->others);
	if (!err)
		err = holder_begin(&self->worker, self->other.a, LONG);
	if (!err)
		err = put(self->other.c, BACK, 0, 1);
	return err ? err : holder_next(&self->worker);
}

/* n bytes and the end have come to source, and are for the worker to read. */
static int come_while_held(struct _test_data_sockmap_locked *self, int source, size_t n)
{
	int err = holder_begin(&self->source, source, 2 * PAGE);

	if (!err)
		err = put(self->r.c, SEED, 0, n);
	if (!err)
		err = fin(&self->r.c);
	holder_end(&self->source);
	return err ? err : poll_fd(source, POLLRDHUP, WAIT_MS) == POLLRDHUP ? 0 : -ETIMEDOUT;
}

#define worker_held()										\
	do {											\
		int __err = hold_worker(self);							\
												\
		if (__err == -ENOSYS)								\
			SKIP(return, "no userfaultfd here");					\
		ASSERT_EQ(0, __err);								\
	} while (0)

/* Not when somebody happens to look again, which may be seconds later. */
TEST_F(sockmap_locked, an_end_behind_bytes_is_not_late)
{
	int a = dup(self->r.a);
	uint64_t since;

	begun(spl_splice(self->s, self->r.a, self->r.b, NULL, &self->token));
	self->r.a = self->r.b = -1;
	ASSERT_EQ(0, spl_next(self->s, &self->ev, 0));
	worker_held();
	ASSERT_EQ(0, come_while_held(self, a, 1000));
	close_fd(&a);
	ASSERT_EQ(0, spl_next(self->s, &self->ev, QUIET_MS));
	EXPECT_EQ(0, queued(self->r.s));
	holder_end(&self->worker);
	since = now_ms();
	ASSERT_EQ(1, spl_next(self->s, &self->ev, WAIT_MS));
	EXPECT_GT(1000, now_ms() - since);
	EXPECT_EQ(SPL_EOF, self->ev.cause);
	EXPECT_EQ(1000, self->ev.bytes);
	EXPECT_EQ(0, take(self->r.s, SEED, 0, 1000));
	EXPECT_EQ(0, at_eof(self->r.s));
}

/* What the worker is about to read stays with the source, which is not taken out under him. */
TEST_F(sockmap_locked, ended_before_the_worker_ran)
{
	ASSERT_EQ(0, way_begin(&self->way));
	worker_held();
	ASSERT_EQ(0, come_while_held(self, self->r.a, 1000));
	EXPECT_EQ(-EAGAIN, sockmap_skb_end(self->way.flow, &self->way.st));
	EXPECT_EQ(SOCKMAP_MOVING, self->way.st.phase);
	EXPECT_TRUE(self->way.st.tick);
	holder_end(&self->worker);
	EXPECT_EQ(0, way_end(&self->way));
	EXPECT_EQ(0, self->way.st.bytes);
	EXPECT_EQ(0, take(self->r.a, SEED, 0, 1000));
	EXPECT_EQ(0, at_eof(self->r.a));
}

/* As if the worker had taken so many bytes that no sink was given. */
static int end_with_lost(struct _test_data_sockmap_locked *self, unsigned int n)
{
	int err = way_begin(&self->way);

	if (!err)
		err = put(self->r.c, SEED, 0, 1000);
	if (!err)
		err = take(self->r.s, SEED, 0, 1000);
	if (!err)
		err = fin(&self->r.c);
	if (err)
		return err;
	if (poll_fd(self->r.a, POLLRDHUP, WAIT_MS) != POLLRDHUP)
		return -ETIMEDOUT;
	sockmap_maps.ways[sockmap_skb_number(self->way.flow)].taken -= n;
	return way_end(&self->way);
}

/* A FIN counts in TCP's figures. */
TEST_F(sockmap_locked, an_end_is_no_loss)
{
	EXPECT_EQ(0, end_with_lost(self, 0));
}

TEST_F(sockmap_locked, a_byte_before_an_end_is)
{
	EXPECT_EQ(-EIO, end_with_lost(self, 1));
}

SUITE_MAIN
