"""Utterances in memory, and the audio windows that training and evaluation cut from them."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from stream.voice import VoiceState, voice_state
from stream.windows import WindowScheme, sample_index
from train.corpora import cremad, emodb, nemo, ravdess
from train.corpora.items import CorpusError, Utterance, check_split

RATE_HZ = 16_000
READERS: dict[str, Callable[[Path], list[Utterance]]] = {
    "ravdess": ravdess.read,
    "emodb": emodb.read,
    "nemo": nemo.read,
    "cremad": cremad.read,
}
SILENCE_DBFS = -55.0
MIN_COVERAGE = 0.5


@dataclass(frozen=True, kw_only=True)
class Voices:
    """Utterances and their samples, (n,) int16 at 16 kHz each."""

    utterances: tuple[Utterance, ...]
    samples: tuple[np.ndarray, ...]

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64."""
        return np.array([u.label for u in self.utterances])

    def __deepcopy__(self, memo: dict[int, object]) -> "Voices":
        return self  # never written to; an averaged copy of a learner shares it


def load(corpora: Iterable[tuple[str, Path]], split: str) -> Voices:
    """Read and decode the utterances of `split` of each (corpus, folder).

    Raises:
        CorpusError: If a corpus is unknown, is not in its layout, or holds a file that cannot be decoded.
    """
    check_split(split)
    chosen: list[Utterance] = []
    for corpus, folder in corpora:
        if corpus not in READERS:
            raise CorpusError(f"expected a voice corpus of {', '.join(READERS)}, got {corpus!r}")
        found = [u for u in READERS[corpus](folder) if split in ("all", u.split)]
        if not found:
            raise CorpusError(f"{corpus} at {folder} holds no speaker of split {split!r}; try --split all")
        chosen.extend(found)
    with ThreadPoolExecutor(2) as pool:
        decoded = list(pool.map(_decode, chosen))
    broken = [u.path.name for u, samples in zip(chosen, decoded, strict=True) if samples is None]
    if broken:
        raise CorpusError(f"{len(broken)} of {len(chosen)} audio files cannot be decoded: {', '.join(broken[:5])}")
    return Voices(utterances=tuple(chosen), samples=tuple(s for s in decoded if s is not None))


def _decode(utterance: Utterance) -> np.ndarray | None:
    try:
        samples, rate_hz = soundfile.read(utterance.path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    mono = soxr.resample(samples.mean(1), rate_hz, RATE_HZ, "HQ") if rate_hz != RATE_HZ else samples.mean(1)
    return np.round(np.clip(mono, -1.0, 1.0) * 32767).astype(np.int16)


def cut(samples: np.ndarray, start: int, n: int) -> tuple[np.ndarray, int]:
    """Samples [start, start + n) as float32 with zeros beyond either end, and how many of them are real."""
    window = np.zeros(n, dtype=np.float32)
    low, high = max(0, start), min(len(samples), start + n)
    if high > low:
        window[low - start : high - start] = samples[low:high] / np.float32(32768)
    return window, max(0, high - low)


def windows_of(samples: np.ndarray, name: str, scheme: WindowScheme, seed: int) -> np.ndarray:
    """Every scored audio window of an utterance, as the stream would form them: (n, n_samples) float32.

    Silent windows and those that lie mostly beyond the utterance are left out; if that leaves none, the one window
    around the middle is taken, so that every utterance is scored.
    """
    n = scheme.n_samples(RATE_HZ)
    length_ns = len(samples) * 1_000_000_000 // RATE_HZ
    windows = []
    for segment in range(scheme.segment_of(max(0, length_ns - 1)) + 1):
        draw = scheme.draw(seed, name, segment, scheme.segment_bounds(segment), ())
        window, n_real = cut(samples, sample_index(draw.audio_start_ns, RATE_HZ), n)
        if is_voice(window, n_real):
            windows.append(window)
    return np.stack(windows or [cut(samples, (len(samples) - n) // 2, n)[0]])


def is_voice(window: np.ndarray, n_real: int) -> bool:
    """Whether the stream would score this window as voice."""
    state = voice_state(window, n_real, RATE_HZ, silence_dbfs=SILENCE_DBFS, min_coverage=MIN_COVERAGE)
    return state is VoiceState.PRESENT


def random_windows(
    voices: Voices, order: Sequence[int], schemes: Sequence[WindowScheme], seed: int, n_wide: int
) -> np.ndarray:
    """One window of each utterance named by `order`, drawn by the temporal-offset scheme: (n, n_wide) float32.

    A window is `n_wide` samples around the drawn interval's centre, more than the scheme's own length, so that
    augmentation has real neighbours to draw on. Each item takes one of `schemes` in turn.
    """
    rows = np.empty((len(order), n_wide), dtype=np.float32)
    generator = np.random.default_rng(seed)
    for row, index in enumerate(order):
        samples, name = voices.samples[index], voices.utterances[index].name
        scheme = schemes[row % len(schemes)]
        n = scheme.n_samples(RATE_HZ)
        n_segments = scheme.segment_of(len(samples) * 1_000_000_000 // RATE_HZ) + 1
        start = (len(samples) - n) // 2
        for segment in generator.permutation(n_segments)[:6]:
            draw = scheme.draw(seed, name, int(segment), scheme.segment_bounds(int(segment)), ())
            at = sample_index(draw.audio_start_ns, RATE_HZ)
            if is_voice(*cut(samples, at, n)):
                start = at
                break
        rows[row] = cut(samples, start - (n_wide - n) // 2, n_wide)[0]
    return rows
