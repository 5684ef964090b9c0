"""Control over real sockets, of a session that notes what it is asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq
from msgspec.structs import replace

from stream.feed.control import BURST, MAX_BYTES, Allowance, Control
from stream.feed.control_desk import Desk, Newest
from stream.feed.control_messages import Reply, decode_reply, schema
from stream.feed.publisher import Feed
from stream.feed.security import FeedError
from stream.records import SourceEvent
from tests.feeds import ANY, WAIT_S, session, status, until


class Noting:
    """A session that notes what it is asked."""

    def __init__(self) -> None:
        self.events: list[SourceEvent] = []
        self.paused: list[bool] = []
        self.n_stops = 0

    def tell(self, event: SourceEvent) -> None:
        self.events.append(event)

    def stop(self) -> None:
        self.n_stops += 1

    def pause(self, paused: bool) -> None:
        self.paused.append(paused)

    def now_ns(self) -> int:
        return 12_500_000_000

    def told(self) -> list[tuple[str, str]]:
        assert {event.t_ns for event in self.events} <= {12_500_000_000}
        return [(event.kind, event.text) for event in self.events]


def answer(desk: Desk, **request: object) -> Reply:
    return decode_reply(desk.answer(json.dumps(request).encode()))


@contextmanager
def client(address: str, kind: int = zmq.REQ) -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.linger = 0
        socket.rcvtimeo = socket.sndtimeo = round(WAIT_S * 1000)
        socket.connect(address)
        yield socket


def ask(socket: "zmq.Socket[bytes]", request: bytes) -> Reply:
    socket.send(request)
    return decode_reply(socket.recv())


# what is asked


def test_a_mark_is_told_at_the_media_time_of_now() -> None:
    noting = Noting()
    assert answer(Desk(noting, Newest()), command="mark", text="she smiles", id="7") == Reply(id="7", t=12.5)
    assert noting.told() == [("mark", "she smiles")]


def test_pausing_twice_is_pausing_once() -> None:
    noting = Noting()
    desk = Desk(noting, Newest())
    asked = ["pause", "pause", "status", "resume", "resume"]
    assert [answer(desk, command=command).paused for command in asked] == [True, True, True, False, False]
    assert noting.paused == [True, False]
    assert [kind for kind, _ in noting.told()] == ["paused", "resumed"]


def test_shutdown_is_told_and_then_done() -> None:
    noting = Noting()
    assert answer(Desk(noting, Newest()), command="shutdown").error is None
    assert (noting.told(), noting.n_stops) == ([("shutdown", "asked to end by its control")], 1)


def test_status_is_what_the_feed_said_last() -> None:
    newest = Newest()
    desk = Desk(Noting(), newest)
    assert answer(desk, command="status") == Reply(t=12.5)
    with Feed([newest]) as feed:
        for message in (session(), status(persons=1), status(persons=2)):
            feed.publish(message)
    reply = answer(desk, command="status")
    assert reply.session is not None
    assert reply.status is not None
    assert replace(reply.session, stamp="") == session()
    assert (reply.status.persons, reply.status.seq) == (2, 1)
    assert answer(desk, command="resume").status is None  # only to who asks for it


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "Input data was truncated"),
        (b"\xff\xfe", "malformed"),
        (b'"mark"', "Expected `object`, got `str`"),
        (b"{}", "missing required field `command`"),
        (b'{"command": "hop", "hop_s": 1}', "Invalid value 'hop'"),
        (b'{"command": "mark"}', "missing required field `text`"),
        (b'{"command": "mark", "text": ""}', "Expected `str` of length >= 1"),
        (b'{"command": "mark", "text": "' + b"x" * 501 + b'"}', "Expected `str` of length <= 500"),
        (b'{"command": "mark", "text": "\xff"}', "utf"),
        (b'{"command": "pause", "for_s": 3}', "unknown field `for_s`"),
        (b'{"command": "pause", "v": 2}', "Invalid enum value 2"),
        (b'{"command": "pause", "id": 3}', "Expected `str`, got `int`"),
        pytest.param(b"[" * 4000, "Expected `object`, got `array`", id="array"),
        pytest.param(b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"}", "recursion depth exceeded", id="nested"),
    ],
)
def test_what_is_no_request_is_refused_and_nothing_is_done(payload: bytes, text: str) -> None:
    noting = Noting()
    reply = decode_reply(Desk(noting, Newest()).answer(payload))
    assert reply.error is not None
    assert reply.error.startswith('expected a request like {"command": "mark", "text": "a note"}: ')
    assert text.lower() in reply.error.lower()
    assert (noting.events, noting.paused, noting.n_stops) == ([], [], 0)


def test_the_schema_names_every_command() -> None:
    defined = schema()["$defs"]
    commands = set(defined["request"]["discriminator"]["mapping"])
    assert commands == {"status", "pause", "resume", "mark", "shutdown"}
    assert defined["Mark"]["additionalProperties"] is False
    assert defined["reply"]["$ref"] == "#/$defs/Reply"


# the socket


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


@pytest.mark.parametrize("frames", [[b"no", b"{}"], [b"", b"", b"{}"], [b""] * 1000, [b"x" * 1000] * 20])
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


def test_a_flood_waits_and_others_have_their_turn() -> None:
    noting = Noting()
    with (
        Control(ANY, noting, Newest()) as control,
        client(control.address, zmq.DEALER) as flood,
        client(control.address) as other,
    ):
        for _ in range(1_000):
            flood.send(b'{"command": "mark", "text": "flood"}')
        until(lambda: len(noting.events) >= BURST)
        assert ask(other, b'{"command": "pause"}').paused
        assert len(noting.events) < 200


def test_it_ends_while_it_waits_for_its_allowance() -> None:
    noting = Noting()
    control = Control(ANY, noting, Newest())
    with control, client(control.address, zmq.DEALER) as flood:
        for _ in range(BURST + 2):
            flood.send(b'{"command": "status"}')
        assert decode_reply(flood.recv()).t == 12.5
    assert not [thread for thread in threading.enumerate() if thread.name == "control"]


def test_the_reply_to_a_shutdown_is_delivered() -> None:
    noting = Noting()
    with Control(ANY, noting, Newest()) as control, client(control.address) as socket:
        socket.send(b'{"command": "shutdown", "id": "last"}')
        until(lambda: noting.n_stops == 1)
        control.__exit__(None, None, None)
        assert decode_reply(socket.recv()).id == "last"


def test_options_are_set_before_it_binds() -> None:
    server_key, secret = zmq.curve_keypair()
    options = {zmq.CURVE_SERVER: 1, zmq.CURVE_SECRETKEY: secret}
    with (
        Control(ANY, Noting(), Newest(), options=options) as control,
        zmq.Context() as context,
        context.socket(zmq.REQ) as socket,
    ):
        socket.linger = 0
        socket.rcvtimeo = round(WAIT_S * 1000)
        socket.curve_serverkey = server_key
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.connect(control.address)
        assert ask(socket, b'{"command": "status"}').t == 12.5


def test_addresses_that_cannot_be_had_are_one_line() -> None:
    with pytest.raises(FeedError, match=r"tcp://\*:5564 is not a loopback address"):
        Control("tcp://*:5564", Noting(), Newest())
    with (
        Control(ANY, Noting(), Newest()) as control,
        pytest.raises(FeedError, match=r"^cannot be controlled on tcp.*: address already in use; take another address"),
        Control(control.address, Noting(), Newest()),
    ):
        pass


def test_an_allowance_is_a_burst_and_then_a_rate() -> None:
    now_s = 0.0
    allowance = Allowance(3, 4.0, now=lambda: now_s)
    for left in (3, 2, 1):
        assert (allowance.left(), allowance.until_next_s()) == (left, 0.0)
        allowance.spend()
    assert allowance.until_next_s() == 0.25
    now_s = 0.125
    assert (allowance.left(), allowance.until_next_s()) == (0.5, 0.125)
    now_s = 100.0
    assert allowance.left() == 3.0
