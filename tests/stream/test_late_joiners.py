"""What late joiners are told, and that it is bounded."""

from stream.feed.late_joiners import GONE_S, MAX_PERSONS, MAX_STREAMS, LateJoiners
from stream.feed.messages import Message, encode, topic_of
from tests.feeds import estimate, session, status


def frames_of(message: Message) -> tuple[bytes, bytes]:
    return topic_of(message).encode(), encode(message)


def kept(joiners: LateJoiners, *prefixes: bytes) -> list[str]:
    return [topic.decode() for topic, _ in joiners.frames(prefixes)]


def test_subscriptions_that_overlap_are_told_once() -> None:
    joiners = LateJoiners()
    for message in (estimate(1), session(stream="b"), estimate(2)):
        joiners.keep(message, frames_of(message))
    assert kept(joiners, b"", b"estimate/", b"estimate/a/1") == ["session/b", "estimate/a/1", "estimate/a/2"]
    assert kept(joiners, b"status/", b"session/b") == ["session/b"]
    assert kept(joiners) == []


def test_a_stream_that_is_forgotten_is_told_of_no_more_and_others_are() -> None:
    joiners = LateJoiners()
    for message in (session(), estimate(1), session(stream="b")):
        joiners.keep(message, frames_of(message))
    joiners.forget("a")
    joiners.forget("never there")
    assert kept(joiners, b"") == ["session/b"]


def test_what_is_kept_for_late_joiners_is_bounded() -> None:
    joiners = LateJoiners()
    for person in range(500):
        joiners.keep(estimate(person), frames_of(estimate(person)))
    assert kept(joiners, b"") == [f"estimate/a/{person}" for person in range(500 - MAX_PERSONS, 500)]
    joiners.keep(estimate(7, GONE_S + 0.1), frames_of(estimate(7)))
    assert kept(joiners, b"") == ["estimate/a/7"]  # all others are gone
    for k in range(500):
        joiners.keep(status(stream=f"s{k}"), frames_of(status(stream=f"s{k}")))
    assert kept(joiners, b"") == [f"status/s{k}" for k in range(500 - MAX_STREAMS, 500)]


def test_a_session_that_is_said_anew_keeps_what_is_known_of_its_persons_and_another_does_not() -> None:
    joiners = LateJoiners()
    for message in (session(session="1"), status(), estimate(1), session(session="1", seq=1, hop_s=0.5)):
        joiners.keep(message, frames_of(message))
    assert kept(joiners, b"") == ["session/a", "status/a", "estimate/a/1"]
    assert b'"hop_s":0.5' in joiners.frames([b"session"])[0][1]
    restarted = session(session="2")
    joiners.keep(restarted, frames_of(restarted))
    assert kept(joiners, b"") == ["session/a"]
