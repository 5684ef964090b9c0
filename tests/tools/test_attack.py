"""Every socket that listens, in processes of their own, attacked by another: nobody else is disturbed.

`EMOCAST_FUZZ=100000` sends so many malformed frames to each.
"""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
import zmq

from stream.feed.control import BURST
from stream.feed.control_messages import decode_reply
from stream.feed.keys import load_client_keys
from stream.feed.messages import Estimate
from stream.feed.subscriber import Subscriber
from tests.feeds import WAIT_S, until
from tools.feeds.keys import make_client, make_server

ROOT = Path(__file__).parents[2]
N_FRAMES = os.environ.get("EMOCAST_FUZZ", "3000")
MAX_GROWTH_MIB = 64
EMOCAST = "from tools.cli import main; main()"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a second loopback address")


@contextmanager
def process(*arguments: str, stderr: int | None = subprocess.DEVNULL) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
    ) as started:  # fmt: skip
        try:
            yield started
        finally:
            started.kill()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """A publisher in another process, and what it says of itself."""

    running: "subprocess.Popen[str]"
    ports: dict[str, int]

    def publish(self, t: float) -> None:
        pipe(self.running.stdin).write(f"{t}\n")
        pipe(self.running.stdin).flush()

    def end(self) -> list[list[int]]:
        """How many the doors of feed and control refused, and cut off."""
        pipe(self.running.stdin).close()
        return json.loads(pipe(self.running.stdout).readline())  # type: ignore[no-any-return]


@contextmanager
def publisher(*keys: str) -> Iterator[Attacked]:
    with process("-m", "tests.attacked", *keys) as running:
        yield Attacked(running=running, ports=json.loads(pipe(running.stdout).readline()))


def attack(fuzz: str, port: int, *more: str, meanwhile: Callable[[int], None]) -> int:
    """Attack a port, doing something in the meantime, again and again; returns how often that was done."""
    n = 0
    with process("-m", f"tests.{fuzz}", str(port), N_FRAMES, "1", *more) as fuzzing:
        while fuzzing.poll() is None:
            meanwhile(n)
            n += 1
        assert pipe(fuzzing.stdout).read().split()[1] in ("frames", "lines")
    return n


class Size:
    """Memory and handles of a process, before and after."""

    def __init__(self, running: "subprocess.Popen[str]") -> None:
        self._of = Path(f"/proc/{running.pid}")
        self._before_mib, self._before_handles = self._mib(), self._handles()

    def _mib(self) -> float:
        return int((self._of / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _handles(self) -> int:
        return len(list((self._of / "fd").iterdir()))

    def assert_as_before(self) -> None:
        assert self._mib() - self._before_mib < MAX_GROWTH_MIB
        until(lambda: self._handles() <= self._before_handles + 1)  # what is being cut off takes a moment


def newest_t(subscriber: Subscriber) -> float:
    while not isinstance(message := subscriber.receive(WAIT_S), Estimate):
        assert message is not None
    return message.t


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("what", ["feed", "control"])
def test_a_publisher(what: str, encrypted: bool, tmp_path: Path) -> None:
    make_server(folder=tmp_path)
    make_client("robot", folder=tmp_path)
    keys = load_client_keys("robot", tmp_path)
    pair = (keys.server_key, keys.client_secret) if encrypted else (None, None)
    with publisher(*([str(tmp_path)] if encrypted else [])) as attacked:
        address = f"tcp://127.0.0.1:{attacked.ports['feed']}"
        with Subscriber(address, server_key=pair[0], client_secret=pair[1]) as robot:
            assert robot.receive(WAIT_S) is not None
            size = Size(attacked.running)

            def step(n: int) -> None:
                attacked.publish(float(n))
                assert newest_t(robot) == n

            kind = "SUB" if what == "feed" else "DEALER"
            assert attack("feed_fuzz", attacked.ports[what], kind, meanwhile=step) > 10
            size.assert_as_before()
            assert robot.n_lost == {}
        n_refused, _ = attacked.end()[0 if what == "feed" else 1]
        assert n_refused > 0


def test_the_control_answers_others_meanwhile() -> None:
    with publisher() as attacked, zmq.Context() as context, context.socket(zmq.REQ) as asking:
        asking.linger = 0
        asking.rcvtimeo = round(WAIT_S * 1000)
        asking.connect(f"tcp://127.0.0.1:{attacked.ports['control']}")

        def ask(n: int) -> None:
            attacked.publish(float(n))
            if n % 10 == 0 and n < 5 * BURST:
                asking.send(b'{"command": "status"}')
                assert decode_reply(asking.recv()).session is not None

        ask(0)
        assert attack("feed_fuzz", attacked.ports["control"], "DEALER", meanwhile=ask) > 10


def test_metrics() -> None:
    with publisher() as attacked, Subscriber(f"tcp://127.0.0.1:{attacked.ports['feed']}") as robot:
        assert robot.receive(WAIT_S) is not None
        size = Size(attacked.running)

        def step(n: int) -> None:
            attacked.publish(float(n))
            assert newest_t(robot) == n

        assert attack("http_fuzz", attacked.ports["metrics"], meanwhile=step) > 10
        assert b"emocast_" in get(attacked.ports["metrics"], "/metrics")
        size.assert_as_before()
        assert robot.n_lost == {}


def test_a_hub() -> None:
    with ExitStack() as life:
        attacked = life.enter_context(publisher())
        source = f"tcp://127.0.0.1:{attacked.ports['feed']}"
        hub = life.enter_context(
            process("-c", EMOCAST, "hub", source, "--bind", "tcp://127.0.0.1:*", stderr=subprocess.PIPE)
        )
        port = int(first_number(pipe(hub.stderr).readline(), after="tcp://127.0.0.1:"))
        robot = life.enter_context(Subscriber(f"tcp://127.0.0.1:{port}"))
        assert robot.receive(WAIT_S) is not None
        size = Size(hub)

        def step(n: int) -> None:
            attacked.publish(float(n))
            assert newest_t(robot) == n

        assert attack("feed_fuzz", port, meanwhile=step) > 10
        size.assert_as_before()
        assert robot.n_lost == {}


def test_a_dashboard() -> None:
    with ExitStack() as life:
        attacked = life.enter_context(publisher())
        source = f"tcp://127.0.0.1:{attacked.ports['feed']}"
        dashboard = life.enter_context(process("-c", EMOCAST, "dashboard", source, "--port", "0"))
        port = int(first_number(pipe(dashboard.stdout).readline().rsplit(" at ")[1], after="127.0.0.1:"))
        page = get(port, "/")
        viewer = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        life.callback(viewer.close)
        viewer.request("GET", "/feed")
        told = viewer.getresponse()
        size = Size(dashboard)

        def step(n: int) -> None:
            attacked.publish(float(n))
            assert told.readline()

        assert attack("http_fuzz", port, meanwhile=step) > 1  # it tells several times a second
        until(lambda: get(port, "/") == page)
        size.assert_as_before()


def first_number(text: str, *, after: str) -> str:
    digits = text.split(after, 1)[1]
    return digits[: next((i for i, c in enumerate(digits) if not c.isdigit()), len(digits))]


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except OSError:  # hung up on: all its connections are taken
        return b""
    finally:
        connection.close()
