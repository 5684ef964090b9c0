"""The real bindings, fetched once for a user and machine, and an environment in which Python imports them."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import NoReturn

import pytest

from engines.cache_folder import cache_folder

ROOT = Path(__file__).parents[3]
PATHFINDER = "cuda-pathfinder==1.9.1"  # what cuda-bindings imports
LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
FETCH_DEADLINE_S = 240


class UnavailableError(RuntimeError):
    """The bindings cannot be had here: no compiler, no package index, or no wheel for this Python."""


@dataclass(frozen=True, kw_only=True)
class Versions:
    """A TensorRT with a CUDA, as they are numbered on the package index."""

    tensorrt: str
    cuda: str


# The newest, the last of the older line, and the oldest that the backend takes; each with a CUDA of its time.
VERSIONS = (
    Versions(tensorrt="11.4.0.106", cuda="13.5.0"),
    Versions(tensorrt="10.16.1.11", cuda="12.9.10"),
    Versions(tensorrt="10.13.3.9", cuda="13.5.0"),
)


def give_up(why: str) -> NoReturn:
    """Skip the test; fail it where EMOCAST_REQUIRE_TENSORRT_API is 1, as on machines that have all it needs."""
    if os.environ.get("EMOCAST_REQUIRE_TENSORRT_API") == "1":
        pytest.fail(f"EMOCAST_REQUIRE_TENSORRT_API=1, but this {why}")
    pytest.skip(why)


def fetch(*requirements: str) -> Path:
    """A folder of the cache with these packages installed in it, without what they depend on.

    Raises:
        UnavailableError: If pip cannot fetch them; the text has pip's last words.
    """
    folder = cache_folder("tensorrt-bindings") / "-".join([*requirements, sys.implementation.cache_tag])
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as part:
        choice = ["--no-deps", "--only-binary=:all:", "--no-compile", "--no-input", "--quiet"]
        _call(
            [sys.executable, "-m", "pip", "install", *choice, "--target", f"{part}/site", *requirements],
            why=f"pip cannot fetch {' '.join(requirements)}",
        )
        try:
            Path(part, "site").rename(folder)
        except OSError:
            if not folder.is_dir():  # it is where another process was faster
                raise
    return folder


def compile_stubs(folder: Path, *, major: str) -> None:
    """Write the three libraries that the bindings of a major version load, one file under three names.

    Raises:
        UnavailableError: If there is no C compiler.
    """
    compiler = which("cc") or which("gcc")
    if compiler is None:
        raise UnavailableError("no C compiler is here (cc or gcc)")
    source = Path(__file__).with_name("stub_library.c")
    _call([compiler, "-shared", "-fPIC", "-o", f"{folder}/stub.so", f"{source}"], why="the stub does not compile")
    for name in LIBRARIES:
        (folder / f"{name}.so.{major}").symlink_to("stub.so")


def environment(versions: Versions, libraries: Path) -> dict[str, str]:
    """Variables with which Python imports `tensorrt_bindings`, `cuda.bindings` and this package.

    Raises:
        UnavailableError: As `fetch` and `compile_stubs`.
    """
    compile_stubs(libraries, major=versions.tensorrt.split(".")[0])
    folders = [
        fetch(f"tensorrt-cu13-bindings=={versions.tensorrt}"),
        fetch(f"cuda-bindings=={versions.cuda}", PATHFINDER),
        ROOT,
    ]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "LD_LIBRARY_PATH": str(libraries),
        "LD_BIND_NOW": "1",  # a function that the stub lacks fails the import, by its name
    }


def _call(command: list[str], *, why: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{why}: no end within {FETCH_DEADLINE_S} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise UnavailableError(f"{why}: {lines[-1] if lines else f'status {done.returncode}'}")
