# SPDX-License-Identifier: GPL-2.0
"""What "make bench" and "make bench-kmod" share: choices out of the environment, ports, one point of the load generator."""
import json
import os
import platform
import subprocess
import sys

import relays

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.path.join(TOP, os.environ.get("B") or "build"))
ADDRESSES = 4       # of the relay, and of the server where there is no relay: no address may run out of ports
FIRST_PORT, PORTS = 17100, 50


def load(relay, options, limit):
    """One point: what the load generator says, or {"error": why}."""
    command = [BUILD + "/bench/load", *options, ",".join(relay.servers), ",".join(relay.listen)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit,
                              preexec_fn=relay.cgroup and relay.cgroup.join)
    except subprocess.TimeoutExpired:
        return {"error": f"not over after {limit} s"}
    try:
        return json.loads(done.stdout.strip().split("\n")[-1])
    except ValueError:
        return {"error": f"the load generator fails: {done.stderr.strip()[:100]}"}


def free_ports(count):
    """The first of so many ports in a row that nobody listens on."""
    taken = {int(a.split(":")[1]) for a in relays.listening()}
    for base in range(FIRST_PORT, 30000, PORTS):
        if not taken.intersection(range(base, base + count)):
            return base
    sys.exit("no free ports")


def version(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except OSError:
        return "not here"
    lines = [line for line in (out.stdout + out.stderr).split("\n") if "ersion" in line]
    return lines[0].strip().split(" - ")[0] if lines else "?"


def processor():
    with open("/proc/cpuinfo") as f:
        return next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())


def choice(name, allowed, default):
    chosen = os.environ.get(name, " ".join(default)).replace(",", " ").split()
    unknown = [c for c in chosen if c not in allowed]
    if unknown or not chosen:
        sys.exit(f"{name}: {' '.join(unknown) or 'nothing'}; there are: {' '.join(allowed)}")
    return chosen


def number(name, default, least):
    try:
        value = float(os.environ.get(name) or default)
    except ValueError:
        value = least - 1
    return value if value >= least else sys.exit(f"{name} is a number from {least}")
