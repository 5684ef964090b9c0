"""The terminal watcher: its lines, its picture, and how it ends."""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from stream.feed.messages import Message, decode
from stream.feed.publisher import Feed
from stream.feed.security import FeedError
from stream.feed.sinks import ZmqSink
from tests.feeds import ANY, WAIT_S, estimate, event, serving, session, status, until
from tests.stream.test_subscriber import line_of, running
from tools.watch import Board, LineSink, render, watch

ADDRESS = "tcp://127.0.0.1:5563"
POSTERIOR = {"neutral": 0.25, "happiness": 0.75}
WATCH = "import sys; from tools.watch import watch; sys.exit(watch(sys.argv[1], json_lines='--json' in sys.argv))"


def picture(board: Board, now_s: float, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(board.view(now_s))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def board_after(*messages: Message, now_s: float = 100.0) -> Board:
    board = Board(ADDRESS)
    for message in messages:
        board.take(message, now_s)
    return board


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            estimate(2, 12.25),
            "    12.25 s  a  person 2  happiness 0.75  face 0.50 voice 0.50  700 ms",
        ),
        (
            estimate(0, 1.0, label=None, reason="silence", age_ms=None, modalities={"face": 0.0, "voice": 0.0}),
            "     1.00 s  a  voice  (silence)",
        ),
        (session(), "     0.00 s  a  session  temporal 0123456789abcdef on onnx: neutral happiness"),
        (
            status(drops={"frames": 3, "audio": 0}, age_ms=(700.0, 810.4)),
            "     2.25 s  a  status  25.0 frames/s, 4.0 hops/s, engine 10/20 ms, age 700/810 ms, dropped: frames 3",
        ),
        (event(kind="face_lost", person=1, text="left"), "     9.90 s  a  event  face_lost (person 1): left"),
        (event(kind="end"), "     9.90 s  a  event  end: the end"),
    ],
)
def test_a_message_is_one_line(message: Message, line: str) -> None:
    assert render(message) == line


def test_text_from_the_feed_does_not_steer_the_terminal() -> None:
    line = render(event(text="a\nb\x1b[2Jc [bold]d"))
    assert line.endswith("a�b�[2Jc [bold]d")
    assert "a�b�[2Jc [bold]d" in picture(board_after(event(text="a\nb\x1b[2Jc [bold]d")), 100.0)


def test_before_the_first_message_it_says_what_it_waits_for() -> None:
    assert f"waiting for {ADDRESS}" in picture(Board(ADDRESS), 0.0)


def test_the_picture_shows_each_person_with_bars_and_reasons() -> None:
    shown = picture(
        board_after(
            session(),
            estimate(1, 1.0, posterior=POSTERIOR),
            estimate(2, 1.0, label=None, reason="uncertain", confidence=0.5, modalities={"face": 1.0, "voice": 0.0}),
            status(drops={"frames": 3}),
            event(text="person 2 came"),
        ),
        100.5,
    )
    assert "a  live" in shown
    assert "person 1: happiness 0.75" in shown
    assert "person 2: (uncertain)" in shown
    assert f"happiness {'█' * 10}     0.75" in shown
    assert f"neutral   {'█' * 4}           0.25" in shown
    assert "face 0.50 voice 0.50  1.2 s old" in shown  # 0.7 s at publishing and 0.5 s here
    assert "face 1.00  1.2 s old" in shown
    assert "25.0 frames/s, 4.0 hops/s, engine 10/20 ms, dropped: frames 3" in shown
    assert "face_found  person 2 came" in shown
    assert "temporal 0123456789abcdef on onnx" in shown


def test_two_persons_fit_side_by_side_into_a_small_terminal() -> None:
    shown = picture(board_after(session(), estimate(1), estimate(2)), 100.0, 80)
    assert [line for line in shown.splitlines() if "person 1" in line and "person 2" in line]


def test_a_silent_feed_is_stale_and_an_ended_one_is_not() -> None:
    board = board_after(session(), estimate(1), now_s=100.0)
    assert "a  live" in picture(board, 102.9)
    assert "a  stale: nothing for 4 s" in picture(board, 104.0)
    board.take(status(), 104.0)
    assert "a  live" in picture(board, 104.0)
    board.take(event(kind="end"), 105.0)
    assert "a  ended" in picture(board, 200.0)


def test_persons_that_are_gone_and_old_streams_leave_the_picture() -> None:
    board = board_after(estimate(1, 0.0), estimate(2, 3.0), estimate(2, 6.0))
    assert "person 2" in picture(board, 100.0)
    assert "person 1" not in picture(board, 100.0)
    board = board_after(*(status(stream=f"s{k}") for k in range(10)))
    assert [f"s{k}" for k in range(10) if f"─ s{k} " in picture(board, 100.0)] == ["s6", "s7", "s8", "s9"]


def test_a_new_session_clears_the_picture_and_a_late_one_does_not() -> None:
    board = board_after(estimate(1), session(session="1"))  # who joins late may hear an estimate before the session
    assert "person 1" in picture(board, 100.0)
    board.take(session(session="2"), 101.0)
    assert "person 1" not in picture(board, 101.0)


def test_losses_of_the_watcher_itself_are_shown() -> None:
    board = board_after(estimate(1))
    board.n_lost, board.n_malformed = 7, 2
    assert "7 messages lost here" in picture(board, 100.0, 200)
    assert "2 messages unreadable" in picture(board, 100.0, 200)


def test_the_program_that_publishes_can_print_the_feed_too() -> None:
    out = io.StringIO()
    with Feed([LineSink(out)]) as feed:
        for message in (estimate(1, 1.0), status(), event(kind="end")):
            feed.publish(message)
    assert out.getvalue().splitlines() == [render(estimate(1, 1.0)), render(event(kind="end"))]


def test_the_line_goes_on_where_nobody_reads_what_it_prints() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = open(writer, "w")  # noqa: SIM115 - closing it fails as well
    with Feed([LineSink(out)]) as feed:
        for _ in range(5):
            feed.publish(estimate())
    assert feed.failures == ("cannot print the feed: broken pipe",)
    with pytest.raises(BrokenPipeError):
        out.close()


@contextmanager
def busy(sink: ZmqSink) -> Iterator[Feed]:
    """A feed with a person's estimate every few milliseconds."""
    done = threading.Event()
    with serving(sink) as feed:

        def line() -> None:
            while not done.wait(0.005):
                feed.publish(estimate(1, 1.0))

        thread = threading.Thread(target=line)
        thread.start()
        try:
            yield feed
        finally:
            done.set()
            thread.join(WAIT_S)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_json_lines_are_the_messages_whatever_the_codec(codec: str) -> None:
    sink = ZmqSink(ANY, codec=codec)
    with serving(sink) as feed, running("-c", WATCH, sink.address, "--json") as process:
        feed.publish(estimate(2, 1.5))
        got = [decode(line_of(process.stdout).encode()) for _ in range(2)]
        assert [message.stream for message in got] == ["here", "a"]
        assert got[1] == estimate(2, 1.5, stamp=got[1].stamp)


def test_in_a_pipe_it_writes_a_line_an_estimate_and_ctrl_c_ends_it_cleanly() -> None:
    sink = ZmqSink(ANY)
    with busy(sink), running("-c", WATCH, sink.address) as process:
        assert line_of(process.stdout) == render(estimate(1, 1.0)) + "\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=WAIT_S)
    assert (process.returncode, error) == (0, "")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_it_ends_quietly_when_nobody_reads_its_lines(options: list[str]) -> None:
    sink = ZmqSink(ANY)
    with busy(sink), running("-c", WATCH, sink.address, *options) as process:
        assert line_of(process.stdout) != ""
        assert process.stdout is not None
        process.stdout.close()
        until(lambda: process.poll() is not None)
        assert process.stderr is not None
        assert (process.returncode, process.stderr.read()) == (0, "")


def test_in_a_pipe_it_says_what_it_waits_for_and_ctrl_c_ends_it() -> None:
    with running("-c", WATCH, "tcp://127.0.0.1:1") as process:
        assert line_of(process.stderr) == "waiting for tcp://127.0.0.1:1\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, error) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_in_a_terminal_it_draws_the_picture_and_ctrl_c_restores_the_screen() -> None:
    import pty

    sink = ZmqSink(ANY)
    terminal, inside = pty.openpty()
    with busy(sink), running("-c", WATCH, sink.address, stdout=inside) as process:
        os.close(inside)
        shown = b""
        while b"person 1" not in shown:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # Linux ends a terminal so
            while more := os.read(terminal, 4096):
                shown += more
        process.wait(WAIT_S)
        assert process.stderr is not None
        assert (process.returncode, process.stderr.read()) == (0, "")
    os.close(terminal)
    assert shown.startswith(b"\x1b[?1049h")  # the alternate screen, entered and left
    assert shown.rstrip().endswith((b"\x1b[?1049l", b"\x1b[?25h"))


def test_an_address_that_is_not_allowed_is_an_error() -> None:
    with pytest.raises(FeedError, match="is not a loopback address"):
        watch("tcp://10.0.0.1:5563", json_lines=True)
