"""The page in a real browser: late join, two persons, stale and back, restart, a phone, dark, an hour, a file."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.feed.messages import encode
from stream.feed.publisher import Feed
from stream.feed.sinks import ZmqSink
from tests.dashboards import Page, following, knows, showing
from tests.feeds import ANY, estimate, event, serving, session, status, until
from tools.dashboard.board import Board
from tools.dashboard.history import History

NOTICE = "Estimates are guesses, not facts about a person; ask <b>first</b>."
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}


def publish(feed: Feed, t: float = 1.0) -> None:
    feed.publish(session(notice=NOTICE))
    feed.publish(status(t=t, drops={"frames": 3, "audio": 0}, age_ms=(140.0, 231.0), drift_ppm=-12.5))
    feed.publish(estimate(1, t))
    feed.publish(estimate(2, t, label=None, reason="silence"))
    feed.publish(event(t=t, person=2, text="came into view"))


@pytest.fixture
def live(page: Page) -> Iterator[tuple[Page, Feed]]:
    """A page that was opened after all was said."""
    sink = ZmqSink(ANY)
    with serving(sink) as feed, following(sink.address) as server:
        until(lambda: knows(server.url, "here"))  # events are not repeated to who subscribes late
        publish(feed)
        page.open(server.url)
        page.shows('.stream[data-stream="a"] .label', "happiness", "No estimate")
        until(lambda: page.text('[data-stream="a"] .events li') != [])  # what was published last
        yield page, feed


def test_who_comes_late_sees_the_last_state_at_once(live: tuple[Page, Feed]) -> None:
    page, feed = live
    assert page.text('[data-stream="a"] .who') == ["Person 1", "Person 2"]
    assert page.text('[data-stream="a"] .sure') == ["75 %\nconfidence", "nobody speaks"]
    assert page.text('[data-stream="a"] .lane[data-person="1"] .row') == ["neutral\n25 %", "happiness\n75 %"]
    assert page.text('[data-stream="a"] .aside')[0] == "face 50 % · voice 50 % · 701 ms old"
    assert page.text('[data-stream="a"] .tile b') == ["25.0", "4.0", "140", "10", "3", "-12.5", "0"]
    assert "p99 231 ms" in page.text('[data-stream="a"] .tile')[2]
    assert page.text('[data-stream="a"] .events li') == ["0:01.0\nface found\ncame into view (person 2)"]
    for i in range(8):
        feed.publish(estimate(1, 1.25 + i / 4, posterior={"neutral": 0.9, "happiness": 0.1}, label="neutral"))
    page.shows('[data-stream="a"] .label', "neutral", "No estimate")
    assert page.has_drawn('[data-stream="a"] .chart canvas')


def test_the_notice_is_on_the_page_as_text(live: tuple[Page, Feed]) -> None:
    page, _ = live
    assert page.text("#notice") == [f"Estimates, not facts. {NOTICE}"]


def test_a_person_without_estimates_is_gone_and_leaves_with_the_time_shown(live: tuple[Page, Feed]) -> None:
    page, feed = live
    feed.publish(estimate(1, 20.0))
    page.shows('[data-stream="a"] .label', "happiness", "Gone")
    assert page.text('[data-stream="a"] .why')[1] == "last estimate 19 s ago"
    feed.publish(estimate(1, 70.0))
    page.shows('[data-stream="a"] .who', "Person 1")


def silent_s(page: Page) -> int:
    """Seconds that the page says the stream was silent for; 0 while it calls it live."""
    (state,) = page.text('[data-stream="a"] .state')
    return 0 if state == "● live" else int(state.removeprefix("stale: no message for ").removesuffix(" s"))


def test_a_feed_that_falls_silent_is_stale_and_grey_until_it_speaks(live: tuple[Page, Feed]) -> None:
    page, feed = live
    until(lambda: silent_s(page) >= 3)
    assert "grayscale" in page.run("return getComputedStyle(document.querySelector('[data-stream=a] .lanes')).filter")
    first = silent_s(page)
    until(lambda: silent_s(page) > first)
    feed.publish(status(t=2.0))
    page.shows('[data-stream="a"] .state', "● live")
    assert page.run("return getComputedStyle(document.querySelector('[data-stream=a] .lanes')).filter") == "none"
    feed.publish(event(kind="end", t=3.0))
    page.shows('[data-stream="a"] .state', "ended")


def test_the_page_survives_a_restart_of_the_feed_and_of_the_dashboard(page: Page, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/feed"
    with following(address) as server:
        page.open(server.url)
        page.shows("#empty", f"Waiting for {address} …")
        for label in ("neutral", "happiness"):
            with Feed([ZmqSink(address)]) as feed:
                feed.publish(session(session=label))
                feed.publish(estimate(1, label=label))
                page.shows(".label", label)
        port = int(server.url.split(":")[-1].strip("/"))
    until(lambda: page.text("#connection")[0:1] != [])
    assert page.text("#connection")[0].startswith("dashboard not reachable for ")
    with following(address, port), Feed([ZmqSink(address)]) as feed:
        feed.publish(estimate(1, label="neutral"))
        page.shows(".label", "neutral")
        page.shows("#connection")
    refused = "ERR_"  # what a browser says of connections that were refused meanwhile
    assert [line for line in page.errors() if refused not in line] == []


def test_a_phone_needs_no_sideways_scrolling(live: tuple[Page, Feed]) -> None:
    page, feed = live
    page.screen(**PHONE)
    feed.publish(event(kind="device_lost", text="x" * 300))
    until(lambda: len(page.text('[data-stream="a"] .events li')) == 2)
    assert page.run("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    for person in (1, 2):
        box = page.run(
            f"return document.querySelector('.lane[data-person=\"{person}\"] canvas').getBoundingClientRect()"
        )
        assert (box["left"] >= 0, box["right"] <= 390, box["width"] > 300) == (True, True, True)


def test_another_hop_changes_nothing_but_what_the_session_says(live: tuple[Page, Feed]) -> None:
    page, feed = live
    assert ", each 0.25 s · " in page.text('[data-stream="a"] .about')[0]
    feed.publish(session(notice=NOTICE, hop_s=0.5))
    until(lambda: ", each 0.5 s · " in page.text('[data-stream="a"] .about')[0])
    assert page.text('[data-stream="a"] .label') == ["happiness", "No estimate"]
    assert page.run("return streams.all.get('a').lanes.get(1).rows.length") == 1


def lane_rows(page: Page) -> Any:
    script = (
        "return visible(streams.all.get('a').lanes.get(1).rows, 0, 100, 1000, isGap).map(run => run.map(r => r[0]))"
    )
    return page.run(script)


def test_what_was_dropped_and_what_was_never_heard_is_told(live: tuple[Page, Feed]) -> None:
    page, feed = live
    dropped = '[data-stream="a"] .tile:nth-child(5)'
    page.shows(f"{dropped} .more", "frames 3")
    feed.publish(status(t=2.0, drops={"frames": 3}, overruns=2, audio_gap_s=0.25))
    page.shows(f"{dropped} .more", "frames 3, 2 overruns, 0.3 s unheard")
    feed.publish(status(t=3.0, audio_gap_s=0.04))
    page.shows(f"{dropped} b", "0")
    page.shows(f"{dropped} .more", "")


def test_a_lane_is_parted_by_a_pause_and_not_by_long_hops(live: tuple[Page, Feed]) -> None:
    page, feed = live
    for t in (1.25, 1.5, 4.5, 4.75):  # a pause of three seconds
        feed.publish(estimate(1, t))
    feed.publish(session(notice=NOTICE, hop_s=10.0))
    for t in (14.75, 24.75):
        feed.publish(estimate(1, t))
    until(lambda: page.run("return streams.all.get('a').lanes.get(1).rows.length") == 7)
    assert lane_rows(page) == [[1.0, 1.25, 1.5], [4.5, 4.75, 14.75, 24.75]]
    feed.publish(status(t=33.0))
    page.shows('[data-stream="a"] .who', "Person 1", "Person 2")
    until(lambda: page.run("return streams.all.get('a').bounds()[1]") == 33.0)
    page.shows('[data-stream="a"] .label', "happiness", "Gone")  # the next is due at 34.75
    page.reopen()  # who comes later is told the same
    page.shows('[data-stream="a"] .label', "happiness", "Gone")
    assert lane_rows(page) == [[1.0, 1.25, 1.5], [4.5, 4.75, 14.75, 24.75]]


def test_a_pause_is_told_until_it_is_over(live: tuple[Page, Feed]) -> None:
    page, feed = live
    feed.publish(event(kind="paused", text="no estimates until resumed"))
    page.shows('[data-stream="a"] .state', "❚❚ paused")
    feed.publish(status(t=60.0))
    page.shows('[data-stream="a"] .label', "Paused", "Paused")
    assert page.text('[data-stream="a"] .why') == ["last estimate 59 s ago"] * 2
    feed.publish(event(kind="resumed", text="goes on"))
    page.shows('[data-stream="a"] .state', "● live")


def test_what_the_page_keeps_is_bounded_whatever_comes(live: tuple[Page, Feed]) -> None:
    page, _ = live
    script = """const s = new Streams(), m = arguments[0];
        for (let i = 0; i < 50; i++) { s.take({...m, stream: `s${i}`}, i); s.take({...m, person: i, t: i}, i); }
        return [s.all.size, s.all.has('a'), [...s.all.get('a').lanes.keys()]];"""
    size, there, persons = page.run(script, json.loads(encode(estimate(1))))
    assert (size, there, persons) == (8, True, list(range(34, 50)))


def test_dark_and_light_follow_the_system_until_the_switch_says_otherwise(live: tuple[Page, Feed]) -> None:
    page, _ = live
    assert page.ground() > 3 * 200
    page.prefers("dark")
    until(lambda: page.ground() < 3 * 50)
    for text, dark in (("☀ light", False), ("☾ dark", True), ("◐ auto", True)):
        page.run("document.getElementById('theme').click()")
        assert page.text("#theme") == [text]
        assert (page.ground() < 3 * 50) == dark


def hour(fill: Callable[[Any], None]) -> None:
    for i in range(4 * 3600):
        share = 0.5 + 0.5 * math.sin(i / 40)
        fill(estimate(1, i / 4, posterior={"neutral": share, "happiness": 1 - share}))


def test_an_hour_is_kept_and_drawn_with_no_more_than_the_screen_shows(page: Page) -> None:
    board = Board(History(), source="an hour")
    hour(board.take)
    with showing(board) as server:
        page.open(server.url)
        page.shows(".label", "happiness")
        n, first, last = page.run(
            "const r = streams.all.get('a').lanes.get(1).rows; return [r.length, r[0][0], r.at(-1)[0]]"
        )
        assert (n <= 3000, first < 10.0, last) == (True, True, 3599.75)
        page.run("document.querySelector('[data-span=\"3600\"]').click()")
        until(lambda: page.has_drawn(".chart canvas"))
        runs = page.run(
            "return visible(streams.all.get('a').lanes.get(1).rows, 0, 3600, 800, isGap).map(run => run.length)"
        )
        assert (len(runs), 390 < runs[0] < 410) == (1, True)
        script = """const s = new Streams(), m = arguments[0];
            for (let i = 0; i < 60000; i++) s.take({...m, t: i / 4}, 0);
            const r = s.all.get('a').lanes.get(1).rows; return [r.length <= MOST_ROWS, r[0][0] >= 15000 - 3600 - 700]"""
        assert page.run(script + ";", json.loads(encode(estimate(1)))) == [True, True]


@pytest.mark.parametrize("n_persons", [1, 2, 4])
def test_a_screen_on_the_wall_shows_all_without_scrolling_in_large_letters(page: Page, n_persons: int) -> None:
    page.screen(width=1920, height=1080, deviceScaleFactor=1, mobile=False)
    history = History()
    for message in (session(), status(), *(estimate(person) for person in range(1, n_persons + 1))):
        history.take(message)
    with showing(Board(history, source="x", recorded=True)) as server:
        page.open(server.url)
        page.shows(".label", *["happiness"] * n_persons)
        lanes = "[...document.querySelectorAll('.lane')]"
        assert page.run(f"return Math.max(...{lanes}.map(lane => lane.getBoundingClientRect().bottom))") <= 1080
        size = "parseFloat(getComputedStyle(document.querySelector('.label')).fontSize)"
        assert page.run(f"return {size}") >= {1: 100, 2: 90, 4: 45}[n_persons]
        cut = "e.scrollWidth > e.clientWidth + 1"
        assert page.run(f"return [...document.querySelectorAll('.label')].filter(e => {cut}).length") == 0
