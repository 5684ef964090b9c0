"""Whether an audio window holds a voice to score: a state with a name, decided here for training and for streams."""

from enum import StrEnum

import numpy as np

BLOCK_S = 0.05


class VoiceState(StrEnum):
    """What an audio window holds."""

    PRESENT = "present"
    SILENCE = "silence"  # the track runs, nobody speaks
    GAP = "gap"  # too little of the interval was captured
    NO_TRACK = "no_track"  # the stream has no audio at all
    SHARED = "shared"  # several faces are in view, and whose voice it is cannot be told


def peak_level_dbfs(samples: np.ndarray, rate_hz: int) -> float:
    """Root mean square of the loudest 50 ms block, in dB relative to full scale; -inf for digital silence."""
    block = round(rate_hz * BLOCK_S)
    n_blocks = len(samples) // block
    if n_blocks == 0:
        return -np.inf
    power = np.square(samples[: n_blocks * block], dtype=np.float64).reshape(n_blocks, block).mean(1).max()
    return float(10 * np.log10(power)) if power > 0 else -np.inf


def voice_state(
    samples: np.ndarray, n_real: int, rate_hz: int, *, silence_dbfs: float, min_coverage: float
) -> VoiceState:
    """State of a window of which `n_real` samples were captured and the others are a gap filled with zeros.

    Args:
        samples: (n,) float32 in [-1, 1].
        n_real: Captured samples among them.
        rate_hz: Sample rate.
        silence_dbfs: A window whose loudest 50 ms are quieter than this is silence.
        min_coverage: Smallest captured part of the window, in [0, 1].
    """
    if n_real < min_coverage * len(samples):
        return VoiceState.GAP
    if peak_level_dbfs(samples, rate_hz) < silence_dbfs:
        return VoiceState.SILENCE
    return VoiceState.PRESENT
