"""The temporal-offset scheme: which video frame meets which piece of audio.

Source: `Temporal aggregation of audio-visual modalities for emotion recognition` (Birhala et al., 2020), section II.
Training, replay and live sessions all draw their windows here, so the three cannot drift apart.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

NS_PER_S = 1_000_000_000


class Alignment(StrEnum):
    """Where the audio lies around its drawn centre."""

    CENTERED = "centered"  # the paper's scheme: half of the audio is later than the frame
    CAUSAL = "causal"  # the audio ends at the drawn point, so nothing later than the frame is awaited


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One pair of a video frame and an audio interval, before any media is read.

    Attributes:
        segment: Index of the segment that this draw belongs to.
        frame_ns: Time of the chosen video frame, or of the virtual one where the segment holds none.
        frame_index: Index into the frame times given to the draw; None where there were none.
        offset_ns: Drawn temporal offset of the audio, in [-jitter_ns, jitter_ns].
        audio_start_ns: First instant of the audio interval; may lie before the stream began.
        audio_end_ns: End of the audio interval, exclusive.
    """

    segment: int
    frame_ns: int
    frame_index: int | None
    offset_ns: int
    audio_start_ns: int
    audio_end_ns: int


@dataclass(frozen=True, kw_only=True)
class WindowScheme:
    """Draws one (frame, audio interval) pair per segment.

    Attributes:
        segment_ns: Length of a segment, and so the hop of a stream.
        audio_ns: d, the length of the audio window.
        jitter_ns: b, the largest temporal offset between frame and audio centre.
        alignment: `centered` (the paper) or `causal`.
        n_segments: N, over how many segments posteriors are summed.
    """

    segment_ns: int = 250_000_000
    audio_ns: int = 1_280_000_000
    jitter_ns: int = 10_000_000
    alignment: Alignment = Alignment.CENTERED
    n_segments: int = 10

    def __post_init__(self) -> None:
        for name in ("segment_ns", "audio_ns", "n_segments"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.jitter_ns < 0:
            raise ValueError(f"jitter_ns must not be negative, got {self.jitter_ns}")
        object.__setattr__(self, "alignment", Alignment(self.alignment))

    @property
    def lookahead_ns(self) -> int:
        """How much later than its frame a window's audio may end: d/2 + b, or b when causal."""
        half = self.audio_ns // 2 if self.alignment is Alignment.CENTERED else 0
        return half + self.jitter_ns

    def n_samples(self, rate_hz: int) -> int:
        """Audio samples in a window at `rate_hz`; a fractional count is an error."""
        count, rest = divmod(self.audio_ns * rate_hz, NS_PER_S)
        if rest:
            raise ValueError(f"{self.audio_ns} ns at {rate_hz} Hz is not a whole number of samples")
        return count

    def segment_of(self, t_ns: int) -> int:
        """Index of the stream segment that holds instant `t_ns`."""
        return t_ns // self.segment_ns

    def segment_bounds(self, segment: int) -> tuple[int, int]:
        """[start, end) of a stream segment, in nanoseconds."""
        return segment * self.segment_ns, (segment + 1) * self.segment_ns

    def draw(
        self, seed: int, stream: str, segment: int, bounds: tuple[int, int], frame_times_ns: Sequence[int]
    ) -> Draw:
        """Choose a frame of the segment uniformly, then an audio centre within b of it.

        Args:
            seed: The session's seed.
            stream: Name of the stream; streams draw independently of each other.
            segment: Index of the segment.
            bounds: [start, end) of the segment; of a stream (`segment_bounds`) or of a clip (`divide`).
            frame_times_ns: Times of the video frames in the segment, ascending; empty where there is no video.

        Returns:
            The draw. The same arguments give the same draw, on every machine and in any order.
        """
        words = _random_words(seed, stream, segment)
        if frame_times_ns:
            index: int | None = _below(words[0], len(frame_times_ns))
            frame_ns = int(frame_times_ns[index])  # type: ignore[index]
        else:
            index = None
            frame_ns = bounds[0] + _below(words[0], bounds[1] - bounds[0])
        offset_ns = _below(words[1], 2 * self.jitter_ns + 1) - self.jitter_ns
        after = self.audio_ns // 2 if self.alignment is Alignment.CENTERED else 0
        end_ns = frame_ns + offset_ns + after
        return Draw(
            segment=segment,
            frame_ns=frame_ns,
            frame_index=index,
            offset_ns=offset_ns,
            audio_start_ns=end_ns - self.audio_ns,
            audio_end_ns=end_ns,
        )


def divide(start_ns: int, end_ns: int, n: int) -> list[tuple[int, int]]:
    """Cut a clip into n segments of equal length, as the paper does; lengths differ by at most 1 ns."""
    if n <= 0 or end_ns <= start_ns:
        raise ValueError(f"cannot cut [{start_ns}, {end_ns}) into {n} segments")
    edges = [start_ns + (end_ns - start_ns) * k // n for k in range(n + 1)]
    return list(itertools.pairwise(edges))


def spread(n_there: int, n_wanted: int) -> np.ndarray:
    """Indices of `n_wanted` of `n_there` pictures, evenly spread, in order; (n_wanted,) int64.

    Fewer than wanted are repeated; one wanted is the middle one. Training and streaming take pictures so.

    Raises:
        ValueError: If there is none to take.
    """
    if n_there < 1 or n_wanted < 1:
        raise ValueError(f"expected pictures to take and a number wanted, got {n_there} and {n_wanted}")
    return ((2 * np.arange(n_wanted, dtype=np.int64) + 1) * n_there) // (2 * n_wanted)


def sample_index(t_ns: int, rate_hz: int) -> int:
    """Index of the sample at `t_ns`: floor(r_a t), as in the paper; negative before the stream began."""
    return t_ns * rate_hz // NS_PER_S


def _random_words(seed: int, stream: str, segment: int) -> tuple[int, int]:
    # Philox is counter-based: the key names the stream, the counter the segment, and nothing is carried over.
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=16).digest()
    key = np.frombuffer(digest, dtype="<u8")
    words = np.random.Philox(key=key, counter=np.array([segment % 2**64, 0, 0, 0], dtype=np.uint64)).random_raw(2)
    return int(words[0]), int(words[1])


def _below(word: int, n: int) -> int:
    # Multiply-shift keeps the bias under n / 2^64, and stays exact in integers.
    return word * n >> 64
