"""Who looks at the dashboard: each viewer is told the whole state when it comes, and from then on what is new.

What viewers are told is text for `EventSource`: `state` (everything), `messages` (a list of the feed's own messages)
and `beat` (how long each stream has been silent, and what was lost on the way here).
"""

import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from stream.feed.messages import Message, encode
from tools.dashboard.history import MAX_STREAMS, History

VIEWER_QUEUE = 64  # batches that wait for a slow viewer: some ten seconds
MAX_VIEWERS = 32
BEAT_S = 1.0


class Board:
    """The history, and those who look at it. Any thread may call.

    Args:
        history: What is known so far.
        source: Where it comes from, for a person: the feed's address or the file.
        recorded: Whether it is all there is: a file, which nothing follows.
        now: Seconds of a monotonic clock.
    """

    def __init__(
        self, history: History, *, source: str, recorded: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._history = history
        self._about = {"source": source, "recorded": recorded}
        self._now = now
        self._changed = threading.Condition()  # guards everything below and the history
        self._viewers: set[Viewer] = set()
        self._batch: list[msgspec.Raw] = []
        self._heard: dict[str, float] = {}
        self._counts: dict[str, float | None] = {"lost": 0, "unreadable": 0, "late_ms": None}
        self._beat_due = now() + BEAT_S
        self._closed = False

    def take(self, message: Message) -> None:
        """Note a message; viewers get it with the next `flush`."""
        with self._changed:
            self._history.take(message)
            self._heard.pop(message.stream, None)
            self._heard[message.stream] = self._now()  # those heard last at the end
            if len(self._heard) > MAX_STREAMS:
                del self._heard[next(iter(self._heard))]
            if self._viewers:
                self._batch.append(msgspec.Raw(encode(message)))

    def count(self, *, lost: int, unreadable: int, late_ms: float | None) -> None:
        """Note how many messages were lost on the way here, how many could not be read, and how late they come."""
        with self._changed:
            self._counts = {"lost": lost, "unreadable": unreadable, "late_ms": late_ms}

    def flush(self) -> None:
        """Hand the viewers what has gathered, and each second a beat."""
        with self._changed:
            self._send_batch()
            if self._now() >= self._beat_due:
                self._beat_due = self._now() + BEAT_S
                self._send(_event("beat", self._beat()))

    def join(self) -> "Viewer | None":
        """A new viewer, who is told the state first; None where there are too many."""
        with self._changed:
            if len(self._viewers) >= MAX_VIEWERS or self._closed:
                return None
            viewer = Viewer()
            self._viewers.add(viewer)
            return viewer

    def leave(self, viewer: "Viewer") -> None:
        """Forget a viewer."""
        with self._changed:
            self._viewers.discard(viewer)

    def wait(self, viewer: "Viewer") -> bytes | None:
        """What a viewer must be told next; waits for it, and is None once the board is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or viewer.behind or viewer.batches)
            if self._closed:
                return None
            if viewer.behind:  # also with the first call
                viewer.behind = False
                self._send_batch()
                viewer.batches.clear()
                return _event("state", {**self._about, **self._beat(), "streams": self._history.snapshot()})
            told = b"".join(viewer.batches)
            viewer.batches.clear()
            return told

    def close(self) -> None:
        """Let everybody go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _beat(self) -> dict[str, object]:
        now = self._now()
        silent = {stream: round(now - heard, 3) for stream, heard in self._heard.items()}
        return {"silent_s": silent, **self._counts, "viewers": len(self._viewers)}

    def _send_batch(self) -> None:
        if self._batch:
            self._send(_event("messages", self._batch))
            self._batch = []

    def _send(self, event: bytes) -> None:
        for viewer in self._viewers:
            viewer.put(event)
        self._changed.notify_all()


class Viewer:
    """One page that is open. The board owns it.

    Attributes:
        behind: Whether it must be told the whole state: when it comes, and after its queue ran over.
        batches: Events that wait for it.
    """

    def __init__(self) -> None:
        self.behind = True
        self.batches: deque[bytes] = deque()

    def put(self, event: bytes) -> None:
        """Take an event; who lets too many wait is told the state instead of each of them."""
        if len(self.batches) >= VIEWER_QUEUE:
            self.behind = True
            self.batches.clear()
        if not self.behind:
            self.batches.append(event)


def _event(name: str, value: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(value) + b"\n\n"
