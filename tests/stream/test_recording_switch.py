"""Recordings that begin and end in the middle of a session: every item is in one, whole, and nothing is overwritten."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from stream.feed.messages import Message
from stream.recording.files import NAME_BYTES, RecordingError, files_of, named_files, new_files
from stream.recording.settings import RecordedSession
from stream.recording.source import RecordedSource
from stream.recording.switch import STOPPED, RecordingSwitch
from stream.records import SourceEvent, SourceInfo
from stream.sources.media import MediaSource, Speed
from tests.feeds import estimate, event, session, until
from tests.recordings import assert_same, recorded, settings
from tests.sessions import Item, MadeSource, frames, in_order, sound

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
ITEMS: list[Item] = in_order(frames((np.arange(100) / 25 + 0.01).tolist(), NOISE), sound(4.0))
INFO = MadeSource(ITEMS).info


def settings_for(info: SourceInfo, *, lossless: bool, began_s: float | None) -> RecordedSession:
    return replace(settings(info, lossless=lossless), began_s=began_s)


class Desk:
    """A switch whose events are kept."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.events: list[SourceEvent] = []
        self.switch = RecordingSwitch(folder, settings_for, tell=self.events.append, **more)

    @contextmanager
    def running(self) -> Iterator[RecordingSwitch]:
        """A session that runs, and then its feed ends."""
        with self.switch.witness(INFO):
            yield self.switch
        self.switch.close()

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def await_stopped(self, n: int = 1) -> None:
        until(lambda: self.kinds().count("recording_stopped") == n)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def feed_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in files_of(path).feed.read_text().splitlines()]


def test_from_the_item_at_which_it_begins_to_the_one_at_which_it_stops_every_item_is_there(
    desk: Desk, tmp_path: Path
) -> None:
    with desk.running() as switch:
        for k, item in enumerate(ITEMS):
            if k == 50:
                switch.record("talk.mkv", lossless=True, t_ns=700_000_000)
                assert switch.recording == "talk.mkv"
            if k == 120:
                switch.stop(t_ns=1_700_000_000)
                assert switch.recording is None
            switch.take(item)
    assert_same(recorded(tmp_path / "talk.mkv"), ITEMS[50:120])
    assert [(e.kind, e.t_ns, e.text) for e in desk.events] == [
        ("recording_started", 700_000_000, "talk.mkv is being recorded"),
        ("recording_stopped", 1_700_000_000, "talk.mkv is complete and can be played"),
    ]
    source = RecordedSource(tmp_path / "talk.mkv", speed=Speed.MAX)
    assert source.settings.began_s == 0.7
    assert (source.decisions.ended, source.decisions.why, source.decisions.whole) == (True, STOPPED, False)
    assert switch.broken == ()


@pytest.mark.parametrize("lossless", [True, False])
def test_a_film_that_begins_in_mid_session_plays_from_its_start(desk: Desk, tmp_path: Path, lossless: bool) -> None:
    with desk.running():
        for item in ITEMS[:200]:
            if item is ITEMS[100]:
                desk.switch.record("talk.mkv", lossless=lossless, t_ns=0)
            desk.switch.take(item)
    with MediaSource(str(tmp_path / "talk.mkv"), speed=Speed.MAX) as source:
        items = list(source)
    assert not any(isinstance(item, SourceEvent) for item in items)
    times_ns = [item.t_ns for item in items if hasattr(item, "t_ns")]
    kept_ns = [item.t_ns for item in ITEMS[100:200] if hasattr(item, "t_ns")]
    assert len(times_ns) == len(kept_ns)
    assert np.diff(times_ns) == pytest.approx(np.diff(kept_ns), abs=2e6)  # Matroska counts milliseconds
    assert times_ns[0] <= 50_000_000  # 2 s after the session's zero


def test_one_follows_the_other_and_no_item_is_in_both(desk: Desk, tmp_path: Path) -> None:
    with desk.running() as switch:
        for k, item in enumerate(ITEMS):
            if k % 50 == 0:
                if k:
                    switch.stop(t_ns=k)
                switch.record(f"{k}.mkv", lossless=True, t_ns=k)
            switch.take(item)
    parts = [recorded(tmp_path / f"{k}.mkv") for k in range(0, len(ITEMS), 50)]
    assert_same([item for part in parts for item in part], ITEMS)
    assert desk.kinds().count("recording_stopped") == len(parts) - 1  # the last one ended with the session


def test_switched_from_another_thread_as_items_come_nothing_is_torn(desk: Desk, tmp_path: Path) -> None:
    began, taken = threading.Event(), threading.Event()

    def ask(switch: RecordingSwitch) -> None:
        assert began.wait(30)
        for k in range(3):
            switch.record(f"{k}.mkv", lossless=True, t_ns=0)
            switch.stop(t_ns=0)
        switch.record("last.mkv", lossless=True, t_ns=0)
        taken.set()

    with desk.running() as switch:
        asking = threading.Thread(target=ask, args=(switch,))
        asking.start()
        for item in ITEMS[:40]:
            switch.take(item)
        began.set()
        for item in ITEMS[40:]:
            switch.take(item)
        assert taken.wait(30)
        asking.join()
        switch.take(ITEMS[-1])
    for name in ("0", "1", "2", "last"):
        if not (tmp_path / f"{name}.mkv").exists():  # it was over before an item came
            continue
        got = recorded(tmp_path / f"{name}.mkv")
        first = next(k for k, item in enumerate(ITEMS) if getattr(item, "t_ns", -1) == getattr(got[0], "t_ns", -2)
                     or getattr(item, "first", -1) == getattr(got[0], "first", -2))  # fmt: skip
        if name != "last":
            assert_same(got, ITEMS[first : first + len(got)])


def test_the_feed_beside_it_begins_with_the_newest_session(desk: Desk, tmp_path: Path) -> None:
    said: list[Message] = [session(hop_s=0.25), estimate(1, 0.5), session(hop_s=0.5, seq=1), estimate(1, 1.0)]
    with desk.running() as switch:
        for message in said:
            switch.send(message)
        switch.record("talk.mkv", lossless=False, t_ns=0)
        for message in (estimate(1, 1.5), event(kind="mark", t=1.6)):
            switch.send(message)
        switch.take(ITEMS[0])
        switch.stop(t_ns=0)
        switch.send(estimate(1, 2.0))
        desk.await_stopped()
        assert [(m["type"], m["t"]) for m in feed_of(tmp_path / "talk.mkv")][1:] == [("estimate", 1.5), ("event", 1.6)]
        assert feed_of(tmp_path / "talk.mkv")[0]["hop_s"] == 0.5


def test_one_that_nothing_came_into_says_so(desk: Desk, tmp_path: Path) -> None:
    with desk.running() as switch:
        switch.record("talk.mkv", lossless=True, t_ns=0)
        switch.stop(t_ns=0)
    assert desk.events[1].text == "talk.mkv was not made: neither picture nor sound came"
    assert not (tmp_path / "talk.mkv").exists()


def test_one_that_began_with_the_session_holds_what_is_published_until_the_feed_ends(tmp_path: Path) -> None:
    desk = Desk(tmp_path, first=new_files(tmp_path / "all.mkv"), lossless=True)
    switch = desk.switch
    with switch.witness(INFO):
        assert switch.recording == "all.mkv"
        switch.send(session())
        for item in ITEMS:
            switch.take(item)
        switch.note("left_out_segment", 7)
    switch.send(event(kind="end"))
    switch.close()
    assert_same(recorded(tmp_path / "all.mkv"), ITEMS)
    assert [message["type"] for message in feed_of(tmp_path / "all.mkv")] == ["session", "event"]
    source = RecordedSource(tmp_path / "all.mkv", speed=Speed.MAX)
    assert (source.settings.began_s, source.decisions.whole) == (None, True)
    assert source.decisions.left_out_segments == {7}
    assert desk.events == []


# refused


@pytest.mark.parametrize("name", [
    "../a.mkv", "a/b.mkv", "/tmp/a.mkv", "..", "..mkv", ".a.mkv", "", "a\\b.mkv", "c:a.mkv", "a\n.mkv", "a\x00.mkv",
    "a\x7f.mkv", "a\u202e.mkv", "a\ud800.mkv", "x" * NAME_BYTES + ".mkv", "é" * 100 + ".mkv",
])  # fmt: skip
def test_a_name_that_is_more_than_a_name_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(RecordingError, match="expected the plain name of a file") as error:
        named_files(inner, name)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000
    assert os.listdir(tmp_path) == ["inner"]


@pytest.mark.parametrize(("name", "text"), [
    ("a.mp4", "to end in .mkv"), ("mkv", "to end in .mkv"), ("talk.mkv", "talk.mkv exists"),
    ("lost.mkv", "lost.mkv exists"), ("said.mkv", "said.feed.jsonl exists"),
])  # fmt: skip
def test_nothing_is_overwritten(desk: Desk, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "talk.mkv").write_text("talk")
    (tmp_path / "said.feed.jsonl").write_text("said")
    (tmp_path / "lost.mkv").symlink_to(tmp_path / "nowhere")
    before = sorted(os.listdir(tmp_path))
    with desk.running(), pytest.raises(RecordingError, match=text):
        desk.switch.record(name, lossless=False, t_ns=0)
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "talk.mkv").read_text() == "talk"
    assert desk.events == []


def test_a_film_that_goes_on_in_another_file_does_not_overwrite_that(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "a.3.mkv").write_text("mine")
    sizes = [NOISE, NOISE[:40], NOISE[:32]]
    items = [frame for k, image in enumerate(sizes) for frame in frames([k + 0.1], image)]
    with desk.running():
        desk.switch.record("a.mkv", lossless=True, t_ns=0)
        for item in items:
            desk.switch.take(item)
    assert (tmp_path / "a.3.mkv").read_text() == "mine"
    assert desk.kinds() == ["recording_started", "recording_ended"]
    assert "a.3.mkv exists already; choose another name" in desk.events[1].text
    assert_same(recorded(tmp_path / "a.mkv"), items[:2])


def test_what_cannot_be_now_is_refused_in_one_line(desk: Desk, tmp_path: Path) -> None:
    switch = desk.switch
    begin: Callable[[], None] = partial(switch.record, "talk.mkv", lossless=False, t_ns=0)
    with pytest.raises(RecordingError, match="this one has not begun or has ended"):
        begin()
    with desk.running():
        with pytest.raises(RecordingError, match="expected a recording that runs, there is none"):
            switch.stop(t_ns=0)
        begin()
        with pytest.raises(RecordingError, match=r"^talk.mkv is being recorded already; stop that first"):
            switch.record("other.mkv", lossless=False, t_ns=0)
    with pytest.raises(RecordingError, match="this one has not begun or has ended"):
        switch.record("other.mkv", lossless=False, t_ns=0)
    assert not (tmp_path / "other.times.jsonl").exists()


# disks


@pytest.mark.parametrize("what", ["film", "feed"])
def test_a_full_disk_ends_the_recording_with_one_event_and_the_next_one_works(small_disk: Path, what: str) -> None:
    desk = Desk(small_disk)
    noise = [np.random.default_rng(k).integers(0, 256, (240, 320, 3)).astype(np.uint8) for k in range(20)]
    pictures = [frame for k, image in enumerate(noise) for frame in frames([k / 25], image)]
    with desk.running() as switch:
        switch.record("a.mkv", lossless=True, t_ns=0)
        if what == "film":
            for item in pictures:
                switch.take(item)
        else:
            switch.take(pictures[0])
            for k in range(40):
                switch.send(event(kind="mark", text=f"{k:06}" * 10_000))
        until(lambda: switch.recording is None)
        for path in small_disk.iterdir():
            until(lambda: not any(t.name.startswith("record") for t in threading.enumerate()))
            path.unlink()
        switch.record("b.mkv", lossless=True, t_ns=0)
        switch.take(pictures[0])
        switch.stop(t_ns=0)
        desk.await_stopped()
    assert desk.kinds() == ["recording_started", "recording_ended", "recording_started", "recording_stopped"]
    assert "no space left on device" in desk.events[1].text
    assert switch.broken == (desk.events[1].text,)
    assert_same(recorded(small_disk / "b.mkv"), [pictures[0]])
