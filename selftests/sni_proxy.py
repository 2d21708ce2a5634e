#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""sni_proxy.py: the example sni_proxy, with ClientHellos made by hand and with real TLS. Runs on the host as any user,
and in the guests with the module.

Arguments: some of the tests, by name.
"""
import hashlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing

from example import PATIENCE, Program, accept, connect, expect, is_over, listen, main, nowhere, take, test, text, until

def vector(size, body):
    return len(body).to_bytes(size, "big") + body


def server_name(name, kind=0):
    return b"\0\0" + vector(2, vector(2, bytes([kind]) + vector(2, name)))


def message(extensions, kind=1):
    body = b"\x03\x03" + bytes(range(32)) + vector(1, b"s" * 32) + vector(2, b"\x13\x01\x13\x02") + vector(1, b"\0")
    return bytes([kind]) + vector(3, body + (vector(2, extensions) if extensions is not None else b""))


def records(data, size=16384):
    return b"".join(b"\x16\x03\x01" + vector(2, data[i:i + size]) for i in range(0, len(data), size))


def hello(name=b"a.example", more=b"\x00\x2b\x00\x03\x02\x03\x04"):
    return records(message(more + server_name(name) + b"\xff\x01\x00\x01\x00"))


def proxy_header(client):
    """As the specification of the PROXY protocol says, for the connection of this socket."""
    source, target = client.getsockname(), client.getpeername()
    addresses = b"".join(socket.inet_pton(client.family, a[0]) for a in (source, target))
    return (b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21" +
            (b"\x21\x00\x24" if client.family == socket.AF_INET6 else b"\x11\x00\x0c") +
            addresses + struct.pack("!HH", source[1], target[1]))


def sni(*upstreams, on=("127.0.0.1", 0)):
    args = ["=".join((name, ",".join(text(a) for a in addresses))) for name, *addresses in upstreams]
    return Program("sni_proxy", *args, on=on)


def arrives(client, server, sent):
    """All that was sent is there after the PROXY header, and what follows goes both ways to its end."""
    with closing(accept(server)) as s:
        expect(s, proxy_header(client) + sent)
        client.sendall(b"there")
        expect(s, b"there")
        s.sendall(b"back")
        expect(client, b"back")
        client.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""
        s.sendall(b"late")
        expect(client, b"late")
    assert client.recv(1) == b""


@test
def split_at_every_byte():
    sent = hello()
    with closing(listen()) as server, sni(("a.example", server.getsockname())) as p:
        for i in range(1, len(sent)):
            with closing(connect(p.to)) as client:
                client.sendall(sent[:i])
                time.sleep(0.002)
                client.sendall(sent[i:])
                arrives(client, server, sent)


@test
def byte_by_byte_in_small_records():
    sent = records(message(server_name(b"a.example")), 7)
    with closing(listen()) as server, sni(("a.example", server.getsockname())) as p, closing(connect(p.to)) as client:
        for i, byte in enumerate(sent):
            client.sendall(bytes([byte]))
            time.sleep(0.002)
            if i == len(sent) - 2:
                server.settimeout(0.2)
                try:
                    assert not server.accept(), "called before the ClientHello was complete"
                except TimeoutError:
                    server.settimeout(PATIENCE)
        arrives(client, server, sent)


@test
def with_much_after_it():
    sent = hello() + os.urandom(300000)
    with closing(listen()) as server, sni(("a.example", server.getsockname())) as p, closing(connect(p.to)) as client:
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        with closing(accept(server)) as s:
            expect(s, proxy_header(client) + sent)
        sender.join()


@test
def long_hello():
    sent = hello(more=b"\x00\x15" + vector(2, bytes(15000)))
    with closing(listen()) as server, sni(("a.example", server.getsockname())) as p, closing(connect(p.to)) as client:
        client.sendall(sent)
        arrives(client, server, sent)


@test
def over_ipv6():
    with closing(listen()) as server, sni(("a.example", server.getsockname()), on=("::1", 0)) as p:
        with closing(connect(p.to)) as client:
            client.sendall(hello())
            arrives(client, server, hello())


@test
def chooses_by_name():
    with closing(listen()) as a, closing(listen(("::1", 0))) as b, closing(listen()) as other:
        servers = {b"a.example": a, b"A.eXample": a, b"b.example": b, b"a.example.org": other, b"x": other}
        with sni(("a.example", a.getsockname()), ("*", other.getsockname()), ("B.example", b.getsockname())) as p:
            for name, server in servers.items():
                with closing(connect(p.to)) as client:
                    client.sendall(hello(name))
                    arrives(client, server, hello(name))


@test
def without_a_default():
    with sni(("a.example", nowhere())) as p, closing(connect(p.to)) as client:
        client.sendall(hello(b"b.example"))
        assert is_over(client)
        p.says("no server of that name")


@test
def next_address_when_one_refuses():
    dead = [nowhere(), nowhere()]
    with closing(listen()) as server, sni(("a.example", *dead, server.getsockname())) as p:
        for _ in range(20):
            with closing(connect(p.to)) as client:
                client.sendall(hello())
                arrives(client, server, hello())
        assert p.said().count(f"a.example: {text(dead[1])}: Connection refused\n") == 20, p.said()


@test
def next_address_when_one_refuses_late():
    """The first SYN is not answered, as the queue is full; the second one, a second later, is refused."""
    with closing(listen()) as server, closing(listen(backlog=0)) as full:
        at = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for f in fillers:
            f.setblocking(False)
            f.connect_ex(at)
        time.sleep(0.1)
        with sni(("a.example", at, server.getsockname())) as p, closing(connect(p.to)) as client:
            client.sendall(hello())
            server.settimeout(0.4)
            try:
                assert not server.accept(), "the first address was not waited for"
            except TimeoutError:
                server.settimeout(PATIENCE)
            client.sendall(b"more")
            full.close()
            arrives(client, server, hello() + b"more")
            assert p.said() == f"a.example: {text(at)}: Connection refused\n", p.said()
        for f in fillers:
            f.close()


@test
def no_address_answers():
    with sni(("a.example", nowhere(), nowhere())) as p, closing(connect(p.to)) as client:
        client.sendall(hello())
        assert is_over(client)
        p.says("refused: no server for a.example")


@test
def refuses():
    name = server_name(b"a.example")
    cut = records(message(name))
    cases = [
        (b"GET / HTTP/1.1\r\n\r\n", "not TLS"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "not TLS"),
        (b"\x16\x02\x00", "not TLS"),
        (b"\x16\x03\x01\x00\x00", "not TLS"),
        (b"\x16\x03\x01\x7f\xff\x01", "not TLS"),
        (records(message(name, kind=2)), "no ClientHello"),
        (records(message(None)), "has no server name"),
        (records(message(b"")), "has no server name"),
        (records(message(b"\x00\x17\x00\x00")), "has no server name"),
        (records(message(name + name)), "server name in the ClientHello is malformed"),
        (records(message(server_name(b""))), "malformed"),
        (records(message(server_name(b"a.example\0.org"))), "malformed"),
        (records(message(server_name(b"a.example\n"))), "malformed"),
        (records(message(server_name(b"a" * 256))), "malformed"),
        (records(message(server_name(b"a.example", kind=1))), "malformed"),
        (records(message(b"\0\0" + vector(2, b"\x00\xff\0" + vector(2, b"a.example")))), "malformed"),
        (records(message(b"\0\0" + vector(2, vector(2, b"\0\x01\x00a.example")))), "malformed"),
        (records(message(b"\0\0" + vector(2, vector(2, 2 * (b"\0" + vector(2, b"a.example")))))), "malformed"),
        (records(message(b"\0\0\x00\x40\x00")), "cut off"),
        (records(message(name + b"\0")), "cut off"),
        (records(b"\x01" + vector(3, b"\x03\x03" + bytes(20))), "malformed"),
        (records(b"\x01" + vector(3, b"\x03\x03" + bytes(32) + b"\xff")), "malformed"),
        (records(b"\x01\x01\x00\x00" + bytes(20000)), "longer than 16 KiB"),
        (cut[:-1], "before its ClientHello was complete"),
        (cut[:3], "before its ClientHello was complete"),
        (b"", "before its ClientHello was complete"),
    ]
    with closing(listen()) as server:
        for sent, why in cases:
            with sni(("*", server.getsockname())) as p, closing(connect(p.to)) as client:
                client.sendall(sent)
                if "before" in why:
                    client.shutdown(socket.SHUT_WR)
                assert is_over(client), sent
                p.says(why)
                assert p.said().startswith("refused: ") and p.said().count("\n") == 1, p.said()
        server.setblocking(False)
        try:
            assert not server.accept(), "one was let through"
        except BlockingIOError:
            pass


@test
def survives_any_wrong_byte():
    sent = hello()
    with closing(listen()) as server, sni(("a.example", server.getsockname()), ("*", server.getsockname())) as p:
        for i in range(len(sent)):
            for byte in (0, 1, 0x7f, 0xff):
                with closing(connect(p.to)) as client:
                    client.sendall(sent[:i] + bytes([byte]) + sent[i + 1:])
            server.setblocking(False)
            try:
                while True:
                    server.accept()[0].close()
            except BlockingIOError:
                server.settimeout(PATIENCE)
        server.close()
        until(p.rests, "all are gone")
        assert p.process.poll() is None


@test
def gives_up_who_stays_silent():
    with sni(("*", nowhere())) as p, closing(connect(p.to)) as client, closing(connect(p.to)) as partly:
        partly.sendall(hello()[:50])
        before, began = p.processor_seconds(), time.monotonic()
        assert is_over(client) and is_over(partly)
        assert 4 < time.monotonic() - began < 8
        assert p.processor_seconds() - before < 0.2, "bytes that stay on the socket keep it busy"
        p.says("no complete ClientHello in 5 s")


def certificate(directory):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a.example",
                    "-addext", "subjectAltName=DNS:a.example", "-keyout", f"{directory}/key", "-out", f"{directory}/crt"],
                   check=True, stderr=subprocess.DEVNULL)


@test
def real_tls():
    data = os.urandom(2000000)
    with tempfile.TemporaryDirectory() as d, closing(listen()) as server:
        certificate(d)
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(f"{d}/crt", f"{d}/key")
        theirs = ssl.create_default_context(cafile=f"{d}/crt")

        def serve():
            plain = accept(server)
            take(plain, 28)
            with ours.wrap_socket(plain, server_side=True) as s:
                s.sendall(take(s, len(data)))

        server_thread = threading.Thread(target=serve)
        with sni(("a.example", nowhere(), server.getsockname())) as p:
            server_thread.start()
            with theirs.wrap_socket(connect(p.to), server_hostname="a.example") as client:
                sender = threading.Thread(target=client.sendall, args=(data,))
                sender.start()
                sender.join()
                got = take(client, len(data))
            server_thread.join()
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


if __name__ == "__main__":
    sys.exit(main())
