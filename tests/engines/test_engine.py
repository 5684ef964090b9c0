"""Feeds against declared inputs."""

import numpy as np
import pytest

from engines.engine import EngineError, TensorSpec, check_feeds

CROP = TensorSpec(name="crop", dtype="uint8", shape=("batch", 4, 4, 3))
VOICE = TensorSpec(name="voice", dtype="float32", shape=("batch", 7))
CROPS = np.zeros((2, 4, 4, 3), np.uint8)
VOICES = np.zeros((2, 7), np.float32)


def test_a_spec_reads_as_a_line() -> None:
    assert str(CROP) == "crop uint8 (batch, 4, 4, 3)"


def test_feeds_that_fit_pass_whatever_the_batch() -> None:
    for n in (0, 1, 5):
        check_feeds((CROP, VOICE), {"voice": np.zeros((n, 7), np.float32), "crop": np.zeros((n, 4, 4, 3), np.uint8)})


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({}, r"expected inputs \['crop', 'voice'\], got \[\]"),
        ({"crop": CROPS}, r"expected inputs \['crop', 'voice'\], got \['crop'\]"),
        ({"crop": CROPS, "voice": VOICES, "x": VOICES}, r"got \['crop', 'voice', 'x'\]"),
        ({"crop": CROPS.astype(np.float32), "voice": VOICES}, r"input crop uint8 .*, got float32 \(2, 4, 4, 3\)"),
        ({"crop": CROPS, "voice": VOICES.astype(np.float64)}, r"input voice float32 .*, got float64 \(2, 7\)"),
        ({"crop": CROPS[0], "voice": VOICES}, r"input crop uint8 \(batch, 4, 4, 3\), got uint8 \(4, 4, 3\)"),
        ({"crop": CROPS, "voice": VOICES[:, :6]}, r"input voice float32 \(batch, 7\), got float32 \(2, 6\)"),
        ({"crop": CROPS, "voice": VOICES[:1]}, r"input voice float32 \(batch, 7\), got float32 \(1, 7\)"),
    ],
)
def test_feeds_that_do_not_fit_are_named(feeds: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(EngineError, match=text):
        check_feeds((CROP, VOICE), feeds)
