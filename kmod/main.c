// SPDX-License-Identifier: GPL-2.0
/* sksplice: in-kernel stream forwarding between sockets. Loading and unloading. */
#include <linux/module.h>
#include <linux/workqueue.h>

#include "sksplice.h"

/*
 * Moves bytes: never waits for anything. Unbound, since a bound queue runs once per arriving
 * segment and batches nothing.
 */
struct workqueue_struct *sksplice_pump_wq;
/* The same by calls that do: a user's few may wait there for ever, see generic.c. */
struct workqueue_struct *sksplice_generic_wq;
/* Gives ends back, closes sockets, sends completions. */
struct workqueue_struct *sksplice_op_wq;
/* Resets sockets that somebody else has too: may wait in tcp_abort(). */
struct workqueue_struct *sksplice_reset_wq;

DEFINE_PER_CPU(struct sksplice_stats, sksplice_stats);

static int __init sksplice_init(void)
{
	int ret = sksplice_op_init();

	if (ret)
		return ret;
	ret = -ENOMEM;
	sksplice_pump_wq = alloc_workqueue("sksplice_pump", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!sksplice_pump_wq)
		goto err_cache;
	ret = sksplice_runner_init();
	if (ret)
		goto err_pump;
	ret = -ENOMEM;
	sksplice_generic_wq = alloc_workqueue("sksplice_generic", WQ_UNBOUND, WQ_MAX_ACTIVE);
	if (!sksplice_generic_wq)
		goto err_runner;
	sksplice_op_wq = alloc_workqueue("sksplice_op", WQ_UNBOUND, WQ_MAX_ACTIVE);
	if (!sksplice_op_wq)
		goto err_generic;
	sksplice_reset_wq = alloc_workqueue("sksplice_reset", WQ_UNBOUND, WQ_MAX_ACTIVE);
	if (!sksplice_reset_wq)
		goto err_op;
	ret = sksplice_policy_init();
	if (ret)
		goto err_reset;
	ret = sksplice_event_init();
	if (ret)
		goto err_policy;
	ret = genl_register_family(&sksplice_nl_family);
	if (ret)
		goto err_event;
	return 0;

err_event:
	sksplice_event_exit();
err_policy:
	sksplice_policy_exit();
err_reset:
	destroy_workqueue(sksplice_reset_wq);
err_op:
	destroy_workqueue(sksplice_op_wq);
err_generic:
	destroy_workqueue(sksplice_generic_wq);
err_runner:
	sksplice_runner_exit();
err_pump:
	destroy_workqueue(sksplice_pump_wq);
err_cache:
	sksplice_op_exit();
	return ret;
}

/*
 * Every operation holds a reference to the module until its release, so there is none. The
 * family goes first: no request is running or will come. Then what the last operations' works
 * still do after that reference, then what these left to their owners. Now no reference to any is left.
 */
static void __exit sksplice_exit(void)
{
	genl_unregister_family(&sksplice_nl_family);
	flush_workqueue(sksplice_op_wq);
	flush_workqueue(sksplice_reset_wq);
	sksplice_event_exit();
	sksplice_policy_exit();
	destroy_workqueue(sksplice_reset_wq);
	destroy_workqueue(sksplice_op_wq);
	destroy_workqueue(sksplice_generic_wq);
	sksplice_runner_exit();
	destroy_workqueue(sksplice_pump_wq);
	sksplice_ops_drain();
	sksplice_send_exit();
	sksplice_op_exit();
}

module_init(sksplice_init);
module_exit(sksplice_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The libsplice authors");
MODULE_DESCRIPTION("In-kernel stream forwarding between sockets");
MODULE_VERSION(SKSPLICE_VERSION);
MODULE_ALIAS_GENL_FAMILY(SKSPLICE_GENL_NAME);
