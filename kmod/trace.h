/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM sksplice

#if !defined(_SKSPLICE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _SKSPLICE_TRACE_H

#include <linux/tracepoint.h>

#include "sksplice.h"

TRACE_EVENT(sksplice_start,
	TP_PROTO(const struct sksplice_op *op),
	TP_ARGS(op),
	TP_STRUCT__entry(
		__field(u64, token)
		__field(u32, kind)
		__field(u32, flags)
	),
	TP_fast_assign(
		__entry->token = op->token;
		__entry->kind = op->kind;
		__entry->flags = op->flags;
	),
	TP_printk("token=%llu kind=%u flags=%#x", __entry->token, __entry->kind, __entry->flags)
);

TRACE_EVENT(sksplice_run,
	TP_PROTO(const struct sksplice_flow *flow, int verdict),
	TP_ARGS(flow, verdict),
	TP_STRUCT__entry(
		__field(u64, token)
		__field(u64, bytes)
		__field(int, verdict)
		__field(bool, back)
	),
	TP_fast_assign(
		__entry->token = flow->op->token;
		__entry->bytes = flow->bytes;
		__entry->verdict = verdict;
		__entry->back = flow->back;
	),
	TP_printk("token=%llu back=%d bytes=%llu verdict=%d", __entry->token, __entry->back,
		  __entry->bytes, __entry->verdict)
);

TRACE_EVENT(sksplice_end,
	TP_PROTO(const struct sksplice_op *op),
	TP_ARGS(op),
	TP_STRUCT__entry(
		__field(u64, token)
		__field(u64, bytes)
		__field(u64, bytes_back)
		__field(u32, cause)
		__field(u32, error)
	),
	TP_fast_assign(
		__entry->token = op->token;
		__entry->bytes = op->flow[0].bytes;
		__entry->bytes_back = sksplice_op_bytes_back(op);
		__entry->cause = op->event.cause;
		__entry->error = op->event.error;
	),
	TP_printk("token=%llu cause=%u error=%u bytes=%llu back=%llu", __entry->token,
		  __entry->cause, __entry->error, __entry->bytes, __entry->bytes_back)
);

#endif /* _SKSPLICE_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
