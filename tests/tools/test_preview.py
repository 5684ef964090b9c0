"""The preview: what it draws, what keys do, and how it goes where there is no display."""

import threading

import numpy as np
import pytest

from stream.feed.messages import Estimate, Event, Message, Status
from stream.records import VideoFrame
from tools.capture.preview import COLOURS, MIN_HEIGHT_PX, SIDE_PX, Preview, drawn
from tools.capture.window import WindowError

LABELS = ("neutral", "happiness", "fear")
GREY = np.full((240, 320, 3), 90, np.uint8)


def estimate(person: int = 1, *, t: float = 1.0, happiness: float = 0.7, label: str | None = "happiness") -> Estimate:
    rest = (1 - happiness) / 2
    return Estimate(
        stream="a", seq=0, t=t, stamp="", span=(0.0, t), age_ms=40.0, person=person,
        box=(40, 60, 100, 120) if person else None,
        posterior=dict(zip(LABELS, (rest, happiness, rest), strict=True)), label=label, confidence=happiness,
        reason=None if label else "uncertain", modalities={"face": 1.0, "voice": 0.0}, windows=(), bundle="0",
    )  # fmt: skip


STATUS = Status(
    stream="a", seq=0, t=1.0, stamp="", frame_rate_hz=25.0, analysed_rate_hz=12.5, hop_rate_hz=4.0, persons=1,
    drops={"frames": 3}, overruns=0, audio_gap_s=0.0, engine_ms=(5.0, 9.0), age_ms=(40.0, 80.0), drift_ppm=12.0,
)  # fmt: skip


def coloured(picture: np.ndarray, person: int) -> np.ndarray:
    """Where the person's colour is, (h, w) bool."""
    return np.asarray((picture == COLOURS[person]).all(2))


def test_the_picture_is_there_with_a_box_and_bars_as_long_as_the_shares() -> None:
    picture = drawn(GREY, [estimate()], STATUS)
    assert picture.shape == (MIN_HEIGHT_PX, 320 + SIDE_PX, 3)
    np.testing.assert_array_equal(picture[100:170, 60:120], 90)  # inside the box it is as it was
    marks = coloured(picture, 1)
    assert marks[60, 40:140].all()  # its upper edge
    assert marks[60:180, 40].all()
    longest = [int(row.sum()) for row in marks[:, 320:] if row.sum() > 40]
    assert max(longest) == pytest.approx(0.7 * 150, abs=2)


def test_who_was_not_seen_for_a_while_is_not_shown() -> None:
    picture = drawn(GREY, [estimate(1, t=1.0), estimate(2, t=9.0)], None)
    assert not coloured(picture, 1).any()
    assert coloured(picture, 2).any()


def test_without_a_picture_and_without_anybody_it_draws_too() -> None:
    assert drawn(None, [], None).shape == (MIN_HEIGHT_PX, 480 + SIDE_PX, 3)


class Screen:
    """Shows pictures to nobody, and presses a key at the n-th."""

    def __init__(self, keys: dict[int, str]) -> None:
        self._keys, self.shown = keys, list[np.ndarray]()
        self.enough = threading.Event()

    def __call__(self, picture: np.ndarray) -> int:
        self.shown.append(picture)
        if len(self.shown) >= max(self._keys, default=3):
            self.enough.set()
        return ord(self._keys.get(len(self.shown), "\xff"))


def test_keys_stop_and_take_the_neutral(capsys: pytest.CaptureFixture[str]) -> None:
    pressed, stopped = list[str](), threading.Event()
    screen = Screen({2: "n", 4: "q"})
    messages: tuple[Message, ...] = (
        estimate(1), estimate(2), STATUS, Event(stream="a", seq=0, t=1.0, stamp="", kind="face_lost", text="", person=2)
    )  # fmt: skip
    with Preview(stop=stopped.set, neutral=lambda: pressed.append("n"), show=screen) as preview:
        preview.take(VideoFrame(t_ns=0, image=GREY))
        for message in messages:
            preview.send(message)
        assert stopped.wait(10)
    assert pressed == ["n"]
    assert len(screen.shown) == 4
    assert screen.shown[-1].shape == (MIN_HEIGHT_PX, 320 + SIDE_PX, 3)
    marks = screen.shown[-1][..., ::-1]  # OpenCV shows BGR
    assert coloured(marks, 1).any()
    assert not coloured(marks, 2).any()


def test_without_a_display_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with Preview(stop=lambda: None) as preview:
        preview.send(STATUS)
    assert capsys.readouterr().err == ("emocast: no display here (DISPLAY is not set): going on without the preview\n")


def test_a_window_that_cannot_be_opened_ends_the_preview_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shown = threading.Event()

    def broken(picture: np.ndarray) -> int:
        shown.set()
        raise WindowError("the window could not be shown: no display")

    with Preview(stop=lambda: pytest.fail("nobody asked for the end"), show=broken) as preview:
        assert shown.wait(10)
        preview._thread.join(10)
    assert "the window could not be shown: no display: going on without the preview" in capsys.readouterr().err
