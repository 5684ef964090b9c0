"""The socket of the control, and that a hostile client costs the others nothing."""

import json
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from stream.feed.control import AT_ONCE, BURST, BUSY, MAX_BYTES, Control
from stream.feed.control_desk import Newest
from stream.feed.control_messages import Reply, decode_reply
from stream.feed.keys import load_client_keys, load_server_keys
from stream.feed.security import FeedError
from tests.feed_fuzz import command, frame, shake_hands
from tests.feeds import ANY, WAIT_S, until
from tests.stream.test_control import Noting
from tools.feeds.keys import make_client, make_server


@contextmanager
def client(
    address: str, kind: int = zmq.REQ, curve: tuple[bytes, bytes] | None = None
) -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.linger = 0
        socket.rcvtimeo = socket.sndtimeo = round(WAIT_S * 1000)
        if curve is not None:
            socket.curve_serverkey, socket.curve_secretkey = curve
            socket.curve_publickey = zmq.curve_public(curve[1])
        socket.connect(address)
        yield socket


def ask(socket: "zmq.Socket[bytes]", request: bytes) -> Reply:
    socket.send(request)
    return decode_reply(socket.recv())


def test_req_and_dealer_are_answered() -> None:
    noting = Noting()
    with Control(ANY, noting, Newest()) as control:
        with client(control.address) as req:
            assert ask(req, b'{"command": "pause"}').paused
        with client(control.address, zmq.DEALER) as dealer:
            for text in ("one", "two"):
                dealer.send(json.dumps({"command": "mark", "text": text, "id": text}).encode())
            assert [decode_reply(dealer.recv()).id for _ in range(2)] == ["one", "two"]
            dealer.send_multipart([b"", b'{"command": "resume"}'])  # as REQ sends it
            assert dealer.recv_multipart()[0] == b""
    assert noting.told()[1:3] == [("mark", "one"), ("mark", "two")]
    assert noting.paused == [True, False]


@pytest.mark.parametrize("frames", [[b"no", b"{}"], [b"", b"", b"{}"], [b""] * 1000, [b"x" * 1000] * 10])
def test_frames_that_are_no_request_are_refused(frames: list[bytes]) -> None:
    with Control(ANY, Noting(), Newest()) as control, client(control.address, zmq.DEALER) as dealer:
        dealer.send_multipart(frames)
        assert decode_reply(dealer.recv_multipart()[-1]).error is not None


def test_who_sends_too_much_is_cut_off_and_others_are_answered() -> None:
    with Control(ANY, Noting(), Newest()) as control, client(control.address, zmq.DEALER) as huge:
        monitor = huge.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        huge.send(b"x" * (MAX_BYTES + 1))
        assert monitor.poll(WAIT_S * 1000)
        huge.disable_monitor()
        monitor.close()
        with client(control.address) as other:
            assert ask(other, b'{"command": "status"}').error is None


def test_who_asks_too_often_is_refused_and_others_are_answered() -> None:
    noting = Noting()
    with (
        Control(ANY, noting, Newest()) as control,
        client(control.address, zmq.DEALER) as flood,
        client(control.address) as other,
    ):
        for _ in range(3 * BURST):
            flood.send(b'{"command": "mark", "text": "flood"}')
        replies = [decode_reply(flood.recv()) for _ in range(3 * BURST)]
        assert ask(other, b'{"command": "pause"}').paused
    refused = [reply for reply in replies if reply.error is not None]
    assert {reply.error for reply in refused} == {BUSY}
    assert len(refused) >= BURST
    assert len(noting.told()) == 3 * BURST - len(refused) + 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's count of received bytes")
def test_who_goes_on_asking_is_cut_off() -> None:
    with Control(ANY, Noting(), Newest()) as control, client(control.address, zmq.DEALER) as flood:
        monitor = flood.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        for _ in range(2 * AT_ONCE // 100):
            flood.send(b'{"command": "mark", "text": "%b"}' % (b"x" * 100))
        assert monitor.poll(WAIT_S * 1000)
        flood.disable_monitor()
        monitor.close()
        until(lambda: control.door is not None and control.door.n_cut > 0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a reset")
def test_who_pings_and_hangs_up_behind_requests_ends_nobody() -> None:
    """What ended the process where a queue was full: requests that wait, a PING behind them, and the peer is gone."""
    with Control(ANY, Noting(), Newest()) as control:
        host, port = control.address.removeprefix("tcp://").split(":")
        for _ in range(20):
            with socket.create_connection((host, int(port)), WAIT_S) as peer:
                shake_hands(peer, b"DEALER", b"ROUTER")
                peer.sendall(frame(b"{}") * 200 + command(b"PING", b"\0\1") + frame(b"{}") * 10)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with client(control.address) as other:
            assert ask(other, b'{"command": "status"}').t == 12.5


def test_the_reply_to_a_shutdown_is_delivered() -> None:
    noting = Noting()
    with Control(ANY, noting, Newest()) as control, client(control.address) as socket:
        socket.send(b'{"command": "shutdown", "id": "last"}')
        until(lambda: noting.n_stops == 1)
        control.__exit__(None, None, None)
        assert decode_reply(socket.recv()).id == "last"


def test_with_keys_only_authorised_clients_are_answered(tmp_path: Path) -> None:
    make_server(folder=tmp_path)
    make_client("desk", folder=tmp_path)
    server, desk = load_server_keys(tmp_path), load_client_keys("desk", tmp_path)
    with Control(ANY, Noting(), Newest(), keys=server) as control:
        with client(control.address, curve=(desk.server_key, desk.client_secret)) as known:
            assert ask(known, b'{"command": "status"}').t == 12.5
        _, stranger = zmq.curve_keypair()
        with client(control.address, curve=(desk.server_key, stranger)) as unknown, client(control.address) as bare:
            for refused in (unknown, bare):
                refused.send(b'{"command": "pause"}')
            assert control.door is not None
            until(lambda: control.door is not None and control.door.n_refused >= 2)
            assert not unknown.poll(0)
            assert not bare.poll(0)


def test_addresses_that_cannot_be_had_are_one_line() -> None:
    with pytest.raises(FeedError, match=r"tcp://\*:5564 is not a loopback .* or use keys \(emocast keys\)$"):
        Control("tcp://*:5564", Noting(), Newest())
    with (
        Control(ANY, Noting(), Newest()) as control,
        pytest.raises(FeedError, match=r"^cannot be controlled on tcp.*: address already in use; take another address"),
        Control(control.address, Noting(), Newest()),
    ):
        pass
