"""Which part of a clip one item of training shows: pictures from a stretch of it, and a cut of its sound."""

import numpy as np

from stream.windows import spread


def pick(n_there: int, n_span: int, n_wanted: int, generator: np.random.Generator | None) -> np.ndarray:
    """Indices of `n_wanted` pictures of a clip that has `n_there`, ascending; (n_wanted,) int64.

    With a generator: evenly spread over a random stretch, at least as long as the window that is streamed and at most
    the whole clip, so that a network learns windows and whole clips alike. Without: over the whole clip. Where there
    are too few, pictures are repeated.

    Args:
        n_there: Pictures of the clip.
        n_span: Pictures of the streamed window.
        n_wanted: Pictures that the network takes.
        generator: Draws the stretch.

    Raises:
        ValueError: If there is no picture.
    """
    if generator is None or n_there <= n_span:
        return spread(n_there, n_wanted)
    length = int(generator.integers(n_span, n_there + 1))
    return int(generator.integers(0, n_there - length + 1)) + spread(length, n_wanted)


def cut(samples: np.ndarray, n_wanted: int, generator: np.random.Generator | None) -> np.ndarray:
    """`n_wanted` samples of a clip's, zeros around where it is shorter: (T,) float32 to (n_wanted,) float32.

    With a generator the place is random, without it is the middle.
    """
    spare = len(samples) - n_wanted
    low, high = min(spare, 0), max(spare, 0)
    first = (low + high) // 2 if generator is None else int(generator.integers(low, high + 1))
    window = np.zeros(n_wanted, np.float32)
    taken = samples[max(first, 0) : first + n_wanted]
    window[max(-first, 0) : max(-first, 0) + len(taken)] = taken
    return window
