"""What a stream says of its engine: which runs, why, and that another took over; the estimates stay the same."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.bundle import Bundle
from engines.select import Engines
from engines.tensorrt.build import BuildOptions
from engines.tensorrt.compile import compiled
from engines.tensorrt.library import probe
from engines.tensorrt.plans import PlanStore
from stream.config import SessionConfig
from stream.feed.messages import Estimate, Event, Message, Status
from stream.feed.messages import Session as Opening
from stream.session import Session
from tests.gpu import FakeGpu, fake_gpu
from tests.sessions import MadeSource, sound
from tests.small_bundle import STAGES, small_bundle

DURATION_S = 1.0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGpu]:
    monkeypatch.setenv("EMOCAST_CACHE", str(tmp_path / "cache"))
    with fake_gpu(monkeypatch) as made:
        yield made
        assert made.left() == {}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "bundle")


@pytest.fixture
def built(gpu: FakeGpu, bundle: Bundle) -> None:
    found, version = probe()
    for stage in STAGES:
        compiled(bundle, stage, BuildOptions(batch="1,4"), PlanStore(), gpu=found, tensorrt=version)


def stream(
    bundle: Bundle, engine: str, *, engines: Engines | None = None, fail: FakeGpu | None = None
) -> list[Message]:
    messages: list[Message] = []

    def publish(message: Message) -> None:
        messages.append(message)
        if fail is not None and len(messages) == 8:
            fail.fail("cudaGraphLaunch", nth=0, status="cudaErrorIllegalAddress")

    config = SessionConfig(engine=engine)
    Session(MadeSource(sound(DURATION_S)), [bundle], publish, config, engines=engines).run()
    return messages


def posteriors(messages: list[Message]) -> np.ndarray:
    return np.array([list(m.posterior.values()) for m in messages if isinstance(m, Estimate)])


def statuses(messages: list[Message]) -> list[tuple[str, str]]:
    return [(m.engine, m.engine_why) for m in messages if isinstance(m, Status)]


def test_a_stream_says_which_engine_runs_and_why(built: None, bundle: Bundle) -> None:
    messages = stream(bundle, "auto")
    assert isinstance(messages[0], Opening)
    assert messages[0].engine == "tensorrt"
    assert statuses(messages)[0] == ("tensorrt", "auto: every graph has an accepted plan")
    on_cpu = stream(bundle, "onnx")
    assert statuses(on_cpu)[0] == ("onnx", "asked for")
    np.testing.assert_allclose(posteriors(messages), posteriors(on_cpu), atol=1e-6)
    assert len(posteriors(messages)) == 20  # a hop each 50 ms


def test_a_stream_without_a_gpu_says_what_is_missing(gpu: FakeGpu, bundle: Bundle) -> None:
    gpu.cuda.n_devices = 0
    assert statuses(stream(bundle, "auto"))[0] == (
        "onnx",
        "auto: expected an NVIDIA GPU, CUDA shows none; see nvidia-smi and CUDA_VISIBLE_DEVICES",
    )


def test_a_gpu_that_fails_costs_no_estimate_and_is_an_event(gpu: FakeGpu, built: None, bundle: Bundle) -> None:
    messages = stream(bundle, "auto", fail=gpu)
    assert [m.text.split(": ")[:2] for m in messages if isinstance(m, Event) and m.kind == "engine"] == [
        ["onnx", "tensorrt failed at audio_encoder"]
    ]
    assert statuses(messages)[0][0] == "tensorrt"
    np.testing.assert_allclose(posteriors(messages), posteriors(stream(bundle, "onnx")), atol=1e-6)


def test_streams_share_their_engines(gpu: FakeGpu, built: None, bundle: Bundle) -> None:
    with Engines("auto") as engines:
        first = stream(bundle, "auto", engines=engines)
        held = gpu.left()
        second = stream(bundle, "auto", engines=engines)
        assert gpu.left() == held
        assert held["ICudaEngine"] == len(STAGES)
    np.testing.assert_array_equal(posteriors(first), posteriors(second))
