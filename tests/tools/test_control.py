"""`emocast control`: what it asks, prints and refuses."""

from pathlib import Path

import pytest

from stream.feed.control import Control
from stream.feed.control_desk import Newest
from stream.feed.control_messages import AskStatus, Mark, Pause, Record, Resume, SetHop, Shutdown, StopRecording
from stream.feed.keys import load_client_keys, load_server_keys
from stream.feed.publisher import Feed
from stream.feed.security import FeedError
from stream.feed.sinks import ZmqSink
from tests.feeds import ANY, session, status
from tests.stream.test_control import Noting
from tools.cli import run
from tools.feeds.control import COMMANDS, ask, control, request_of
from tools.feeds.keys import make_client, make_server


def test_it_asks_and_says_what_came(capsys: pytest.CaptureFixture[str]) -> None:
    noting, newest = Noting(), Newest()
    with Feed([newest]) as feed:
        feed.publish(session())
        feed.publish(status())
    with Control(ANY, noting, newest) as there:
        for command in ("pause", "status", "shutdown"):
            assert control(command, address=there.address) == 0
        with pytest.raises(FeedError, match=r"the session at tcp:.* refused: the nearest is 0\.25"):
            control("set-hop", "0.3", address=there.address)
        for command, text in (("record", "talk.mkv"), ("stop-recording", None)):
            assert control(command, text, address=there.address) == 0
        assert control("mark", "she smiles", address=there.address) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "    12.50 s  pause: paused"
    assert lines[1] == "    12.50 s  status: paused"
    assert "a  session" in lines[2]
    assert "a  status" in lines[3]
    assert lines[4:] == [
        "    12.50 s  shutdown: paused",
        "    12.50 s  record: paused, recording talk.mkv",
        "    12.50 s  stop-recording: paused",
        "    12.50 s  mark: paused",
    ]
    assert [kind for kind, _ in noting.told()] == ["paused", "shutdown", "mark"]


def test_each_command_is_a_request_of_its_own() -> None:
    texts = {"mark": "a note", "set-hop": "0.5", "record": "talk.mkv"}
    requests = [request_of(command, texts.get(command)) for command in COMMANDS]
    assert [type(request) for request in requests] == [
        AskStatus, Pause, Resume, SetHop, Record, StopRecording, Mark, Shutdown,
    ]  # fmt: skip
    assert isinstance(requests[3], SetHop)
    assert requests[3].hop_s == 0.5
    asked = request_of("record", "talk.mkv", lossless=True)
    assert isinstance(asked, Record)
    assert (asked.file, asked.lossless) == ("talk.mkv", True)
    with pytest.raises(ValueError, match="expected --lossless with record alone, got it with pause"):
        control("pause", lossless=True)
    assert len({request.id for request in requests}) == len(COMMANDS)


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        (
            "hop",
            None,
            "expected a command of status, pause, resume, set-hop, record, stop-recording, mark, shutdown, got",
        ),
        ("record", None, "expected a file's name after record, got nothing"),
        ("stop-recording", "talk.mkv", "expected nothing after stop-recording, got talk.mkv"),
        ("mark", None, "expected a text after mark, got nothing"),
        ("mark", "", "expected a text after mark, got nothing"),
        ("pause", "now", "expected nothing after pause, got now"),
        ("set-hop", None, "expected a number of seconds after set-hop, got nothing"),
        ("set-hop", "fast", "expected a number of seconds after set-hop, got 'fast'"),
        ("set-hop", "inf", "expected a number of seconds after set-hop, got 'inf'"),
        ("set-hop", "-1", "Expected `float` > 0"),
        ("mark", "x" * 501, "Expected `str` of length <= 500"),
    ],
)
def test_a_command_that_is_none_is_refused_before_it_is_sent(command: str, text: str | None, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        control(command, text)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a publisher, of a robot that may read, and of a desk that may control."""
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path))
    make_server()
    make_client("robot")
    make_client("desk", control=True)


@pytest.mark.usefixtures("keys")
def test_with_keys_those_who_may_control_do_and_those_who_may_read_do_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    noting = Noting()
    with Control("tcp://*:*", noting, Newest(), keys=load_server_keys(control=True)) as there:
        address = there.address.replace("0.0.0.0", "127.0.0.1")
        capsys.readouterr()
        assert run(["control", "pause", "--address", address, "--key", "desk"]) == 0
        assert capsys.readouterr().out == "    12.50 s  pause: paused\n"
        for keys in (load_client_keys("robot"), None):
            with pytest.raises(FeedError, match="no session answers at"):
                ask(request_of("shutdown", None), address, keys=keys, wait_s=0.3)
        assert there.door is not None
        assert there.door.n_refused >= 1
    assert (noting.n_stops, noting.paused) == (0, [True])


@pytest.mark.usefixtures("keys")
def test_a_key_that_lets_nobody_in_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for arguments, text in (
        (["--key", "nobody"], "there is no key in"),
        (["--key", "../desk"], "expected a client's name"),
        (["--address", "tcp://192.0.2.1:5564"], "is not a loopback address, where a control has keys; pass --key NAME"),
        (["--address", "tcp://*:1", "--key", "desk"], "cannot connect to tcp://*:1"),
        (["--address", "tcp://127.0.0.1:99999"], "expected a port up to 65535"),
    ):
        assert run(["control", "status", *arguments]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1


def test_nobody_there_and_somebody_else_are_one_line() -> None:
    with pytest.raises(FeedError, match=r"no session answers at tcp://127\.0\.0\.1:1; start it with --control"):
        ask(request_of("status", None), "tcp://127.0.0.1:1", wait_s=0.01)
    sink = ZmqSink(ANY)
    with Feed([sink]), pytest.raises(FeedError, match="no session answers"):  # a feed is no control
        ask(request_of("status", None), sink.address, wait_s=0.01)
    with pytest.raises(FeedError, match="is not a loopback address"):
        control("status", address="tcp://192.0.2.1:5564")
