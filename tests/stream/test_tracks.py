"""Tracks fed by hand with timestamps that no muxer writes."""

from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest

from stream.sources.decode import Decoder
from stream.sources.tracks import AudioTrack, VideoTrack

MS = 1_000_000


class Given:
    """A decoder whose frames are given, with times in milliseconds."""

    def __init__(self, frames: list[tuple[int | None, Any]]) -> None:
        self._frames = frames
        self._last: int | None = None
        self.stream = SimpleNamespace(average_rate=Fraction(25), guessed_rate=None)

    def next(self) -> Any | None:
        if not self._frames:
            return None
        self._last, frame = self._frames.pop(0)
        return frame

    def time_ns(self, _: Any) -> int | None:
        return None if self._last is None else self._last * MS

    def duration_ns(self, _: Any) -> int:
        return 0


def video_times_ms(stamps_ms: list[int | None], zero_ms: int = 0) -> tuple[list[int], VideoTrack]:
    """Times of the frames that a video track hands out for these timestamps."""
    picture = np.zeros((16, 16, 3), np.uint8)
    track = VideoTrack(cast(Decoder, Given([(t, av.VideoFrame.from_ndarray(picture)) for t in stamps_ms])))
    times = []
    while (item := track.next(zero_ms * MS)) is not None:
        assert item[0] == item[1].t_ns
        times.append(item[0] // MS)
    return times, track


def audio_spans(stamps_ms: list[int | None], n: int = 800) -> tuple[list[tuple[int, int]], AudioTrack]:
    """[first, last) samples that an audio track hands out for frames of n samples at 16 kHz, joined where they meet."""
    sound = np.full((1, n), 0.5, np.float32)
    frames = []
    for t in stamps_ms:
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        frames.append((t, frame))
    track = AudioTrack(cast(Decoder, Given(frames)))
    spans: list[tuple[int, int]] = []
    while (item := track.next(0)) is not None:
        first, last = item[1].first, item[1].first + len(item[1].samples)
        spans = [*spans[:-1], (spans[-1][0], last)] if spans and spans[-1][1] == first else [*spans, (first, last)]
    return spans, track


@pytest.mark.parametrize(
    ("stamps_ms", "expected_ms", "n_left_out", "n_restarts"),
    [
        ([0, 200, 100, 300], [0, 200, 300], 1, 0),
        ([0, 40, 40, 80], [0, 40, 80], 1, 0),
        ([None, None, None], [0, 40, 80], 0, 0),
        ([0, None, 90, None], [0, 40, 90, 130], 0, 0),
        ([5000, 5040, 0, 40, 80], [5000, 5040, 5080, 5120, 5160], 0, 1),
        ([3000, 0, 2000, 0], [3000, 3040, 5040, 5080], 0, 2),
    ],
)
def test_video_times_ascend(
    stamps_ms: list[int | None], expected_ms: list[int], n_left_out: int, n_restarts: int
) -> None:
    times_ms, track = video_times_ms(stamps_ms)
    assert (times_ms, track.n_left_out, track.n_restarts) == (expected_ms, n_left_out, n_restarts)
    assert track.end_ns == (expected_ms[-1] + 40) * MS


def test_time_zero_is_taken_off() -> None:
    assert video_times_ms([1000, 1040], zero_ms=900)[0] == [100, 140]


@pytest.mark.parametrize(
    ("stamps_ms", "expected", "n_left_out", "n_restarts"),
    [
        ([0, 50, 100], [(0, 2400)], 0, 0),
        ([None, None], [(0, 1600)], 0, 0),
        ([0, 85, 120], [(0, 2400)], 0, 0),  # jitter of 35 ms and less
        ([0, 95, 145], [(0, 800), (1520, 3120)], 0, 0),  # 45 ms late: a gap
        ([0, 50, 52, 102], [(0, 2432)], 768, 0),  # 48 ms back: only what is new
        ([0, 50, 25, 100], [(0, 2400)], 800, 0),
        ([0, 50, 0, 50, 100], [(0, 2400)], 1600, 0),  # a whole frame again, then on
        ([5000, 0, 50], [(80_000, 82_400)], 0, 1),
    ],
)
def test_audio_is_placed_once(
    stamps_ms: list[int | None], expected: list[tuple[int, int]], n_left_out: int, n_restarts: int
) -> None:
    spans, track = audio_spans(stamps_ms)
    assert (spans, track.n_left_out, track.n_restarts) == (expected, n_left_out, n_restarts)
