"""A hostile peer of the feed or its control, without ZeroMQ: python -m tests.feed_fuzz PORT N_FRAMES SEED [SUB|DEALER]

Sends malformed frames, subscriptions or requests, and connections to a socket on this machine, and prints how many
frames it sent.
"""

import random
import socket
import struct
import sys

AT_ONCE = 100  # frames of one connection, so that most are over before the door takes offence
N_SOURCES = 250  # who is cut off is kept out by address for a while, so that it comes from many
ATTACKED = {b"SUB": b"XPUB", b"DEALER": b"ROUTER"}
REQUESTS = (b"{}", b'{"command": "status"}', b'{"command": "pause"}', b'{"command": "mark", "text": 1}', b"[" * 2000)


def greeting(mechanism: bytes) -> bytes:
    return b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism.ljust(20, b"\0") + bytes(32)


def frame(body: bytes, flags: int = 0) -> bytes:
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | 2]) + struct.pack(">Q", len(body)) + body


def command(name: bytes, body: bytes) -> bytes:
    return frame(bytes([len(name)]) + name + body, flags=4)


def ready(kind: bytes) -> bytes:
    return command(b"READY", b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind)


def shake_hands(peer: socket.socket, kind: bytes = b"SUB", expected: bytes = b"XPUB") -> bool:
    """Whether the other end took us for a socket of this kind; what is sent before its answer would be a fault."""
    peer.sendall(greeting(b"NULL") + ready(kind))
    answer = b""
    while expected not in answer and (more := peer.recv(4096)):
        answer += more
    return expected in answer


def subscription(rnd: random.Random) -> bytes:
    topic = rnd.choice((b"", b"estimate/", b"status/here", rnd.randbytes(rnd.randrange(60))))
    return frame(rnd.choice((b"\0", b"\1")) + topic)


def request(rnd: random.Random) -> bytes:
    return rnd.choice((frame(b"", flags=1), b"")) + frame(rnd.choice((*REQUESTS, rnd.randbytes(rnd.randrange(60)))))


def malformed(rnd: random.Random) -> bytes:
    body = rnd.randbytes(rnd.randrange(40))
    return rnd.choice(
        (
            frame(body),
            frame(body, flags=rnd.randrange(256)),
            frame(b"\1" + body, flags=1),  # a first part that no second follows
            command(rnd.choice((b"PING", b"PONG", b"SUBSCRIBE", b"CANCEL", b"ERROR", b"READY", b"")), body),
            b"\2" + struct.pack(">Q", rnd.choice((1025, 1 << 31, (1 << 64) - 1))),
            b"\0\xff",  # announces more than comes
            body,
        )
    )


def frames_of_a_peer(rnd: random.Random, kind: bytes) -> list[bytes]:
    """After a handshake: mostly what it expects, since a frame that is malformed ends the connection."""
    share, formed = rnd.choice((0.0, 0.02, 0.5)), subscription if kind == b"SUB" else request
    return [(malformed if rnd.random() < share else formed)(rnd) for _ in range(AT_ONCE)]


def knock(address: tuple[str, int], rnd: random.Random, mine: bytes = b"SUB") -> int:
    """One connection; returns the frames that were sent on it, none where it was not let in."""
    kind = rnd.randrange(7)
    opening, frames = b"", frames_of_a_peer(rnd, mine)
    if kind == 0:
        frames = [rnd.randbytes(rnd.randrange(1, 2_000))]
    elif kind == 1:
        opening = greeting(rnd.choice((b"NULL", b"CURVE", b"PLAIN", b"\xff" * 20)))[: rnd.randrange(64)]
    elif kind == 2:
        opening = greeting(b"CURVE")
        frames = [command(b"HELLO", b"\1\0" + rnd.randbytes(192)), command(b"INITIATE", rnd.randbytes(256)), *frames]
    elif kind == 3:
        opening = rnd.choice((b"\1\0", b"\xff" + bytes(8) + b"\x7f\1\2\0\0"))  # protocols before the third
    elif kind == 4 and rnd.random() < 0.1:
        frames = [frame(b"\1" + rnd.randbytes(900)) for _ in range(200)]
    n_sent, source = 0, f"127.0.1.{rnd.randrange(N_SOURCES) + 1}"
    try:
        with socket.create_connection(address, timeout=5, source_address=(source, 0)) as peer:
            if kind > 3 and not shake_hands(peer, mine, ATTACKED[mine]):
                return 0
            for first in range(0, len(frames), 10):
                peer.sendall(opening + b"".join(frames[first : first + 10]))
                opening, n_sent = b"", n_sent + len(frames[first : first + 10])
            if rnd.random() < 0.5:
                peer.shutdown(socket.SHUT_WR)
                peer.settimeout(0.02)  # read a little of what comes, then leave
                peer.recv(4096)
    except ConnectionRefusedError:  # there is no feed (any more)
        raise
    except OSError:  # cut off
        pass
    return n_sent


def main(port: str, n_frames: str, seed: str, kind: str = "SUB") -> None:
    rnd, n_sent, n_connections = random.Random(int(seed)), 0, 0
    while n_sent < int(n_frames):
        n_sent += knock(("127.0.0.1", int(port)), rnd, kind.encode())
        n_connections += 1
    print(f"{n_sent} frames on {n_connections} connections")


if __name__ == "__main__":
    main(*sys.argv[1:])
