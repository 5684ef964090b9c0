"""Personal baselines: the correction against loops, its bounds, whom it is for, and its file."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.bundle import Bundle, PerModality
from stream.aggregation import Aggregator
from stream.baseline import (
    BOUND,
    FLOOR,
    KINDS,
    MARGIN,
    MIN_WINDOWS,
    Baseline,
    BaselineError,
    NeutralPeriod,
    Subject,
    kept_path,
    neutral_shift,
    read_baseline,
    write_baseline,
)
from stream.records import VOICE_ONLY, Score
from tests.small_bundle import small_bundle
from tests.windows import score

LABELS = ("neutral", "anger", "joy")
ONE = PerModality(face=1.0, voice=1.0, both=1.0)
NONE = (0.0, 0.0, 0.0)


def baseline(**changes: Any) -> Baseline:
    """Anger is halved in her face, joy in her voice."""
    given: dict[str, Any] = {
        "person": "anna",
        "labels": LABELS,
        "shift": {"face": (0.0, -math.log(2), 0.0), "voice": (0.0, 0.0, -math.log(2)), "both": NONE},
        "n_windows": dict.fromkeys(KINDS, 20),
        "recogniser": "small",
        "bundle": "0" * 64,
    }
    return Baseline(**{**given, **changes})


@st.composite
def posteriors(draw: st.DrawFn, n: int = 3) -> np.ndarray:
    rows = draw(st.lists(st.lists(st.floats(1e-6, 1.0), min_size=n, max_size=n), min_size=MIN_WINDOWS, max_size=20))
    raw = np.array(rows)
    return np.asarray(raw / raw.sum(1, keepdims=True))


# the shift


@given(posteriors())
def test_the_shift_is_what_a_loop_says(windows: np.ndarray) -> None:
    got = neutral_shift(windows, 1)
    means = [sum(math.log(max(row[j], FLOOR)) for row in windows) / len(windows) for j in range(3)]
    for j in range(3):
        lead = means[1] - means[j]
        expected = 0.0 if j == 1 or lead >= MARGIN else max(-BOUND, lead - MARGIN)
        assert got[j] == pytest.approx(expected, abs=1e-9)


def test_who_is_read_as_neutral_is_left_alone() -> None:
    assert neutral_shift(np.tile([0.8, 0.1, 0.1], (MIN_WINDOWS, 1)), 0).tolist() == [0.0, 0.0, 0.0]


def test_a_low_brow_is_taken_off_the_anger_alone() -> None:
    windows = np.tile([0.45, 0.5, 0.05], (MIN_WINDOWS, 1))
    shift = neutral_shift(windows, 0)
    np.testing.assert_allclose(shift, [0.0, -BOUND, 0.0])
    windows = np.tile([0.6, 0.3, 0.1], (MIN_WINDOWS, 1))
    np.testing.assert_allclose(neutral_shift(windows, 0), [0.0, -math.log(2), 0.0], atol=1e-12)


def test_too_few_windows_say_nothing() -> None:
    assert neutral_shift(np.tile([0.0, 1.0, 0.0], (MIN_WINDOWS - 1, 1)), 0).tolist() == [0.0, 0.0, 0.0]


@given(posteriors(), posteriors())
def test_a_clear_expression_stays_what_it_is(neutral: np.ndarray, windows: np.ndarray) -> None:
    shift = tuple(float(s) for s in neutral_shift(neutral, 0))
    corrected = baseline(shift={"face": shift, "voice": NONE, "both": NONE}).apply(windows, "face")
    np.testing.assert_allclose(corrected.sum(1), 1.0)
    for before, after in zip(windows, corrected, strict=True):
        second, first = np.sort(before)[-2:]
        if first > second * math.exp(BOUND) * (1 + 1e-9):
            assert after.argmax() == before.argmax()
        if before.argmax() == 0:
            assert after.argmax() == 0


def test_each_kind_of_window_has_its_own_correction() -> None:
    one = np.array([0.25, 0.5, 0.25], np.float32)
    np.testing.assert_allclose(baseline().apply(one, "face"), [1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(baseline().apply(one, "voice"), [2 / 7, 4 / 7, 1 / 7])
    np.testing.assert_allclose(baseline().apply(one, "both"), one)


def test_its_text_says_what_it_changes() -> None:
    assert baseline(n_windows={"face": 0, "voice": 0, "both": 8}).text() == "both (8 windows): read as neutral already"
    text = baseline(n_windows={"face": 20, "voice": 9, "both": 3}).text()
    assert text == (
        "face (20 windows): anger x 0.50; voice (9 windows): joy x 0.50; both (3 windows): too few, left as it is"
    )


# the neutral period


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundle"), labels=LABELS)


def test_kinds_are_gathered_apart_and_crowds_are_left_out(bundle: Bundle) -> None:
    period = NeutralPeriod(bundle, "anna")
    for k in range(10):
        period.take([score(k, "face", [0.6, 0.3, 0.1])])
    for k in range(10, 14):
        period.take([score(k, "voice", [0.1, 0.8, 0.1])])
    period.take([score(14, "none")])
    period.take([score(15, "face", [0.0, 1.0, 0.0]), score(15, "face", [0.0, 1.0, 0.0], person=2)])
    got = period.baseline("2026-01-31T12:00:00.000Z")
    assert got == Baseline(
        person="anna",
        labels=LABELS,
        shift={"face": (0.0, -0.693147, 0.0), "voice": NONE, "both": NONE},
        n_windows={"face": 10, "voice": 4, "both": 0},
        recogniser="small",
        bundle=bundle.sha256,
        measured="2026-01-31T12:00:00.000Z",
    )
    assert period.n_crowded == 1


def test_a_period_without_a_person_is_refused(bundle: Bundle) -> None:
    period = NeutralPeriod(bundle, "anna")
    period.take([score(0, "face", [1.0, 0.0, 0.0]), score(0, "face", [1.0, 0.0, 0.0], person=2)])
    with pytest.raises(BaselineError, match=r"expected 8 or more windows .* got 0, 1 more had several persons; sit"):
        period.baseline()


def test_a_name_that_is_no_file_name_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BaselineError, match=r"person: expected a name of letters, digits, .*, got '\.\./anna'"):
        NeutralPeriod(bundle, "../anna")


def test_a_recogniser_without_neutral_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="expected a recogniser with the label neutral, small has red, green, blue"):
        NeutralPeriod(small_bundle(tmp_path), "anna")


# whom it is for


@pytest.mark.parametrize(
    ("hops", "subjects"),
    [
        ([[0], [0]], [0, 0]),
        ([[1], [1]], [1, 1]),
        ([[1], [1, 2], [0, 1, 2]], [1, 1, 1]),  # others come: it stays
        ([[1], [1, 2], [2], [2, 3]], [1, 1, None, None]),  # the other stays behind alone: not theirs
        ([[1, 2], [1, 2], [2], [1, 2]], [None, None, 2, 2]),  # two at once: nobody, until one is alone
        ([[1], [0], [2]], [1, 0, 2]),  # lost and found again under a new number
    ],
)
def test_it_follows_who_is_alone_in_view(hops: list[list[int]], subjects: list[int | None]) -> None:
    subject = Subject()
    assert [subject.follow(hop) for hop in hops] == subjects


def test_who_left_and_comes_back_alone_may_be_anyone() -> None:
    subject = Subject()
    subject.follow([1])
    subject.follow([1, 2])
    subject.forget(1)
    subject.forget(2)
    assert subject.follow([2]) == 2


def summed(correction: Baseline | None, *hops: list[Score]) -> list[tuple[list[float], str | None]]:
    sums = Aggregator(n_labels=3, n_segments=4, fusion=ONE, temperature=ONE, min_confidence=0.0, baseline=correction)
    return [(got.posterior.round(6).tolist(), got.baseline) for hop in hops for got in sums.add(hop)]


def test_each_segment_is_corrected_before_it_is_summed() -> None:
    first, second = score(0, "face", [0.25, 0.5, 0.25]), score(1, "voice", [0.25, 0.5, 0.25])
    assert summed(baseline(), [first], [second]) == [
        ([0.333333, 0.333333, 0.333333], "anna"),
        ([round((1 / 3 + 2 / 7) / 2, 6), round((1 / 3 + 4 / 7) / 2, 6), round((1 / 3 + 1 / 7) / 2, 6)], "anna"),
    ]
    assert summed(None, [first], [second]) == [([0.25, 0.5, 0.25], None)] * 2


def test_others_in_view_and_windows_without_anything_name_no_baseline() -> None:
    one, other = score(1, "face", [0.25, 0.5, 0.25]), score(1, "face", [0.25, 0.5, 0.25], person=2)
    got = summed(baseline(), [score(0, "none")], [one, other])
    assert [name for _, name in got] == [None, "anna", None]
    assert got[2][0] == [0.25, 0.5, 0.25]
    assert summed(baseline(), [score(0, "voice", [0.25, 0.5, 0.25], person=VOICE_ONLY)])[0][1] == "anna"


# its file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path / "config"))
    return tmp_path


def test_it_is_kept_by_name_and_exported_as_a_file(home: Path, bundle: Bundle) -> None:
    kept = baseline(bundle=bundle.sha256)
    assert write_baseline(kept) == home / "config" / "baselines" / "anna.json" == kept_path("anna")
    assert read_baseline("anna", bundle) == kept
    assert read_baseline(write_baseline(kept, home / "other.json"), bundle) == kept


def test_one_of_another_recogniser_is_refused(home: Path, bundle: Bundle) -> None:
    write_baseline(baseline())
    with pytest.raises(BaselineError, match=rf"taken with small \(0{{16}}\), this is small \({bundle.sha256[:16]}\)"):
        read_baseline("anna", bundle)


def test_an_unknown_person_is_refused_with_those_there_are(home: Path, bundle: Bundle) -> None:
    with pytest.raises(BaselineError, match=r"expected a JSON file or a person \(nobody\), got 'bob'"):
        read_baseline("bob", bundle)
    write_baseline(baseline())
    with pytest.raises(BaselineError, match=r"a person \(anna\), got '/none/bob.json'; take one with"):
        read_baseline("/none/bob.json", bundle)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shift": {"face": [0, -5, 0], "voice": NONE, "both": NONE}}, r"is none \(Expected `float` >= -1.38"),
        ({"shift": {"face": NONE, "voice": NONE}}, "does not fit neutral, anger, joy"),
        ({"n_windows": {}}, "does not fit"),
        ({"mood": 1}, "is none .*unknown field `mood`"),
        ({"person": "a/b"}, "is none .*regex"),
    ],
)
def test_a_changed_file_is_one_line(home: Path, bundle: Bundle, changes: dict[str, Any], text: str) -> None:
    path = home / "changed.json"
    path.write_bytes(msgspec.json.encode({**msgspec.to_builtins(baseline(bundle=bundle.sha256)), **changes}))
    with pytest.raises(BaselineError, match=text):
        read_baseline(path, bundle)
    path.write_text("{")
    with pytest.raises(BaselineError, match=r"changed.json is none \(.*\); take it again"):
        read_baseline(path, bundle)


def test_a_folder_that_cannot_be_written_is_one_line(home: Path) -> None:
    (home / "config").write_text("a file")
    with pytest.raises(BaselineError, match=r"the baseline cannot be written to .*anna.json: "):
        write_baseline(baseline())
