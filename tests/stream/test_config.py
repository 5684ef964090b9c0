"""Settings validate themselves when they are made, and a bundle's scheme is taken exactly."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from engines.bundle import Bundle, load
from stream.config import FeedConfig, SessionConfig, window_scheme
from stream.feed.security import DEFAULT_ADDRESS
from stream.windows import Alignment, WindowScheme
from tests.small_bundle import MANIFEST, small_bundle


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"threads": 0}, "threads: expected 1 or more, got 0"),
        ({"seed": -1}, r"seed: expected 0 to 2\^53 - 1, got -1"),
        ({"seed": 2**53}, r"seed: expected 0 to 2\^53 - 1, got 9007199254740992"),
        ({"analysis_hz": 3.9}, "analysis_hz: expected 4 to 1000 frames a second, got 3.9"),
        ({"analysis_hz": 1001}, "analysis_hz: expected 4 to 1000 frames a second, got 1001"),
        ({"analysis_hz": math.nan}, "analysis_hz: expected 4 to 1000 frames a second, got nan"),
    ],
)
def test_a_session_setting_that_cannot_be_is_named(setting: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SessionConfig(**setting)


def test_a_codec_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="codec: expected json or msgpack, got 'xml'"):
        FeedConfig(codec="xml")


def test_settings_are_frozen_and_unknown_ones_are_errors() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SessionConfig().seed = 1  # type: ignore[misc]
    with pytest.raises(TypeError, match="sed"):
        SessionConfig(sed=1)  # type: ignore[call-arg]
    assert FeedConfig().address == DEFAULT_ADDRESS


def both(folder: Path) -> Bundle:
    return small_bundle(folder, scheme={**MANIFEST["scheme"], "alignments": ["causal", "centered"]})


def test_the_scheme_is_the_bundles_in_its_first_alignment(tmp_path: Path) -> None:
    expected = WindowScheme(
        segment_ns=50_000_000,
        audio_ns=100_000_000,
        jitter_ns=10_000_000,
        alignment=Alignment.CAUSAL,
        n_segments=4,
    )
    assert window_scheme(both(tmp_path), None) == expected


@pytest.mark.parametrize("wanted", [Alignment.CENTERED, "centered"])
def test_an_alignment_that_was_trained_is_taken(tmp_path: Path, wanted: Any) -> None:
    assert window_scheme(both(tmp_path), wanted).alignment is Alignment.CENTERED


def test_an_alignment_that_was_not_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="alignment: small was trained with centered, got causal"):
        window_scheme(small_bundle(tmp_path), Alignment.CAUSAL)


def test_the_default_bundle_has_the_papers_scheme() -> None:
    assert window_scheme(load("default"), None) == WindowScheme()
