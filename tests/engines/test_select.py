"""Which backend runs a bundle: what was asked for, what `auto` finds, and what takes over when a GPU fails."""

import logging
from pathlib import Path

import numpy as np
import pytest

from engines.bundle import Bundle
from engines.engine import EngineError, InputError
from engines.select import Engines
from engines.tensorrt.build import BuildOptions
from engines.tensorrt.compile import compiled
from engines.tensorrt.library import probe
from engines.tensorrt.plans import PlanStore, Record
from tests.gpu import FakeGpu
from tests.small_bundle import SIZE_PX, STAGES, small_bundle, softmax

CROPS = np.random.default_rng(0).integers(0, 256, (3, SIZE_PX, SIZE_PX, 3)).astype(np.uint8)
POSTERIOR = softmax(8 * CROPS.reshape(3, -1, 3).mean(1) / 255)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "bundle")


@pytest.fixture
def built(gpu: FakeGpu, store: PlanStore, bundle: Bundle) -> dict[str, Record]:
    """Accepted plans of all three graphs."""
    options = BuildOptions(batch="1,4")
    found, version = probe()
    return {stage: compiled(bundle, stage, options, store, gpu=found, tensorrt=version) for stage in STAGES}


def scored(engines: Engines, bundle: Bundle) -> str:
    """The backend that gave the right posterior."""
    engine = engines.open(bundle, "frame_encoder")
    np.testing.assert_allclose(engine.run({"crop": CROPS})["posterior"], POSTERIOR, rtol=1e-4)
    return engine.backend


@pytest.mark.parametrize("name", ["onx", "", "ONNX"])
def test_a_misspelt_name_is_not_guessed(name: str) -> None:
    with pytest.raises(EngineError, match=f"expected an engine of auto, onnx, tensorrt, got '{name}'"):
        Engines(name)


def test_onnx_by_name_asks_for_nothing_else(bundle: Bundle) -> None:
    with Engines("onnx") as engines:
        assert scored(engines, bundle) == "onnx"
        assert engines.state(bundle) == ("onnx", "asked for")


def test_without_a_driver_auto_stays_on_onnx_and_tensorrt_refuses(
    gpu: FakeGpu, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.fail("cudaGetDeviceCount", nth=0, status="cudaErrorInsufficientDriver")
    with Engines("auto") as engines, caplog.at_level(logging.INFO, "emocast"):
        assert scored(engines, bundle) == "onnx"
        backend, why = engines.state(bundle)
    assert (backend, why.split(" version")[0]) == ("onnx", "auto: expected an NVIDIA driver of")
    assert [record.levelname for record in caplog.records] == ["INFO"]  # nothing that a person has to mend
    with (
        Engines("tensorrt") as engines,
        pytest.raises(EngineError, match=r"engine 'tensorrt' is not available: expected an NVIDIA driver.*: onnx$"),
    ):
        engines.open(bundle, "head")


def test_auto_builds_nothing_and_says_how(
    gpu: FakeGpu, store: PlanStore, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with Engines("auto") as engines:
        assert scored(engines, bundle) == "onnx"
        assert engines.state(bundle)[1] == (
            "auto: no plan of small's frame_encoder is built for Fake GPU and TensorRT 11.4.0.106; run: "
            f"emocast engine build {bundle.folder}"
        )
    assert "engine onnx, though there is a GPU: no plan" in caplog.text
    assert not list(store.folder.glob("*.plan"))


def test_auto_takes_plans_that_were_accepted(gpu: FakeGpu, built: dict[str, Record], bundle: Bundle) -> None:
    with Engines("auto") as engines:
        assert scored(engines, bundle) == "tensorrt"
        assert engines.state(bundle) == ("tensorrt", "auto: every graph has an accepted plan")
    assert gpu.left() == {}


def test_tensorrt_by_name_builds_what_is_missing(gpu: FakeGpu, store: PlanStore, bundle: Bundle) -> None:
    told: list[str] = []
    with Engines("tensorrt", progress=lambda stage, *_: told.append(stage)) as engines:
        assert scored(engines, bundle) == "tensorrt"
        assert engines.state(bundle) == ("tensorrt", "asked for")
    assert list(dict.fromkeys(told)) == list(STAGES)
    assert len(list(store.folder.glob("*.plan"))) == 3


def test_a_plan_that_was_refused_never_serves(
    gpu: FakeGpu, store: PlanStore, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_GPU_FAILURES", '{"wrong": [0, 0]}')  # in the builder's process, every plan computes wrong
    found, version = probe()
    for stage in STAGES:
        record = compiled(bundle, stage, BuildOptions(batch="1"), store, gpu=found, tensorrt=version)
        assert not record.accepted
        assert record.why.startswith("departs from the ONNX graph by 1.0e+00, 0.001 is allowed")
    refusal = "the plan of small's frame_encoder was not accepted: it departs from the ONNX graph by .*verify"
    with Engines("auto") as engines:
        assert scored(engines, bundle) == "onnx"
        assert "was not accepted" in engines.state(bundle)[1]
    with Engines("tensorrt") as engines, pytest.raises(EngineError, match=refusal):
        engines.open(bundle, "head")


def test_a_plan_that_does_not_load_is_rebuilt_where_tensorrt_was_asked_for(
    gpu: FakeGpu, store: PlanStore, built: dict[str, Record], bundle: Bundle
) -> None:
    (store.folder / f"{built['frame_encoder'].key.name}.plan").write_bytes(b"damaged")
    with Engines("auto") as engines:
        assert scored(engines, bundle) == "onnx"
        assert "the plan of frame_encoder does not load" in engines.state(bundle)[1]
    with Engines("tensorrt") as engines:
        assert scored(engines, bundle) == "tensorrt"
    with Engines("auto") as engines:
        assert scored(engines, bundle) == "tensorrt"


def test_when_the_gpu_fails_in_a_run_onnx_goes_on(
    gpu: FakeGpu, built: dict[str, Record], bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with Engines("auto") as engines:
        assert scored(engines, bundle) == "tensorrt"
        gpu.fail("cudaGraphLaunch", nth=0, status="cudaErrorIllegalAddress")
        assert scored(engines, bundle) == "onnx"
        backend, why = engines.state(bundle)
        assert (backend, why.split(": ")[0]) == ("onnx", "tensorrt failed at frame_encoder")
        assert "cudaErrorIllegalAddress" in why
        assert caplog.text.count("onnx goes on") == 1
        assert scored(engines, bundle) == "onnx"
    assert gpu.left() == {}


def test_asked_for_by_name_a_failure_is_an_error(gpu: FakeGpu, built: dict[str, Record], bundle: Bundle) -> None:
    with Engines("tensorrt") as engines:
        engine = engines.open(bundle, "frame_encoder")
        gpu.fail("cudaGraphLaunch", status="cudaErrorIllegalAddress")
        with pytest.raises(EngineError, match="cudaGraphLaunch failed"):
            engine.run({"crop": CROPS})


def test_a_callers_mistake_changes_no_engine(gpu: FakeGpu, built: dict[str, Record], bundle: Bundle) -> None:
    with Engines("auto") as engines:
        engine = engines.open(bundle, "frame_encoder")
        with pytest.raises(InputError, match="expected input crop"):
            engine.run({"crop": CROPS[:, :4]})
        assert engine.backend == "tensorrt"


def test_sessions_share_what_is_open(gpu: FakeGpu, built: dict[str, Record], bundle: Bundle) -> None:
    with Engines("auto") as engines:
        first, second = (engines.open(bundle, "frame_encoder") for _ in range(2))
        assert gpu.left()["ICudaEngine"] == 1
        first.close()
        with pytest.raises(EngineError, match="this one was closed"):
            first.run({"crop": CROPS})
        np.testing.assert_allclose(second.run({"crop": CROPS})["posterior"], POSTERIOR, rtol=1e-4)
    assert gpu.left() == {}
