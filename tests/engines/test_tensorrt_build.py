"""The builder on a TensorRT that is none: profiles, settings, the timing cache, and each step that can fail."""

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from engines.engine import EngineError
from engines.tensorrt.build import BuildOptions, build
from engines.tensorrt.run import TensorRTEngine
from tests.gpu import FakeGpu
from tests.small_bundle import graph, head


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    return head(tmp_path / "h.onnx").read_bytes()


def test_each_batch_size_is_a_profile_of_its_own(gpu: FakeGpu, model: bytes) -> None:
    engine = TensorRTEngine(build(model, BuildOptions(batch="1,3,8")))
    assert engine.batches == (1, 3, 8)
    engine.close()


def test_progress_is_told_in_steps(gpu: FakeGpu, model: bytes) -> None:
    told: list[tuple[str, int, int]] = []
    build(model, BuildOptions(batch="1"), progress=lambda *step: told.append(step))
    assert told == [("Building Engine", k, 2) for k in (0, 1, 2, 2)]


def test_kernels_that_were_timed_are_kept(gpu: FakeGpu, model: bytes, tmp_path: Path) -> None:
    cache = tmp_path / "plans" / "timing.cache"
    build(model, BuildOptions(batch="1"), timing_cache=cache)
    assert cache.read_bytes() == b"."
    build(model, BuildOptions(batch="1"), timing_cache=cache)
    assert cache.read_bytes() == b".."


def test_kernels_that_were_timed_elsewhere_are_not_used(gpu: FakeGpu, model: bytes, tmp_path: Path) -> None:
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"of another GPU")
    build(model, BuildOptions(batch="1"), timing_cache=cache)
    assert cache.read_bytes() == b"."


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("create_network", "the builder made no network"),
        ("parse", "the graph was refused NonZero node_1: no importer for it"),
        ("set_memory_pool_limit", "a workspace of 1024 MB was refused"),
        ("add_optimization_profile", "the profile of batch 1 is not valid"),
        (
            "build_serialized_network",
            "no plan within 1024 MB of workspace; try --workspace-mb or another precision: no implementation for "
            "node_1 within the workspace",
        ),
    ],
)
def test_each_step_that_fails_is_one_clear_error(gpu: FakeGpu, model: bytes, call: str, text: str) -> None:
    gpu.fail(call)
    with pytest.raises(EngineError, match=text) as caught:
        build(model, BuildOptions())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [["batch", "n"], [2, 3], ["n", 3, "m"]])
def test_axes_that_the_batch_does_not_fix_are_refused(gpu: FakeGpu, tmp_path: Path, shape: list[Any]) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = graph(tmp_path / "a.onnx", nodes, {"x": (TensorProto.FLOAT, shape)}, {"y": shape})
    with pytest.raises(EngineError, match=r"expected a free batch axis alone, x is .*; export the bundle again"):
        build(path.read_bytes(), BuildOptions())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"precision": "fp8"}, "precision: expected fp32, fp16, bf16, got 'fp8'"),
        ({"batch": "4,1"}, "batch: expected ascending sizes of 1 or more like 1,4,16, got '4,1'"),
        ({"batch": "1,1"}, "batch: expected ascending"),
        ({"batch": "0,4"}, "batch: expected ascending"),
        ({"batch": "-1"}, "batch: expected ascending"),
        ({"batch": "1;4"}, "batch: expected ascending"),
        ({"batch": ""}, "batch: expected ascending"),
        ({"workspace_mb": 0}, "workspace_mb: expected 1 or more, got 0"),
        ({"level": 6}, "level: expected 0 to 5, got 6"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        BuildOptions(**options)
