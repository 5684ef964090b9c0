"""`emocast hub` as a program: what it says, what it refuses, and that it ends when told to."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stream.feed.messages import topic_of
from stream.feed.security import FeedError
from stream.feed.sinks import ZmqSink
from tests.feeds import ANY, WAIT_S, raw_subscriber, receive, serving
from tools.hub import hub

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_passes_on_until_it_is_told_to_end(end: signal.Signals) -> None:
    sink = ZmqSink(ANY)
    code = f"import sys; from tools.hub import hub; sys.exit(hub([{{!r}}], address={ANY!r}))"
    with (
        serving(sink),
        subprocess.Popen(
            [sys.executable, "-X", "dev", "-c", code.format(sink.address)],
            cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        ) as process,
    ):  # fmt: skip
        watchdog = threading.Timer(WAIT_S, process.kill)
        watchdog.start()
        try:
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
        finally:
            watchdog.cancel()
            process.kill()


def test_addresses_that_make_no_hub_are_refused() -> None:
    with pytest.raises(FeedError, match="expected the addresses of one publisher or more, got none"):
        hub([])
    with pytest.raises(FeedError, match=r"expected each address once, got tcp://127\.0\.0\.1:5563 twice"):
        hub(["tcp://localhost:5563"], address="tcp://127.0.0.1:5563")
    with pytest.raises(FeedError, match=r"tcp://10\.0\.0\.1:5563 is not a loopback address"):
        hub(["tcp://10.0.0.1:5563"])
    with pytest.raises(FeedError, match=r"tcp://\*:5565 is not a loopback address"):
        hub(["tcp://127.0.0.1:5563"], address="tcp://*:5565")
