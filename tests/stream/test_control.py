"""What a control does and answers, with a session that notes what it is asked."""

import json

import pytest
from msgspec.structs import replace

from stream.feed.control_desk import Desk, Newest
from stream.feed.control_messages import Reply, decode_reply, schema
from stream.feed.publisher import Feed
from stream.records import SourceEvent
from tests.feeds import session, status


class Noting:
    """A session that notes what it is asked."""

    def __init__(self) -> None:
        self.events: list[SourceEvent] = []
        self.paused: list[bool] = []
        self.hops_s: list[float] = []
        self.recording: str | None = None
        self.lossless = False
        self.n_stops = 0

    def tell(self, event: SourceEvent) -> None:
        self.events.append(event)

    def stop(self) -> None:
        self.n_stops += 1

    def pause(self, paused: bool) -> None:
        self.paused.append(paused)

    def set_hop(self, hop_s: float) -> None:
        if hop_s == 0.3:
            raise ValueError("the nearest is 0.25")
        self.hops_s.append(hop_s)

    def record(self, file: str, *, lossless: bool) -> None:
        if self.recording is not None:
            raise ValueError(f"{self.recording} is being recorded already")
        self.recording, self.lossless = file, lossless

    def stop_recording(self) -> None:
        self.recording = None

    def now_ns(self) -> int:
        return 12_500_000_000

    def told(self) -> list[tuple[str, str]]:
        assert {event.t_ns for event in self.events} <= {12_500_000_000}
        return [(event.kind, event.text) for event in self.events]


def answer(desk: Desk, **request: object) -> Reply:
    return decode_reply(desk.answer(json.dumps(request).encode()))


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


def test_a_hop_is_set_or_refused_in_the_words_of_the_session() -> None:
    noting = Noting()
    desk = Desk(noting, Newest())
    assert answer(desk, command="set_hop", hop_s=0.5) == Reply(t=12.5)
    assert answer(desk, command="set_hop", hop_s=1) == Reply(t=12.5)
    assert answer(desk, command="set_hop", hop_s=0.3, id="x") == Reply(id="x", t=12.5, error="the nearest is 0.25")
    assert noting.hops_s == [0.5, 1.0]


def test_recordings_are_begun_and_ended_and_each_reply_says_which_runs() -> None:
    noting = Noting()
    desk = Desk(noting, Newest())
    assert answer(desk, command="record", file="talk.mkv", lossless=True).recording == "talk.mkv"
    assert noting.lossless
    refused = answer(desk, command="record", file="other.mkv")
    assert (refused.error, refused.recording) == ("talk.mkv is being recorded already", "talk.mkv")
    assert answer(desk, command="status").recording == "talk.mkv"
    assert answer(desk, command="stop_recording").recording is None
    answer(desk, command="record", file="third.mkv")
    assert not noting.lossless


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
        (b'{"command": "set_hop"}', "missing required field `hop_s`"),
        (b'{"command": "set_hop", "hop_s": 0}', "Expected `float` > 0"),
        (b'{"command": "set_hop", "hop_s": "0.5"}', "Expected `float`, got `str`"),
        (b'{"command": "set_hop", "hop_s": NaN}', "malformed"),
        (b'{"command": "set_hop", "hop_s": 1e999}', "out of range"),
        (b'{"command": "record"}', "missing required field `file`"),
        (b'{"command": "record", "file": ""}', "Expected `str` of length >= 1"),
        (b'{"command": "record", "file": "a.mkv", "folder": "/"}', "unknown field `folder`"),
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
    assert commands == {"status", "pause", "resume", "set_hop", "record", "stop_recording", "mark", "shutdown"}
    assert defined["Mark"]["additionalProperties"] is False
    assert defined["reply"]["$ref"] == "#/$defs/Reply"
