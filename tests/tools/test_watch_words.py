"""Messages of the feed in words."""

import pytest

from stream.feed.messages import Message
from tests.feeds import estimate, event, session, status
from tools.feeds.watch_words import rates, render


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            estimate(2, 12.25),
            "    12.25 s  a  person 2  happiness 0.75  face 0.50 voice 0.50  700 ms",
        ),
        (
            estimate(0, 1.0, label=None, reason="silence", age_ms=None, modalities={"face": 0.0, "voice": 0.0}),
            "     1.00 s  a  voice  (silence)",
        ),
        (session(), "     0.00 s  a  session  temporal 0123456789abcdef on onnx: neutral happiness; for research"),
        (
            status(drops={"frames": 3, "audio": 0}, age_ms=(700.0, 810.4)),
            "     2.25 s  a  status  25.0 frames/s, 4.0 hops/s, engine 10/20 ms, age 700/810 ms, dropped: frames 3",
        ),
        (event(kind="face_lost", person=1, text="left"), "     9.90 s  a  event  face_lost (person 1): left"),
        (event(kind="end"), "     9.90 s  a  event  end: the end"),
    ],
)
def test_a_message_is_one_line(message: Message, line: str) -> None:
    assert render(message) == line


def test_text_from_the_feed_does_not_steer_the_terminal() -> None:
    assert render(event(text="a\nb\x1b[2Jc [bold]d")).endswith("a�b�[2Jc [bold]d")


def test_a_status_says_what_went_wrong_and_leaves_out_what_is_not_there() -> None:
    assert rates(status(engine_ms=None)) == ["25.0 frames/s", "4.0 hops/s", "0 dropped"]
    assert rates(status(engine_ms=None, audio_gap_s=0.04))[2:] == ["0 dropped"]
    worse = status(engine_ms=None, drift_ppm=-12.34, overruns=2, audio_gap_s=0.25)
    assert rates(worse)[2:] == ["drift -12.3 ppm", "0 dropped", "2 overruns, 0.2 s unheard"]
