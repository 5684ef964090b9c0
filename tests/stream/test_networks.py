"""Networks are fetched over real sockets and by the real pip; only the hosts are local."""

import dataclasses
import hashlib
import http.server
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.cache_folder import cache_folder
from stream.perception import networks
from stream.perception.networks import NETWORKS, Network, NetworkError, find, obtain

CONTENT = b"a network " * 1000
MEMBER = "mediapipe/modules/some/some.tflite"


def network(url: str, content: bytes = CONTENT) -> Network:
    return Network(sha256=hashlib.sha256(content).hexdigest(), url=url, member=MEMBER)


@pytest.fixture
def closed_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://127.0.0.1:{port}/some.tflite"


class Store:
    """A local model store that counts its requests."""

    def __init__(self, together: int = 1) -> None:
        self.content = CONTENT
        self.n_asked = 0
        barrier = threading.Barrier(together)
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store.n_asked += 1
                barrier.wait(timeout=60)
                self.send_response(200 if store.content else 404)
                self.send_header("Content-Length", str(len(store.content)))
                self.end_headers()
                self.wfile.write(store.content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/some.tflite"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Store":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as running:
        yield running


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all the index pip has; empty at first."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


def put_wheel(folder: Path, members: dict[str, bytes]) -> None:
    name = "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for member, content in members.items():
            wheel.writestr(member, content)
        about = "mediapipe-0.10.21.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: mediapipe\nVersion: 0.10.21\n")
        tag = "cp311-cp311-manylinux_2_28_x86_64"
        wheel.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
        wheel.writestr(f"{about}/RECORD", "")


def test_the_cache_is_taken_first(tmp_path: Path, store: Store, index: Path) -> None:
    path = tmp_path / "some.tflite"
    path.write_bytes(CONTENT)
    assert obtain(network(store.url), path) == path
    assert store.n_asked == 0


def test_the_store_is_asked_next_and_only_once(tmp_path: Path, store: Store, index: Path) -> None:
    path = tmp_path / "cache" / "some.tflite"
    assert obtain(network(store.url), path).read_bytes() == CONTENT
    obtain(network(store.url), path)
    assert store.n_asked == 1
    assert [one.name for one in path.parent.iterdir()] == ["some.tflite"]


def test_a_corrupted_cache_is_replaced(tmp_path: Path, store: Store, index: Path) -> None:
    path = tmp_path / "some.tflite"
    path.write_bytes(CONTENT[:-1])
    assert obtain(network(store.url), path).read_bytes() == CONTENT


def test_a_removed_cache_is_fetched_again(tmp_path: Path, store: Store, index: Path) -> None:
    path = tmp_path / "some.tflite"
    obtain(network(store.url), path).unlink()
    assert obtain(network(store.url), path).read_bytes() == CONTENT
    assert store.n_asked == 2


def test_a_store_with_another_file_gives_way_to_the_package_index(tmp_path: Path, store: Store, index: Path) -> None:
    store.content = b"<html>sign in to this hotel's network</html>"
    put_wheel(index, {MEMBER: CONTENT})
    assert obtain(network(store.url), tmp_path / "some.tflite").read_bytes() == CONTENT
    assert store.n_asked == 1


def test_an_unreachable_store_gives_way_to_the_package_index(tmp_path: Path, closed_url: str, index: Path) -> None:
    put_wheel(index, {MEMBER: CONTENT})
    path = tmp_path / "some.tflite"
    path.write_bytes(b"corrupted")
    assert obtain(network(closed_url), path).read_bytes() == CONTENT


def test_nothing_reachable_is_one_clear_line(tmp_path: Path, closed_url: str, index: Path) -> None:
    path = tmp_path / "some.tflite"
    with pytest.raises(NetworkError) as caught:
        obtain(network(closed_url), path)
    text = str(caught.value)
    assert "\n" not in text
    assert f"{path} is not there" in text
    assert "model store 127.0.0.1" in text
    assert "refused" in text
    assert "package index: No matching distribution found for mediapipe==0.10.21" in text
    assert text.endswith(f"run: curl --create-dirs -o '{path}' '{closed_url}'")
    assert list(tmp_path.glob("some*")) == []


def test_a_file_with_another_hash_is_never_used(tmp_path: Path, store: Store, index: Path) -> None:
    store.content = b"other"
    put_wheel(index, {MEMBER: b"yet another"})
    path = tmp_path / "some.tflite"
    path.write_bytes(b"corrupted")
    with pytest.raises(NetworkError) as caught:
        obtain(network(store.url), path)
    wanted, other, another = (hashlib.sha256(one).hexdigest()[:12] for one in (CONTENT, b"other", b"yet another"))
    assert f"{path} has another SHA-256" in str(caught.value)
    assert f"model store: expected SHA-256 {wanted}…, got {other}…" in str(caught.value)
    assert f"package index: expected SHA-256 {wanted}…, got {another}…" in str(caught.value)


def test_a_store_without_the_file_and_a_wheel_without_it(tmp_path: Path, store: Store, index: Path) -> None:
    store.content = b""
    put_wheel(index, {"mediapipe/modules/other.tflite": CONTENT})
    with pytest.raises(NetworkError, match=f"model store 127.*Not Found.*whl does not hold {MEMBER}"):
        obtain(network(store.url), tmp_path / "some.tflite")


def test_a_store_that_never_answers_fails_fast() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no answer within 0\.2 s"):
            networks._open_within(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.2)
        assert time.monotonic() - began < 2
        # Close the connection that the waiting thread holds, so that it ends.
        silent.accept()[0].close()
    assert networks.STORE_DEADLINE_S < 3


def test_two_processes_that_fetch_at_once_do_not_collide(tmp_path: Path, index: Path) -> None:
    path = tmp_path / "cache" / "some.tflite"
    with Store(together=2) as store:
        wanted = network(store.url)
        program = (
            "import sys; from pathlib import Path; from stream.perception.networks import Network, obtain\n"
            "network = Network(sha256=sys.argv[1], url=sys.argv[2], member='none')\n"
            "print(len(obtain(network, Path(sys.argv[3])).read_bytes()))"
        )
        command = [sys.executable, "-c", program, wanted.sha256, wanted.url, str(path)]
        root = Path(networks.__file__).parents[2]
        pair = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root) for _ in "ab"
        ]
        for process in pair:
            out, err = process.communicate(timeout=120)
            assert (process.returncode, out.strip()) == (0, str(len(CONTENT))), err
    assert store.n_asked == 2
    assert [one.name for one in path.parent.iterdir()] == ["some.tflite"]
    assert path.read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, store: Store, index: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NetworkError, match=r"cannot write .*some\.tflite.*set EMOCAST_CACHE to a folder"):
        obtain(network(store.url), tmp_path / "file" / "some.tflite")


def test_the_cache_folder_is_read_at_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOCAST_CACHE", str(tmp_path / "one"))
    assert cache_folder("networks") == tmp_path / "one" / "networks"
    monkeypatch.setenv("EMOCAST_CACHE", str(tmp_path / "two"))
    assert cache_folder("networks") == tmp_path / "two" / "networks"
    monkeypatch.delenv("EMOCAST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "emocast" in cache_folder("networks").parts


def test_an_unknown_network_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="face_detection_short_range, pose_detection, pose_landmark_full, got 'nose'"):
        find("nose")


def test_the_real_package_index_gives_the_face_network(tmp_path: Path, closed_url: str) -> None:
    probe = [sys.executable, "-m", "pip", "index", "versions", "mediapipe"]
    reached = subprocess.run(probe, capture_output=True, text=True, check=False)
    if reached.returncode:
        pytest.skip(f"needs a package index that pip reaches: {reached.stderr.strip().splitlines()[-1:]}")
    wanted = dataclasses.replace(NETWORKS["face_detection_short_range"], url=closed_url)
    path = obtain(wanted, tmp_path / "face_detection_short_range.tflite")
    assert path.stat().st_size == 229_714
    assert hashlib.sha256(path.read_bytes()).hexdigest() == wanted.sha256
