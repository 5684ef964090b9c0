"""`emocast engine` and `emocast doctor` as a person types them, with a GPU that is none and without one."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gpu import FakeGpu, fake_gpu
from tests.small_bundle import small_bundle
from tools.cli import run

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("EMOCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    return str(small_bundle(tmp_path / "bundle").folder)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    with fake_gpu(monkeypatch) as made:
        yield made
        assert made.left() == {}


def test_build_compiles_every_graph_and_says_so(gpu: FakeGpu, bundle: str, capsys: Printed) -> None:
    assert run(["engine", "build", bundle, "--precision", "fp16", "--batch", "1,2"]) == 0
    out, error = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        (stage, "fp16", "yes") for stage in ("frame_encoder", "audio_encoder", "head")
    ]
    assert "Fake GPU, TensorRT 11.4.0.106, fp16, plans in " in error


def test_a_refused_plan_is_exit_code_2_and_a_reason(
    gpu: FakeGpu, bundle: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_GPU_FAILURES", '{"wrong": [0, 0]}')
    assert run(["engine", "build", bundle, "--batch", "1"]) == 2
    out, error = capsys.readouterr()
    assert out.count(" no") == 3
    assert "emocast: the plan of head was not accepted: it departs from the ONNX graph by 1.0e+00" in error


def test_verify_passes_on_a_gpu_that_is_right_and_leaves_a_report(
    gpu: FakeGpu, bundle: str, capsys: Printed, tmp_path: Path
) -> None:
    assert run(["engine", "verify", bundle, "--batch", "1,2", "--out", str(tmp_path / "report.txt")]) == 0
    out = capsys.readouterr().out
    assert out == (tmp_path / "report.txt").read_text()
    lines = out.splitlines()
    assert lines[-1] == "32 passed, 0 FAILED, 0 not run"
    assert re.fullmatch(r"passed   graph head in bf16: largest difference from float32 .*, .* is allowed", lines[10])
    assert "passed   CUDA graphs of head: 2 of 2 batch sizes" in lines
    assert "passed   shapes out of profile of head: a batch of 7 runs in parts; a wrong shape is refused" in lines
    assert "passed   4 callers at once of frame_encoder: 100 calls, each as when called alone" in lines
    assert "passed   memory of audio_encoder given back: 0 MB still held" in lines


@pytest.mark.parametrize(
    ("call", "nth", "line"),
    [
        ("captured execute", 1, "FAILED   CUDA graphs of frame_encoder: no CUDA graph at batch 1: TensorRT: batch 1"),
        (
            "execute_async_v3",
            0,
            "FAILED   loading frame_encoder: TensorRT: batch 1 could not be started: enqueue failed",
        ),
        ("cudaGraphInstantiate", 1, "FAILED   CUDA: cudaGraphInstantiate failed"),
    ],
)
def test_verify_says_what_failed(gpu: FakeGpu, bundle: str, capsys: Printed, call: str, nth: int, line: str) -> None:
    gpu.fail(call, nth=nth)
    assert run(["engine", "verify", bundle, "--batch", "1"]) == 2
    assert any(one.startswith(line) for one in capsys.readouterr().out.splitlines())


def test_verify_without_a_gpu_checks_the_graphs(gpu: FakeGpu, bundle: str, capsys: Printed) -> None:
    gpu.cuda.n_devices = 0
    assert run(["engine", "verify", bundle]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("passed   graph ") for line in lines) == 9
    assert lines[-2].startswith("not run  TensorRT: expected an NVIDIA GPU, CUDA shows none")
    assert lines[-1] == "9 passed, 0 FAILED, 2 not run"


def test_build_and_replay_by_name_without_a_gpu_are_one_line(
    gpu: FakeGpu, bundle: str, capsys: Printed, tmp_path: Path
) -> None:
    gpu.cuda.n_devices = 0
    assert run(["engine", "build", bundle]) == 2
    assert capsys.readouterr().err.startswith("emocast: expected an NVIDIA GPU, CUDA shows none; see nvidia-smi")


def test_doctor_names_each_part_of_the_gpu_path(gpu: FakeGpu, bundle: str, capsys: Printed) -> None:
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"ok +NVIDIA GPU +Fake GPU, compute capability 9.0, driver for CUDA 13.0", out)
    assert re.search(r"ok +TensorRT +11.4.0.106", out)
    assert re.search(r"ok +engine of default +onnx, auto: no plan of default's frame_encoder is built", out)
    assert "emocast engine build default" in " ".join(out.split())


def test_doctor_says_how_to_get_what_is_missing(gpu: FakeGpu, bundle: str, capsys: Printed) -> None:
    gpu.fail("cudaGetDeviceCount", nth=0, status="cudaErrorInsufficientDriver")
    assert run(["doctor"]) == 0  # all of it can be done without
    out = " ".join(capsys.readouterr().out.split())
    assert "absent NVIDIA GPU expected an NVIDIA driver of version 580 or newer and a GPU" in out
    assert "run: pip install 'emocast[tensorrt]'" in out
