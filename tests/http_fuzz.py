"""A hostile client of a web server: python -m tests.http_fuzz PORT N_LINES SEED

Sends malformed requests, headers and connections to a server on this machine, and prints how many lines it sent.
"""

import contextlib
import random
import socket
import sys

AT_ONCE = 100  # lines of one connection
IDLE = 40  # connections that say nothing, or a part of a line, and are held until as many others came


def request_line(rnd: random.Random) -> bytes:
    method = rnd.choice((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"get", b"", b"\0", rnd.randbytes(5)))
    path = rnd.choice((b"/", b"/feed", b"/metrics", b"//[::", b"/?token=%FF%", b"/%00", b"http://[", rnd.randbytes(20)))
    version = rnd.choice((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"HTTP/1.1.1", b"", rnd.randbytes(4)))
    return method + b" " + path + b" " + version + rnd.choice((b"\r\n", b"\n", b"\r"))


def header(rnd: random.Random) -> bytes:
    name = rnd.choice((b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", rnd.randbytes(6)))
    value = rnd.choice((b"localhost", b"-1", b"99999999999999", b"chunked", b"keep-alive", b"100-continue", b"\0"))
    return name + rnd.choice((b": ", b":", b" ")) + value + rnd.choice((b"\r\n", b"\n"))


def line(rnd: random.Random) -> bytes:
    kind = rnd.random()
    if kind < 0.3:
        return request_line(rnd)
    if kind < 0.7:
        return header(rnd)
    if kind < 0.72:
        return b"x" * 70_000 + b"\r\n"
    return rnd.choice((b"\r\n", b"\r\n\r\n", rnd.randbytes(rnd.randrange(1, 60)) + b"\n"))


def knock(address: tuple[str, int], rnd: random.Random, idle: list[socket.socket]) -> int:
    """One connection; returns the lines that were sent on it."""
    n_sent = 0
    with contextlib.suppress(OSError):  # cut off
        peer = socket.create_connection(address, timeout=5)
        if rnd.random() < 0.2:
            peer.sendall(rnd.choice((b"", b"GET", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"GET /feed HTTP/1.1\r\n")))
            idle.append(peer)
            if len(idle) > IDLE:
                idle.pop(0).close()
            return 1
        with peer:
            opening = b"GET / HTTP/1.1\r\nHost: localhost\r\n" if rnd.random() < 0.5 else b""
            lines = [line(rnd) for _ in range(rnd.randrange(1, AT_ONCE))]
            for first in range(0, len(lines), 10):
                peer.sendall(opening + b"".join(lines[first : first + 10]))
                opening, n_sent = b"", n_sent + len(lines[first : first + 10])
            if rnd.random() < 0.5:
                peer.shutdown(socket.SHUT_WR)
                peer.settimeout(0.02)  # read a little of what comes, then leave
                peer.recv(4096)
    return n_sent


def main(port: str, n_lines: str, seed: str) -> None:
    rnd, n_sent, n_connections = random.Random(int(seed)), 0, 0
    idle: list[socket.socket] = []
    socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()  # it listens
    while n_sent < int(n_lines):
        n_sent += knock(("127.0.0.1", int(port)), rnd, idle)
        n_connections += 1
    for peer in idle:
        peer.close()
    print(f"{n_sent} lines on {n_connections} connections")


if __name__ == "__main__":
    main(*sys.argv[1:])
