"""The preview's key for a neutral baseline: what it takes, when it is done, and what it says."""

from pathlib import Path

import numpy as np
import pytest

from engines.bundle import Bundle, load
from stream.baseline import read_baseline
from stream.records import Score, SourceEvent
from tests.small_bundle import small_bundle
from tests.windows import face, window
from tools.capture.neutral_key import TAKEN_S, NeutralKey


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path / "config"))


def score(segment: int, bundle: Bundle, person: int = 1) -> Score:
    posterior = np.full(len(bundle.manifest.labels), 0.1, np.float32)
    posterior[4] = 0.4  # anger, as a low brow is read
    return Score(window=window(segment, person, seen=face(person)), posterior=posterior / posterior.sum())


def hops_a_second(bundle: Bundle) -> int:
    (one, two) = (score(k, bundle).window.end_ns for k in (0, 1))
    return round(1e9 / (two - one))


def test_ten_seconds_after_the_key_are_kept_for_the_next_session() -> None:
    told: list[SourceEvent] = []
    bundle = load("default")
    key = NeutralKey(bundle, told.append)
    n = TAKEN_S * hops_a_second(bundle)
    for k in range(5):
        key.scored([score(k, bundle)])
    assert told == []
    key.press()
    for k in range(5, 5 + n):
        key.scored([score(k, bundle)])
        key.scored([])
    assert [event.text.split(" ")[0] for event in told] == ["taking"]
    key.scored([score(5 + n, bundle)])
    assert told[-1].kind == "baseline"
    assert told[-1].text.startswith("kept in ")
    assert told[-1].text.endswith("the next session uses it with --baseline me")
    kept = read_baseline("me", bundle)
    assert kept.n_windows["face"] == n
    assert kept.shift["face"][4] < 0


def test_too_little_of_one_person_says_so() -> None:
    told: list[SourceEvent] = []
    bundle = load("default")
    key = NeutralKey(bundle, told.append)
    key.press()
    for k in range(TAKEN_S * hops_a_second(bundle) + 1):
        key.scored([score(k, bundle, 1), score(k, bundle, 2)])
    assert len(told) == 2
    assert "several persons" in told[-1].text


def test_a_recogniser_without_neutral_says_so(tmp_path: Path) -> None:
    told: list[SourceEvent] = []
    key = NeutralKey(small_bundle(tmp_path / "bundle"), told.append)
    key.press()
    key.scored([score(0, load("default"))])
    assert "expected a recogniser with the label neutral" in told[0].text
