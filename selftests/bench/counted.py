# SPDX-License-Identifier: GPL-2.0
"""The rows of "make bench-kmod", for the guest that measures them and the host that prints them."""

RELAYS = ["direct", "kmod", "user", "splice", "copy", "haproxy", "sockmap"]
ALLOWED = RELAYS + ["uring"]
MTU, ETHERNET = 65536, 1500


class Row:
    """load: what the load generator is told. bound: the most that kmod's cost may be of the tuned splice relay's.
    warm: millions of instructions before the first slice."""

    def __init__(self, key, title, unit, load, bound, mtu=MTU, digits=0, warm=150, slices=8):
        self.key, self.title, self.unit, self.load, self.warm, self.slices = key, title, unit, load, warm, slices
        self.bound, self.mtu, self.digits = bound, mtu, digits
        self.kind = load[0]


def trips(size, name, n, bound):
    return Row(f"rr{name}x{n}", f"{size} B x{n}", "round trip", ["rr", "-s", str(size), "-c", str(n)], bound,
               slices=4 if n == 1 else 8)


def bulk(write, name, mtu, suffix, bound):
    """With small writes in segments of any size it takes the kernel a second to find the size of its buffers."""
    small = write < 65536
    return Row(f"bulk{name}{suffix}", f"bulk, {name[:-1]} KB writes, MTU {mtu}", "byte",
               ["bulk", "-w", str(write)], bound, mtu=mtu, digits=3,
               warm=1000 if small and mtu == MTU else 150, slices=12 if small else 8)


def conn(n):
    return Row(f"conn{n}", f"connect, 64 B, close x{n}", "connection", ["conn", "-c", str(n)], None)


ROWS = [
    trips(64, "64", 1, 0.50),
    trips(64, "64", 32, 0.40),
    trips(1024, "1k", 1, None),
    trips(1024, "1k", 32, None),
    trips(16384, "16k", 1, 0.50),
    trips(16384, "16k", 32, 0.50),
    bulk(4096, "4k", MTU, "", 0.45),
    bulk(131072, "128k", MTU, "", 0.90),
    bulk(4096, "4k", ETHERNET, "-1500", 0.45),
    bulk(131072, "128k", ETHERNET, "-1500", 0.90),
    conn(1),
    conn(32),
]
KEYS = [r.key for r in ROWS]
