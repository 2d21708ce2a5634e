#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""http_body.py: the example http_body, with messages made by hand and with curl. Runs on the host as any user, and in the
guests with the module.

Arguments: some of the tests, by name.
"""
import hashlib
import http.server
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

from example import (PATIENCE, Program, accept, connect, expect, is_over, is_reset, listen, main, nowhere, quiet, reset,
                     take_all, test, text)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def proxied():
    """A client, and the server behind the proxy whose connections are accepted by hand."""
    with closing(listen()) as server, Program("http_body", text(server.getsockname())) as p:
        with closing(connect(p.to)) as client:
            yield client, server, p


@test
def two_requests_at_once():
    first = b"POST /1 HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + os.urandom(200000)
    second = b"PUT /2 HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:  3 \r\n\r\nabc"
    with proxied() as (client, server, _):
        sender = threading.Thread(target=client.sendall, args=(first + second,))
        sender.start()
        with closing(accept(server)) as s:
            expect(s, first)
            assert quiet(s), "the second request came before the first was answered"
            s.sendall(OK)
            expect(client, OK)
            expect(s, second)
            s.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            expect(client, b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            assert quiet(s) and quiet(client)
        sender.join()


@test
def a_byte_after_the_body_is_not_touched():
    post = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    with proxied() as (client, server, _):
        client.sendall(post + GET[:1])
        with closing(accept(server)) as s:
            expect(s, post)
            assert quiet(s)
            s.sendall(OK + b"!")
            expect(client, OK)
            assert quiet(client), "more than the body of the answer"
            client.sendall(GET[1:])
            # what the server said unasked is nobody's answer: another connection
            with closing(accept(server)) as other:
                expect(other, GET)
                other.sendall(OK)
                expect(client, OK)


@test
def byte_by_byte():
    post = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    with proxied() as (client, server, _):
        for byte in post:
            client.sendall(bytes([byte]))
            time.sleep(0.002)
        with closing(accept(server)) as s:
            expect(s, post)
            for byte in OK:
                s.sendall(bytes([byte]))
                time.sleep(0.002)
            expect(client, OK)


@test
def chunked_both_ways():
    big = os.urandom(150000)
    parts = [b"5;name=value\r\nhello\r\n", b"1\r\n!\r\n", b"%X\r\n%s\r\n" % (len(big), big), b"000\r\nTrailer: x\r\n\r\n"]
    framed = b"5\r\nhello\r\n1\r\n!\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(big), big)
    request = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"
    with proxied() as (client, server, _):
        for _ in range(2):
            client.sendall(request + b"".join(parts) + GET)
            with closing(accept(server)) as s:
                expect(s, request + framed)
                assert quiet(s)
                s.sendall(response)
                for part in parts:
                    for i in range(0, len(part), 70000):
                        s.sendall(part[i:i + 70000])
                        time.sleep(0.01)
                expect(client, response + framed)
                expect(s, GET)
                s.sendall(OK)
                expect(client, OK)


@test
def answers_without_a_body():
    with proxied() as (client, server, _):
        client.sendall(GET)
        with closing(accept(server)) as s:
            for method, answer in (
                    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
                    (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
                    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
                    (b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
                    (b"GET", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)):
                expect(s, GET)
                s.sendall(OK)
                expect(client, OK)
                client.sendall(method + GET[3:])
                expect(s, method + GET[3:])
                s.sendall(answer)
                expect(client, answer)
                client.sendall(GET)
            expect(s, GET)


@test
def the_body_waits_for_100_continue():
    post = head("Expect: 100-continue", "Content-Length: 3")
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    with proxied() as (client, server, _):
        client.sendall(post)
        with closing(accept(server)) as s:
            expect(s, post)
            assert quiet(client)
            s.sendall(go_on)
            expect(client, go_on)
            client.sendall(b"abc" + GET)
            expect(s, b"abc")
            assert quiet(s)
            s.sendall(OK)
            expect(client, OK)
            expect(s, GET)
    with proxied() as (client, server, _):
        client.sendall(post)
        with closing(accept(server)) as s:
            expect(s, post)
            s.sendall(OK)
            expect(client, OK)
            assert client.recv(1) == b""


@test
def an_answer_until_the_end():
    body = os.urandom(500000)
    with proxied() as (client, server, _):
        client.sendall(GET)
        with closing(accept(server)) as s:
            expect(s, GET)
            s.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        got = take_all(client)
        assert got == b"HTTP/1.1 200 OK\r\n\r\n" + body, len(got)


@test
def who_asks_for_the_end_gets_it():
    for request, answer in ((GET[:-2] + b"Connection: x, Close\r\n\r\n", OK),
                            (b"GET / HTTP/1.0\r\n\r\n", OK),
                            (GET, OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))):
        with proxied() as (client, server, _):
            client.sendall(request)
            with closing(accept(server)) as s:
                expect(s, request)
                s.sendall(answer)
                expect(client, answer)
                client.settimeout(3)  # the proxy itself gives up after 10 s
                assert client.recv(1) == b""


@test
def a_server_that_went_away_is_called_again():
    with proxied() as (client, server, _):
        for _ in range(5):
            client.sendall(GET)
            with closing(accept(server)) as s:
                expect(s, GET)
                s.sendall(OK)
                expect(client, OK)
            time.sleep(0.05)


def head(*lines, first="POST / HTTP/1.1"):
    return "".join(f"{line}\r\n" for line in (first, *lines, "")).encode("latin-1")


@test
def refuses_requests():
    length = "Content-Length: 3"
    cases = [(head(f"Content-Length: {n}") + b"abc", 400) for n in (
                 "-1", "+3", "3 3", "3, 3", "0x3", "", "3a", "99999999999999999999", "18446744073709551615", "1" * 19)]
    cases += [
        (head(length, "Transfer-Encoding: chunked") + b"abc", 400),
        (head("Transfer-Encoding: chunked", length) + b"abc", 400),
        (head(length, length) + b"abc", 400),
        (head("Transfer-Encoding: gzip, chunked"), 400),
        (head("Transfer-Encoding: xchunked"), 400),
        (head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
        (head("Transfer-Encoding: chunked", first="POST / HTTP/1.0"), 400),
        (head("Content-Length : 3") + b"abc", 400),
        (head(" Content-Length: 3") + b"abc", 400),
        (head("X: a", " folded"), 400),
        (head("X: a\rb"), 400),
        (head("X: a\0b"), 400),
        (head("X: a\nContent-Length: 3") + b"abc", 400),
        (head("no colon"), 400),
        (head(": no name"), 400),
        (head(first="POST /"), 400),
        (head(first="POST / HTTP/2.0"), 400),
        (head(first="POST / HTTP/1.1 "), 400),
        (head(first="POST  / HTTP/1.1"), 400),
        (head(first="PO:ST / HTTP/1.1"), 400),
        (b"\r\n" + GET, 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\0\0" + b"\r\n\r\n", 400),
        (head("X: " + "a" * 16384), 431),
        (head(first="CONNECT x:443 HTTP/1.1"), 501),
    ]
    with closing(listen()) as server, Program("http_body", text(server.getsockname())) as p:
        for request, status in cases:
            with closing(connect(p.to)) as client:
                client.sendall(request)
                got = take_all(client)
                assert got.startswith(b"HTTP/1.1 %d " % status) and got.endswith(b"\r\n\r\n"), (request, got)
                assert got.count(b"HTTP/") == 1, got
        server.setblocking(False)
        try:
            assert not server.accept(), "one was let through"
        except BlockingIOError:
            server.settimeout(PATIENCE)
        with closing(connect(p.to)) as client:
            client.sendall(head("X: " + "a" * 16000))
            with closing(accept(server)) as s:
                expect(s, head("X: " + "a" * 16000))
                s.sendall(OK)
                expect(client, OK)


@test
def refuses_bodies_that_are_no_chunks():
    request = head("Transfer-Encoding: chunked")
    for body in (b"g\r\n", b"-1\r\n", b"0x1\r\n", b"\r\n", b"1\nab\r\n", b"3\r\nabcd\r\n", b"3\r\nabc\n\r\n", b"3\r\nabcXX0\r\n\r\n",
                 b"f" * 16 + b"\r\n", b"1" * 256, b"0\r\n" + b"a: b\r\n" * 64):
        with proxied() as (client, server, _):
            client.sendall(request + body)
            with closing(accept(server)) as s:
                got = take_all(client)
                assert got.startswith(b"HTTP/1.1 400 "), (body, got)
                assert not take_all(s).endswith(b"\r\n0\r\n\r\n"), "the server takes it for a whole request"


@test
def refuses_answers():
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", b"ssh\r\n\r\n", b"",
               b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", b"HTTP/1.1 99 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n",
               b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 16384 + b"\r\n\r\n"]
    for answer in answers:
        with proxied() as (client, server, p):
            client.sendall(GET)
            with closing(accept(server)) as s:
                expect(s, GET)
                s.sendall(answer)
            got = take_all(client)
            assert got.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 504 ")) and got.count(b"HTTP/") == 1, (answer[:40], got)
    with Program("http_body", text(nowhere())) as p, closing(connect(p.to)) as client:
        client.sendall(GET)
        assert take_all(client).startswith(b"HTTP/1.1 502 ")


@test
def half_an_answer_is_cut_off():
    for answer, ending in ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", lambda s: s.close()),
                           (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", lambda s: s.close()),
                           (b"HTTP/1.1 200 OK\r\n\r\nhalf", reset)):
        with proxied() as (client, server, p):
            client.sendall(GET)
            s = accept(server)
            expect(s, GET)
            s.sendall(answer)
            expect(client, answer)
            ending(s)
            assert is_reset(client), answer
            assert "cut off" in p.said()


@test
def half_a_request_does_not_hang():
    with proxied() as (client, server, _):
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf")
        client.shutdown(1)
        with closing(accept(server)) as s:
            assert take_all(s).endswith(b"half")
        assert take_all(client).startswith(b"HTTP/1.1 400 ")
    with proxied() as (client, server, p):
        client.sendall(GET[:9])
        client.shutdown(1)
        assert take_all(client).startswith(b"HTTP/1.1 400 ")
    with proxied() as (client, server, p):
        client.shutdown(1)
        assert is_over(client) and not p.said(), p.said()


@test
def gives_up_who_stays_silent():
    with proxied() as (client, server, p), closing(connect(p.to)) as partly:
        partly.sendall(GET[:9])
        time.sleep(7)
        assert p.processor_seconds() < 1, "bytes that stay on the socket keep it busy"
        assert len(p.children()) == 2
        assert is_over(client)
        assert take_all(partly).startswith(b"HTTP/1.1 408 ")


class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        answer = hashlib.sha256(data).hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@test
def curl_downloads_and_uploads():
    with tempfile.TemporaryDirectory() as d:
        data = os.urandom(5000000)
        Path(d, "file").write_bytes(data)
        handler = lambda *a: Quiet(*a, directory=d)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with Program("http_body", text(server.server_address)) as p:
                url = f"http://{text(p.to)}/file"
                one, two = Path(d, "1"), Path(d, "2")
                said = subprocess.run(["curl", "-sSf", "-w", "%{num_connects} ", "-o", one, url, "-o", two, url],
                                      check=True, capture_output=True, text=True, timeout=60).stdout
                assert said == "1 0 ", f"connections: {said}"
                assert one.read_bytes() == data and two.read_bytes() == data
                said = subprocess.run(["curl", "-sSf", "--expect100-timeout", "30", "-T", Path(d, "file"), url], check=True, capture_output=True,
                                      text=True, timeout=60).stdout
                assert said == hashlib.sha256(data).hexdigest(), said
            server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
