"""Fixtures that several test files share: where the real data lies, and what is made from it."""

import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Real corpora are not part of the repository. They are looked for here, and tests that need them skip by name.
DATA = Path(os.environ.get("EMOCAST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacks a corpus archive once and returns its folder; skips the test where the archive is absent."""
    unpacked: dict[str, Path] = {}

    def find(name: str) -> Path:
        archive = DATA / f"{name}.zip"
        if not archive.is_file():
            pytest.skip(f"needs {archive.name} in {DATA}; set EMOCAST_DATA to the folder that holds it")
        if name not in unpacked:
            unpacked[name] = tmp_path_factory.mktemp(name)
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(unpacked[name])
        return unpacked[name]

    return find


@pytest.fixture(scope="session")
def shared_clips(corpus: Callable[[str], Path]) -> Path:
    """Folder of real talking-face clips, `*.mpg`, 360 x 288 at 25 Hz with voice."""
    return corpus("clips")


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="emo") as folder:
        yield Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a real file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a small file system, which only root may")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
