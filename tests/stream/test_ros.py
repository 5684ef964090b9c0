"""The ROS mapping, without ROS: words, topics, ids, stamps and who belongs to whom."""

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.bridges.ros import (
    MATCHES_TOPIC,
    Expression,
    IdsMatch,
    IdType,
    RosMapping,
    capture_ns,
    expression_of,
    expression_topic,
    face_id,
    matches_of,
    ros_name,
)
from stream.feed.messages import Estimate, WindowNote
from tests.feeds import estimate, event, session, status

NOON_NS = 1_769_860_800 * 10**9  # 2026-01-31T12:00:00Z


def window(**changes: Any) -> WindowNote:
    return WindowNote(
        **{"frame": 1.9, "audio": (1.25, 2.53), "offset": 0.0, "face": True, "voice": "present"} | changes
    )


def match(kind: str, person: int, confidence: float) -> IdsMatch:
    id1, id1_type = ("voice_a", IdType.VOICE) if kind == "voice" else (f"face_a_{person}", IdType.FACE)
    return IdsMatch(id1=id1, id1_type=id1_type, id2=f"person_a_{person}", id2_type=IdType.PERSON, confidence=confidence)


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("neutral", "neutral"),
        ("happiness", "happy"),
        ("anger", "angry"),
        ("fear", "scared"),
        ("disgust", "disgusted"),
        ("surprise", "surprised"),
        ("sadness", "sad"),
        ("contempt", "contempt"),  # hri_msgs has no word for it
    ],
)
def test_labels_become_the_words_of_hri_msgs(label: str, word: str) -> None:
    made = expression_of(estimate(label=label, confidence=0.75), NOON_NS)
    assert (made.expression, made.confidence, made.stamp_ns, made.frame_id) == (word, 0.75, NOON_NS, "a")


def test_what_is_not_measured_is_not_a_number() -> None:
    made = expression_of(estimate(), 0)
    assert math.isnan(made.valence)
    assert math.isnan(made.arousal)


def test_an_estimate_that_abstains_claims_nothing() -> None:
    made = expression_of(estimate(label=None, reason="uncertain", confidence=0.4), 0)
    assert (made.expression, made.confidence) == ("", 0.0)


def test_the_stamp_is_the_capture_of_the_newest_frame() -> None:
    assert capture_ns(estimate(t=2.25), "2026-01-31T12:00:00.000Z") == NOON_NS + 2_250_000_000
    published = estimate(t=2.25, stamp="2026-01-31T12:00:02.700Z", age_ms=700.5)
    assert capture_ns(published, None) == NOON_NS + 1_999_500_000
    at_full_speed = estimate(stamp="2026-01-31T12:00:02.700Z", age_ms=None)
    assert capture_ns(at_full_speed, None) == NOON_NS + 2_700_000_000


def test_topics_are_those_of_rep_155() -> None:
    assert expression_topic("live", 3) == "/humans/faces/face_live_3/expression"
    assert expression_topic("live", 0) == "/humans/voices/voice_live/expression"
    assert face_id("clip.mp4", 1) == "face_clip_mp4_af10edc0_1"


@given(st.sets(st.text(min_size=1, max_size=12), min_size=2, max_size=2))
def test_any_stream_has_a_name_of_its_own_that_ros_allows(streams: set[str]) -> None:
    names = [ros_name(stream) for stream in streams]
    assert len(set(names)) == 2
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*", name)


@pytest.mark.parametrize(
    ("newest", "confidence"),
    [
        (window(), 1.0),
        (window(voice="shared"), 0.0),
        (window(voice="silence"), 0.0),
        (window(face=False), 0.0),
    ],
)
def test_the_voice_is_a_persons_where_it_was_scored_with_the_face(newest: WindowNote, confidence: float) -> None:
    of_two = estimate(2, windows=(window(voice="gap"), newest))
    assert matches_of(of_two) == [match("face", 2, 1.0), match("voice", 2, confidence)]


def test_neither_a_voice_alone_nor_a_person_without_a_face_is_matched() -> None:
    assert matches_of(estimate(0)) == []
    assert matches_of(estimate(1, box=None)) == []


def test_a_stream_is_mapped_in_order() -> None:
    mapping = RosMapping()
    assert mapping.take(session()) == []
    assert mapping.take(status()) == []
    (topic, first), *matches = mapping.take(estimate(1, 2.0))
    assert topic == "/humans/faces/face_a_1/expression"
    assert isinstance(first, Expression)
    assert (first.expression, first.stamp_ns) == ("happy", NOON_NS + 2 * 10**9)
    assert matches == [(MATCHES_TOPIC, match("face", 1, 1.0)), (MATCHES_TOPIC, match("voice", 1, 1.0))]


def present(*persons: int) -> RosMapping:
    mapping = RosMapping()
    mapping.take(session())
    for person in persons:
        mapping.take(estimate(person))
    return mapping


def withdrawn(*persons: int) -> list[tuple[str, IdsMatch]]:
    return [(MATCHES_TOPIC, match(kind, person, 0.0)) for person in persons for kind in ("face", "voice")]


def test_the_matches_of_a_lost_face_are_withdrawn_once() -> None:
    mapping = present(1, 2)
    lost = event(kind="face_lost", person=2)
    assert mapping.take(lost) == withdrawn(2)
    assert mapping.take(lost) == []
    assert mapping.take(event(kind="device_lost")) == []


def test_the_end_and_another_session_withdraw_every_match() -> None:
    assert present(1, 2).take(event(kind="end")) == withdrawn(1, 2)
    mapping = present(1)
    assert mapping.take(session()) == []  # told again, for somebody who joined late
    assert mapping.take(session(session="other")) == withdrawn(1)


def test_streams_are_apart() -> None:
    mapping = present(1)
    assert mapping.take(event(stream="b", kind="end")) == []
    (topic, _), *_ = mapping.take(estimate(1, stream="b", stamp="2026-01-31T12:00:00.000Z"))
    assert topic == "/humans/faces/face_b_1/expression"


def test_without_its_session_an_estimate_is_stamped_by_its_publishing() -> None:
    late: Estimate = estimate(1, 9.0, stamp="2026-01-31T12:00:02.700Z", age_ms=700.0)
    (_, made), *_ = RosMapping().take(late)
    assert isinstance(made, Expression)
    assert made.stamp_ns == NOON_NS + 2_000_000_000
