"""Cameras of this machine: listed, meant, asked for a format, refused. Made-up device files and a made-up OpenCV."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream.sources.cameras import v4l2
from stream.sources.cameras.capture import Capture, PictureFormat
from stream.sources.cameras.finding import Finder
from stream.sources.cameras.listing import CameraInfo, find, find_again, list_linux
from stream.sources.cameras.local import LocalCapture
from stream.sources.errors import SourceError

BUILT_IN = CameraInfo(index=0, name="Integrated Camera", path="/dev/video0")
WEBCAM = CameraInfo(index=2, name="HD Webcam C525", path="/dev/video2")
TWIN = CameraInfo(index=4, name="HD Webcam C525", path="/dev/video4")
ALL = [BUILT_IN, WEBCAM, TWIN]


# listed


def test_cameras_are_listed_with_names_and_permission(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for device, name in {
        "video10": "HD Webcam C525",
        "video0": "Integrated Camera",
        "video1": "Integrated Camera",
    }.items():
        (tmp_path / "dev" / device).touch()
        named = tmp_path / "sys/class/video4linux" / device / "name"
        named.parent.mkdir(parents=True)
        named.write_text(name + "\n")
    (tmp_path / "dev/video-codec").touch()
    found = list_linux(
        tmp_path,
        allowed=lambda path: not path.endswith("video10"),
        captures=lambda path: not path.endswith("video1"),  # the built-in one's metadata
    )
    assert [(camera.index, camera.name) for camera in found] == [(0, "Integrated Camera"), (10, "HD Webcam C525")]
    assert [str(camera).replace(str(tmp_path), "") for camera in found] == [
        '0 "Integrated Camera" (/dev/video0)',
        '10 "HD Webcam C525" (/dev/video10, no permission: sudo usermod -aG video $USER, then log in again)',
    ]


def test_a_machine_without_cameras_has_none(tmp_path: Path) -> None:
    assert list_linux(tmp_path) == []


# meant


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("0", BUILT_IN),
        ("4", TWIN),
        ("/dev/video2", WEBCAM),
        ("Integrated Camera", BUILT_IN),
        ("integrated", BUILT_IN),
    ],
)
def test_a_camera_is_meant_by_index_path_or_name(spec: str, meant: CameraInfo) -> None:
    assert find(spec, ALL) == meant


def test_a_link_to_a_device_file_means_its_camera(tmp_path: Path) -> None:
    device, link = tmp_path / "video0", tmp_path / "by-id"
    device.touch()
    link.symlink_to(device)
    camera = CameraInfo(index=0, name="a", path=str(device))
    assert find(str(link), [camera]) == camera


@pytest.mark.parametrize(
    ("spec", "cameras", "message"),
    [
        ("7", [BUILT_IN, WEBCAM], r"expected the index of a camera, got '7', which is none; there are 0 \"Integrated "
         r'Camera" \(/dev/video0\), 2 "HD Webcam C525" \(/dev/video2\): choose one of them by its index'),
        ("/dev/video9", [WEBCAM], r'expected the path of a camera, got \'/dev/video9\', which is none; there are 2'),
        ("HD Webcam C525", ALL, r'which means 2 "HD Webcam C525" \(/dev/video2\) or 4 "HD Webcam C525" \('),
        ("sofa", [], "got 'sofa', which is none; this machine has no camera: connect one, or give the URL"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_with_what_is(spec: str, cameras: list[CameraInfo], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        find(spec, cameras)


def test_a_lost_camera_is_found_by_its_name_at_another_index() -> None:
    moved = CameraInfo(index=1, name="Integrated Camera", path="/dev/video1")
    other = CameraInfo(index=0, name="HD Webcam C525", path="/dev/video0")
    assert find_again(BUILT_IN, [other, moved]) == moved


def test_of_two_of_one_name_the_one_at_the_same_path_is_found() -> None:
    assert find_again(TWIN, ALL) == TWIN
    assert find_again(TWIN, ALL[:2]) == WEBCAM
    with pytest.raises(SourceError, match='expected the camera "HD Webcam C525" to be there, got none; there are 0'):
        find_again(TWIN, [BUILT_IN])


class Opened:
    """A capture that only tells what was opened."""

    def __init__(self, what: CameraInfo | str, asked: PictureFormat) -> None:
        self.name, self.came = str(what), asked

    def grab(self) -> bool:
        return False

    def picture(self) -> np.ndarray:
        return np.zeros((1, 1, 3), np.uint8)

    def close(self) -> None:
        pass


def opened(capture: Capture) -> str:
    return capture.name


def test_an_index_is_only_used_once() -> None:
    cameras = [BUILT_IN, WEBCAM]
    finder = Finder("0", PictureFormat(), cameras=lambda: cameras, open_local=Opened, open_network=Opened)
    assert opened(finder.open()) == str(BUILT_IN)
    # It was pulled out, and both were plugged in again in another order.
    cameras[:] = [
        CameraInfo(index=0, name=WEBCAM.name, path="/dev/video0"),
        CameraInfo(index=1, name=BUILT_IN.name, path="/dev/video1"),
    ]
    assert opened(finder.open()) == '1 "Integrated Camera" (/dev/video1)'


def test_a_url_is_opened_as_it_is() -> None:
    finder = Finder("rtsp://door/1", PictureFormat(), cameras=lambda: ALL, open_local=Opened, open_network=Opened)
    assert opened(finder.open()) == "rtsp://door/1"


# opened


class MadeVideoCapture:
    """Stands for cv2.VideoCapture: settings are met from a list of what is supported, else left as they are."""

    def __init__(self, *, opens: bool = True, pictures: tuple[np.ndarray | None, ...] = ()) -> None:
        self.settings = {
            cv2.CAP_PROP_FRAME_WIDTH: 640.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 480.0,
            cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"YUYV")),
            cv2.CAP_PROP_BUFFERSIZE: 4.0,
        }
        self.supported = {float(cv2.VideoWriter.fourcc(*"MJPG")), 1280.0, 720.0, 2.0}
        self.set_in_order: list[int] = []
        self.opens, self.released = opens, False
        self._pictures = list(pictures)

    def __call__(self, target: object, backend: int) -> "MadeVideoCapture":
        self.target = target
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def set(self, setting: int, value: float) -> bool:
        self.set_in_order.append(setting)
        if float(value) in self.supported:
            self.settings[setting] = float(value)
        return float(value) in self.supported

    def get(self, setting: int) -> float:
        return self.settings[setting]

    def grab(self) -> bool:
        return bool(self._pictures)

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        picture = self._pictures.pop(0)
        return picture is not None, picture

    def release(self) -> None:
        self.released = True


def test_a_format_is_asked_for_in_the_order_that_matters_and_read_back() -> None:
    made = MadeVideoCapture()
    asked = PictureFormat(width_px=1280, height_px=720, pixel_format="MJPG")
    capture = LocalCapture(BUILT_IN, asked, video_capture=made)
    assert capture.name == "Integrated Camera"
    assert capture.came == PictureFormat(width_px=1280, height_px=720, rate_hz=30.0, pixel_format="MJPG")
    assert made.set_in_order == [
        cv2.CAP_PROP_BUFFERSIZE,
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
    ]


def test_nothing_is_asked_for_unasked() -> None:
    made = MadeVideoCapture()
    assert str(LocalCapture(BUILT_IN, PictureFormat(), video_capture=made).came) == "640x480 30 Hz YUYV"
    assert made.set_in_order == [cv2.CAP_PROP_BUFFERSIZE]


@pytest.mark.parametrize(
    ("asked", "words"),
    [(PictureFormat(width_px=1920, height_px=1080), "1920x1080"), (PictureFormat(rate_hz=120), "120 Hz")],
)
def test_a_format_that_is_not_met_is_refused_and_the_camera_let_go(asked: PictureFormat, words: str) -> None:
    made = MadeVideoCapture()
    with pytest.raises(
        SourceError, match=f'expected {words} from 0 "Integrated Camera".*, got 640x480 30 Hz YUYV; choose'
    ):
        LocalCapture(BUILT_IN, asked, video_capture=made)
    assert made.released


def test_a_camera_in_use_is_refused() -> None:
    made = MadeVideoCapture(opens=False)
    with pytest.raises(SourceError, match=r"\(/dev/video0\), which refuses: another program may be using it; close"):
        LocalCapture(BUILT_IN, PictureFormat(), video_capture=made)
    assert made.released


def test_a_camera_without_permission_is_refused_with_what_mends_it() -> None:
    camera = CameraInfo(index=0, name="a", path="/dev/video0", permission="no permission: do this")
    with pytest.raises(SourceError, match=r'that may be opened, got 0 "a" \(/dev/video0, no permission: do this\)'):
        LocalCapture(camera, PictureFormat(), video_capture=MadeVideoCapture())


def test_pictures_are_turned_into_rgb() -> None:
    blue = np.zeros((2, 3, 3), np.uint8)
    blue[..., 0] = 200  # OpenCV's first channel
    grey = np.full((2, 3), 77, np.uint8)
    capture = LocalCapture(BUILT_IN, PictureFormat(), video_capture=MadeVideoCapture(pictures=(blue, grey, None)))
    assert capture.grab()
    assert capture.picture()[0, 0].tolist() == [0, 0, 200]
    assert capture.grab()
    assert capture.picture()[0, 0].tolist() == [77, 77, 77]
    assert capture.grab()
    with pytest.raises(OSError, match="it gave an empty picture"):
        capture.picture()
    assert not capture.grab()


# asked of the kernel


def code(text: str) -> int:
    return int.from_bytes(text.encode(), "little")


def webcam(_: int, question: int, answer: bytearray) -> bool:
    """A driver with two formats: MJPG in two sizes, one at two rates, and YUYV in any size and rate of a range."""
    index, pixel_format = struct.unpack_from("<2I", answer)
    if question == v4l2.QUERYCAP:
        struct.pack_into("<I", answer, 88, v4l2.VIDEO_CAPTURE)
        return True
    if question == v4l2.ENUM_FMT and index < 2:
        struct.pack_into("<I", answer, 44, [code("MJPG"), code("YUYV")][index])
        return True
    if question == v4l2.ENUM_FRAMESIZES and pixel_format == code("MJPG") and index < 2:
        struct.pack_into("<3I", answer, 8, v4l2.DISCRETE, *[(1280, 720), (640, 480)][index])
        return True
    if question == v4l2.ENUM_FRAMESIZES and pixel_format == code("YUYV") and index == 0:
        struct.pack_into("<7I", answer, 8, 3, 160, 640, 16, 120, 480, 16)
        return True
    if question == v4l2.ENUM_FRAMEINTERVALS and pixel_format == code("MJPG") and index < 2:
        struct.pack_into("<3I", answer, 16, v4l2.DISCRETE, 1, [30, 15][index])
        return True
    if question == v4l2.ENUM_FRAMEINTERVALS and pixel_format == code("YUYV") and index == 0:
        struct.pack_into("<5I", answer, 16, 3, 1, 10, 1, 5)
        return True
    return False


def test_modes_are_told_in_one_line(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    found = v4l2.modes(str(device), webcam)
    assert [(mode.pixel_format, mode.width_px, mode.rates_hz) for mode in found] == [
        ("MJPG", 1280, (15, 30)),
        ("MJPG", 640, (15, 30)),
        ("YUYV", 160, (5, 10)),
        ("YUYV", 640, (5, 10)),
    ]
    assert v4l2.modes_text(found) == "MJPG 1280x720@30 640x480@30; YUYV 160x120@10 640x480@10"


def test_what_is_no_camera_has_no_modes(tmp_path: Path) -> None:
    plain = tmp_path / "video0"
    plain.touch()
    assert v4l2.modes(str(plain)) == []
    assert v4l2.modes(str(tmp_path / "video1")) == []


def test_only_device_files_that_give_pictures_are_cameras(tmp_path: Path) -> None:
    device = tmp_path / "video1"
    device.touch()

    def metadata(_: int, question: int, answer: bytearray) -> bool:
        struct.pack_into("<2I", answer, 84, v4l2.VIDEO_CAPTURE, 0x800000)  # the device captures; this file does not
        return question == v4l2.QUERYCAP

    assert v4l2.captures(str(device), webcam)
    assert not v4l2.captures(str(device), metadata)
