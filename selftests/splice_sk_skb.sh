#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# splice_sk_skb.sh: the splices of the conformance suite on the engine sockmap without a cgroup, on the kernel of a guest.
SPL_TEST_ENGINE=sk_skb exec "$(dirname "$0")/splice"
