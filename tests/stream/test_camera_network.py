"""Cameras on the network, for real: an MJPEG server in another process is killed, hangs, repeats itself and returns."""

import http.server
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream.clock import MonotonicClock
from stream.sources.camera import Camera
from stream.sources.cameras.capture import PictureFormat
from stream.sources.cameras.network import NetworkCapture, shown
from stream.sources.cameras.picture_check import check
from stream.sources.device import Back, Lost, Picture, Sound
from stream.sources.errors import SourceError
from tests.media_files import Video, number_of, quadrants, write_media
from tests.mjpeg_server import MjpegServer

pytestmark = pytest.mark.timeout(120)
AWAIT_S = 30.0
N = 26  # numbers that a picture can tell
PERIOD_NS = 40_000_000

Items = queue.Queue[Picture | Sound | Lost | Back]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("clip") / "numbered.mkv"
    return str(write_media(path, video=Video(width_px=320, height_px=240, n_frames=N)))


@pytest.fixture
def server(clip: str) -> Iterator[MjpegServer]:
    with MjpegServer(clip) as running:
        yield running


def await_kind(items: Items, kind: type) -> Picture | Sound | Lost | Back:
    """The next item of a kind, past all others."""
    while not isinstance(item := items.get(timeout=AWAIT_S), kind):
        pass
    return item


def pictures(items: Items, n: int) -> list[Picture]:
    """The next n items, which must be pictures."""
    taken = [items.get(timeout=AWAIT_S) for _ in range(n)]
    assert {type(item) for item in taken} == {Picture}
    return [item for item in taken if isinstance(item, Picture)]


def lateness_ns(taken: list[Picture], began_ns: int) -> list[int]:
    """How long after each picture was due, by the server's clock, which is this machine's, it was stamped."""
    numbers = np.array([number_of(picture.image) for picture in taken])
    after_ns = np.array([picture.at_ns for picture in taken]) - began_ns
    rounds = np.round((after_ns / PERIOD_NS - numbers) / N)
    return [int(late) for late in after_ns - (numbers + N * rounds) * PERIOD_NS]


def test_pictures_arrive_in_their_colours_and_at_their_time(tmp_path: Path) -> None:
    path = write_media(tmp_path / "colours.mkv", video=Video(width_px=320, height_px=240, picture=moving_quadrants))
    items: Items = queue.Queue()
    with MjpegServer(str(path)) as server, Camera(server.url, clock=MonotonicClock(), sink=items.put) as camera:
        assert camera.text == f"{server.url}: 320x240"
        image = pictures(items, 1)[0].image
    assert image.shape == (240, 320, 3)
    assert image.flags.c_contiguous
    corners = image[60, 80], image[60, 240], image[180, 80]
    for corner, colour in zip(corners, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True):
        assert np.abs(corner.astype(int) - colour).max() <= 12


def moving_quadrants(i: int, height_px: int, width_px: int) -> np.ndarray:
    image = quadrants(i, height_px, width_px)
    image[-8:, -8 * (i + 1) :] = 0  # so that no two are the same
    return image


def test_stamps_are_when_the_server_sent(server: MjpegServer) -> None:
    items: Items = queue.Queue()
    with Camera(server.url, clock=MonotonicClock(), sink=items.put):
        began_ns = int(server.tell("begin"))
        while number_of(pictures(items, 1)[0].image) != 2:  # what was under way when the clip began again
            pass
        late_ns = lateness_ns(pictures(items, 2 * N), began_ns)
    assert min(late_ns) >= 0
    assert np.median(late_ns) < PERIOD_NS  # a loaded machine is late now and then


def test_a_camera_that_is_killed_and_started_again_comes_back_without_growth(server: MjpegServer) -> None:
    items: Items = queue.Queue()
    with Camera(server.url, clock=MonotonicClock(), sink=items.put):
        pictures(items, 3)
        counts = []
        for _ in range(5):
            server.kill()
            lost = await_kind(items, Lost)
            server.start()
            back = items.get(timeout=AWAIT_S)
            pictures(items, 3)
            counts.append((threading.active_count(), n_handles()))
            assert isinstance(lost, Lost)
            assert lost.text == f"camera {server.url}: it gives no more pictures"
            assert isinstance(back, Back)
            assert back.text == f"camera {server.url}: 320x240"
    assert counts == [counts[0]] * 5


def n_handles() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_a_camera_that_hangs_is_lost_and_comes_back(server: MjpegServer) -> None:
    items: Items = queue.Queue()
    with Camera(server.url, clock=MonotonicClock(), sink=items.put):
        newest = pictures(items, 3)[-1]
        server.tell("stall")
        while isinstance(item := items.get(timeout=AWAIT_S), Picture):
            newest = item
        assert isinstance(item, Lost)
        assert item.text == f"camera {server.url}: it stalled: no picture for 1 s"
        assert item.at_ns - newest.at_ns >= 1_000_000_000
        server.tell("go")
        assert isinstance(items.get(timeout=AWAIT_S), Back)
        pictures(items, 3)


def test_a_camera_that_repeats_itself_is_lost_and_comes_back(server: MjpegServer) -> None:
    items: Items = queue.Queue()
    with Camera(server.url, clock=MonotonicClock(), sink=items.put, stall_s=0.5) as camera:
        server.tell("repeat")
        lost = await_kind(items, Lost)
        assert isinstance(lost, Lost)
        assert lost.text == f"camera {server.url}: it stalled: the same picture again and again for 0.5 s"
        assert camera.left_out["repeated"] > 0
        server.tell("go")
        assert isinstance(items.get(timeout=AWAIT_S), Back)
        pictures(items, 3)


def test_a_backlog_is_left_out(server: MjpegServer) -> None:
    items: Items = queue.Queue()
    with Camera(server.url, clock=MonotonicClock(), sink=items.put, stall_s=30) as camera:
        began_ns = int(server.tell("begin"))
        pictures(items, N)
        opened = camera.left_out["backlog"]
        server.tell("backlog")
        while camera.left_out["backlog"] == opened:
            pictures(items, 1)
        late_ns = lateness_ns(pictures(items, N), began_ns)
    assert camera.left_out["backlog"] - opened >= 8
    assert np.median(late_ns) < PERIOD_NS


# what cannot be opened


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("text", r"got what is no video \(.*\); check the scheme, and the path after the host"),
        ("nowhere", "got the answer 'Server returned 404 Not Found'; check the path after the host"),
    ],
)
def test_what_is_no_camera_is_refused(server: MjpegServer, path: str, message: str) -> None:
    with pytest.raises(SourceError, match=message), Camera(server.url + path, clock=MonotonicClock(), sink=print):
        pass


def test_what_never_answers_is_refused(server: MjpegServer) -> None:
    with pytest.raises(SourceError, match=r"got no answer within 0\.5 s; check the address and the network"):
        NetworkCapture(server.url + "silent", PictureFormat(), open_s=0.5)


def test_where_nothing_listens_is_refused(clip: str) -> None:
    with MjpegServer(clip) as server:
        url = server.url
    with pytest.raises(SourceError, match=f"expected a camera at {url}, got a refusal: nothing listens there"):
        NetworkCapture(url, PictureFormat())


def test_a_password_is_asked_for_and_never_shown() -> None:
    class Locked(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Locked) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://me:secret@127.0.0.1:{server.server_port}/video"
        with pytest.raises(SourceError, match="got a demand for a password; write the URL as") as caught:
            NetworkCapture(url, PictureFormat())
        server.shutdown()
        thread.join()
    assert "secret" not in str(caught.value)
    assert shown(url) == f"http://me:***@127.0.0.1:{server.server_port}/video"


def test_a_recording_is_no_camera(tmp_path: Path) -> None:
    write_media(tmp_path / "clip.mkv", video=Video())

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with pytest.raises(SourceError, match=r"got a recording of 1\.0 s; use `emocast replay` for it"):
            NetworkCapture(f"http://127.0.0.1:{server.server_port}/clip.mkv", PictureFormat())
        server.shutdown()
        thread.join()


def test_another_size_than_asked_for_is_refused_with_what_came(server: MjpegServer) -> None:
    with (
        pytest.raises(
            SourceError, match=f"expected 1280x720 from {server.url}, got 320x240; change it in the camera's"
        ),
        Camera(server.url, width=1280, height=720, clock=MonotonicClock(), sink=print),
    ):
        pass


# a look through it


def test_a_short_check_measures_size_rate_and_brightness(server: MjpegServer) -> None:
    server.tell("begin")
    looked = check(server.url, 1.0)
    assert (looked.width_px, looked.height_px) == (320, 240)
    assert looked.rate_hz == pytest.approx(25, abs=3)
    assert 10 <= looked.brightness <= 230
    assert looked.text.startswith(f"{server.url}: 320x240; measured 320x240 at ")
