"""Sinks over real sockets, files and threads."""

import contextlib
import json
import resource
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zmq

from stream.delivery import Delivery
from stream.feed.messages import Estimate, Event, Message, Session, decode, encode
from stream.feed.publisher import Feed
from stream.feed.security import FeedError
from stream.feed.sinks import JsonlSink, Sink, ZmqSink
from tests.feeds import (
    ANY,
    estimate,
    event,
    joined,
    raw_subscriber,
    receive,
    seqs,
    serving,
    session,
    status,
    until,
)
from tests.stream.test_messages import GOLDEN

# ZeroMQ


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_frames_are_topic_and_payload(transport: str, codec: str, tmp_path: Path) -> None:
    sink = ZmqSink(ANY if transport == "tcp" else f"ipc://{tmp_path}/feed", codec=codec)
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    with serving(sink, now=lambda: at) as feed, joined(sink) as socket:
        feed.publish(estimate(3, 1.5, stream="a.b_c-D"))
        expected = estimate(3, 1.5, stream="a.b_c-D", stamp="2026-01-31T12:00:00.000Z")
        topic, payload = socket.recv_multipart()
        assert topic == b"estimate/a.b_c-D/3"
        assert payload == encode(expected, codec)


def test_who_joins_late_is_told_the_newest_of_each_topic_and_nothing_else() -> None:
    sink = ZmqSink(ANY)
    published: list[Message] = [
        session(session="old"),
        estimate(9),
        session(session="new"),
        status(),
        *(estimate(person, float(t)) for t in range(3) for person in (1, 2)),
        event(),
        status(),
    ]
    with serving(sink) as feed, joined(sink) as first:
        for message in published:
            feed.publish(message)
        seen = [receive(first) for _ in published]
        newest = [seen[2], seen[11], seen[8], seen[9]]  # session, status, the third estimates of persons 1 and 2
        assert seqs(newest) == [0, 1, 2, 2]
        with joined(sink) as late:
            assert [receive(late) for _ in newest] == newest
            # those who were there see the same again, unchanged
            assert [receive(first) for _ in range(5)][1:] == newest
            feed.publish(event(kind="marker"))
            assert receive(late) == receive(first)
        with raw_subscriber(sink.address, "estimate/a/2") as narrow:
            assert receive(narrow) == newest[3]
            feed.publish(estimate(1, 9.0))
            feed.publish(estimate(2, 9.0))
            assert receive(narrow).seq == 3


def test_who_joins_after_the_end_learns_of_it() -> None:
    sink = ZmqSink(ANY)
    with Feed([sink]) as feed:
        feed.publish(session())
        feed.publish(event(kind="end", totals={"frames": 2.0}))
        with raw_subscriber(sink.address) as late:
            kinds = [receive(late) for _ in range(2)]
    assert isinstance(kinds[0], Session)
    assert isinstance(kinds[1], Event)
    assert (kinds[1].kind, kinds[1].totals) == ("end", {"frames": 2.0})


def test_a_subscriber_that_never_reads_loses_its_own_and_costs_others_nothing() -> None:
    n, body = 2_000, "x" * 20_000  # 40 MB: far more than the sockets' buffers
    sink = ZmqSink(ANY, subscriber_queue=50)
    with (
        serving(sink, delivery=Delivery.WAIT) as feed,
        joined(sink, rcvhwm=1, rcvbuf=4096) as slow,
        joined(sink) as quick,
    ):
        for i in range(n):
            feed.publish(event(text=body, t=float(i)))
            if i % 20 == 19:  # the quick one keeps up
                got = [receive(quick) for _ in range(20)]
                assert seqs(got) == list(range(i - 19, i + 1))
        slow_got: list[Message] = []
        slow.rcvtimeo = 500  # nothing more is published: it is dry
        with contextlib.suppress(zmq.Again):
            while True:
                slow_got.append(receive(slow))
    events = [message.seq for message in slow_got if isinstance(message, Event)]
    assert events[:50] == list(range(50))
    assert events == sorted(set(events))
    assert len(events) < n // 2  # what was held for it is bounded; the rest it lost, and sees so in `seq`
    assert feed.n_dropped == 0


def test_close_delivers_what_was_published() -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed, joined(sink) as socket:
        for i in range(500):
            feed.publish(estimate(1, float(i)))
        feed.close()
        assert seqs([receive(socket) for _ in range(500)]) == list(range(500))


def test_close_does_not_wait_for_a_subscriber_that_never_reads() -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed, joined(sink, rcvhwm=1, rcvbuf=4096):
        for _ in range(900):
            feed.publish(event(text="x" * 20_000))
        began = time.monotonic()
        feed.close()
        assert time.monotonic() - began < 3.0


def in_use(address: str) -> None:
    with (
        Feed([ZmqSink(address)]),
        pytest.raises(FeedError, match="the address is in use; stop the publisher there, or take another with --addr"),
        Feed([ZmqSink(address)]),
    ):
        pass


def test_an_address_in_use_is_one_clear_line(tmp_path: Path) -> None:
    free = ZmqSink(ANY)
    with Feed([free]):
        pass
    in_use(free.address)  # it was let go, and so can be taken
    in_use(f"ipc://{tmp_path}/feed")
    in_use(f"ipc://{tmp_path}/feed")  # a socket file that was left behind is no publisher


def test_sinks_opened_before_one_that_fails_are_closed(tmp_path: Path) -> None:
    sink = ZmqSink(ANY)
    with pytest.raises(FeedError, match="there is no folder"), Feed([sink, JsonlSink(tmp_path / "no" / "a.jsonl")]):
        pass
    with Feed([ZmqSink(sink.address)]):  # free again
        pass


@pytest.mark.parametrize("address", ["ipc:///no/such/folder/feed", "tcp://192.0.2.1:5563", "tcp://nowhere0:5563"])
def test_an_address_that_cannot_be_bound_is_one_line(address: str) -> None:
    with pytest.raises(FeedError, match=f"^cannot publish on {address}: [a-z ]+; take another address"):
        ZmqSink(address, insecure=True).open()


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a codec of json, msgpack, got 'xml'"):
        ZmqSink(codec="xml")


# files


def test_the_file_and_the_socket_get_the_same_messages(tmp_path: Path) -> None:
    path, sink = tmp_path / "out.jsonl", ZmqSink(ANY, codec="msgpack")
    with serving(sink, JsonlSink(path)) as feed, joined(sink) as socket:
        for i in range(100):
            feed.publish(estimate(i % 3, float(i)))
        received = [receive(socket) for _ in range(100)]
    written = [decode(line) for line in path.read_bytes().splitlines()]
    assert written[1:] == received


def test_lines_are_written_while_the_feed_is_idle(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Feed([JsonlSink(path)]) as feed:
        feed.publish(estimate())
        until(lambda: path.stat().st_size > 0)
        assert decode(path.read_bytes().removesuffix(b"\n")).seq == 0


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old\n" * 1000)
    with Feed([JsonlSink(path)]) as feed:
        feed.publish(estimate())
    assert [decode(line).seq for line in path.read_bytes().splitlines()] == [0]


KILLED = """
import sys
from pathlib import Path
from stream.feed.messages import decode
from stream.feed.publisher import Feed
from stream.feed.sinks import JsonlSink
from stream.delivery import Delivery
with Feed([JsonlSink(Path(sys.argv[1]))], delivery=Delivery.WAIT) as feed:
    while True:
        feed.publish(decode(sys.argv[2].encode()))
"""


def test_a_run_that_is_killed_costs_no_line_but_the_one_it_was_writing(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path), GOLDEN[1]]) as process:
        try:
            until(lambda: path.exists() and path.stat().st_size > 1_000_000)
        finally:
            process.send_signal(signal.SIGKILL)
    *lines, torn = path.read_bytes().split(b"\n")  # the kernel cuts a killed process's write at any page
    messages = [decode(line) for line in lines]
    assert [message.seq for message in messages] == list(range(len(lines)))
    following = json.loads(lines[-1]) | {"seq": len(lines)}
    assert len(torn) < len(json.dumps(following))


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, text in (
        (tmp_path / "no" / "a.jsonl", rf"cannot write .*a.jsonl: there is no folder {tmp_path}/no; create it first"),
        (tmp_path, "cannot write .*: is a directory; name another file with --out"),
        (tmp_path / "file" / "a.jsonl", "cannot write .*: not a directory; name another file with --out"),
    ):
        with pytest.raises(FeedError, match=text):
            JsonlSink(path).open()


def continues_without(failing: Sink, text: str) -> None:
    sink = ZmqSink(ANY, subscriber_queue=2_000)
    with serving(failing, sink, delivery=Delivery.WAIT) as feed, joined(sink) as socket:
        for i in range(1_000):
            feed.publish(estimate(1, float(i)))
        got = [receive(socket) for _ in range(1_001)]
    told = [message for message in got if isinstance(message, Event)]
    assert [(message.kind, message.text) for message in told] == [("output_failed", text)]
    assert seqs([message for message in got if isinstance(message, Estimate)]) == list(range(1_000))
    assert feed.failures == (text,)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported_once_and_the_line_goes_on() -> None:
    text = "cannot write /dev/full: no space left on device; name another file with --out"
    continues_without(JsonlSink(Path("/dev/full")), text)


def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path: Path) -> None:
    path, soft_hard = tmp_path / "out.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, soft_hard[1]))
    try:
        continues_without(JsonlSink(path), f"cannot write {path}: file too large; name another file with --out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft_hard)
    written = path.read_bytes()
    assert 100_000 < len(written) < 200_000
    assert written.endswith(b"\n")
    assert seqs([decode(line) for line in written.splitlines()][1:]) == list(range(written.count(b"\n") - 1))


def test_a_full_disk_at_the_end_is_reported_too() -> None:
    with Feed([JsonlSink(Path("/dev/full"))]) as feed:
        feed.publish(estimate())
    assert feed.failures == ("cannot write /dev/full: no space left on device; name another file with --out",)
