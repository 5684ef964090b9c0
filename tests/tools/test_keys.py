"""`emocast keys` in the user's folder: nothing is replaced unasked, and secrets are their owner's alone."""

import os
import stat
import sys
from pathlib import Path

import pytest
import zmq

from stream.config import FeedConfig
from stream.feed.keys import authorised, load_client_keys, load_server_keys, read_public
from stream.feed.security import FeedError
from stream.feed.sinks import ZmqSink
from stream.feed.subscriber import Subscriber
from tests.feeds import ANY, WAIT_S, serving
from tools.feeds.keys import list_keys, make_client, make_server
from tools.feeds.watch import watch
from tools.replaying.replay import sinks


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the keys of this user lie, for the test."""
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config" / "keys"


def test_the_pairs_belong_together(folder: Path) -> None:
    make_server()
    make_client("robot-1")
    publics = {path.relative_to(folder): read_public(path) for path in folder.rglob("*.key")}
    server, robot = load_server_keys(), load_client_keys("robot-1")
    assert publics == {
        Path("server.key"): zmq.curve_public(server.secret),
        Path("authorised/robot-1.key"): zmq.curve_public(robot.client_secret),
    }
    assert robot.server_key == publics[Path("server.key")]
    assert server.authorised == folder / "authorised"
    assert sorted(path.name for path in folder.iterdir()) == [
        "authorised", "robot-1.key_secret", "server.key", "server.key_secret",
    ]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="needs file modes")
def test_secret_keys_are_their_owners_alone_and_are_refused_where_they_are_not(folder: Path) -> None:
    before = os.umask(0)
    try:
        make_server()
        make_client("robot")
    finally:
        os.umask(before)
    secrets = [folder / "server.key_secret", folder / "robot.key_secret"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in secrets] == [0o600, 0o600]
    for path in secrets:
        path.chmod(0o640)
    with pytest.raises(FeedError, match=r"server.key_secret can be read by others than its owner; .* chmod 600"):
        load_server_keys()
    with pytest.raises(FeedError, match=r"robot.key_secret can be read by others than its owner"):
        load_client_keys("robot")


def test_nothing_is_replaced_unless_forced(folder: Path) -> None:
    make_server()
    make_client("robot")
    before = {path: path.read_bytes() for path in folder.rglob("*.key*")}
    with pytest.raises(FeedError, match=r"server.key is there already and may be in use; pass --force to replace it"):
        make_server()
    (folder / "authorised" / "robot.key").unlink()
    with pytest.raises(FeedError, match=r"robot.key_secret is there already"):
        make_client("robot")
    assert (folder / "server.key_secret").read_bytes() == before[folder / "server.key_secret"]
    assert (folder / "robot.key_secret").read_bytes() == before[folder / "robot.key_secret"]
    make_client("robot", force=True)
    make_server(force=True)
    assert {path for path in before if path.read_bytes() != before[path]} == set(before)
    assert load_client_keys("robot").server_key == zmq.curve_public(load_server_keys().secret)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "server", "a b", "a\n", "x" * 65])
def test_a_name_that_is_no_file_name_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(FeedError, match="expected a client's name of letters, digits"):
        make_client(name)
    assert not folder.exists()


def test_missing_keys_say_how_they_are_made(folder: Path) -> None:
    with pytest.raises(FeedError, match=r"there is no key in .*server.key_secret; make it with emocast keys server"):
        sinks(FeedConfig(keys=True))
    with pytest.raises(
        FeedError, match=r"there is no key in .*robot.key_secret; make it with emocast keys client robot"
    ):
        watch("tcp://127.0.0.1:1", json_lines=True, key="robot")
    make_client("robot")
    with pytest.raises(FeedError, match=r"there is no key in .*server.key; copy the publisher's to there"):
        load_client_keys("robot")


def test_a_secret_file_without_a_secret_is_refused(folder: Path) -> None:
    make_server()
    (folder / "server.key").replace(folder / "server.key_secret")
    with pytest.raises(FeedError, match=r"expected a secret key of 40 characters in .*server.key_secret"):
        load_server_keys()


@pytest.mark.skipif(sys.platform == "win32", reason="needs /")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FeedError, match=r"the keys cannot be written to .*file/keys: not a directory"):
        make_server(folder=tmp_path / "file" / "keys")


def test_the_list_names_what_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_keys()
    assert capsys.readouterr().out == f"{folder}\n  publisher   none; emocast keys server makes it\n"
    make_server()
    make_client("robot")
    (folder / "authorised" / "empty.key").touch()
    capsys.readouterr()
    list_keys()
    lines = capsys.readouterr().out.splitlines()
    robot = read_public(folder / "authorised" / "robot.key").decode()
    assert lines[1] == f"  publisher   {read_public(folder / 'server.key').decode()}"
    assert lines[2].startswith("  authorised  unreadable: No public key found in")
    assert lines[3:] == [f"  authorised  {robot}  robot", f"  secret of   {robot}  robot"]
    secret = load_client_keys("robot").client_secret.decode()
    assert secret not in "".join(lines)


def controlling(folder: Path) -> dict[str, bytes]:
    return {path.stem: read_public(path) for path in authorised(folder, control=True).glob("*.key")}


def test_a_client_may_control_only_where_that_was_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_server()
    make_client("robot")
    assert controlling(folder) == {}
    make_client("desk", control=True)
    assert controlling(folder) == {"desk": zmq.curve_public(load_client_keys("desk").client_secret)}
    before = load_client_keys("robot")
    make_client("robot", control=True)  # it keeps its keys
    assert load_client_keys("robot") == before
    assert set(controlling(folder)) == {"desk", "robot"}
    assert load_server_keys().authorised == folder / "authorised"
    assert load_server_keys(control=True).authorised == folder / "authorised-control"
    assert load_server_keys(control=True).secret == load_server_keys().secret
    capsys.readouterr()
    list_keys()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "publisher", "authorised", "authorised", "may", "may", "secret", "secret",
    ]  # fmt: skip


def test_a_key_that_is_replaced_may_no_longer_control_nor_may_the_new_one_unasked(folder: Path) -> None:
    make_server()
    make_client("desk", control=True)
    with pytest.raises(FeedError, match="is there already"):
        make_client("desk")
    assert set(controlling(folder)) == {"desk"}
    make_client("desk", force=True)
    assert controlling(folder) == {}
    make_client("desk", force=True, control=True)
    assert controlling(folder) == {"desk": zmq.curve_public(load_client_keys("desk").client_secret)}
    (folder / "desk.key_secret").unlink()  # it was moved to where it is used
    (folder / "authorised-control" / "desk.key").unlink()
    make_client("desk", control=True)
    assert set(controlling(folder)) == {"desk"}
    make_client("desk", force=True)
    (folder / "authorised" / "desk.key").unlink()  # it is let in no more
    with pytest.raises(FeedError, match=r"desk.key_secret is there already"):
        make_client("desk", control=True)


def test_settings_with_keys_make_a_feed_with_keys() -> None:
    make_server()
    make_client("robot")
    (sink,) = sinks(FeedConfig(address=ANY, keys=True))
    assert isinstance(sink, ZmqSink)
    keys = load_client_keys("robot")
    with (
        serving(sink),
        Subscriber(sink.address, server_key=keys.server_key, client_secret=keys.client_secret) as robot,
    ):
        message = robot.receive(WAIT_S)
        assert message is not None
        assert message.stream == "here"
