"""The ROS node with a made node of rclpy in its place; where rclpy is missing it says so."""

import math
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from stream.bridges.ros import MATCHES_TOPIC, Expression, IdsMatch, RosMapping
from tests.feeds import estimate, event, session
from tools.feeds.ros_node import MAX_TOPICS, Publishers, fill, relay


class ExpressionOfRos:
    """A message with the fields of hri_msgs/Expression, and no others."""

    __slots__ = ("arousal", "confidence", "expression", "header", "valence")

    def __init__(self) -> None:
        self.header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id="")
        self.expression, self.valence, self.arousal, self.confidence = "", 0.0, 0.0, 0.0


class IdsMatchOfRos:
    """A message with the fields of hri_msgs/IdsMatch, and no others."""

    __slots__ = ("confidence", "id1", "id1_type", "id2", "id2_type")


class MadeNode:
    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.made: list[tuple[type, str, int]] = []
        self.destroyed: list[str] = []

    def create_publisher(self, kind: type, topic: str, queue: int) -> Any:
        self.made.append((kind, topic, queue))
        return SimpleNamespace(topic=topic, publish=lambda message: self.sent.append((topic, message)))

    def destroy_publisher(self, publisher: Any) -> None:
        self.destroyed.append(publisher.topic)


def publishers(node: MadeNode) -> Publishers:
    return Publishers(node, {Expression: ExpressionOfRos, IdsMatch: IdsMatchOfRos})


def test_a_feed_is_published_in_ros() -> None:
    node = MadeNode()
    feed = [session(), estimate(1, 2.25), estimate(1, 2.5), event(kind="face_lost", person=1)]
    relay(feed, publishers(node), RosMapping())
    face = "/humans/faces/face_a_1/expression"
    assert node.made == [(ExpressionOfRos, face, 10), (IdsMatchOfRos, MATCHES_TOPIC, 10)]
    assert [topic for topic, _ in node.sent] == [face, *[MATCHES_TOPIC] * 2, face, *[MATCHES_TOPIC] * 2] + [
        MATCHES_TOPIC
    ] * 2
    first = node.sent[0][1]
    assert (first.header.stamp.sec, first.header.stamp.nanosec) == (1_769_860_802, 250_000_000)
    assert (first.header.frame_id, first.expression, first.confidence) == ("a", "happy", 0.75)
    assert math.isnan(first.valence)
    assert math.isnan(first.arousal)
    matches = [(m.id1, m.id1_type, m.id2, m.id2_type, m.confidence) for _, m in node.sent[1:3] + node.sent[6:]]
    assert matches == [
        ("face_a_1", 2, "person_a_1", 1, 1.0),
        ("voice_a", 4, "person_a_1", 1, 1.0),
        ("face_a_1", 2, "person_a_1", 1, 0.0),
        ("voice_a", 4, "person_a_1", 1, 0.0),
    ]


@pytest.mark.parametrize("changes", [{"t": 1e300}, {"t": 1e11}])
def test_times_that_are_none_cost_one_message(changes: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    node = MadeNode()
    relay([session(), estimate(1, **changes), estimate(2, box=None)], publishers(node), RosMapping())
    assert [topic for topic, _ in node.sent] == ["/humans/faces/face_a_2/expression"]
    assert capsys.readouterr().err.startswith("emocast: left out a message of estimate/a/1: ")


def test_publishers_are_bounded_and_the_longest_unused_goes() -> None:
    node = MadeNode()
    feed = [estimate(person, stamp="2026-01-31T12:00:00.000Z", box=None) for person in range(1, MAX_TOPICS + 2)]
    relay([feed[0], *feed], publishers(node), RosMapping())
    assert len(node.made) == MAX_TOPICS + 1
    assert node.destroyed == ["/humans/faces/face_a_1/expression"]


def test_the_type_of_an_id_is_a_plain_number_of_ros() -> None:
    (_, (_, match), _) = RosMapping().take(estimate(1, stamp="2026-01-31T12:00:00.000Z"))
    made = fill(IdsMatchOfRos(), match)
    assert type(made.id1_type) is int


@pytest.mark.skipif(find_spec("rclpy") is not None, reason="ROS is installed here")
def test_without_ros_it_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "tools.feeds.ros_node"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "emocast: expected rclpy and hri_msgs of a ROS 2 installation, got: No module named 'rclpy'; source its "
        "setup.bash first, and install hri_msgs (on Ubuntu, ros-$ROS_DISTRO-hri-msgs)\n"
    )
