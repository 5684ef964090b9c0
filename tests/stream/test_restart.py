"""A publisher that is killed and restarted: its subscriber goes on, knows what it missed, and sees the new session."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from stream.feed.messages import Estimate, Session
from stream.feed.subscriber import Subscriber
from tests.feeds import ANY, WAIT_S
from tests.stream.test_hub import hub_of

ROOT = Path(__file__).parents[2]
N, LAST = 20, 100.0

PUBLISHER = f"""
import sys
from stream.delivery import Delivery
from stream.feed.publisher import Feed
from stream.feed.sinks import ZmqSink
from tests.feeds import estimate, session
sink = ZmqSink(sys.argv[1])
with Feed([sink], delivery=Delivery.WAIT) as feed:
    feed.publish(session(session=sys.argv[2]))
    for i in range({N}):
        feed.publish(estimate(1, float(i)))
    print(sink.address, flush=True)
    for line in sys.stdin:  # one more each time that it is asked
        feed.publish(estimate(1, {LAST}))
"""


class Killable:
    """A publisher in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert process.stdout is not None
        self.address = process.stdout.readline().strip()

    def publish_one_more(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("more\n")
        self._process.stdin.flush()


@contextmanager
def killed_at_the_end(address: str, session: str) -> Iterator[Killable]:
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, address, session],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        watchdog = threading.Timer(WAIT_S, process.kill)
        watchdog.start()
        try:
            yield Killable(process)
        finally:
            watchdog.cancel()
            process.kill()


def take_until(subscriber: Subscriber, session: str, t: float) -> list[Estimate]:
    """The estimates up to that of `t`, and until the session is known too: live ones may come before it is repeated."""
    estimates: list[Estimate] = []
    sessions: set[str] = set()
    while session not in sessions or t not in {estimate.t for estimate in estimates}:
        message = subscriber.receive(WAIT_S)
        assert message is not None
        match message:
            case Session():
                sessions.add(message.session)
            case Estimate():
                estimates.append(message)
    assert sessions == {session}
    return estimates


@pytest.mark.parametrize("through_hub", [False, True])
def test_what_was_received_and_what_was_missed_is_all_of_the_new_session(through_hub: bool) -> None:
    with ExitStack() as life:
        with killed_at_the_end(ANY, "first") as publisher:
            address = publisher.address
            hub = life.enter_context(hub_of(address)) if through_hub else None
            subscriber = life.enter_context(Subscriber(hub.address if hub else address))
            publisher.publish_one_more()
            assert take_until(subscriber, "first", LAST)[-1].seq == N
            assert subscriber.n_lost == {}  # counted from the first one received
        with killed_at_the_end(address, "second") as publisher:
            publisher.publish_one_more()
            n_received = len(take_until(subscriber, "second", LAST))
            assert n_received + subscriber.n_lost.get("estimate/a/1", 0) == N + 1
