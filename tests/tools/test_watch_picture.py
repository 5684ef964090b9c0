"""The picture in the terminal: what it shows, that it always fits, and that it can be read without colour or with."""

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import Color
from rich.console import Console, Group

from stream.feed.messages import Message
from tests.feeds import estimate, event, session, status
from tests.tools.test_watch_board import ADDRESS, board_after
from tools.feeds.watch_board import Board
from tools.feeds.watch_cells import COLOURS, OTHERS
from tools.feeds.watch_picture import BAD, CALM, GOOD, WARN, picture

SEVEN = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
POSTERIOR = {"neutral": 0.25, "happiness": 0.75}


def lines(board: Board, now_s: float = 100.0, columns: int = 100, height: int = 40) -> list[str]:
    """What a terminal of that size without colours shows."""
    console = Console(width=columns, file=io.StringIO(), color_system=None)
    console.print(Group(*picture(board, now_s, columns, height)))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().splitlines()
    assert len(shown) <= height
    return shown


def shown(board: Board, now_s: float = 100.0, columns: int = 100, height: int = 40) -> str:
    return "\n".join(lines(board, now_s, columns, height))


def some(n_persons: int, *, labels: tuple[str, ...] = SEVEN, n: int = 50, **changes: Any) -> list[Message]:
    """A stream with that many persons, each with a history."""
    posterior = dict.fromkeys(labels, 1 / len(labels))
    said = {"posterior": posterior, "label": labels[1], **changes}
    people = [estimate(person, k / 4, **said) for k in range(n) for person in range(1, n_persons + 1)]
    stream = {"stream": changes["stream"]} if "stream" in changes else {}
    return [session(labels=labels, **stream), status(**stream), *people, *[event(**stream)] * 5]


def test_before_the_first_message_it_says_what_it_waits_for() -> None:
    assert lines(Board(ADDRESS)) == [f"emocast {ADDRESS}", f"waiting for {ADDRESS}"]


def test_each_person_is_a_card_with_bars_reasons_and_a_history() -> None:
    board = board_after(
        session(),
        *(estimate(1, 1 + k / 4, posterior=POSTERIOR, confidence=k / 8) for k in range(8)),
        estimate(1, 3.0, label="neutral", confidence=1.0, posterior=POSTERIOR),
        estimate(1, 6.0, label="neutral", confidence=0.99, posterior=POSTERIOR),
        estimate(2, 6.0, label=None, reason="uncertain", confidence=0.5, modalities={"face": 1.0, "voice": 0.0}),
        status(drops={"frames": 3}),
        event(text="person 2 came"),
    )
    assert lines(board, 100.5, 80) == [
        "emocast tcp://127.0.0.1:5563  14.0 messages/s  0 lost",
        "for research",
        "a  ● live  temporal 0123456789abcdef on onnx, each 0.25 s",
        "25.0 frames/s, 4.0 hops/s, engine 10/20 ms, dropped: frames 3",
        "╭─ person 1: neutral 0.99 ─────────────╮╭─ person 2: (uncertain) ──────────────╮",
        "│ n neutral   █████               0.25 ││ n neutral   █████               0.25 │",
        "│ h happiness ██████████████      0.75 ││ h happiness ██████████████      0.75 │",
        "│                          ▁▂▃▄▅▆▇██ █ ││                                    · │",
        "│                          hhhhhhhhn n ││                                    · │",
        "│ face 0.50 voice 0.50  1.2 s old      ││ face 1.00  1.2 s old                 │",
        "╰──────────────────────────────────────╯╰──────────────────────────────────────╯",
        "    9.90 s  face_found  person 2 came",
    ]  # 0.7 s old at publishing and 0.5 s here


def test_many_persons_in_a_small_terminal_are_a_line_or_two_each_with_letters_explained() -> None:
    low = lines(board_after(*some(8)), 100.0, 80, 24)
    assert [line[:25] for line in low if "person" in line] == [f"person {k}  happiness 0.75 " for k in range(1, 9)]
    assert "n neutral  h happiness  s surprise  S sadness  a anger  d disgust  f fear" in low
    assert [line for line in low if line.endswith("▇" * 50) and "person 8" in line]
    assert sum(line.endswith("h" * 50) for line in low) == 8
    lowest = lines(board_after(*some(8)), 100.0, 60, 14)
    assert sum("happiness 0.75" in line for line in lowest) == 8
    assert sum("▇" in line for line in lowest) == 0


def test_some_persons_in_a_small_terminal_have_small_bars() -> None:
    shares = dict(zip(SEVEN, (0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125, 0.0), strict=True))
    bars = [line for line in lines(board_after(*some(4, posterior=shares)), 100.0, 80, 24) if line.startswith("  n ")]
    each = ("n ████", "h ██", "s █", "S ▌", "a ▎", "d ▎", "f")
    assert bars == ["  " + "".join(f"{bar:<11}" for bar in each)] * 4


def test_what_does_not_fit_at_all_is_counted() -> None:
    low = lines(board_after(*some(8), *some(8, stream="b")), 100.0, 60, 12)
    assert [line for line in low if "more lines" in line] == ["… 5 more lines", "… 5 more lines"]
    assert [line[:8] for line in low if "●" in line] == ["a  ● liv", "b  ● liv"]


def test_in_the_smallest_terminal_there_is_what_holds_now() -> None:
    said = [*some(3), session(labels=SEVEN), status()]
    assert [line.rstrip() for line in lines(board_after(*said), 100.0, 28, 5)] == [
        "emocast tcp://127.0.0.1:5563",
        "a  ● live",
        "person 1  happiness 0.75",
        "person 2  happiness 0.75",
        "person 3  happiness 0.75",
    ]


def test_the_notice_is_there_whole_or_as_much_of_it_as_fits() -> None:
    notice = "Estimates are guesses; ask those who are seen and heard for consent."
    board = board_after(*some(1), session(labels=SEVEN, notice=notice), session(stream="b", notice=notice))
    whole = [line.rstrip() for line in lines(board, columns=60)]
    assert whole[1:3] == ["Estimates are guesses; ask those who are seen and heard for", "consent."]
    assert lines(board, columns=60, height=14)[1] == notice[:59] + "…"
    assert not any("guesses" in line for line in lines(board, columns=60, height=6))


def test_long_hops_leave_no_gaps_and_nobody_is_gone_between_them() -> None:
    board = board_after(session(hop_s=8.0), estimate(1, 1.0), estimate(1, 9.0), estimate(2, 9.0))
    assert "person 1: happiness 0.75" in shown(board, 107.9)
    assert "person 1: nothing for 13 s" in shown(board, 113.0)
    assert [line[-4:] for line in lines(board, columns=40) if line.endswith("hh │")] == ["hh │"]
    board = board_after(session(hop_s=8.0), estimate(1, 1.0), session(hop_s=0.25), estimate(1, 9.0), estimate(1, 12.0))
    assert [line[-6:] for line in lines(board, columns=40) if line.endswith("hh h │")] == ["hh h │"]


@settings(deadline=None, max_examples=40)
@given(
    columns=st.integers(1, 140), height=st.integers(1, 60), n_persons=st.integers(0, 20), n_streams=st.integers(1, 6)
)
def test_it_fits_into_any_terminal(columns: int, height: int, n_persons: int, n_streams: int) -> None:
    messages = [m for k in range(n_streams) for m in some(n_persons, n=3, stream=f"棒{k}" * 9)]
    drawn = picture(board_after(*messages), 100.0, columns, height)
    assert len(drawn) <= height
    assert max(line.cell_len for line in drawn) <= columns
    assert not any("\n" in line.plain for line in drawn)


def test_two_streams_keep_their_places_whoever_speaks() -> None:
    board = board_after(*some(1, stream="b"), *some(1, stream="a"))
    for stream in ("b", "a", "b"):
        board.take(status(stream=stream), 100.0)
        assert [line[0] for line in lines(board) if "● live" in line] == ["a", "b"]


def test_a_silent_feed_is_stale_and_an_ended_one_is_not() -> None:
    board = board_after(session(), estimate(1), now_s=100.0)
    assert "a  ● live" in shown(board, 102.9)
    assert "a  ● stale: nothing for 4 s" in shown(board, 104.0)
    assert "person 1: nothing for 9 s" in shown(board, 109.0)
    board.take(status(), 109.0)
    assert "a  ● live" in shown(board, 109.0)
    board.take(event(kind="end"), 110.0)
    board = board_after(session(), estimate(1), event(kind="end"), now_s=100.0)
    assert "a  ● ended" in shown(board, 200.0)
    assert "person 1: happiness 0.75" in shown(board, 200.0)


def test_a_pause_is_told_until_it_is_over() -> None:
    board = board_after(session(), event(kind="paused"), event(kind="mark"))
    assert "a  ● paused" in shown(board)
    board.take(event(kind="resumed"), 100.0)
    assert "a  ● live" in shown(board)


def test_losses_and_lateness_are_shown() -> None:
    board = board_after(estimate(1))
    board.received.take(100.0, 0.002)
    board.received.take(100.0, 0.0104)
    assert "3.0 messages/s  10 ms late, at most 10  0 lost" in shown(board)
    board.n_lost, board.n_malformed = 7, 2
    assert "7 lost here  2 unreadable: another version?" in shown(board, columns=200)


def test_text_from_the_feed_does_not_steer_the_terminal() -> None:
    evil = "a\nb\x1b[2Jc [bold]d"
    board = board_after(
        session(recogniser=evil, labels=(evil,)), event(text=evil, stream="a"), event(stream=evil),
        estimate(1, label=evil, posterior={evil: 1.0}, modalities={evil: 1.0}),
    )  # fmt: skip
    text = shown(board, columns=300)
    assert text.count("a�b�[2Jc [bold]d") >= 4
    assert "\x1b" not in text


def luminance(colour: str) -> float:
    parts = [part / 255 for part in Color.parse(colour).get_truecolor()]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", [*COLOURS.values(), *OTHERS, GOOD, WARN, BAD, CALM])
def test_every_colour_can_be_read_on_black_and_on_white(colour: str) -> None:
    light = luminance(colour) + 0.05
    assert min(light / 0.05, 1.05 / light) >= 4.0  # contrast as WCAG 2 defines it; 3 is asked of large text
