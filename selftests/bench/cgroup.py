# SPDX-License-Identifier: GPL-2.0
"""A cgroup v2 for the load generator: the engine sockmap sends directly to the sockets in it, and to no others."""
import os
import time


class Cgroup:
    made = 0

    def __init__(self):
        with open("/proc/mounts") as f:
            mounts = [line.split()[1] for line in f if line.split()[2] == "cgroup2"]
        if not mounts:
            raise OSError(0, "no cgroup v2 is mounted")
        Cgroup.made += 1
        self.path = f"{mounts[0]}/splice-bench-{os.getpid()}-{Cgroup.made}"
        os.mkdir(self.path)

    def join(self):
        """The calling process, and what it starts."""
        with open(self.path + "/cgroup.procs", "w") as f:
            f.write("0")

    def remove(self):
        """Those who were in it may take a moment to be gone."""
        for _ in range(50):
            try:
                return os.rmdir(self.path)
            except OSError:
                time.sleep(0.02)
