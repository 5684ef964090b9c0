"""The `onnx` backend's own: its device, and the options of its sessions."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from engines.engine import EngineError
from engines.onnx_runtime import OnnxEngine, check_device, session_options
from tests.small_bundle import head

CUDA_IS_HERE = "CUDAExecutionProvider" in ort.get_available_providers()


def refused(device: str, providers: list[str]) -> str:
    with pytest.raises(EngineError) as caught:
        check_device(device, providers)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(CUDA_IS_HERE, reason="this ONNX Runtime has a CUDA provider")
def test_cuda_without_its_provider_is_refused_in_one_line_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="expected CUDAExecutionProvider for device 'cuda'") as caught:
        OnnxEngine(head(tmp_path / "a.onnx"), device="cuda")
    text = str(caught.value)
    assert text.endswith("pip uninstall onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'")
    assert "ONNX Runtime has " in text
    assert "CPUExecutionProvider" in text
    assert "\n" not in text


@pytest.mark.skipif(not CUDA_IS_HERE, reason="this ONNX Runtime has no CUDA provider")
def test_cuda_runs_what_the_cpu_runs(tmp_path: Path) -> None:
    path = head(tmp_path / "a.onnx")
    feeds = {"face": np.eye(3, dtype=np.float32), "voice": np.full((3, 3), 0.5, np.float32)}
    try:
        engine = OnnxEngine(path, device="cuda")
    except EngineError as error:
        pytest.skip(str(error))
    assert engine.device == "cuda"
    np.testing.assert_allclose(engine.run(feeds)["posterior"], OnnxEngine(path).run(feeds)["posterior"], atol=1e-6)


def test_a_session_that_fell_back_to_the_cpu_is_refused() -> None:
    text = refused("cuda", ["CPUExecutionProvider"])
    assert text.startswith("expected CUDAExecutionProvider for device 'cuda', ONNX Runtime has CPUExecutionProvider;")
    check_device("cuda", ["CUDAExecutionProvider"])
    check_device("cpu", ["CPUExecutionProvider"])


@pytest.mark.parametrize("device", ["gpu", "CUDA", "cuda:0", ""])
def test_another_device_is_refused_with_those_there_are(tmp_path: Path, device: str) -> None:
    with pytest.raises(EngineError, match=f"expected a device of cpu, cuda, got '{device}'"):
        OnnxEngine(head(tmp_path / "a.onnx"), device=device)


def test_the_cpu_is_the_device_unasked(tmp_path: Path) -> None:
    engine = OnnxEngine(head(tmp_path / "a.onnx"), threads=2)
    assert (engine.backend, engine.device) == ("onnx", "cpu")
    got = engine.run({"face": np.zeros((2, 3), np.float32), "voice": np.zeros((2, 3), np.float32)})
    np.testing.assert_allclose(got["posterior"], np.full((2, 3), 1 / 3), rtol=1e-6)


@pytest.mark.parametrize(("spinning", "entry"), [(False, "0"), (True, "1")])
def test_sessions_have_the_options_that_were_measured(spinning: bool, entry: str) -> None:
    options = session_options(threads=3, spinning=spinning)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == entry
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (True, True)
