"""A camera on the network: an MJPEG server that shows a video file in real time, to run in a process of its own.

    python -m tests.mjpeg_server CLIP [--port 0] [--rate 25] [--once]

prints `port N` when it listens. `http://127.0.0.1:N/` is the camera: every viewer sees the frame that is due now, so
one who comes later sees a later frame. The other paths are for tests:

    /stall    stop sending, and keep the connections open       /repeat   send the same picture from now on
    /go       go on, as if nothing had been: neither caught up nor begun again
    /backlog  hold everything back for 0.6 s, then send it at once, as a network does when it recovers
    /begin    begin the clip again, now; answers with time.monotonic_ns() at its first frame
    /text     a page that is no video                            /silent   accept, and never answer

A kill ends the process as an unplugged camera would: its connections break.
"""

import argparse
import contextlib
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2

ROOT = Path(__file__).parents[1]
BOUNDARY = "frame"
HELD_BACK_S = 0.6


def jpegs(path: str, quality: int = 95) -> list[bytes]:
    """Every picture of a video file as a JPEG."""
    with av.open(path) as container:
        images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    return [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes() for image in images]


class Show:
    """Which picture is due when. Any thread may call."""

    def __init__(self, pictures: list[bytes], rate_hz: float, loops: bool) -> None:
        self.pictures, self.period_s, self.loops = pictures, 1 / rate_hz, loops
        self.turned = threading.Condition()
        self.stalled = self.repeats = False
        self.held_until_s = 0.0
        self.began_ns = time.monotonic_ns()

    def command(self, word: str) -> str:
        """Carry out one of the paths."""
        with self.turned:
            if word == "begin":
                self.began_ns = time.monotonic_ns()
            if word == "backlog":
                self.held_until_s = time.monotonic() + HELD_BACK_S
            self.stalled = word == "stall"
            self.repeats = word == "repeat"
            self.turned.notify_all()
            return str(self.began_ns)

    def due(self) -> int:
        """Number of the newest frame that is due, from 0, never wrapped."""
        return int((time.monotonic_ns() - self.began_ns) / 1e9 / self.period_s)

    def frames(self) -> Iterator[bytes]:
        """The pictures, each when it is due; ends with the clip where it does not loop."""
        n, shown, owed = self.due(), 0, 0
        while self.loops or n < len(self.pictures):
            shown = shown if self.repeats else n
            yield self.pictures[shown % len(self.pictures)]
            with self.turned:
                self.turned.wait_for(lambda: not self.stalled)
                holds_back = (held_s := self.held_until_s - time.monotonic()) > 0
                if holds_back:
                    self.turned.wait(held_s)
                n = n + 1 if holds_back or n < owed else max(n + 1, self.due())
                owed = self.due() if holds_back else owed
                began_ns = self.began_ns
                wait_s = (began_ns - time.monotonic_ns()) / 1e9 + n * self.period_s
                if self.turned.wait_for(partial(self._begun_since, began_ns), timeout=max(0.0, wait_s)):
                    n, owed = 0, 0

    def _begun_since(self, began_ns: int) -> bool:
        return self.began_ns != began_ns


class Camera(BaseHTTPRequestHandler):
    """One viewer."""

    show: Show
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        word = self.path.strip("/")
        if word == "":
            with contextlib.suppress(ConnectionError):
                self._stream()
        elif word == "silent":
            threading.Event().wait()
        elif word in ("stall", "repeat", "go", "backlog", "begin", "text"):
            body = self.show.command(word) if word != "text" else "This is no video. " * 100
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(body.encode())
        else:
            self.send_error(404)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        for picture in self.show.frames():
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            self.wfile.write(head.encode() + picture + b"\r\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing of each request."""


class MjpegServer:
    """The server in another process, for a test: entered, it serves; left, it is killed.

    Args:
        clip: The video file.
        port: Where to; 0 takes a free one, kept when it is started again.
        rate_hz: Frames a second.
    """

    def __init__(self, clip: str, *, port: int = 0, rate_hz: float = 25) -> None:
        self._clip, self.port, self._rate_hz = clip, port, rate_hz
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "tests.mjpeg_server", str(Path(self._clip).absolute())]
        options = ["--port", str(self.port), "--rate", str(self._rate_hz)]
        self._process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().split()[1])

    def kill(self) -> None:
        """End it as pulling a plug would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def tell(self, word: str) -> str:
        """Give a command, `stall` for example, and return the answer."""
        with urllib.request.urlopen(self.url + word) as answer:
            return str(answer.read().decode())

    def __enter__(self) -> "MjpegServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clip")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, default=25)
    parser.add_argument("--once", action="store_true", help="close at the end of the clip, rather than begin again")
    arguments = parser.parse_args()
    show = Show(jpegs(arguments.clip), arguments.rate, not arguments.once)
    with ThreadingHTTPServer(("127.0.0.1", arguments.port), type("Shown", (Camera,), {"show": show})) as server:
        server.daemon_threads = True
        print("port", server.server_address[1], flush=True)
        show.command("begin")
        server.serve_forever()


if __name__ == "__main__":
    main()
