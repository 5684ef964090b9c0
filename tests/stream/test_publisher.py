"""The publishing end, over real sockets, files and threads."""

import contextlib
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import zmq
from msgspec.structs import replace

from stream.feed.late_joiners import GONE_S, MAX_PERSONS, MAX_STREAMS, LateJoiners
from stream.feed.messages import Estimate, Event, Message, Session, Status, decode, encode, topic_of
from stream.feed.publisher import Feed, Numbering, rfc3339
from stream.feed.security import FeedError, check_address
from stream.feed.sinks import JsonlSink, Sink, ZmqSink
from stream.rings import Delivery
from tests.stream.test_messages import GOLDEN

WAIT_S = 10.0  # for what must come; a test that waits this long has failed
ANY = "tcp://127.0.0.1:*"


def golden(index: int, changes: dict[str, Any]) -> Any:
    return replace(decode(GOLDEN[index].encode()), **{"stream": "a", "seq": 0, "stamp": "", **changes})


def session(**changes: Any) -> Session:
    return golden(0, changes)  # type: ignore[no-any-return]


def estimate(person: int = 1, t: float = 0.0, **changes: Any) -> Estimate:
    return golden(1, {"person": person, "t": t, **changes})  # type: ignore[no-any-return]


def status(**changes: Any) -> Status:
    return golden(3, changes)  # type: ignore[no-any-return]


def event(**changes: Any) -> Event:
    return golden(4, {"kind": "face_found", **changes})  # type: ignore[no-any-return]


@contextmanager
def raw_subscriber(address: str, *prefixes: str, **options: int) -> Iterator["zmq.Socket[bytes]"]:
    """A plain SUB socket on a context of its own, as another process has it."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.rcvtimeo = round(WAIT_S * 1000)
        for name, value in options.items():
            setattr(socket, name, value)
        for prefix in prefixes or ("",):
            socket.subscribe(prefix)
        socket.connect(address)
        yield socket


def receive(socket: "zmq.Socket[bytes]") -> Message:
    topic, payload = socket.recv_multipart()
    message = decode(payload)
    assert topic.decode() == topic_of(message)
    return message


@contextmanager
def serving(*sinks: Sink, **options: Any) -> Iterator[Feed]:
    """A feed that has sent one status, on the stream `here`, before anybody can have joined."""
    witness = Gate()
    witness.opened.set()
    with Feed([*sinks, witness], **options) as feed:
        feed.publish(status(stream="here"))
        until(lambda: len(witness.got) == 1)
        yield feed


@contextmanager
def joined(sink: ZmqSink, **options: int) -> Iterator["zmq.Socket[bytes]"]:
    """A subscriber to everything that is known to be connected: it was told the status of `here`, just once."""
    with raw_subscriber(sink.address, **options) as socket:
        assert receive(socket).stream == "here"
        yield socket


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


class Gate:
    """A sink that holds the feed thread until it is opened, and keeps what it got."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.got: list[Message] = []

    def open(self) -> None: ...

    def send(self, message: Message) -> None:
        self.entered.set()
        assert self.opened.wait(WAIT_S)
        self.got.append(message)

    def attend(self) -> None: ...

    def readable(self) -> None: ...

    def close(self) -> None: ...


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


# numbering


def test_stamps_are_utc_with_milliseconds() -> None:
    when = datetime(2026, 1, 31, 14, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(when) == "2026-01-31T12:00:00.123Z"


def test_each_topic_counts_from_0_and_a_new_session_starts_its_stream_anew() -> None:
    number = Numbering(lambda: datetime(2026, 1, 31, tzinfo=UTC))
    sent: list[Message] = [
        session(session="1"),
        estimate(1),
        estimate(2),
        estimate(1),
        estimate(1, stream="b"),
        session(session="1"),
        estimate(1),
        session(session="2"),
        estimate(1),
        estimate(1, stream="b"),
    ]
    numbered = [number(message) for message in sent]
    assert seqs(numbered) == [0, 0, 0, 1, 0, 1, 2, 0, 0, 1]
    assert {message.stamp for message in numbered} == {"2026-01-31T00:00:00.000Z"}
    assert [replace(message, seq=0, stamp="") for message in numbered] == sent


# the queue


def test_many_threads_publish_in_one_order() -> None:
    gate = Gate()
    gate.opened.set()
    with Feed([gate], delivery=Delivery.WAIT, queue_size=3) as feed:

        def line(k: int) -> None:
            for i in range(100):
                feed.publish(estimate(1, float(k * 100 + i)))

        threads = [threading.Thread(target=line, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
    assert seqs(gate.got) == list(range(400))
    for k in range(4):
        own = [message.t for message in gate.got if message.t // 100 == k]
        assert own == [float(k * 100 + i) for i in range(100)]


def test_wait_blocks_the_line_and_loses_nothing() -> None:
    gate, published = Gate(), []
    with Feed([gate], delivery=Delivery.WAIT, queue_size=2) as feed:

        def line() -> None:
            for i in range(50):
                feed.publish(estimate(1, float(i)))
                published.append(i)

        thread = threading.Thread(target=line)
        thread.start()
        assert gate.entered.wait(WAIT_S)
        until(lambda: len(published) >= 2)
        # one or two were taken by the thread that stands at the gate, two wait
        assert len(published) <= 4
        gate.opened.set()
        thread.join(WAIT_S)
    assert [message.t for message in gate.got] == [float(i) for i in range(50)]
    assert seqs(gate.got) == list(range(50))
    assert feed.n_dropped == 0


def test_drop_oldest_never_blocks_keeps_events_and_shows_the_loss_in_seq() -> None:
    gate = Gate()
    with Feed([gate], delivery=Delivery.DROP_OLDEST, queue_size=4) as feed:
        feed.publish(session())
        assert gate.entered.wait(WAIT_S)
        feed.publish(event())
        for i in range(10):
            feed.publish(estimate(1, float(i)))
        assert feed.n_dropped == 7
        gate.opened.set()
    assert [(type(m).__name__, m.seq) for m in gate.got] == [
        ("Session", 0),
        ("Event", 0),
        ("Estimate", 7),
        ("Estimate", 8),
        ("Estimate", 9),
    ]


def test_a_feed_without_sinks_takes_everything() -> None:
    with Feed([], delivery=Delivery.WAIT, queue_size=1) as feed:
        for _ in range(20):
            feed.publish(estimate())
    assert feed.n_dropped == 0


def test_publishing_outside_of_with_is_refused() -> None:
    feed = Feed([])
    with pytest.raises(FeedError, match="the feed is not open"):
        feed.publish(estimate())
    feed.close()
    with feed:
        feed.publish(estimate())
    with pytest.raises(FeedError, match="the feed is not open"):
        feed.publish(estimate())


def test_a_fault_in_the_feed_thread_reaches_the_line_and_does_not_block_it() -> None:
    class Faulty(Gate):
        def send(self, message: Message) -> None:
            raise ZeroDivisionError("a fault")

    def line() -> None:
        with Feed([Faulty()], delivery=Delivery.WAIT, queue_size=1) as feed:
            while True:
                feed.publish(estimate())

    with pytest.raises(RuntimeError, match="the feed thread failed") as caught:
        line()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


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


def frames_of(message: Message) -> tuple[bytes, bytes]:
    return topic_of(message).encode(), encode(message)


def kept(joiners: LateJoiners, *prefixes: bytes) -> list[str]:
    return [topic.decode() for topic, _ in joiners.frames(prefixes)]


def test_subscriptions_that_overlap_are_told_once() -> None:
    joiners = LateJoiners()
    for message in (estimate(1), session(stream="b"), estimate(2)):
        joiners.keep(message, frames_of(message))
    assert kept(joiners, b"", b"estimate/", b"estimate/a/1") == ["session/b", "estimate/a/1", "estimate/a/2"]
    assert kept(joiners, b"status/", b"session/b") == ["session/b"]
    assert kept(joiners) == []


def test_what_is_kept_for_late_joiners_is_bounded() -> None:
    joiners = LateJoiners()
    for person in range(500):
        joiners.keep(estimate(person), frames_of(estimate(person)))
    assert kept(joiners, b"") == [f"estimate/a/{person}" for person in range(500 - MAX_PERSONS, 500)]
    joiners.keep(estimate(7, GONE_S + 0.1), frames_of(estimate(7)))
    assert kept(joiners, b"") == ["estimate/a/7"]  # all others are gone
    for k in range(500):
        joiners.keep(status(stream=f"s{k}"), frames_of(status(stream=f"s{k}")))
    assert kept(joiners, b"") == [f"status/s{k}" for k in range(500 - MAX_STREAMS, 500)]


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


@pytest.mark.parametrize("address", ["tcp://*:5563", "tcp://0.0.0.0:5563", "tcp://192.168.1.5:1", "tcp://[::]:5563"])
def test_any_address_but_loopback_must_be_asked_for(address: str) -> None:
    with pytest.raises(FeedError, match=r"is not a loopback address.*pass --insecure"):
        ZmqSink(address)
    assert check_address(address, insecure=True) == address


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:5563", "tcp://127.1.2.3:*", "tcp://[::1]:5563", "ipc:///run/x", "inproc://x"]
)
def test_loopback_needs_no_permission(address: str) -> None:
    assert check_address(address, insecure=False) == address


def test_localhost_is_written_as_zeromq_binds_it() -> None:
    assert check_address("tcp://localhost:5563", insecure=False) == "tcp://127.0.0.1:5563"


@pytest.mark.parametrize(
    "address",
    ["", "5563", "127.0.0.1:5563", "tcp://127.0.0.1", "tcp://:1", "http://127.0.0.1:1", "tcp://a b:1", "ipc://"],
)
def test_a_malformed_address_is_shown_a_good_one(address: str) -> None:
    with pytest.raises(FeedError, match=r"expected an address like tcp://127.0.0.1:5563"):
        check_address(address, insecure=True)


def test_a_port_beyond_65535_is_refused() -> None:
    with pytest.raises(FeedError, match=r"expected a port up to 65535, got 'tcp://127.0.0.1:65536'"):
        check_address("tcp://127.0.0.1:65536", insecure=False)


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
from stream.rings import Delivery
with Feed([JsonlSink(Path(sys.argv[1]))], delivery=Delivery.WAIT) as feed:
    while True:
        feed.publish(decode(sys.argv[2].encode()))
"""


def test_a_run_that_is_killed_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path), GOLDEN[1]]) as process:
        try:
            until(lambda: path.exists() and path.stat().st_size > 1_000_000)
        finally:
            process.send_signal(signal.SIGKILL)
    written = path.read_bytes()
    assert written.endswith(b"\n")
    assert [decode(line).seq for line in written.splitlines()] == list(range(written.count(b"\n")))


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
