"""Records in the feed's words, field by field, and as the schema wants them."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import jsonschema
import msgspec
import numpy as np
import pytest

from engines.bundle import Bundle
from stream.aggregation import Aggregate
from stream.config import SessionConfig, window_scheme
from stream.ensemble import Ensemble
from stream.feed.messages import Estimate, Event, Message, Session, Status, WindowNote, decode, encode, schema
from stream.meters import Meters
from stream.notes import (
    NOTICE,
    end_message,
    estimate_message,
    event_message,
    seconds,
    session_message,
    status_message,
    window_note,
)
from stream.perception.seen import PersonEvent
from stream.records import Score, SourceEvent, SourceHealth, SourceInfo
from stream.voice import VoiceState
from tests.small_bundle import small_bundle
from tests.windows import SEGMENT_NS, face, score, window

VALIDATOR = jsonschema.Draft202012Validator(schema())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    scheme = {"segment_s": 0.25, "audio_s": 0.1, "jitter_s": 0.01, "n_segments": 4, "alignments": ["centered"]}
    return small_bundle(tmp_path_factory.mktemp("bundle"), scheme=scheme)


def sent(message: Message) -> Message:
    """The message, once it was found to fit the schema and both codecs."""
    for codec in ("json", "msgpack"):
        assert decode(encode(message, codec)) == message
    VALIDATOR.validate(json.loads(encode(message)))
    return message


def aggregate(*scores: Score, label: int | None = 1, reason: str | None = None) -> Aggregate:
    return Aggregate(
        person=scores[-1].window.person,
        scores=scores,
        posterior=np.array([0.25, 0.5, 0.25]),
        label=label,
        confidence=0.5,
        reason=reason,
        modalities={"face": 1 / 3, "voice": 2 / 3},
    )


@pytest.mark.parametrize(
    ("t_ns", "t_s"),
    [(0, 0.0), (250_000_000, 0.25), (1_234_567_890, 1.234568), (-635_588_571, -0.635589), (10**16, 1e7)],
)
def test_times_are_seconds_to_the_microsecond(t_ns: int, t_s: float) -> None:
    assert seconds(t_ns) == t_s


def test_the_session_says_what_runs(bundle: Bundle) -> None:
    info = SourceInfo(
        name="clip", has_video=True, has_audio=True, frame_rate_hz=25.0, duration_s=3.0, text="mpeg: 360x288"
    )
    message = sent(
        session_message(
            info,
            Ensemble([bundle]),
            SessionConfig(seed=7),
            window_scheme(bundle, None),
            engine="onnx",
            session="5f",
            origin=datetime(2026, 1, 31, 12, tzinfo=UTC),
        )
    )
    assert message == Session(
        stream="clip",
        seq=0,
        t=0.0,
        stamp="",
        session="5f",
        origin="2026-01-31T12:00:00.000Z",
        labels=("red", "green", "blue"),
        recogniser="small",
        bundle=bundle.sha256[:16],
        engine="onnx",
        hop_s=0.25,
        n_segments=4,
        alignment="centered",
        seed=7,
        source="mpeg: 360x288",
        notice=NOTICE,
    )


def test_an_estimate_says_what_was_summed(bundle: Bundle) -> None:
    first, second = score(2, "face", [0.2, 0.6, 0.2]), score(3, "voice", [0.3, 0.4, 0.3])
    message = sent(
        estimate_message(aggregate(first, second), "clip", Ensemble([bundle]), window_scheme(bundle, None), 12.34567)
    )
    assert (
        message
        == Estimate(
            stream="clip",
            seq=0,
            t=0.875,  # of the newest frame
            stamp="",
            span=(0.5, 1.0),
            age_ms=12.346,
            person=1,
            box=(1, 2, 3, 4),
            posterior={"red": 0.25, "green": 0.5, "blue": 0.25},
            label="green",
            confidence=0.5,
            reason=None,
            modalities={"face": 0.333333, "voice": 0.666667},
            windows=(
                WindowNote(frame=0.625, audio=(-0.015, 1.265), offset=0.0, face=True, voice="silence"),
                WindowNote(frame=0.875, audio=(0.235, 1.515), offset=0.0, face=False, voice="present"),
            ),
            bundle=bundle.sha256[:16],
            baseline=None,
        )
    )


def test_an_estimate_that_abstains_has_no_label_and_no_age_at_full_speed(bundle: Bundle) -> None:
    one = aggregate(score(0, "none", person=0), label=None, reason="no_face")
    message = estimate_message(one, "clip", Ensemble([bundle]), window_scheme(bundle, None), None)
    assert (message.label, message.reason, message.age_ms, message.box) == (None, "no_face", None, None)
    sent(message)


def test_an_estimate_names_the_baseline_that_corrected_it(bundle: Bundle) -> None:
    one = replace(aggregate(score(0, "face", [0.2, 0.6, 0.2])), baseline="anna")
    message = estimate_message(one, "clip", Ensemble([bundle]), window_scheme(bundle, None), None)
    assert message.baseline == "anna"
    sent(message)


def test_the_box_is_the_newest_faces(bundle: Bundle) -> None:
    boxes = [(1, 1, 5, 5), (2, 2, 5, 5)]
    seen = [Score(window=window(k, seen=face(box=box)), posterior=None) for k, box in enumerate(boxes)]
    hidden = Score(window=window(2), posterior=None)
    message = estimate_message(aggregate(*seen, hidden), "clip", Ensemble([bundle]), window_scheme(bundle, None), None)
    assert message.box == (2, 2, 5, 5)


@pytest.mark.parametrize("state", list(VoiceState))
def test_each_state_of_the_voice_has_a_word(state: VoiceState) -> None:
    note = window_note(Score(window=window(voice=state), posterior=None))
    assert note.voice == state.value
    assert msgspec.convert(msgspec.to_builtins(note), WindowNote) == note


def test_events_of_sources_and_of_persons() -> None:
    lost = SourceEvent(t_ns=SEGMENT_NS, kind="device_lost", text="the camera is gone")
    found = PersonEvent(t_ns=SEGMENT_NS, kind="face_found", text="hello", person=2)
    assert sent(event_message(lost, "a")) == Event(
        stream="a", seq=0, t=0.25, stamp="", kind="device_lost", text="the camera is gone", person=None
    )
    assert sent(event_message(found, "a")) == Event(
        stream="a", seq=0, t=0.25, stamp="", kind="face_found", text="hello", person=2
    )


def test_the_end_carries_the_totals() -> None:
    message = sent(end_message("a", 10**9, "over", {"frames": 25, "media_s": 1.0}))
    assert message == Event(
        stream="a", seq=0, t=1.0, stamp="", kind="end", text="over", totals={"frames": 25.0, "media_s": 1.0}
    )


def test_a_status_has_the_rates_of_the_last_second() -> None:
    now_s = [0.0]
    meters = Meters(lambda: now_s[0])
    for name, n in (("frames", 50), ("analysed", 25), ("hops", 8)):
        meters.count(name, n)
    meters.time("engine", 9.5)
    now_s[0] = 2.0
    engine, health = ("onnx", "asked for"), SourceHealth(overruns=3, drift_ppm=12.34567, residual_ms=0.5)
    message = sent(
        status_message(
            "a",
            10**9,
            meters,
            persons=2,
            drops={"frames": 1},
            audio_gap_s=0.1,
            engine=engine,
            picture=(640, 360),
            health=health,
        )
    )
    assert message == Status(
        stream="a",
        seq=0,
        t=1.0,
        stamp="",
        frame_rate_hz=25.0,
        analysed_rate_hz=12.5,
        hop_rate_hz=4.0,
        persons=2,
        drops={"frames": 1},
        overruns=3,
        audio_gap_s=0.1,
        engine_ms=(9.5, 9.5),
        age_ms=None,
        drift_ppm=12.346,
        drift_residual_ms=0.5,
        engine="onnx",
        engine_why="asked for",
        picture=(640, 360),
    )
