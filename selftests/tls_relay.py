#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""tls_relay.py: the example tls_relay, with curl, openssl s_client, and records sent by hand. In the guests on both engines, with the
debug kernel on the module's; where the kernel has no TLS, what is refused.

Arguments: some of the tests, by name.
"""
import functools
import hashlib
import os
import random
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

from example import (IN_KERNEL, PATIENCE, TESTS, Program, accept, connect, expect, is_over, is_reset, listen, main, nowhere, quiet,
                     reset, short, take, take_all, text, until)

TCP_ULP, SOL_TLS, TLS_TX = 31, 282, 1
CHACHA20_POLY1305 = 54
BRIEF = "SPL_TEST_BRIEF" in os.environ  # on a debug kernel, and others than 6.1
MB = 8 if BRIEF else 64  # of a download with the module; elsewhere a quarter
DIRECTORY = tempfile.TemporaryDirectory()
CERTIFICATE, KEY = (f"{DIRECTORY.name}/{name}" for name in ("crt", "key"))


def kernel_has(cipher=None):
    """TLS, with that cipher."""
    with closing(listen()) as server, closing(connect(server.getsockname())) as s:
        try:
            s.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            if cipher:
                s.setsockopt(SOL_TLS, TLS_TX, struct.pack("=HH", 0x0304, cipher) + bytes(52))
        except OSError:
            return False
    return True


KERNEL_TLS = kernel_has()
# a debug kernel has nothing to find in user
ENGINES = ["kmod"] * IN_KERNEL + ["user"] * (not (IN_KERNEL and BRIEF))
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def register(f, name, engine, *args):
    def run():
        os.environ["SPL_ENGINE"] = engine
        f(*args)

    run.__name__ = name
    TESTS.append(run)


def test(f):
    """Once with each engine and each version of TLS."""
    if KERNEL_TLS:
        for engine in ENGINES:
            for version in VERSIONS:
                register(f, f"{f.__name__}_{version}_{engine}", engine, version)
    return f


def test_once(f):
    """What no engine and no version has a part in, and no kernel's TLS."""
    register(f, f.__name__, ENGINES[0])
    return f


def certificate():
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a.example",
                    "-addext", "subjectAltName=DNS:a.example", "-keyout", KEY, "-out", CERTIFICATE],
                   check=True, stderr=subprocess.DEVNULL)


def relay(to):
    return Program("tls_relay", text(to), CERTIFICATE, KEY)


def context(version=None, ciphers=None):
    c = ssl.create_default_context(cafile=CERTIFICATE)
    if version:
        c.minimum_version = c.maximum_version = VERSIONS[version]
    if ciphers:
        c.set_ciphers(ciphers)
    return c


def gone(s):
    """It ends, in whichever way, after whatever came."""
    try:
        take_all(s)
    except ConnectionResetError:
        pass


class Client:
    """TLS whose records are sent and received when the test says so."""

    def __init__(self, to, version, session=None, c=None):
        self.socket = connect(to)
        self.to_us, self.from_us = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.context = c or context(version)
        self.tls = self.context.wrap_bio(self.to_us, self.from_us, server_hostname="a.example", session=session)

    def held(self):
        """Records that are ready and have not been sent."""
        return self.from_us.read()

    def flush(self):
        self.socket.sendall(self.held())

    def get(self):
        got = self.socket.recv(65536)
        self.to_us.write(got) if got else self.to_us.write_eof()

    def until_done(self, f, *args, send=True):
        while True:
            try:
                return f(*args)
            except ssl.SSLWantReadError:
                if send:
                    self.flush()
                self.get()

    def greet(self):
        self.until_done(self.tls.do_handshake)
        self.flush()
        return self

    def record(self, data):
        self.tls.write(data)
        return self.held()

    def send(self, data):
        self.socket.sendall(self.record(data))

    def take(self, n):
        got = b""
        while len(got) < n:
            part = self.until_done(self.tls.read, n - len(got))
            assert part, f"the end after {short(got)}"
            got += part
        return got

    def expect(self, wanted):
        got = self.take(len(wanted))
        assert got == wanted, f"{short(got)}, not {short(wanted)}"

    def at_end(self):
        """close_notify and nothing else. A TCP connection that merely ends makes OpenSSL complain."""
        try:
            return self.until_done(self.tls.read, 1) == b""
        except ssl.SSLZeroReturnError:
            return True

    def say_end(self):
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def close(self):
        self.socket.close()


@contextmanager
def relayed(version, **more):
    """A client after its handshake, and the server's socket behind the relay."""
    with closing(listen()) as server, relay(server.getsockname()) as p, closing(Client(p.to, version, **more)) as client:
        client.greet()
        with closing(accept(server)) as s:
            yield client, s, p


@test
def both_ways(version):
    with relayed(version) as (client, s, p):
        for i in range(20):
            client.send(b"there %d" % i)
            expect(s, b"there %d" % i)
            s.sendall(b"back %d" % i)
            client.expect(b"back %d" % i)
        client.say_end()
        assert s.recv(1) == b""
        s.close()
        assert client.at_end()
        p.says(f"TLSv{version} ")
        p.says(", eof\n")
        assert f"{sum(len(b'there %d' % i) for i in range(20))} bytes to the server, " in p.said(), p.said()


@test
def each_cipher(version):
    names = {"1.2": ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"],
             "1.3": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]}[version]
    option = {"1.2": "-cipher", "1.3": "-ciphersuites"}[version]
    with closing(listen()) as server, relay(server.getsockname()) as p:
        for name in names:
            with s_client(p, version, option, name, "-quiet") as client:
                if "CHACHA20" in name and not kernel_has(CHACHA20_POLY1305):
                    p.says(f"TLSv{version} {name}: the kernel does not send with this cipher")
                    client.wait(PATIENCE)
                    continue
                with closing(accept(server)) as s:
                    client.stdin.write(name.encode())
                    client.stdin.flush()
                    expect(s, name.encode())
                    s.sendall(name.encode())
                said = client.stdout.read()
                assert said.endswith(b"\n" + name.encode()), said
                client.wait(PATIENCE)
                p.says(f"TLSv{version} {name}, ")


@test
def data_right_behind_the_handshake(version):
    """In one segment with the client's last message of it: OpenSSL must leave what is the kernel's. In TLS 1.2 that is so when
    the session is resumed."""
    sent = os.urandom(100000)
    with closing(listen()) as server, relay(server.getsockname()) as p:
        session = c = None
        for _ in range(3):
            with closing(Client(p.to, version, session, c)) as client:
                client.until_done(client.tls.do_handshake)
                if version == "1.3" or client.tls.session_reused:
                    client.socket.sendall(client.held() + client.record(sent[:10]) + client.record(sent[10:]))
                else:
                    client.send(sent)
                with closing(accept(server)) as s:
                    expect(s, sent)
                    s.sendall(b"back")
                    client.expect(b"back")
                resumed, session, c = client.tls.session_reused, client.tls.session, client.context
        assert resumed, "no session was resumed"


@test
def byte_by_byte(version):
    with relayed(version) as (client, s, p):
        first, second = client.record(b"first"), client.record(b"second")
        for i in range(len(first)):
            if i == len(first) - 1:
                assert quiet(s), "before the record was there as a whole"
            client.socket.sendall(first[i:i + 1])
        expect(s, b"first")
        client.socket.sendall(second[:-1])
        assert quiet(s)
        client.socket.sendall(second[-1:])
        expect(s, b"second")


@test
def an_end_in_one_direction(version):
    with relayed(version) as (client, s, p):
        client.send(b"last words")
        client.say_end()
        expect(s, b"last words")
        assert s.recv(1) == b""
        s.sendall(bytes(300000))
        assert client.take(300000) == bytes(300000)
        s.close()
        assert client.at_end()
        p.says("10 bytes to the server, 300000 back, eof\n")


@test
def the_server_ends_first(version):
    with relayed(version) as (client, s, p):
        s.sendall(b"answer")
        s.shutdown(socket.SHUT_WR)
        client.expect(b"answer")
        assert client.at_end()
        client.send(b"still here")
        expect(s, b"still here")
        client.say_end()
        assert s.recv(1) == b""
        p.says("10 bytes to the server, 6 back, eof\n")


@test
def an_end_without_close_notify(version):
    with relayed(version) as (client, s, p):
        client.send(b"cut")
        client.socket.shutdown(socket.SHUT_WR)
        expect(s, b"cut")
        assert s.recv(1) == b""


@test
def a_reset_on_either_side(version):
    with relayed(version) as (client, s, p):
        client.send(b"x")
        expect(s, b"x")
        reset(client.socket)
        assert is_reset(s)
        p.says("source-failed: Connection reset by peer\n")
    with relayed(version) as (client, s, p):
        client.send(b"x")
        expect(s, b"x")
        reset(s)
        assert is_reset(client.socket)
        p.says("sink-failed: Connection reset by peer\n")


@test
def a_record_that_is_wrong(version):
    for at in (5, 14, -1):
        with relayed(version) as (client, s, p):
            client.send(b"right")
            expect(s, b"right")
            wrong = bytearray(client.record(b"wrong" * 100))
            wrong[at] ^= 1
            client.socket.sendall(wrong)
            assert is_reset(s), "bytes of a wrong record, or an end"
            p.says("5 bytes to the server, 0 back, source-failed: Bad message\n")


@test
def an_alert_is_no_end(version):
    """A client that cannot go on, here for a record that is wrong, says so. That must not look like its end to the server."""
    with relayed(version) as (client, s, p):
        client.send(b"right")
        expect(s, b"right")
        client.to_us.write(b"\x17\x03\x03\x00\x40" + bytes(64))
        try:
            assert not client.until_done(client.tls.read), "a wrong record passes"
        except ssl.SSLError as e:
            assert e.reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC", e
        client.flush()
        assert is_reset(s)
        p.says("5 bytes to the server, 0 back, source-failed: Software caused connection abort\n")


@contextmanager
def s_client(p, version, *options):
    command = ["openssl", "s_client", "-connect", text(p.to), "-CAfile", CERTIFICATE, "-verify_return_error",
               f"-tls{version.replace('.', '_')}", *options]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield client
    finally:
        client.kill()
        client.wait()
        client.stdin.close()
        client.stdout.close()


def type_in(client, line):
    client.stdin.write(line)
    client.stdin.flush()


@test
def s_client_quits(version):
    with closing(listen()) as server, relay(server.getsockname()) as p, s_client(p, version) as client:
        with closing(accept(server)) as s:
            type_in(client, b"hello\n")
            expect(s, b"hello\n")
            type_in(client, b"Q\n")
            assert s.recv(1) == b""
        said = client.communicate(timeout=PATIENCE)[0]
        assert b"DONE" in said, said
        p.says("6 bytes to the server, 0 back, eof\n")


@test
def s_client_is_told_the_end(version):
    with closing(listen()) as server, relay(server.getsockname()) as p, s_client(p, version) as client:
        with closing(accept(server)) as s:
            type_in(client, b"hello\n")
            expect(s, b"hello\n")
            s.sendall(b"bye\n")
        said = client.stdout.read()
        # what it received it writes past the buffer of what it says
        assert said.count(b"bye\n") == 1 and said.endswith(b"\nclosed\n"), said
        assert b"unexpected eof" not in said and b"error" not in said.partition(b"---\n")[2], said


def new_keys(command):
    """The kernel cannot change the keys: the relay ends with the reason, and the server gets what came before and no byte more."""
    with closing(listen()) as server, relay(server.getsockname()) as p, s_client(p, "1.3") as client:
        with closing(accept(server)) as s:
            type_in(client, b"before\n")
            expect(s, b"before\n")
            type_in(client, command)
            assert is_reset(s), "not ended, or with bytes after the change"
        p.says("7 bytes to the server, 0 back, source-failed: Key has expired\n")
        client.communicate(timeout=PATIENCE)


@test
def a_server_that_refuses(version):
    with relay(nowhere()) as p, closing(Client(p.to, version)) as client:
        client.greet()
        gone(client.socket)
        p.says("Connection refused\n")


@test
def a_server_that_refuses_late(version):
    """The first SYN is not answered, as the queue is full; the second one, a second later, is refused."""
    with closing(listen(backlog=0)) as full:
        fillers = [socket.socket() for _ in range(4)]
        for f in fillers:
            f.setblocking(False)
            f.connect_ex(full.getsockname())
        time.sleep(0.1)
        with relay(full.getsockname()) as p, closing(Client(p.to, version)) as client:
            client.greet()
            client.send(b"hello")
            time.sleep(0.3)
            assert not p.said(), p.said()
            full.close()
            p.says("0 bytes to the server, 0 back, sink-failed: Connection refused\n")
        for f in fillers:
            f.close()


@test
def many_at_once(version):
    count, size = (5, 20000) if BRIEF else (30, 200000)
    failed = []

    def echo(s):
        with closing(s):
            while part := s.recv(65536):
                s.sendall(part)

    def one(to):
        try:
            sent = os.urandom(size)
            with context(version).wrap_socket(connect(to), server_hostname="a.example", suppress_ragged_eofs=False) as client:
                at = 0
                while at < size:  # in turn: Python's TLS is not for two threads at a time
                    part = sent[at:at + random.randrange(1, 50000)]
                    client.sendall(part)
                    assert take(client, len(part)) == part, f"other bytes than were sent at {at}"
                    at += len(part)
                assert client.unwrap()
        except Exception as e:
            failed.append(e)

    with closing(listen()) as server, relay(server.getsockname()) as p:
        clients = [threading.Thread(target=one, args=(p.to,)) for _ in range(count)]
        for c in clients:
            c.start()
        servers = [threading.Thread(target=echo, args=(accept(server),)) for _ in range(count)]
        for s in servers:
            s.start()
        for t in clients + servers:
            t.join()
        assert not failed, failed
        until(lambda: p.said().count(f"{size} bytes to the server, {size} back, eof\n") == count, "all have ended well")


@functools.cache
def served(name):
    """A file to get, big or a part as long as a quarter of it, and its digest. Made once, in blocks that differ by their number:
    otherwise it would take as long as to send it."""
    path, h = f"{DIRECTORY.name}/{name}", hashlib.sha256()
    rest = os.urandom((1 << 18) - 8)
    with open(path, "wb") as f:
        for i in range(MB * 4 if name == "big" else MB):
            data = i.to_bytes(8, "big") + rest
            f.write(data)
            h.update(data)
    return path, h.hexdigest()


@contextmanager
def web(*names):
    """nginx, with these files to get, and a place to put one."""
    with tempfile.TemporaryDirectory() as d:
        with closing(listen()) as free:
            port = free.getsockname()[1]
        (Path(d) / "put").mkdir()
        for name in set(names):
            os.symlink(served(name)[0], f"{d}/{name}")
        paths = "".join(f"{name}_temp_path {d}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        Path(d, "conf").write_text(f"""{'user root;' if os.getuid() == 0 else ''} daemon off; pid {d}/pid; error_log {d}/log;
            events {{ }} http {{ access_log off; {paths} client_max_body_size 0;
            server {{ listen 127.0.0.1:{port}; root {d}; location /put/ {{ dav_methods PUT; }} }} }}""")
        nginx = subprocess.Popen(["nginx", "-c", f"{d}/conf", "-e", f"{d}/log"])
        try:
            def answers():
                with closing(socket.socket()) as s:
                    return s.connect_ex(("127.0.0.1", port)) == 0

            until(answers, "nginx listens")
            yield ("127.0.0.1", port), d
        finally:
            nginx.terminate()
            nginx.wait()


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def curl(p, version, *options, **more):
    return subprocess.Popen(["curl", "-ksSf", "--noproxy", "*", f"--tlsv{version}", "--tls-max", version, "--max-time", "250",
                             *options], stdout=subprocess.PIPE, **more)


def got_well(child):
    """The digest of what came."""
    h = hashlib.sha256()
    with child.stdout as f:
        while part := f.read(1 << 20):
            h.update(part)
    assert child.wait() == 0, f"curl says {child.returncode}"
    return h.hexdigest()


@test
def curl_downloads_and_uploads(version):
    name = "big" if os.environ["SPL_ENGINE"] == "kmod" else "part"
    with web(name, "part") as (at, d), relay(at) as p:
        url = f"https://{text(p.to)}"
        assert got_well(curl(p, version, f"{url}/{name}")) == served(name)[1]
        got_well(curl(p, version, "-T", f"{d}/part", f"{url}/put/it"))
        assert digest(f"{d}/put/it") == served("part")[1]
        # how is a race: curl does not wait for the end it is told
        until(lambda: p.said().count("ended ") == 2, f"both have ended: {p.said()}")


def outlives_the_relay(version):
    """With the module the connection needs the relay no more."""
    with web("part") as (at, d):
        p = relay(at)
        child = curl(p, version, "--limit-rate", f"{MB // 8}M", f"https://{text(p.to)}/part")
        h = hashlib.sha256(child.stdout.read(1 << 18))
        p.process.kill()
        p.process.wait()
        with child.stdout as f:
            while part := f.read(1 << 20):
                h.update(part)
        assert child.wait() == 0 and h.hexdigest() == served("part")[1], f"curl says {child.returncode}"


@test_once
def refuses_what_is_no_handshake():
    with relay(nowhere()) as p:
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"):
            with closing(connect(p.to)) as client:
                client.sendall(sent)
                gone(client)
        with closing(connect(p.to)):
            pass
        until(lambda: p.said().count("\n") == 3, f"a line for each: {p.said()}")
        assert p.said().count("refused 127.0.0.1:") == 3, p.said()


@test_once
def gives_up_who_stays_silent():
    with relay(nowhere()) as p, closing(connect(p.to)) as client:
        client.sendall(b"\x16\x03")
        before, began = p.processor_seconds(), time.monotonic()
        assert is_over(client)
        assert 9 < time.monotonic() - began < 13
        assert p.processor_seconds() - before < 0.2, "it is busy"
        p.says("no complete handshake in 10 s")


@test_once
def closes_when_the_kernel_has_no_tls():
    """On such a machine every client; elsewhere each_cipher has one the guest's kernel does not know."""
    if KERNEL_TLS:
        return
    for version in VERSIONS:
        with closing(listen()) as server, relay(server.getsockname()) as p, closing(Client(p.to, version)) as client:
            client.greet()
            gone(client.socket)
            p.says("the kernel does not send with this cipher\n")
            server.setblocking(False)
            try:
                assert not server.accept(), "the server was called"
            except BlockingIOError:
                pass


if KERNEL_TLS:
    for engine in ENGINES:
        for command in (b"K\n", b"k\n"):
            register(new_keys, f"new_keys_{command[:1].decode()}_{engine}", engine, command)
if KERNEL_TLS and IN_KERNEL:
    for version in VERSIONS:
        register(outlives_the_relay, f"outlives_the_relay_{version}", "kmod", version)

if __name__ == "__main__":
    certificate()
    sys.exit(main())
