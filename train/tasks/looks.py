"""Light augmentation of the pictures of one clip: mirrored, moved and relit, all of them alike."""

import numpy as np

SHIFT = 0.05  # of the side, at most
CONTRAST = 0.2
BRIGHTNESS = 20.0  # grey levels, at most


def vary(crops: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Pictures as another camera would have them: (n, S, S, 3) uint8 to a new array of the same shape.

    Half of the clips are mirrored; all are moved by whole pixels, what lies outside repeating the border, and their
    contrast and brightness are changed.
    """
    side_px = crops.shape[1]
    reach = round(SHIFT * side_px)
    rows, columns = (
        np.clip(np.arange(side_px) + generator.integers(-reach, reach + 1), 0, side_px - 1) for _ in range(2)
    )
    if generator.random() < 0.5:
        columns = columns[::-1]
    levels = (np.arange(256) - 127.5) * np.exp(generator.uniform(-CONTRAST, CONTRAST)) + 127.5
    levels = np.clip(np.rint(levels + generator.uniform(-BRIGHTNESS, BRIGHTNESS)), 0, 255).astype(np.uint8)
    return levels[crops[:, rows[:, None], columns]]
