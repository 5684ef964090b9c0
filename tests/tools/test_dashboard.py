"""The dashboard from the feed to a viewer: late joiners, restarts, losses, and how the command ends."""

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from stream.config import FeedConfig
from stream.feed.messages import encode
from stream.feed.publisher import Feed
from stream.feed.security import FeedError
from stream.feed.sinks import ZmqSink
from tests.dashboards import answer, events, following, knows
from tests.feeds import ANY, WAIT_S, estimate, serving, session, status, until
from tests.stream.test_subscriber import line_of, running
from tools.dashboard.dashboard import dashboard
from tools.feeds.keys import make_client, make_server
from tools.replaying.replay import sinks

RUN = (
    "import sys; from pathlib import Path; from tools.dashboard.dashboard import dashboard;"
    "file = Path(sys.argv[2]) if sys.argv[2:3] not in ([], ['-']) else None;"
    "sys.exit(dashboard(sys.argv[1], host='127.0.0.1', port=0, token=None, file=file, insecure=False,"
    " open_browser=False, key=sys.argv[3] if sys.argv[3:] else None))"
)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_who_comes_late_is_told_the_last_state_and_then_each_message(codec: str) -> None:
    sink = ZmqSink(ANY, codec=codec)
    with serving(sink) as feed, following(sink.address) as server, events(server.url) as first:
        for message in (session(), status(), estimate(1, 1.0), estimate(2, 1.0)):
            feed.publish(message)
        seen: list[str] = []
        until(lambda: seen.extend(m["type"] for m in messages(next(first))) or seen.count("estimate") == 2)
        with events(server.url) as second:
            name, state = next(second)
            assert name == "state"
            kept = state["streams"]["a"]
            assert (kept["session"]["labels"], kept["status"]["engine"]) == (["neutral", "happiness"], "onnx")
            assert [(lane["person"], lane["rows"][-1][0]) for lane in kept["lanes"]] == [(1, 1.0), (2, 1.0)]
            feed.publish(estimate(1, 2.0))
            (new,) = next(value for name, value in second if name == "messages")
            assert (new["person"], new["t"], new["posterior"]) == (1, 2.0, {"neutral": 0.25, "happiness": 0.75})


def messages(event: tuple[str, object]) -> list[dict[str, object]]:
    name, value = event
    if name == "messages":
        return value  # type: ignore[return-value]
    kept = value["streams"] if name == "state" else {}  # type: ignore[index]
    return [{"type": "estimate"} for stream in kept.values() for lane in stream["lanes"] for _ in lane["rows"]]


def test_a_feed_that_comes_back_goes_on_with_its_new_session(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/feed"
    with following(address) as server, events(server.url) as told:
        assert next(told)[1]["streams"] == {}
        for run in ("1", "2"):
            with Feed([ZmqSink(address)]) as feed:
                feed.publish(session(session=run))
                (new,) = next(value for name, value in told if name == "messages")
                assert new["session"] == run


def test_several_viewers_are_told_the_same() -> None:
    sink = ZmqSink(ANY)
    with serving(sink) as feed, following(sink.address) as server, ExitStack() as opened:
        viewers = [opened.enter_context(events(server.url)) for _ in range(5)]
        assert {next(viewer)[0] for viewer in viewers} == {"state"}
        feed.publish(session())
        sessions = [
            next(m for name, value in viewer if name == "messages" for m in value if m["type"] == "session")
            for viewer in viewers
        ]
    assert [told["notice"] for told in sessions] == ["for research"] * 5


def test_the_command_says_where_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    with running("-c", RUN, f"ipc://{tmp_path}/feed") as process:
        line = line_of(process.stdout)
        assert line.startswith(f"dashboard of ipc://{tmp_path}/feed at http://127.0.0.1:")
        assert answer(line.split()[-1])[0] == 200
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, error) == (0, "", "")


@pytest.mark.parametrize("as_address", [False, True])
def test_the_command_shows_a_file(as_address: bool, tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_bytes(b"".join(encode(m) + b"\n" for m in (session(), estimate(1, 1.0), estimate(1, 2.0))))
    with running("-c", RUN, *([str(path)] if as_address else ["tcp://127.0.0.1:1", str(path)])) as process:
        line = line_of(process.stdout)
        assert line.startswith(f"dashboard of {path} at http://127.0.0.1:")
        with events(line.split()[-1]) as told:
            state = next(told)[1]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT_S)
    assert (state["recorded"], state["source"]) == (True, "talk.jsonl")
    assert [row[0] for row in state["streams"]["a"]["lanes"][0]["rows"]] == [1.0, 2.0]
    assert process.returncode == 0


def test_the_command_reads_a_feed_with_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path))  # the command inherits it
    make_server()
    make_client("robot")
    (sink,) = sinks(FeedConfig(address=ANY, keys=True))
    assert isinstance(sink, ZmqSink)
    with serving(sink), running("-c", RUN, sink.address, "-", "robot") as process:
        url = line_of(process.stdout).split()[-1]
        until(lambda: knows(url, "here"))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT_S)
    assert process.returncode == 0


def test_what_is_not_allowed_is_refused_before_anything_opens(tmp_path: Path) -> None:
    plain = {"host": "127.0.0.1", "port": 0, "token": None, "file": None, "insecure": False, "open_browser": False}
    for changes, text in (
        ({"host": "0.0.0.0"}, "expected a loopback host for a dashboard without a token"),
        ({"address": "tcp://10.0.0.1:5563"}, "is not a loopback address"),
        ({"file": tmp_path / "none.jsonl"}, "no such file"),
    ):
        with pytest.raises(FeedError, match=text):
            dashboard(**{"address": "tcp://127.0.0.1:1", **plain, **changes})  # type: ignore[arg-type]
