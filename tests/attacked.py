"""What is attacked, in a process of its own: python -m tests.attacked [KEYS_FOLDER]

A publisher with its feed, its control and its metrics; prints their ports on one line, then publishes an estimate
with t = N for each number N that it reads, until its input ends. Last it prints how many were refused and cut off.
"""

import json
import sys
from pathlib import Path

from stream.bridges.metrics import MetricsSink
from stream.delivery import Delivery
from stream.feed.control import Control
from stream.feed.control_desk import Newest
from stream.feed.keys import load_server_keys
from stream.feed.publisher import Feed
from stream.feed.sinks import ZmqSink
from tests.feeds import ANY, estimate, session, status
from tests.stream.test_control import Noting


def main(keys_folder: str | None = None) -> None:
    keys = None if keys_folder is None else load_server_keys(Path(keys_folder))
    sink, metrics, newest = ZmqSink(ANY, keys=keys), MetricsSink(0), Newest()
    with (
        Feed([sink, metrics, newest], delivery=Delivery.WAIT) as feed,
        Control(ANY, Noting(), newest, keys=keys) as control,
    ):
        feed.publish(session())
        feed.publish(status())
        ports = [int(address.rsplit(":", 1)[1]) for address in (sink.address, control.address)]
        print(json.dumps({"feed": ports[0], "control": ports[1], "metrics": metrics.port}), flush=True)
        for line in sys.stdin:
            feed.publish(estimate(1, float(line)))
        doors = [sink.door, control.door]
        assert all(doors)
        print(json.dumps([[door.n_refused, door.n_cut] for door in doors if door is not None]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
