"""Fixtures of the GPU engines: a GPU that is none, and graphs compiled for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines.tensorrt.build import BuildOptions, build
from engines.tensorrt.plans import PlanStore
from tests.gpu import FakeGpu, fake_gpu

Compile = Callable[[Path], bytes]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """The fake GPU; whatever a test does, nothing may be left on it."""
    with fake_gpu(monkeypatch) as made:
        yield made
        assert made.left() == {}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanStore:
    """A store of plans of this test's own, which commands and processes find, too."""
    monkeypatch.setenv("EMOCAST_CACHE", str(tmp_path / "cache"))
    return PlanStore()


@pytest.fixture
def compile_graph(gpu: FakeGpu) -> Compile:
    """Compiles an ONNX file for batches of 1, 2 and 4."""
    return lambda path: build(path.read_bytes(), BuildOptions(batch="1,2,4"))
