"""Outlets of the Lab Streaming Layer, read by real inlets; what needs no network is checked with made outlets."""

import math
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from stream.bridges.lsl import LslSink
from stream.delivery import Delivery
from stream.feed.publisher import Feed
from stream.feed.security import FeedError
from tests.feeds import estimate, event, serving, session, status, until
from tests.lsl_inlets import Inlet, inlet, needs_pylsl, pylsl

ORIGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def host() -> str:
    """A name of this machine that no other test takes: LSL is one space of names."""
    return uuid.uuid4().hex[:8]


def three_seconds_in() -> datetime:
    return ORIGIN + timedelta(seconds=3)


# real outlets and inlets


@needs_pylsl
def test_an_inlet_reads_the_posterior_value_for_value(host: str) -> None:
    sink = LslSink(insecure=True, host=host, now=three_seconds_in)
    sent = [
        estimate(
            2,
            0.25 * i + drawn,  # the newest frame lies anywhere in its hop
            span=(0.0, 0.25 * (i + 1)),
            posterior={"neutral": i / 10, "happiness": 1 - i / 10},
            confidence=0.1 * i,
            age_ms=40.5 + i,
        )
        for i, drawn in enumerate([0.0, 0.24, 0.01, 0.2, 0.123456, 0.08, 0.0, 0.24, 0.16, 0.04])
    ]
    before_s = pylsl.local_clock()
    with serving(sink, delivery=Delivery.WAIT) as feed:
        feed.publish(session())
        feed.publish(estimate(2, -0.25))
        with inlet(f"emocast/{host}/a/2") as reading:
            for message in sent:
                feed.publish(message)
            got = reading.wait_for(len(sent))
            info = reading.info
    assert [sample for sample, _ in got] == [
        [m.posterior["neutral"], m.posterior["happiness"], m.confidence, m.t, m.age_ms] for m in sent
    ]
    times = [t_s for _, t_s in got]
    assert [t_s - times[0] for t_s in times] == pytest.approx([0.25 * i for i in range(10)], abs=1e-6)
    assert before_s - 3 <= times[0] - 0.25 <= pylsl.local_clock() - 3  # t = 0 was three seconds ago
    assert (info.name(), info.type(), info.nominal_srate()) == ("emocast a 2", "Expression", 4.0)
    assert info.channel_format() == pylsl.cf_double64
    assert info.get_channel_labels() == ["neutral", "happiness", "confidence", "t", "age_ms"]
    assert info.get_channel_units() == ["probability"] * 3 + ["seconds", "milliseconds"]


@needs_pylsl
def test_the_description_says_where_it_comes_from_and_how_late_it_is(host: str) -> None:
    sink = LslSink(insecure=True, host=host)
    with serving(sink) as feed:
        feed.publish(session())
        feed.publish(estimate())
        with inlet(f"emocast/{host}/a/1") as reading:
            description = reading.info.desc()
    about, synchronization, lag = (description.child(name) for name in ("emocast", "synchronization", "lag"))
    expected = session()
    for name in ("session", "origin", "recogniser", "bundle", "engine", "alignment", "source", "notice"):
        assert about.child_value(name) == getattr(expected, name)
    assert synchronization.child_value("offset_mean") == "0"
    assert synchronization.child_value("can_drop_samples") == "true"
    names = ("channel", "unit", "from", "to")
    assert [lag.child_value(name) for name in names] == ["age_ms", "milliseconds", "capture", "publish"]


@needs_pylsl
def test_markers_are_events_and_changes_of_the_label(host: str) -> None:
    sink = LslSink(insecure=True, host=host)
    with serving(sink) as feed:
        feed.publish(session())
        with inlet(f"emocast/{host}/a/markers") as reading:
            feed.publish(event(t=0.5, kind="face_found", person=1, text="person 1 is there"))
            for i, label in enumerate(["happiness", "happiness", None, None, "neutral"]):
                feed.publish(estimate(span=(0.0, 1.0 + i), label=label, reason=None if label else "silence"))
            feed.publish(event(t=9.0, kind="end", text="the source has ended"))
            got = reading.wait_for(5)
            info = reading.info
    assert [text for (text,), _ in got] == [
        "face_found/1: person 1 is there",
        "label/1: happiness",
        "label/1: (silence)",
        "label/1: neutral",
        "end: the source has ended",
    ]
    assert [t_s - got[0][1] for _, t_s in got] == pytest.approx([0.0, 0.5, 2.5, 4.5, 8.5], abs=1e-6)
    assert (info.name(), info.type(), info.nominal_srate()) == ("emocast a", "Markers", 0.0)


@needs_pylsl
def test_a_name_that_is_no_utf8_arrives_with_question_marks(host: str) -> None:
    sink = LslSink(insecure=True, host=host)
    with serving(sink) as feed:
        feed.publish(session(source="\udcff.mp4"))
        with inlet(f"emocast/{host}/a/markers") as reading:
            feed.publish(event(text="\udcff.mp4 \u00fc"))
            ((text,), _), *_ = reading.wait_for(1)
            source = reading.info.desc().child("emocast").child_value("source")
    assert (text, source) == ("face_found: ?.mp4 \u00fc", "?.mp4")
    assert feed.failures == ()


@needs_pylsl
def test_what_was_pushed_last_arrives_before_the_outlets_close(host: str) -> None:
    sink = LslSink(insecure=True, host=host)
    sink.open()
    sink.send(session())
    with inlet(f"emocast/{host}/a/markers") as reading:
        for i in range(2_000):
            sink.send(event(text=str(i)))
        sink.close()
        assert [text for (text,), _ in reading.got] == [f"face_found: {i}" for i in range(2_000)]


@needs_pylsl
def test_an_inlet_recovers_when_the_publisher_restarts(host: str) -> None:
    with ExitStack() as life:
        reading: Inlet | None = None
        for text in ("before", "after"):
            with serving(LslSink(insecure=True, host=host)) as feed:
                feed.publish(session(session=text))
                reading = reading or life.enter_context(inlet(f"emocast/{host}/a/markers", recover=True))
                until(partial(publish_until_heard, feed, text, reading))
    assert reading is not None
    assert {text for (text,), _ in reading.got} == {"face_found: before", "face_found: after"}


def publish_until_heard(feed: Feed, text: str, reading: Inlet) -> bool:
    feed.publish(event(text=text))
    return any(text in got for (got,), _ in reading.got)


# made outlets


class MadeLibrary:
    """The names of pylsl that the sink uses; keeps each outlet's description, samples and whether it is open."""

    def __init__(self) -> None:
        self.open: dict[str, Any] = {}
        self.samples: list[tuple[str, list[Any], float]] = []
        self.fails = ""

    def local_clock(self) -> float:
        return 100.0

    def StreamInfo(self, *fields: Any) -> Any:  # noqa: N802
        return MadeInfo(fields)

    def StreamOutlet(self, info: Any, chunk_size: int, max_buffered: int) -> Any:  # noqa: N802
        if self.fails:
            raise RuntimeError(self.fails)
        return MadeOutlet(self, info)


class MadeInfo:
    def __init__(self, fields: tuple[Any, ...]) -> None:
        self.source_id = fields[5]

    def desc(self) -> "MadeInfo":
        return self

    def append_child(self, name: str) -> "MadeInfo":
        return self

    def append_child_value(self, name: str, value: str) -> None: ...

    def set_channel_labels(self, labels: list[str]) -> None: ...

    def set_channel_units(self, units: list[str]) -> None: ...


class MadeOutlet:
    def __init__(self, library: MadeLibrary, info: MadeInfo) -> None:
        assert info.source_id not in library.open, "two outlets of one source id"
        self._library, self._id = library, info.source_id
        library.open[self._id] = True

    def push_sample(self, sample: list[Any], t_s: float) -> None:
        self._library.samples.append((self._id, sample, t_s))

    def have_consumers(self) -> bool:
        return False

    def __del__(self) -> None:
        del self._library.open[self._id]


@pytest.fixture
def library() -> MadeLibrary:
    return MadeLibrary()


@pytest.fixture
def sink(library: MadeLibrary) -> Iterator[LslSink]:
    sink = LslSink(insecure=True, host="h", now=three_seconds_in, library=library)
    sink.open()
    yield sink
    sink.close()
    assert library.open == {}


def test_media_at_full_speed_has_no_lag_and_times_of_the_media(sink: LslSink, library: MadeLibrary) -> None:
    sink.send(session())
    sink.send(estimate(1, 1.9, age_ms=None, span=(0.0, 2.0)))
    (source_id, sample, t_s), _ = library.samples
    assert (source_id, sample[:4], t_s) == ("emocast/h/a/1", [0.25, 0.75, 0.75, 1.9], 99.0)
    assert math.isnan(sample[4])


def test_the_order_of_channels_is_the_sessions(sink: LslSink, library: MadeLibrary) -> None:
    sink.send(session())
    sink.send(estimate(posterior={"happiness": 0.75, "neutral": 0.25}))
    assert library.samples[0][1][:2] == [0.25, 0.75]


def test_a_person_who_is_gone_has_no_outlet_until_they_are_back(sink: LslSink, library: MadeLibrary) -> None:
    sink.send(session())
    sink.send(estimate(1, 0.0))
    sink.send(estimate(2, 10.0))
    assert set(library.open) == {"emocast/h/a/markers", "emocast/h/a/1", "emocast/h/a/2"}
    sink.send(estimate(2, 10.25))
    assert set(library.open) == {"emocast/h/a/markers", "emocast/h/a/2"}
    sink.send(estimate(1, 10.5))
    assert set(library.open) == {"emocast/h/a/markers", "emocast/h/a/1", "emocast/h/a/2"}
    labels = [sample for source_id, sample, _ in library.samples if source_id.endswith("markers")]
    assert labels == [["label/1: happiness"], ["label/2: happiness"], ["label/1: happiness"]]


def test_persons_and_streams_are_bounded(sink: LslSink, library: MadeLibrary) -> None:
    for name in range(70):
        sink.send(session(stream=f"s{name}"))
    assert len(library.open) == 64
    for person in range(1, 71):
        sink.send(estimate(person, stream="s69"))
    assert len(library.open) == 128
    assert "emocast/h/s69/6" not in library.open
    assert "emocast/h/s69/7" in library.open


def test_another_session_opens_its_outlets_anew_and_a_repeat_does_not(sink: LslSink, library: MadeLibrary) -> None:
    sink.send(session())
    sink.send(estimate(1))
    sink.send(session())
    assert set(library.open) == {"emocast/h/a/markers", "emocast/h/a/1"}
    sink.send(session(session="other"))
    assert set(library.open) == {"emocast/h/a/markers"}


def test_without_a_session_nothing_can_be_said(sink: LslSink, library: MadeLibrary) -> None:
    for message in (estimate(), event(), status()):
        sink.send(message)
    assert library.open == {}


def test_a_failure_of_lsl_is_one_line_and_the_feed_goes_on(library: MadeLibrary) -> None:
    library.fails = "could not create stream outlet."
    with Feed([LslSink(insecure=True, host="h", library=library)], delivery=Delivery.WAIT) as feed:
        feed.publish(session())
        feed.publish(event())
    assert feed.failures == (
        "cannot publish through LSL: could not create stream outlet.; leave out --lsl to go without",
    )


def test_the_network_needs_a_word() -> None:
    with pytest.raises(FeedError, match=r"^LSL answers every host of the network, .* pass --insecure too"):
        LslSink(insecure=False)


WITHOUT = """
import sys
sys.modules["pylsl"] = None  # what Python takes for not installed
from stream.bridges.lsl import LslSink
from stream.feed.security import FeedError
try:
    LslSink(insecure=True).open()
except FeedError as error:
    print(error)
"""


def test_without_pylsl_it_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"--lsl needs pylsl \(.*\); install it with: pip install 'emocast\[lsl\]'\n", done.stdout)
