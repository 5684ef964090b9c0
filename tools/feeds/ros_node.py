"""The feed in ROS 2: `python -m tools.feeds.ros_node [ADDRESS]`, where rclpy and hri_msgs are installed."""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from stream.bridges.ros import Expression, IdsMatch, RosMapping
from stream.feed.messages import Message, topic_of
from stream.feed.security import DEFAULT_ADDRESS, FeedError
from tools.errors import DONE, MISUSE
from tools.feeds.reading import subscribe

QUEUE = 10  # messages a ROS publisher keeps for its readers
MAX_TOPICS = 256  # publishers held; those unused for longest are closed first


class RosError(Exception):
    """ROS cannot be reached; the text is one line for the person who asked."""


def ros_node(address: str = DEFAULT_ADDRESS, *, insecure: bool = False, key: str | None = None) -> int:
    """Publish what a feed says as hri_msgs, until Ctrl-C.

    Args:
        address: Of the feed, which may start later.
        insecure: Whether any address but loopback is allowed without keys.
        key: Name of the client whose keys are used, for a feed with keys.

    Returns:
        The exit code, 0.

    Raises:
        RosError: If rclpy or hri_msgs is not installed.
        FeedError: If the address is malformed or not allowed, or the keys are not there.
    """
    ros = load_ros()
    with subscribe(address, insecure=insecure, key=key) as feed:
        # Python's own handler of Ctrl-C: ROS's would close the publishers under a message that is on its way
        ros.rclpy.init(signal_handler_options=ros.signals.SignalHandlerOptions.NO)
        try:
            node = ros.rclpy.create_node("emocast")
            relay(feed, Publishers(node, ros.types), RosMapping())
        except KeyboardInterrupt:
            pass
        finally:
            ros.rclpy.try_shutdown()
    return DONE


def load_ros() -> SimpleNamespace:
    """The modules `rclpy` and `signals`, and as `types` what `Publishers` makes messages of.

    Raises:
        RosError: If they are not installed.
    """
    try:
        rclpy = importlib.import_module("rclpy")
        signals = importlib.import_module("rclpy.signals")
        messages = importlib.import_module("hri_msgs.msg")
    except ImportError as error:
        raise RosError(
            f"expected rclpy and hri_msgs of a ROS 2 installation, got: {error}; source its setup.bash first, and "
            "install hri_msgs (on Ubuntu, ros-$ROS_DISTRO-hri-msgs)"
        ) from error
    return SimpleNamespace(
        rclpy=rclpy, signals=signals, types={Expression: messages.Expression, IdsMatch: messages.IdsMatch}
    )


def relay(feed: Iterable[Message], publishers: "Publishers", mapping: RosMapping) -> None:
    """Publish each message of a feed in ROS, until the feed ends; one whose times are none is reported and left out."""
    for message in feed:
        try:
            mapped = mapping.take(message)
        except (ValueError, OverflowError) as error:
            print(f"emocast: left out a message of {topic_of(message)}: {error}", file=sys.stderr)
            continue
        for topic, outgoing in mapped:
            publishers.publish(topic, outgoing)


class Publishers:
    """The publishers of a node, one a topic, made when first needed.

    Args:
        node: A node of rclpy.
        types: The message type of ROS for each of ours.
    """

    def __init__(self, node: Any, types: dict[type[Expression] | type[IdsMatch], Callable[[], Any]]) -> None:
        self._node = node
        self._types = types
        self._made: dict[str, Any] = {}  # the least recently used first

    def publish(self, topic: str, outgoing: Expression | IdsMatch) -> None:
        """Publish on a topic."""
        ros_type = self._types[type(outgoing)]
        publisher = self._made.pop(topic, None) or self._node.create_publisher(ros_type, topic, QUEUE)
        self._made[topic] = publisher
        if len(self._made) > MAX_TOPICS:
            oldest = next(iter(self._made))
            self._node.destroy_publisher(self._made.pop(oldest))
        publisher.publish(fill(ros_type(), outgoing))


def fill(made: Any, outgoing: Expression | IdsMatch) -> Any:
    """A ROS message with our fields."""
    match outgoing:
        case Expression():
            made.header.stamp.sec, made.header.stamp.nanosec = divmod(outgoing.stamp_ns, 10**9)
            made.header.frame_id = outgoing.frame_id
            names = ("expression", "valence", "arousal", "confidence")
            for name in names:
                setattr(made, name, getattr(outgoing, name))
        case IdsMatch():
            made.id1, made.id1_type = outgoing.id1, int(outgoing.id1_type)
            made.id2, made.id2_type = outgoing.id2, int(outgoing.id2_type)
            made.confidence = outgoing.confidence
    return made


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tools.feeds.ros_node", description=__doc__)
    parser.add_argument("address", nargs="?", default=DEFAULT_ADDRESS, help="of the feed")
    parser.add_argument("--insecure", action="store_true", help="allow an address other than loopback without keys")
    parser.add_argument("--key", metavar="NAME", help="the client whose keys are used, for a feed with keys")
    asked = parser.parse_args()
    try:
        return ros_node(asked.address, insecure=asked.insecure, key=asked.key)
    except (RosError, FeedError) as error:
        print(f"emocast: {error}", file=sys.stderr)
        return MISUSE


if __name__ == "__main__":
    sys.exit(main())
