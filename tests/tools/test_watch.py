"""The terminal watcher: its lines, and how it begins and ends."""

import contextlib
import fcntl
import io
import os
import re
import signal
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stream.feed.messages import decode
from stream.feed.publisher import Feed
from stream.feed.security import FeedError
from stream.feed.sinks import ZmqSink
from tests.feeds import ANY, WAIT_S, estimate, event, serving, session, status, until
from tests.stream.test_subscriber import line_of, running
from tools.feeds.watch import LineSink, render, watch

WATCH = "import sys; from tools.feeds.watch import watch; sys.exit(watch(sys.argv[1], json_lines='--json' in sys.argv))"
TERMINAL = "import os; os.environ.pop('COLUMNS', None); os.environ.pop('LINES', None); os.environ['TERM'] = '{}'; "


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


def test_in_a_pipe_it_writes_a_line_for_each_but_heartbeats_and_ctrl_c_ends_it_cleanly() -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed, running("-c", WATCH, sink.address) as process:
        sent = (session(), status(), estimate(1, 1.0), event(kind="mark", text="here"))
        feed.publish(sent[0])
        assert line_of(process.stdout) == render(session()) + "\n"  # it is connected: events are not repeated
        for message in sent[1:]:
            feed.publish(message)
        assert [line_of(process.stdout) for _ in range(2)] == [render(message) + "\n" for message in sent[2:]]
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=WAIT_S)
    assert (process.returncode, error) == (0, "")


def test_in_a_pipe_a_feed_that_falls_silent_is_told_once_and_not_after_its_end() -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed, running("-c", WATCH, sink.address) as process:
        feed.publish(estimate(1, 1.0))
        assert line_of(process.stdout) != ""
        assert line_of(process.stderr) == f"stale: nothing from {sink.address} for 3 s\n"
        feed.publish(event(kind="end"))
        assert line_of(process.stdout) == render(event(kind="end")) + "\n"
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
@pytest.mark.parametrize("told_to_end", [signal.SIGINT, signal.SIGTERM])
def test_in_a_terminal_it_draws_the_picture_and_restores_the_screen(told_to_end: signal.Signals) -> None:
    import pty

    sink = ZmqSink(ANY)
    terminal, inside = pty.openpty()
    resize(terminal, 100, 24)
    with busy(sink), running("-c", TERMINAL.format("xterm") + WATCH, sink.address, stdout=inside) as process:
        os.close(inside)
        shown = b""
        while "╭─ person 1" not in plain(shown):
            shown += os.read(terminal, 4096)
        resize(terminal, 60, 8)  # too low for a card
        while "person 1  happiness 0.75" not in plain(shown):
            shown += os.read(terminal, 4096)
        process.send_signal(told_to_end)
        with contextlib.suppress(OSError):  # Linux ends a terminal so
            while more := os.read(terminal, 4096):
                shown += more
        process.wait(WAIT_S)
        assert process.stderr is not None
        assert (process.returncode, process.stderr.read()) == (0, "")
    os.close(terminal)
    assert shown.startswith(b"\x1b[?1049h")  # the alternate screen, entered and left
    assert shown.rstrip().endswith((b"\x1b[?1049l", b"\x1b[?25h"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_that_can_only_print_is_given_lines() -> None:
    import pty

    sink = ZmqSink(ANY)
    terminal, inside = pty.openpty()
    with busy(sink), running("-c", TERMINAL.format("dumb") + WATCH, sink.address, stdout=inside) as process:
        os.close(inside)
        shown = b""
        while b"\n" not in shown:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        process.wait(WAIT_S)
    os.close(terminal)
    assert shown.decode().splitlines()[0] == render(estimate(1, 1.0))


def plain(shown: bytes) -> str:
    """What was written, without what steers the terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode(errors="replace"))


def resize(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def test_an_address_that_is_not_allowed_is_an_error() -> None:
    with pytest.raises(FeedError, match="is not a loopback address"):
        watch("tcp://10.0.0.1:5563", json_lines=True)
