"""A recorded session on the page: opened, scrubbed, played, with its events marked."""

import math
from pathlib import Path

from stream.feed.messages import Estimate, Session, decode, encode
from stream.recording.files import files_of
from stream.sources.media import MediaSource, Speed
from tests.dashboards import Page, showing
from tests.feeds import estimate, event, session, status, until
from tests.recordings import record_session
from tools.dashboard.board import Board
from tools.dashboard.history import History, read_file

NOTICE = "for research"


def test_a_recorded_session_is_opened_and_scrubbed(page: Page, shared_clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "talk.mkv"
    record_session(path, MediaSource(str(shared_clips / "bbaf2n.mpg"), speed=Speed.MAX))
    (told,) = [decode(line) for line in files_of(path).feed.read_bytes().splitlines() if b'"session"' in line]
    assert isinstance(told, Session)
    estimates = [m for m in map(decode, files_of(path).feed.read_bytes().splitlines()) if isinstance(m, Estimate)]
    assert len(estimates) > 8
    with showing(Board(read_file(path), source=path.name, recorded=True)) as server:
        page.open(server.url)
        page.shows("#source", "talk.mkv")
        page.shows(".state", "recording")
        for said in (estimates[0], estimates[len(estimates) // 2], estimates[-1]):
            page.scrub(said.t)
            page.shows(f'.lane[data-person="{said.person}"] .label', said.label or "No estimate")
            shares = {label: math.floor(100 * round(said.posterior[label], 4) + 0.5) for label in told.labels}
            rows = [f"{label}\n{share} %" for label, share in shares.items()]
            page.shows(f'.lane[data-person="{said.person}"] .row', *rows)
        assert page.text(".events li")[0].split("\n")[1] == "end"


def test_a_recording_begins_where_somebody_is_there(page: Page) -> None:
    history = History()
    for message in (status(t=0.0), estimate(2, 8.0), status(t=9.0), estimate(1, 2.5), event(t=2.5, person=1)):
        history.take(message)
    with showing(Board(history, source="talk.jsonl", recorded=True)) as server:
        page.open(server.url)
        page.shows(".label", "happiness", "Not yet")
        page.shows(".scrub output", "0:02.5 / 0:09.0")


def test_an_event_is_marked_in_the_lane_that_it_concerns(page: Page) -> None:
    history = History()
    for t in range(20):
        history.take(estimate(1, float(t)))
        history.take(estimate(2, float(t)))
    history.take(event(t=10.0, person=2))
    with showing(Board(history, source="x", recorded=True)) as server:
        page.open(server.url)
        page.shows(".label", "happiness", "happiness")
        page.run("document.querySelector('[data-span=Infinity]').click()")
        script = """const c = document.querySelector(`.lane[data-person="${arguments[0]}"] canvas`);
            const row = c.getContext('2d').getImageData(0, 2, c.width, 1).data, x = (t) => Math.round(c.width * t / 19);
            const at = (t) => row.slice(4 * x(t), 4 * x(t) + 3).join();
            return at(10) !== at(7);"""
        until(lambda: page.run(script, 2))
        assert not page.run(script, 1)


def test_a_file_is_scrubbed_and_played(page: Page, tmp_path: Path) -> None:
    lines = [session(notice=NOTICE), *(status(t=float(t), hop_rate_hz=float(t)) for t in range(20))]
    lines += [estimate(1, t / 4, label="neutral" if t < 40 else "happiness") for t in range(80)]
    lines += [event(t=12.0, text="later")]
    path = tmp_path / "talk.jsonl"
    path.write_bytes(b"\n".join(map(encode, lines)))
    with showing(Board(read_file(path), source=path.name, recorded=True)) as server:
        page.open(server.url)
        page.shows(".state", "recording")
        page.shows(".scrub output", "0:00.0 / 0:19.8")
        page.shows(".label", "neutral")
        assert page.run("return document.querySelector('.events li').className") == "later"
        page.scrub(15)
        page.shows(".label", "happiness")
        assert page.text(".who") == ["Person 1, at 0:15.0"]
        assert page.text(".tile b")[1] == "15.0"
        assert page.run("return document.querySelector('.events li').className") == ""
        page.scrub(19.5)
        page.run("document.querySelector('.play').click()")
        page.shows(".scrub output", "0:19.8 / 0:19.8")
        page.shows(".play", "▶")
