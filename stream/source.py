"""What a session reads from, and what may look on while it does."""

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from stream.records import RATE_HZ, AudioBlock, SourceEvent, SourceHealth, SourceInfo, VideoFrame
from stream.windows import NS_PER_S

Item = VideoFrame | AudioBlock | SourceEvent


def complete_ns(item: Item) -> int:
    """Session time at which an item is complete: a source hands items out in this order."""
    if isinstance(item, AudioBlock):
        return (item.first + len(item.samples)) * NS_PER_S // RATE_HZ
    return item.t_ns


class Source(Protocol):
    """Where media come from: opened by `with`, then iterated once by the capture thread, in order of time.

    `paced` says whether items come when they happen, so that they have an age.
    """

    @property
    def info(self) -> SourceInfo: ...
    @property
    def paced(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...
    def __iter__(self) -> Iterator[Item]: ...
    def stop(self) -> None: ...
    def health(self) -> SourceHealth: ...


class Witness(Protocol):
    """Sees what a session analyses, and what it leaves out: a recording. Must not block."""

    def take(self, item: Item) -> None:
        """An item of the source, before it is analysed. Capture thread."""

    def note(self, kind: str, value: int) -> None:
        """`dropped_frame` with its time in ns, or `left_out_segment` with its number. Any thread."""
