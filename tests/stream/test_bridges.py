"""One estimate through every dialect of the feed says the same: JSON, MessagePack, LSL and ROS."""

import json
import math
import uuid
from typing import Any

import msgspec
import pytest

from stream.bridges.lsl import LslSink
from stream.bridges.ros import WORDS, Expression, RosMapping
from stream.feed.messages import Estimate, Message, decode, encode
from stream.feed.sinks import ZmqSink
from tests.feeds import ANY, estimate, joined, receive, serving, session, until
from tests.lsl_inlets import inlet, needs_pylsl

LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
ORIGIN = "2026-01-31T12:00:00.000Z"


def posterior(best: int) -> dict[str, float]:
    shares = [0.082173] * len(LABELS)
    shares[best] = 0.506962
    return dict(zip(LABELS, shares, strict=True))


def made() -> list[Estimate]:
    """An estimate of each label, and one that abstains."""
    told = [
        estimate(
            1,
            2.08 + 0.25 * i,
            span=(0.0, 2.25 + 0.25 * i),
            posterior=posterior(i),
            label=label,
            confidence=0.506962,
            age_ms=712.345 + i,
        )
        for i, label in enumerate(LABELS)
    ]
    return [
        *told,
        estimate(1, 9.0, posterior=posterior(2), label=None, reason="uncertain", confidence=0.31, age_ms=7.0),
    ]


def said(posterior: dict[str, float], label: str | None, confidence: float, age_ms: float, t: float) -> dict[str, Any]:
    return {"posterior": posterior, "label": label, "confidence": confidence, "age_ms": age_ms, "t": t}


def said_by_feed(payload: bytes, codec: str) -> dict[str, Any]:
    """What a subscriber without our types reads."""
    fields = json.loads(payload) if codec == "json" else msgspec.msgpack.decode(payload)
    return said(*(fields[name] for name in ("posterior", "label", "confidence", "age_ms", "t")))


def said_by_ros(expression: Expression) -> dict[str, Any]:
    """What ROS carries of it: no posterior and no age; the time of capture for `t`."""
    words = {word: label for label, word in WORDS.items()}
    t = (expression.stamp_ns - 1_769_860_800 * 10**9) / 1e9
    return {"label": words.get(expression.expression), "confidence": expression.confidence, "t": t}


def without(said: dict[str, Any]) -> dict[str, Any]:
    """What ROS should carry of it: a confidence only where there is a label."""
    return {"label": said["label"], "confidence": said["confidence"] if said["label"] else 0.0, "t": said["t"]}


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_ros_says_what_the_payload_says(codec: str) -> None:
    mapping = RosMapping()
    mapping.take(session(labels=LABELS, origin=ORIGIN))
    for message in made():
        payload = encode(message, codec)
        (_, expression), *_ = mapping.take(decode(payload))
        assert isinstance(expression, Expression)
        assert said_by_ros(expression) == without(said_by_feed(payload, codec))


@needs_pylsl
def test_every_dialect_of_one_feed_says_the_same() -> None:
    host = uuid.uuid4().hex[:8]
    in_json, in_msgpack = ZmqSink(ANY), ZmqSink(ANY, codec="msgpack")
    opening: list[Message] = [session(labels=LABELS, origin=ORIGIN), estimate(1, 0.0, posterior=posterior(0))]
    with (
        serving(in_json, in_msgpack, LslSink(insecure=True, host=host)) as feed,
        joined(in_json) as json_socket,
        joined(in_msgpack) as msgpack_socket,
    ):
        for message in opening:
            feed.publish(message)
        mapping = RosMapping()
        mapping.take(receive(json_socket))
        receive(json_socket)
        for _ in opening:
            receive(msgpack_socket)
        with inlet(f"emocast/{host}/a/1") as posteriors, inlet(f"emocast/{host}/a/markers") as markers:
            for message in made():
                feed.publish(message)
            samples = posteriors.wait_for(len(made()))
            until(lambda: len(markers.got) >= len(made()))
        names = posteriors.info.get_channel_labels()
        payloads = [(json_socket.recv_multipart()[1], msgpack_socket.recv_multipart()[1]) for _ in made()]
    zero_s = samples[0][1] - made()[0].span[1]
    for (one, other), (values, t_s), ((marker,), _) in zip(payloads, samples, markers.got, strict=True):
        told = said_by_feed(one, "json")
        assert said_by_feed(other, "msgpack") == told
        channels = dict(zip(names, values, strict=True))
        assert {name: channels[name] for name in LABELS} == told["posterior"]
        assert {name: channels[name] for name in ("confidence", "age_ms", "t")} == {
            name: told[name] for name in ("confidence", "age_ms", "t")
        }
        assert math.isclose(t_s - zero_s, json.loads(one)["span"][1], abs_tol=1e-6)
        verdict = told["label"] or f"({json.loads(one)['reason']})"
        assert marker == f"label/1: {verdict}"
        (_, expression), *_ = mapping.take(decode(one))
        assert isinstance(expression, Expression)
        assert said_by_ros(expression) == without(told)
