"""What is missing for TensorRT is named, in the order in which its parts need each other."""

import sys
from collections.abc import Iterator

import pytest

from engines.engine import EngineError
from engines.tensorrt.cuda import CudaError, checked, free_bytes
from engines.tensorrt.library import Log, accepts, probe
from tests.gpu import FakeGpu


def test_all_that_is_needed_is_there(gpu: FakeGpu) -> None:
    found, version = probe()
    assert (found.name, found.capability, found.driver, version) == ("Fake GPU", "9.0", "13.0", "11.4.0.106")
    assert free_bytes() == found.memory_bytes == 8 << 30


def refused(text: str) -> None:
    with pytest.raises(EngineError, match=text) as caught:
        probe()
    assert "\n" not in str(caught.value)


def test_no_driver(gpu: FakeGpu) -> None:
    gpu.fail("cudaGetDeviceCount", nth=0, status="cudaErrorInsufficientDriver")
    refused(
        "expected an NVIDIA driver of version 580 or newer and a GPU, got: .*cudaErrorInsufficientDriver.*nvidia-smi"
    )


def test_no_gpu(gpu: FakeGpu) -> None:
    gpu.cuda.n_devices = 0
    refused("expected an NVIDIA GPU, CUDA shows none; see nvidia-smi and CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("version", ["10.12.0.36", "9.3.0", "12.0.0.1", "10.17.0"])
def test_a_tensorrt_that_the_backend_was_not_written_for(gpu: FakeGpu, version: str) -> None:
    gpu.trt.__version__ = version
    refused(rf"expected TensorRT 10.13 to 10.16 or 11, {version} is installed; run: pip install 'emocast\[tensorrt\]'")


def test_the_versions_that_it_was_written_for() -> None:
    accepted = ("10.13.3.9", "10.14.1.48", "10.16.1.11", "11.0.0.114", "11.4.0.106")
    assert all(accepts(version) for version in accepted)


@pytest.fixture
def hidden(gpu: FakeGpu) -> Iterator[None]:
    """Neither package can be imported, as where they are not installed."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("tensorrt", "cuda"):
            del sys.modules[name]
    yield
    for name in ("tensorrt", "cuda"):
        sys.modules.pop(name, None)


def test_no_bindings(hidden: None) -> None:
    sys.modules["cuda"] = None  # type: ignore[assignment]
    refused(r"expected CUDA's Python bindings, they are not installed .*; run: pip install 'emocast\[tensorrt\]'")


def test_no_tensorrt(hidden: None) -> None:
    sys.modules["tensorrt"] = None  # type: ignore[assignment]
    refused(r"expected TensorRT, it does not load .*; run: pip install 'emocast\[tensorrt\]'")


def test_values_of_calls(gpu: FakeGpu) -> None:
    success, invalid = gpu.cuda.cudaError_t.cudaSuccess, gpu.cuda.cudaError_t.cudaErrorInvalidValue
    assert checked((success,), "f") is None
    assert checked((success, 7), "f") == 7
    assert checked((success, 7, 8), "f") == (7, 8)
    with pytest.raises(CudaError, match=r"f failed: cudaErrorInvalidValue \(fake text of cudaErrorInvalidValue\)"):
        checked((invalid, None), "f")


def test_the_log_keeps_its_last_lines_and_forgets_them_when_read() -> None:
    log = Log()
    for k in range(60):
        log.write(f"line\n{k}")
    assert log.last() == "line 57; line 58; line 59"
    assert log.last() == ""
