#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""relay_tool.py: what "splicectl relay" itself promises, whatever engine moves the bytes.

Addresses, targets in turn and on failure, limits, metrics, drain, signals. Runs on the host as any user.
ENGINE=user: the engine. SPLICECTL=FILE: the program, otherwise the tree's. Arguments: some of the tests, by name.
"""
import hashlib
import json
import os
import re
import resource
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import closing
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
SPLICECTL = os.environ.get("SPLICECTL", str(TOP / "build/splicectl"))
ENGINE = os.environ.get("ENGINE", "user")
PATIENCE = 10
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
    """A socket address as splicectl writes it."""
    if isinstance(address, bytes):
        return "unix:@" + address[1:].decode()
    if isinstance(address, str):
        return "unix:" + address
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def family(address):
    if isinstance(address, (bytes, str)):
        return socket.AF_UNIX
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
    return s


def nowhere():
    """An address where nobody listens."""
    with closing(listen()) as s:
        return s.getsockname()


def read_all(s):
    parts = []
    while part := s.recv(65536):
        parts.append(part)
    return b"".join(parts)


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def is_reset(s):
    try:
        return read_all(s) is None
    except ConnectionResetError:
        return True


class Relay:
    """One that runs until the end of the "with"; .to is where it listens."""

    def __init__(self, *options, to, on=("127.0.0.1", 0), files=None, engine=ENGINE):
        targets = [o for t in to for o in ("--to", text(t))]
        self.err = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [SPLICECTL, "relay", "--listen", text(on), *targets, "--engine", engine, *options],
            stdout=subprocess.PIPE, stderr=self.err, text=True,
            preexec_fn=lambda: files and resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
        self.metrics_at, self.to = None, None
        while not self.to:
            line = self.process.stdout.readline()
            assert line, f"it does not start: {self.said()}"
            kind, _, where = line.strip().rpartition(" ")
            if kind == "metrics on":
                self.metrics_at = self.parse(where)
            else:
                self.to = self.parse(where)
        self.sockets_at_start = self.sockets()

    @staticmethod
    def parse(where):
        if where.startswith("unix:@"):
            return b"\0" + where[6:].encode()
        if where.startswith("unix:"):
            return where[5:]
        host, _, port = where.rpartition(":")
        return host.strip("[]"), int(port)

    def sockets(self):
        """How many it has open, one that it keeps ready for the next connection included."""
        found = 0
        for fd in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                found += os.readlink(fd).startswith("socket:")
            except FileNotFoundError:
                pass  # closed just now
        return found

    def has_only_its_own(self):
        until(lambda: self.sockets() <= self.sockets_at_start + 1, "the sockets of its connections are closed")

    def said(self):
        self.err.seek(0)
        return self.err.read()

    def metrics(self):
        """Name and labels, as Prometheus writes them, to values."""
        with closing(connect(self.metrics_at)) as s:
            s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            head, _, body = read_all(s).decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200"), head
        return {k[len("splicectl_relay_"):]: int(v) for k, v in re.findall(r"^(\w\S*) (\d+)$", body, re.M)}

    def end(self, status=0):
        """Waits for its own end."""
        assert self.process.wait(PATIENCE) == status, self.said()
        return self.said()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.err.close()


def both(relay, server):
    """A connection through the relay, its two ends."""
    client = connect(relay.to)
    accepted, _ = server.accept()
    accepted.settimeout(PATIENCE)
    return client, accepted


def exchange(a, b):
    a.sendall(b"there")
    assert b.recv(5, socket.MSG_WAITALL) == b"there"
    b.sendall(b"and back")
    assert a.recv(8, socket.MSG_WAITALL) == b"and back"


def carries(relay, server):
    client, accepted = both(relay, server)
    with closing(client), closing(accepted):
        exchange(client, accepted)


# ---- addresses

def between(on, to):
    with closing(listen(to)) as server, Relay(to=[server.getsockname()], on=on) as relay:
        carries(relay, server)
        relay.has_only_its_own()


@test
def ipv4():
    between(("127.0.0.1", 0), ("127.0.0.1", 0))


@test
def ipv6_to_ipv4_and_back():
    between(("::1", 0), ("127.0.0.1", 0))
    between(("127.0.0.1", 0), ("::1", 0))
    between(("::1", 0), ("::1", 0))


@test
def unix_sockets():
    with tempfile.TemporaryDirectory() as d:
        between(d + "/relay", ("127.0.0.1", 0))


@test
def unix_targets():
    name = b"\0relay_tool-%d" % os.getpid()
    between(("127.0.0.1", 0), name)
    between(name + b"-front", name)


# ---- bytes and ends

@test
def half_close():
    with closing(listen()) as server, Relay(to=[server.getsockname()]) as relay:
        client, accepted = both(relay, server)
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert read_all(accepted) == b"question"
        accepted.sendall(b"x" * 3000000)
        accepted.close()
        assert read_all(client) == b"x" * 3000000


@test
def reset_goes_through_both_ways():
    with closing(listen()) as server, Relay(to=[server.getsockname()]) as relay:
        client, accepted = both(relay, server)
        exchange(client, accepted)
        reset(accepted)
        assert is_reset(client)
        client, accepted = both(relay, server)
        exchange(client, accepted)
        reset(client)
        assert is_reset(accepted)


def pour(s, seed, size):
    """Sends what reproduces, then the end; the digest of it."""
    block = hashlib.shake_128(seed).digest(1 << 16)
    digest = hashlib.sha256()
    for off in range(0, size, len(block)):
        part = block[:size - off]
        digest.update(part)
        s.sendall(part)
    s.shutdown(socket.SHUT_WR)
    return digest.digest()


def converse(s, seed, size, result):
    sender = threading.Thread(target=lambda: result.append(pour(s, seed, size)))
    sender.start()
    digest = hashlib.sha256()
    while part := s.recv(1 << 16):
        digest.update(part)
    sender.join()
    result.append(digest.digest())
    s.close()


@test
def many_at_once_byte_for_byte():
    count, size = 60, 700001
    with closing(listen()) as server, Relay(to=[server.getsockname()]) as relay:
        threads, results = [], []
        for i in range(count):
            pair = both(relay, server)
            for side, s in enumerate(pair):
                results.append([])
                threads.append(threading.Thread(target=converse, args=(s, b"%d %d" % (i, side), size, results[-1])))
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        for a, b in zip(results[::2], results[1::2]):
            assert len(a) == len(b) == 2, "somebody did not come to the end"
            assert a == b[::-1], "what was received is not what was sent"
        relay.has_only_its_own()


@test
def idle_limit():
    with closing(listen()) as server, Relay("--idle", "0.3", to=[server.getsockname()]) as relay:
        client, accepted = both(relay, server)
        for _ in range(5):
            exchange(client, accepted)
            time.sleep(0.12)
        began = time.monotonic()
        assert is_reset(client) or not client.recv(1)
        assert 0.1 < time.monotonic() - began < 5


# ---- targets

@test
def targets_in_turn():
    with closing(listen()) as first, closing(listen()) as second, \
            Relay(to=[first.getsockname(), second.getsockname()]) as relay:
        for server in (first, second, first, second):
            carries(relay, server)


@test
def next_target_when_refused():
    with closing(listen()) as server, \
            Relay(to=[nowhere(), b"\0nobody-%d" % os.getpid(), server.getsockname()]) as relay:
        for _ in range(6):
            carries(relay, server)
        said = relay.said()
        assert "Connection refused" in said, said


@test
def next_target_when_silent():
    # a listener whose queue is full answers nobody
    with closing(listen(backlog=0)) as silent, closing(listen()) as server, \
            Relay("--connect-timeout", "0.3", to=[silent.getsockname(), server.getsockname()]) as relay:
        filler = connect(silent.getsockname())
        client, accepted = both(relay, server)
        exchange(client, accepted)
        said = relay.said()
        assert "timed out" in said, said
        filler.close()


@test
def no_target_resets_the_client():
    with Relay("--metrics", "127.0.0.1:0", to=[nowhere(), nowhere()]) as relay:
        for _ in range(3):
            try:
                assert is_reset(connect(relay.to))
            except ConnectionResetError:
                pass  # as early as that
        assert relay.metrics()['connections_failed_total{reason="unreachable"}'] == 3
        relay.has_only_its_own()


# ---- limits

@test
def connections_over_the_limit_wait():
    with closing(listen()) as server, Relay("--max-connections", "2", to=[server.getsockname()]) as relay:
        one, two = both(relay, server), both(relay, server)
        client = connect(relay.to)
        server.settimeout(0.3)
        try:
            server.accept()
            raise AssertionError("a third one was taken")
        except socket.timeout:
            pass
        server.settimeout(PATIENCE)
        one[0].close()
        one[1].close()
        accepted, _ = server.accept()
        exchange(client, accepted)
        exchange(*two)


@test
def out_of_descriptors_connections_wait():
    with closing(listen()) as server, Relay(to=[server.getsockname()], files=24) as relay:
        clients = [connect(relay.to) for _ in range(30)]
        served = 0
        for _ in clients:
            accepted, _ = server.accept()
            accepted.sendall(b"served")
            accepted.close()
            with selectors.DefaultSelector() as waiting:
                for c in clients:
                    waiting.register(c, selectors.EVENT_READ)
                c = waiting.select(PATIENCE)[0][0].fileobj
            assert read_all(c) == b"served"
            c.close()
            clients = [x for x in clients if x is not c]
            served += 1
        assert served == 30 and "new connections wait" in relay.said()


@test
def relays_share_a_port():
    with closing(listen()) as server, Relay("--reuse-port", to=[server.getsockname()]) as one:
        with Relay("--reuse-port", on=one.to, to=[server.getsockname()]) as two:
            for _ in range(40):
                carries(one, server)
            ended = []
            for relay in (one, two):
                relay.process.send_signal(signal.SIGTERM)
                ended.append(int(re.search(r", (\d+) ended", relay.end()).group(1)))
            assert sum(ended) == 40 and min(ended) > 0, ended
    with closing(listen()) as server, Relay(to=[server.getsockname()]) as alone:
        taken = subprocess.run([SPLICECTL, "relay", "--engine", ENGINE, "--listen", text(alone.to), "--to", "127.0.0.1:1"],
                               capture_output=True, text=True, timeout=PATIENCE)
        assert taken.returncode == 1 and "in use" in taken.stderr, taken


# ---- metrics

@test
def metrics_agree():
    with closing(listen()) as server, Relay("--metrics", "127.0.0.1:0", to=[server.getsockname()]) as relay:
        carries(relay, server)
        until(lambda: relay.metrics()["connections_active"] == 0, "the first one is over")
        client, accepted = both(relay, server)
        exchange(client, accepted)
        m = relay.metrics()
        assert m["connections_total"] == 2 and m["connections_active"] == 1, m
        assert m['connections_ended_total{cause="eof"}'] == 1, m
        assert m['bytes_total{direction="forth"}'] == 10, m
        assert m['bytes_total{direction="back"}'] == 16, m
        assert m[f'engine{{name="{ENGINE}"}}'] == 1, m


# ---- the end

@test
def drain_waits_for_what_is_open():
    with closing(listen()) as server, Relay(to=[server.getsockname()]) as relay:
        client, accepted = both(relay, server)
        exchange(client, accepted)
        relay.process.send_signal(signal.SIGTERM)
        until(lambda: "waiting for connections" in relay.said(), "it drains")
        try:
            connect(relay.to)
            raise AssertionError("it still accepts")
        except ConnectionRefusedError:
            pass
        exchange(client, accepted)
        client.close()
        assert not read_all(accepted)
        accepted.close()
        assert " 1 ended" in relay.end()


@test
def drain_takes_who_has_connected():
    count = 200
    with closing(listen()) as server, Relay(to=[server.getsockname()]) as relay:
        relay.process.send_signal(signal.SIGSTOP)
        clients = [connect(relay.to) for _ in range(count)]
        relay.process.send_signal(signal.SIGTERM)
        relay.process.send_signal(signal.SIGCONT)
        for _ in range(count):
            accepted, _ = server.accept()
            accepted.sendall(b"served")
            accepted.close()
        for c in clients:
            assert read_all(c) == b"served"
            c.close()
        assert f" {count} ended" in relay.end()


@test
def drain_does_not_wait_for_ever():
    with closing(listen()) as server, Relay("--drain", "0.3", to=[server.getsockname()]) as relay:
        client, accepted = both(relay, server)
        exchange(client, accepted)
        relay.process.send_signal(signal.SIGTERM)
        said = relay.end()
        if ENGINE == "user":
            assert " 1 cut off" in said, said
            assert is_reset(client) and is_reset(accepted)


@test
def a_second_signal_ends_at_once():
    with closing(listen()) as server, Relay(to=[server.getsockname()]) as relay:
        client, accepted = both(relay, server)
        relay.process.send_signal(signal.SIGINT)
        until(lambda: "waiting for connections" in relay.said(), "it drains")
        relay.process.send_signal(signal.SIGTERM)
        relay.end()
        client.close()
        accepted.close()


@test
def killed_its_connections_end():
    if ENGINE != "user":
        return
    with closing(listen()) as server, Relay(to=[server.getsockname()]) as relay:
        client, accepted = both(relay, server)
        exchange(client, accepted)
        relay.process.kill()
        assert is_reset(client) or not client.recv(1)
        assert is_reset(accepted) or not accepted.recv(1)


# ---- which engine

@test
def auto_says_what_it_takes():
    probe = subprocess.run([SPLICECTL, "probe"], capture_output=True, text=True, check=True).stdout
    taken = re.search(r"^auto: (\w+)", probe, re.M).group(1)
    with closing(listen()) as server, Relay(to=[server.getsockname()], engine="auto") as relay:
        said = relay.said()
        assert said.startswith(f"relay: engine {taken}"), said
        assert taken == "kmod" or "; not kmod: " in said, said
        carries(relay, server)
    with closing(listen()) as server, Relay("--quiet", to=[server.getsockname()], engine="auto") as relay:
        assert not relay.said()


def probe_sockmap(*options):
    done = subprocess.run([SPLICECTL, "--json", "probe", *options], capture_output=True, text=True)
    return next(e for e in json.loads(done.stdout)["engines"] if e["engine"] == "sockmap")


@test
def probe_explains_sockmap():
    said = probe_sockmap()
    assert said["works"] and said["caps"] == ["exact"] or "CAP_BPF" in said["reason"] and "CAP_BPF" in said["advice"], said
    said = probe_sockmap("--cgroup", "/tmp")
    assert not said["works"] and "is not a directory of a cgroup v2" in said["reason"] and "/proc/mounts" in said["advice"], said
    said = probe_sockmap("--cgroup", "/tmp/is-not-there")
    assert not said["works"] and "No such file" in said["reason"] and "make the directory" in said["advice"], said
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"]
    named = subprocess.run([SPLICECTL, "--json", "probe", *(["--cgroup", mounts[0]] if mounts else [])], capture_output=True, text=True)
    got = json.loads(named.stdout)
    # of AUTO sockmap is taken past the relay only
    assert got["auto"] != "sockmap" and ("auto_bypass" in got) == bool(mounts), got
    if mounts and os.geteuid():
        said = probe_sockmap("--cgroup", mounts[0])
        assert not said["works"] and "CAP_BPF" in said["reason"] and "CAP_BPF" in said["advice"], said


def main():
    wanted = sys.argv[1:]
    failed = count = 0
    for f in TESTS:
        if wanted and f.__name__ not in wanted:
            continue
        count += 1
        try:
            f()
            print(f"ok {count} {f.__name__}", flush=True)
        except Exception:
            failed += 1
            print("".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), end="")
            print(f"not ok {count} {f.__name__}", flush=True)
    print(f"1..{count}")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
