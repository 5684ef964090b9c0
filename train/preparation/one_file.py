"""One media file, read once, to the prepared clips in it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from stream.perception.detection import FaceDetector
from stream.perception.pose import PoseEstimator
from stream.records import RATE_HZ, AudioBlock, SourceEvent, VideoFrame
from stream.sources.errors import SourceError
from stream.sources.media import MediaSource, Speed
from stream.windows import NS_PER_S
from train.corpora.clips import Clip
from train.preparation.cache import sources
from train.preparation.one_clip import NoFaces, Take
from train.preparation.prepared import Needs, Prepared

BLOCK_NS = NS_PER_S // 10  # no source hands out longer audio blocks


class Preparer:
    """Prepares the clips of one file after another; used with `with`, one thread at a time.

    Args:
        needs: What is taken out of each clip.
    """

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._detector: FaceDetector | NoFaces = NoFaces()
        self._estimator: PoseEstimator | None = None
        self._life = ExitStack()

    def __enter__(self) -> Self:
        """Load the networks, once for all clips. Raises networks.NetworkError where one cannot be had."""
        if self._needs.face is not None and self._needs.face.align != "frame":
            self._detector = self._life.enter_context(FaceDetector())
        if self._needs.pose:
            self._estimator = self._life.enter_context(PoseEstimator())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._life.__exit__(kind, error, trace)

    def prepare(self, clips: Sequence[Clip]) -> Iterator[tuple[Clip, Prepared | str]]:
        """Each clip as soon as the file is past it: prepared, or why it cannot be used.

        Clips of a long recording cost one reading of it, and the memory of those that overlap.

        Args:
            clips: Clips whose `cache.sources` are the same.
        """
        takes = [Take(clip, self._needs, self._detector, self._estimator) for clip in clips]
        picture, sound = sources(clips[0], self._needs)
        files = list(dict.fromkeys(path for path in (sound, picture) if path is not None))
        rest = list(takes)
        try:
            for path in files:
                for take in _read(path, takes, look=path == picture, hear=path == sound):
                    if path == files[-1]:  # a clip with a sound file of its own is over after its pictures
                        rest.remove(take)
                        yield take.clip, take.finish()
        except SourceError as error:
            yield from ((take.clip, str(error)) for take in rest)


def _read(path: Path, takes: Sequence[Take], *, look: bool, hear: bool) -> Iterator[Take]:
    # Each take once the file is past it. Reading ends with the last one.
    with MediaSource(str(path), speed=Speed.MAX, name="clip") as source:
        period_ns = round(NS_PER_S / source.info.frame_rate_hz) if source.info.frame_rate_hz else 0
        rest = list(takes)
        for item in source:
            for take in [take for take in rest if take.end_ns is not None and _end_ns(item) >= take.end_ns + BLOCK_NS]:
                rest.remove(take)
                yield take
            if not rest:
                return
            for take in rest:
                match item:
                    case VideoFrame() if look:
                        take.look(item, period_ns)
                    case AudioBlock() if hear:
                        take.hear(item)
                    case SourceEvent():
                        take.note(item)
        yield from rest


def _end_ns(item: VideoFrame | AudioBlock | SourceEvent) -> int:
    if isinstance(item, AudioBlock):
        return (item.first + len(item.samples)) * NS_PER_S // RATE_HZ
    return item.t_ns
