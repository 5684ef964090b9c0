"""The cells that a person's estimates are drawn with in a terminal."""

from rich.text import Text

from stream.feed.messages import Estimate
from tests.feeds import estimate
from tools.feeds.watch_board import Mark
from tools.feeds.watch_cells import COLOURS, OTHERS, block_cells, colour_of, fitted, label_cells, letters, small_bars

SEVEN = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")


def test_each_label_has_a_letter_of_its_own() -> None:
    assert letters(SEVEN) == {
        "neutral": "n", "happiness": "h", "surprise": "s", "sadness": "S", "anger": "a", "disgust": "d", "fear": "f",
    }  # fmt: skip
    assert list(letters(("s", "ss", "sad", "sss", "Ärger")).values()) == ["s", "S", "a", "0", "r"]
    many = letters(tuple(f"x{k}" for k in range(40)))
    assert list(many.values())[:4] == ["x", "X", "2", "3"]
    assert list(many.values())[-1] == "?"


def test_a_label_has_one_colour_and_unknown_ones_differ() -> None:
    assert colour_of("Anger", ("x", "Anger")) == COLOURS["anger"]
    unknown = [colour_of(label, ("a", "b", "c")) for label in ("a", "b", "c")]
    assert unknown == list(OTHERS[:3])


def test_a_history_ends_at_the_right_and_shows_what_abstained_and_what_is_missing() -> None:
    marks = [
        Mark(label="sadness", confidence=0.1),
        None,
        Mark(label=None, confidence=0.9),
        Mark(label="fear", confidence=1.0),
    ]
    assert label_cells(marks, SEVEN, 6).plain == "  S ·f"
    assert block_cells(marks, SEVEN, 6).plain == "  ▁ ·█"
    assert label_cells(marks, SEVEN, 1).plain == "f"
    assert label_cells(marks, SEVEN, 0).plain == ""
    assert [str(span.style) for span in block_cells(marks, SEVEN, 4).spans] == [COLOURS["sadness"], COLOURS["fear"]]


def test_bars_are_exact_to_the_eighth_of_a_cell() -> None:
    said: Estimate = estimate(posterior={"neutral": 0.25, "happiness": 0.75})
    assert small_bars(said, ("neutral", "happiness"), 16).plain == "  n █    h ███  "
    assert small_bars(said, ("neutral", "happiness"), 13).plain == "  n ▌  h █▌ "


def test_a_text_is_made_as_wide_as_its_place() -> None:
    assert [fitted(Text("abc"), width).plain for width in (5, 3, 2)] == ["abc  ", "abc", "a…"]
