// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that run the pump for streams, one for each processor that there may be, and 64 at most.
 *
 * They are SCHED_BATCH, for which workqueues have no word: as big a share as anybody's, but waking one
 * does not take the processor from who is running. That is the sender, and he has more. A worker that runs
 * at once comes for every third small write, and makes the sink's peer do the same; one
 * that waits until the sender is stopped by a full buffer, or his time is up, finds 80 to 200 KB. On
 * a processor that is idle it runs at once all the same.
 *
 * One lock for all: it is taken for a batch, not for a message.
 */
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>
#include <uapi/linux/sched/types.h>

#include "sksplice.h"

#define SKSPLICE_RUNNERS_MAX	64

struct sksplice_runner {
	struct list_head idle;
	struct task_struct *task;
};

static struct {
	spinlock_t lock;
	struct list_head ready;		/* flows that want a run, not those in one */
	struct list_head idle;		/* runners, the one that had work last first */
	unsigned int nr;
	struct sksplice_runner *runner;
} sksplice_runners = {
	.lock = __SPIN_LOCK_UNLOCKED(sksplice_runners.lock),
	.ready = LIST_HEAD_INIT(sksplice_runners.ready),
	.idle = LIST_HEAD_INIT(sksplice_runners.idle),
};

/*
 * sksplice_runners.lock held. Who is to be woken for one more flow? NULL: those that are awake will come to it. He is woken
 * before the lock is let go: whoever does it may lose the processor right then, and for long.
 */
static struct task_struct *sksplice_runner_idle(void)
{
	struct sksplice_runner *r;

	lockdep_assert_held(&sksplice_runners.lock);
	r = list_first_entry_or_null(&sksplice_runners.idle, struct sksplice_runner, idle);
	if (!r)
		return NULL;
	list_del_init(&r->idle);
	return r->task;
}

/* As sksplice_pump_kick(), which has set KICKED. Never two runners for a flow: the second would only spin. */
void sksplice_runner_queue(struct sksplice_flow *flow)
{
	struct task_struct *task = NULL;
	unsigned long irq;

	spin_lock_irqsave(&sksplice_runners.lock, irq);		/* some kick with interrupts off */
	set_bit(SKSPLICE_RUN_STREAM, &flow->run);
	if (test_bit(SKSPLICE_RUN_NOW, &flow->run)) {
		set_bit(SKSPLICE_RUN_AGAIN, &flow->run);
	} else if (list_empty(&flow->ready)) {
		list_add_tail(&flow->ready, &sksplice_runners.ready);
		task = sksplice_runner_idle();
	}
	if (task)
		wake_up_process(task);
	spin_unlock_irqrestore(&sksplice_runners.lock, irq);
}

/*
 * Runner, before it offers the processor: another one is woken for the flow then, as is who cancels it. Where
 * kernel code is preempted it can lose it in a run, too, and keeps the flow, as any worker does.
 */
static void sksplice_runner_put(struct sksplice_flow *flow)
{
	struct task_struct *task = NULL;
	bool over;

	spin_lock_irq(&sksplice_runners.lock);
	clear_bit(SKSPLICE_RUN_NOW, &flow->run);
	if (test_and_clear_bit(SKSPLICE_RUN_AGAIN, &flow->run)) {
		list_add_tail(&flow->ready, &sksplice_runners.ready);
		if (need_resched())
			task = sksplice_runner_idle();
	}
	over = !sksplice_flow_live(flow);
	if (task)
		wake_up_process(task);
	spin_unlock_irq(&sksplice_runners.lock);
	/* its memory may be gone: only the address counts */
	if (over) {
		smp_mb();	/* NOW before the look at who waits */
		wake_up_var(flow);
	}
}

/* Runner. NULL: there is none, and the task's state is that of one who waits. */
static struct sksplice_flow *sksplice_runner_take(struct sksplice_runner *r)
{
	struct sksplice_flow *flow;

	spin_lock_irq(&sksplice_runners.lock);
	list_del_init(&r->idle);
	flow = list_first_entry_or_null(&sksplice_runners.ready, struct sksplice_flow, ready);
	if (flow) {
		list_del_init(&flow->ready);
		set_bit(SKSPLICE_RUN_NOW, &flow->run);
	} else {
		set_current_state(TASK_IDLE);
		list_add(&r->idle, &sksplice_runners.idle);
	}
	spin_unlock_irq(&sksplice_runners.lock);
	return flow;
}

static int sksplice_runner_run(void *data)
{
	struct sched_attr attr = { .size = sizeof(attr), .sched_policy = SCHED_BATCH };
	struct sksplice_flow *flow;

	/* should it fail, streams are forwarded in smaller pieces */
	sched_setattr_nocheck(current, &attr);
	for (;;) {
		flow = sksplice_runner_take(data);
		if (flow) {
			sksplice_pump_turn(flow);
			sksplice_runner_put(flow);
			cond_resched_tasks_rcu_qs();
		} else if (kthread_should_stop()) {
			break;
		} else {
			schedule();
		}
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

/*
 * Process context. The flow is not live, and nothing but a run that began before can queue it:
 * afterwards no runner has it.
 */
void sksplice_runner_cancel(struct sksplice_flow *flow)
{
	bool now;

	do {
		spin_lock_irq(&sksplice_runners.lock);
		WARN_ON_ONCE(sksplice_flow_live(flow));
		clear_bit(SKSPLICE_RUN_AGAIN, &flow->run);
		list_del_init(&flow->ready);
		now = test_bit(SKSPLICE_RUN_NOW, &flow->run);
		spin_unlock_irq(&sksplice_runners.lock);
		if (now)
			wait_var_event(flow, !test_bit(SKSPLICE_RUN_NOW, &flow->run));
	} while (now);
}

/* No flow is left. */
void sksplice_runner_exit(void)
{
	while (sksplice_runners.nr)
		kthread_stop(sksplice_runners.runner[--sksplice_runners.nr].task);
	kfree(sksplice_runners.runner);
}

int sksplice_runner_init(void)
{
	unsigned int most = min_t(unsigned int, num_possible_cpus(), SKSPLICE_RUNNERS_MAX);
	struct sksplice_runner *r;

	sksplice_runners.runner = kcalloc(most, sizeof(*r), GFP_KERNEL);
	if (!sksplice_runners.runner)
		return -ENOMEM;
	for (r = sksplice_runners.runner; sksplice_runners.nr < most; r++, sksplice_runners.nr++) {
		INIT_LIST_HEAD(&r->idle);
		r->task = kthread_run(sksplice_runner_run, r, "sksplice/%u", sksplice_runners.nr);
		if (IS_ERR(r->task)) {
			int ret = PTR_ERR(r->task);

			sksplice_runner_exit();
			return ret;
		}
	}
	return 0;
}
