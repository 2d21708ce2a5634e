# SPDX-License-Identifier: GPL-2.0
"""example.py: what the tests of the programs in examples/ share; no test itself.

EXAMPLES=DIR: the programs, otherwise the tree's. Where the module is loaded they must use it, as SPL_ENGINE=kmod says,
and must have begun an operation of it by the end.
"""
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import closing
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
EXAMPLES = os.environ.get("EXAMPLES", str(TOP / "build/examples"))
IN_KERNEL = Path("/sys/module/sksplice").exists()
PATIENCE = 15
TESTS = []


def test(f):
    TESTS.append(f)
    return f


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not in {PATIENCE} s: {what}"
        time.sleep(0.01)


def text(address):
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def family(address):
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def listen(address=("127.0.0.1", 0), backlog=1024):
    s = socket.socket(family(address), socket.SOCK_STREAM)
    s.settimeout(PATIENCE)
    s.bind(address)
    s.listen(backlog)
    return s


def connect(address):
    s = socket.socket(family(address), socket.SOCK_STREAM)
    s.settimeout(PATIENCE)
    s.connect(address)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def accept(listener):
    s = listener.accept()[0]
    s.settimeout(PATIENCE)
    return s


def nowhere():
    with closing(listen()) as s:
        return s.getsockname()


def short(data):
    return repr(data) if len(data) < 300 else f"{len(data)} bytes, {data[:100]!r}..."


def take(s, n):
    got = b""
    while len(got) < n:
        part = s.recv(n - len(got))
        assert part, f"the end after {short(got)}"
        got += part
    return got


def expect(s, wanted):
    got = take(s, len(wanted))
    assert got == wanted, f"{short(got)}, not {short(wanted)}"


def quiet(s, seconds=0.2):
    s.settimeout(seconds)
    try:
        got = s.recv(100)
    except (BlockingIOError, TimeoutError):
        return True
    finally:
        s.settimeout(PATIENCE)
    raise AssertionError(f"there is {got!r}")


def take_all(s):
    parts = []
    while part := s.recv(65536):
        parts.append(part)
    return b"".join(parts)


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def is_reset(s):
    try:
        take_all(s)
        return False
    except ConnectionResetError:
        return True


def is_over(s):
    """Nothing came, and the connection has ended in one way or the other."""
    try:
        return s.recv(1) == b""
    except ConnectionResetError:
        return True


class Program:
    """An example that runs until the end of the "with"; .to is where it listens. It must be as it was by then."""

    def __init__(self, name, *args, on=("127.0.0.1", 0)):
        self.err = tempfile.NamedTemporaryFile("a")
        self.process = subprocess.Popen([f"{EXAMPLES}/{name}", text(on), *args], stdout=subprocess.PIPE,
                                        stderr=self.err, text=True)
        line = self.process.stdout.readline()
        assert line, f"it does not start: {self.said()}"
        host, _, port = line.strip().removeprefix("listening on ").rpartition(":")
        self.to = (host.strip("[]"), int(port))
        self.own = self.sockets()

    def said(self):
        # opened for itself: with the program's own file description its writing would move our place in it
        return Path(self.err.name).read_text()

    def says(self, what):
        until(lambda: what in self.said(), f"{what!r} in {self.said()!r}")

    def sockets(self):
        count = 0
        for fd in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                count += os.readlink(fd).startswith("socket:")
            except FileNotFoundError:
                pass
        return count

    def rests(self):
        """It has no more than when it began: its listener and, of some engines, its context's socket."""
        return self.sockets() <= self.own

    def processor_seconds(self):
        """Its own and its processes'."""
        total = 0
        for pid in [self.process.pid, *self.children()]:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(stat[11]) + int(stat[12])
        return total / os.sysconf("SC_CLK_TCK")

    def children(self):
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == self.process.pid and state != "Z":
                found.append(int(stat.parent.name))
        return found

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind:
                print("".join(f"# it said: {line}\n" for line in self.said().splitlines()[-10:]), end="")
            else:
                until(lambda: not self.children(), "its processes end with their clients")
                until(self.rests, "its sockets are closed")
                assert self.process.poll() is None, f"it has ended: {self.said()}"
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            complaints = re.search(r".*(Sanitizer|runtime error).*", self.said())
            self.err.close()
        assert not complaints, complaints.group()


def begun():
    """How many operations the module has been asked for."""
    said = subprocess.run(["splicectl", "--json", "stats"], check=True, capture_output=True, text=True, timeout=60).stdout
    return int(re.search(r'"started"\s*:\s*(\d+)', said).group(1))


def through_the_kernel():
    before = begun()

    def went_through_the_kernel():
        assert begun() > before, "the bytes have gone another way"

    os.environ["SPL_ENGINE"] = "kmod"
    return went_through_the_kernel


def main():
    wanted = sys.argv[1:]
    tests = [f for f in TESTS if not wanted or f.__name__ in wanted]
    if IN_KERNEL:
        tests.append(through_the_kernel())
    failed = 0
    for count, f in enumerate(tests, 1):
        try:
            f()
            print(f"ok {count} {f.__name__}", flush=True)
        except Exception:
            failed += 1
            print("".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), end="")
            print(f"not ok {count} {f.__name__}", flush=True)
    print(f"1..{len(tests)}")
    return 1 if failed or not tests else 0
