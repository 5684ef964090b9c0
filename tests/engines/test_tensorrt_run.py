"""The TensorRT engine on a GPU that is none: batches, graphs, threads, and every call that can fail."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engines.engine import EngineError, InputError
from engines.tensorrt.run import TensorRTEngine
from tests.engines.conftest import Compile
from tests.gpu import FakeGpu
from tests.small_bundle import SIZE_PX, frame_encoder, head, softmax

RANDOM = np.random.default_rng(0)
CONTEXTS = 3  # one a batch size


@pytest.fixture
def plan(compile_graph: Compile, tmp_path: Path) -> bytes:
    return compile_graph(frame_encoder(tmp_path / "a.onnx"))


@pytest.fixture
def engine(plan: bytes) -> Iterator[TensorRTEngine]:
    with closing(TensorRTEngine(plan)) as opened:
        yield opened


def crops(n: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (n, SIZE_PX, SIZE_PX, 3)).astype(np.uint8)


def posteriors(given: np.ndarray) -> np.ndarray:
    return softmax(8 * given.reshape(len(given), SIZE_PX**2, 3).mean(1) / 255)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 8, 11])
def test_any_batch_is_padded_or_run_in_parts(engine: TensorRTEngine, n: int) -> None:
    given = crops(n)
    got = engine.run({"crop": given})
    assert got["posterior"].shape == (n, 3)
    np.testing.assert_allclose(got["posterior"], posteriors(given), rtol=1e-4)


def test_what_an_earlier_batch_left_behind_does_not_show(engine: TensorRTEngine) -> None:
    engine.run({"crop": crops(4)})
    given = crops(3)
    np.testing.assert_allclose(engine.run({"crop": given})["posterior"], posteriors(given), rtol=1e-4)


def test_each_batch_size_has_its_own_context_and_graph(gpu: FakeGpu, engine: TensorRTEngine) -> None:
    assert (engine.batches, engine.n_captured, engine.not_captured) == ((1, 2, 4), 3, "")
    held = {"stream": CONTEXTS, "ready graph": CONTEXTS, "IExecutionContext": CONTEXTS}
    buffers = {"pinned memory": CONTEXTS * 3, "device memory": CONTEXTS * 3}  # one input, two outputs
    assert gpu.left() == {**held, **buffers, "ICudaEngine": 1, "Runtime": 1}


def test_close_gives_everything_back_and_may_come_twice(gpu: FakeGpu, plan: bytes) -> None:
    engine = TensorRTEngine(plan)
    kept = engine.run({"crop": crops(1)})["posterior"]
    expected = kept.copy()
    engine.close()
    engine.close()
    assert gpu.left() == {}
    np.testing.assert_array_equal(kept, expected)
    with pytest.raises(EngineError, match="expected an open engine, this one was closed"):
        engine.run({"crop": crops(1)})


def test_threads_share_an_engine(engine: TensorRTEngine) -> None:
    given = {k: crops(1 + k % 5) for k in range(40)}
    got: dict[int, np.ndarray] = {}

    def work(mine: range) -> None:
        for k in mine:
            got[k] = engine.run({"crop": given[k]})["posterior"]

    threads = [threading.Thread(target=work, args=(range(k, 40, 4),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, one in given.items():
        np.testing.assert_allclose(got[k], posteriors(one), rtol=1e-4)


def test_close_during_a_run_waits_for_it(gpu: FakeGpu, plan: bytes) -> None:
    engine, given, results = TensorRTEngine(plan), crops(4), list[str]()

    def work() -> None:
        while True:
            try:
                right = np.allclose(engine.run({"crop": given})["posterior"], posteriors(given), rtol=1e-4)
                results.append("right" if right else "wrong")
                ran.set()
            except EngineError as error:
                results.append(str(error))
                return

    ran = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert ran.wait(30)
    engine.close()
    thread.join(30)
    assert set(results) == {"right", "expected an open engine, this one was closed"}
    assert gpu.left() == {}


def test_a_graph_with_several_inputs(compile_graph: Compile, tmp_path: Path) -> None:
    with closing(TensorRTEngine(compile_graph(head(tmp_path / "h.onnx")))) as engine:
        face, voice = RANDOM.normal(size=(2, 3, 3)).astype(np.float32)
        got = engine.run({"face": face, "voice": voice})["posterior"]
    np.testing.assert_allclose(got, softmax(face - voice), rtol=1e-5)


def test_without_graphs_it_computes_the_same(plan: bytes) -> None:
    with closing(TensorRTEngine(plan, capture=False)) as engine:
        assert engine.n_captured == 0
        given = crops(3)
        np.testing.assert_allclose(engine.run({"crop": given})["posterior"], posteriors(given), rtol=1e-4)


@pytest.mark.parametrize(
    "call",
    ["cudaStreamBeginCapture", "captured execute", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphUpload"],
)
def test_where_a_capture_is_refused_it_runs_without(gpu: FakeGpu, plan: bytes, call: str) -> None:
    gpu.fail(call, nth=2, status="cudaErrorStreamCaptureUnsupported")
    with closing(TensorRTEngine(plan)) as engine:
        assert engine.n_captured == 2
        assert engine.not_captured.startswith("no CUDA graph at batch 2: ")
        assert gpu.cuda.last_error() == gpu.cuda.cudaError_t.cudaSuccess  # the next call does not report it again
        for n in (1, 2, 4):
            given = crops(n)
            np.testing.assert_allclose(engine.run({"crop": given})["posterior"], posteriors(given), rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "nth", "text"),
    [
        ("deserialize_cuda_engine", 1, "the plan does not load .*: magic tag does not match"),
        ("create_execution_context", 2, "no execution context for batch 2; is the GPU's memory full.: out of memory"),
        ("set_optimization_profile_async", 3, "the profile of batch 4 was refused, and it did not say why"),
        ("set_input_shape", 1, r"crop uint8 \(batch, 16, 16, 3\) was refused at batch 1.*: .* is not in the profile"),
        ("infer_shapes", 1, "the shapes of crop are not known at batch 1"),
        ("get_tensor_shape", 1, r"the shape of features depends on values, \(-1,\) at batch 1"),
        ("set_tensor_address", 5, "the address of features was refused"),
        ("execute_async_v3", 1, "batch 1 could not be started: enqueue failed"),
        ("cudaSetDevice", 1, "cudaSetDevice failed: cudaErrorMemoryAllocation"),
        ("cudaStreamCreateWithFlags", 2, "cudaStreamCreateWithFlags failed: cudaErrorMemoryAllocation"),
        ("cudaMallocHost", 4, "cudaMallocHost failed: cudaErrorMemoryAllocation"),
        ("cudaMalloc", 8, r"cudaMalloc failed: cudaErrorMemoryAllocation \(fake text of cudaErrorMemoryAllocation\)"),
        ("cudaMemcpyAsync", 2, "cudaMemcpyAsync failed"),
        ("cudaStreamSynchronize", 1, "cudaStreamSynchronize failed"),
    ],
)
def test_each_call_that_fails_is_one_clear_error_and_nothing_is_left(
    gpu: FakeGpu, plan: bytes, call: str, nth: int, text: str
) -> None:
    gpu.fail(call, nth=nth, status="cudaErrorMemoryAllocation")
    with pytest.raises(EngineError, match=text) as caught:
        TensorRTEngine(plan)
    assert "\n" not in str(caught.value)
    del caught
    assert gpu.left() == {}


def test_a_plan_of_another_version_says_so(gpu: FakeGpu, plan: bytes) -> None:
    gpu.trt.__version__ = "10.16.1.11"
    with pytest.raises(EngineError, match=r"the plan does not load \(another version, .*of version 11.4.0.106"):
        TensorRTEngine(plan)


@pytest.mark.parametrize("call", ["cudaGraphLaunch", "cudaStreamSynchronize"])
def test_a_fault_during_a_run_is_told_and_the_next_run_works(gpu: FakeGpu, engine: TensorRTEngine, call: str) -> None:
    gpu.fail(call, status="cudaErrorIllegalAddress")
    with pytest.raises(EngineError, match=f"{call} failed: cudaErrorIllegalAddress"):
        engine.run({"crop": crops(1)})
    given = crops(2)
    np.testing.assert_allclose(engine.run({"crop": given})["posterior"], posteriors(given), rtol=1e-4)


def test_wrong_feeds_are_the_callers_mistake(engine: TensorRTEngine) -> None:
    with pytest.raises(InputError, match=r"expected input crop uint8 \(batch, 16, 16, 3\), got float32"):
        engine.run({"crop": crops(1).astype(np.float32)})
