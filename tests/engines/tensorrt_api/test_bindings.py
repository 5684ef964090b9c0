"""Bindings are fetched once, whole, and what cannot be had is said in one line."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.engines.tensorrt_api.bindings import ROOT, UnavailableError, compile_stubs, fetch, give_up


@pytest.fixture
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own and a folder in place of the package index, which holds `tiny` 1.0 alone; gives the cache."""
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "answer = 42\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("EMOCAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tensorrt-bindings"


def test_processes_that_fetch_the_same_get_one_whole_folder(own_index: Path) -> None:
    code = "from tests.engines.tensorrt_api.bindings import fetch; print(fetch('tiny==1.0'))"
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0].strip() for process in running]
    folder = own_index / f"tiny==1.0-{sys.implementation.cache_tag}"
    assert said == [str(folder)] * 2
    assert (folder / "tiny.py").read_text() == "answer = 42\n"
    assert list(own_index.iterdir()) == [folder]


def test_what_was_fetched_is_taken_from_the_cache(own_index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch("tiny==1.0")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert fetch("tiny==1.0") == folder


def test_what_the_index_lacks_is_one_line_and_leaves_nothing(own_index: Path) -> None:
    with pytest.raises(UnavailableError, match=r"pip cannot fetch tiny==2\.0: .*tiny==2\.0") as caught:
        fetch("tiny==2.0")
    assert "\n" not in str(caught.value)
    assert list(own_index.iterdir()) == []


def test_no_compiler_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no C compiler is here"):
        compile_stubs(tmp_path, major="11")


def test_the_stub_library_has_the_three_names(tmp_path: Path) -> None:
    try:
        compile_stubs(tmp_path, major="10")
    except UnavailableError as error:
        give_up(f"needs a compiler: {error}")
    names = {"libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10", "stub.so"}
    assert set(os.listdir(tmp_path)) == names


def test_a_machine_that_has_all_may_not_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMOCAST_REQUIRE_TENSORRT_API", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs a compiler"):
        give_up("needs a compiler")
    monkeypatch.setenv("EMOCAST_REQUIRE_TENSORRT_API", "1")
    with pytest.raises(pytest.fail.Exception, match="EMOCAST_REQUIRE_TENSORRT_API=1, but this needs a compiler"):
        give_up("needs a compiler")
