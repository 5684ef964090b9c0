"""`emocast hub` as a program: what it says, what it refuses, and that it ends when told to."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream.feed.keys import load_client_keys, load_server_keys
from stream.feed.messages import topic_of
from stream.feed.security import FeedError
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from tests.feeds import ANY, WAIT_S, raw_subscriber, receive, serving
from tools.cli import run
from tools.feeds.hub import hub
from tools.feeds.keys import make_client, make_server

ROOT = Path(__file__).parents[2]


@contextmanager
def hub_process(code: str) -> Iterator["subprocess.Popen[str]"]:
    """A hub in a process of its own, which lives no longer than the test."""
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", code],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        watchdog = threading.Timer(WAIT_S, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_passes_on_until_it_is_told_to_end(end: signal.Signals) -> None:
    sink = ZmqSink(ANY)
    code = f"import sys; from tools.feeds.hub import hub; sys.exit(hub([{{!r}}], address={ANY!r}))"
    with serving(sink), hub_process(code.format(sink.address)) as process:
        assert process.stderr is not None
        opening = process.stderr.readline()
        prefix = "emocast: publishing on "
        address = opening.removeprefix(prefix).split()[0]
        assert opening == f"{prefix}{address} what comes from {sink.address}\n"
        assert process.stderr.readline() == f"emocast: stream here from {sink.address}\n"
        with raw_subscriber(address) as socket:
            assert topic_of(receive(socket)) == "status/here"
        process.send_signal(end)
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_with_keys_it_reads_and_publishes_what_only_those_with_keys_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path))
    make_server()
    make_client("hub")
    make_client("robot")
    sink, robot = ZmqSink(ANY, keys=load_server_keys()), load_client_keys("robot")
    call = f"hub([{{!r}}], address={ANY!r}, keys=True, key='hub')"
    code = f"import sys; from tools.feeds.hub import hub; sys.exit({call})"
    with serving(sink), hub_process(code.format(sink.address)) as process:
        assert process.stderr is not None
        address = process.stderr.readline().removeprefix("emocast: publishing on ").split()[0]
        assert process.stderr.readline() == f"emocast: stream here from {sink.address}\n"
        with Subscriber(address, server_key=robot.server_key, client_secret=robot.client_secret) as subscriber:
            message = subscriber.receive(WAIT_S)
            assert message is not None
            assert topic_of(message) == "status/here"
        with Subscriber(address) as bare:
            assert bare.receive(0.2) is None
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_keys_that_are_not_there_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path))
    for arguments, text in (
        (["--keys"], "there is no key in"),
        (["--key", "hub"], "there is no key in"),
        (["--bind", "tcp://*:0"], "is not a loopback address"),
    ):
        assert run(["hub", "tcp://127.0.0.1:1", *arguments]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1


def test_addresses_that_make_no_hub_are_refused() -> None:
    with pytest.raises(FeedError, match="expected the addresses of one publisher or more, got none"):
        hub([])
    with pytest.raises(FeedError, match=r"expected each address once, got tcp://127\.0\.0\.1:5563 twice"):
        hub(["tcp://localhost:5563"], address="tcp://127.0.0.1:5563")
    with pytest.raises(FeedError, match=r"tcp://10\.0\.0\.1:5563 is not a loopback address"):
        hub(["tcp://10.0.0.1:5563"])
    with pytest.raises(FeedError, match=r"tcp://\*:5565 is not a loopback address"):
        hub(["tcp://127.0.0.1:5563"], address="tcp://*:5565")
