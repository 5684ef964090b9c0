"""Compiling in a process of its own: what it says, what it leaves, and what happens when it dies."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest

from engines.bundle import Bundle, load
from engines.engine import EngineError
from engines.tensorrt.acceptance import sizes_to_try
from engines.tensorrt.build import BuildOptions
from engines.tensorrt.compile import compiled
from engines.tensorrt.library import probe
from engines.tensorrt.plans import PlanStore, Record
from tests.gpu import FakeGpu
from tests.small_bundle import small_bundle, stages, write_bundle
from tests.small_clip_bundle import small_clip_bundle

OPTIONS = BuildOptions(batch="1,4")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "bundle")


def compile_stage(bundle: Bundle, store: PlanStore, stage: str = "head", options: BuildOptions = OPTIONS) -> Record:
    found, version = probe()
    return compiled(bundle, stage, options, store, gpu=found, tensorrt=version)


def test_batches_of_every_kind_are_held_against_the_graph() -> None:
    assert sizes_to_try((1, 4, 16)) == (1, 3, 4, 15, 16, 17)
    assert sizes_to_try((1, 2)) == (1, 2, 3)


def test_a_plan_is_built_once_and_its_record_says_what_was_found(
    gpu: FakeGpu, store: PlanStore, bundle: Bundle
) -> None:
    record = compile_stage(bundle, store, "frame_encoder")
    assert record.accepted
    assert record.why == "departs from the ONNX graph by 0.0e+00, 0.001 is allowed in fp32"
    assert record.differences == {"features": 0.0, "posterior": 0.0}
    assert list(record.batch_ms) == ["1", "4"]
    assert compile_stage(bundle, store, "frame_encoder").built == record.built
    found, version = probe()
    again = compiled(bundle, "frame_encoder", OPTIONS, store, gpu=found, tensorrt=version, anew=True)
    assert again.built > record.built


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_graph_of_a_clip_bundle_in_every_precision(
    gpu: FakeGpu, store: PlanStore, tmp_path: Path, precision: str
) -> None:
    bundle = small_clip_bundle(tmp_path / "clip")
    options = BuildOptions(batch="2", precision=precision)  # type: ignore[arg-type]
    records = {stage: compile_stage(bundle, store, stage, options) for stage in bundle.manifest.stages}
    assert {stage: record.accepted for stage, record in records.items()} == dict.fromkeys(records, True)


def test_the_shipped_recogniser_in_half_precision(gpu: FakeGpu, store: PlanStore) -> None:
    record = compile_stage(load("default"), store, "audio_encoder", BuildOptions(batch="1,2", precision="fp16"))
    assert record.accepted
    assert 0 < max(record.differences.values()) < record.tolerance


def failing(monkeypatch: pytest.MonkeyPatch, call: str, nth: int = 0) -> None:
    """In the builder's process."""
    monkeypatch.setenv("FAKE_GPU_FAILURES", json.dumps({call: [nth, 2]}))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("parse", "stage head: TensorRT: the graph was refused NonZero node_1: no importer for it"),
        ("build_serialized_network", "stage head: TensorRT: no plan within 1024 MB .*within the workspace"),
        ("deserialize_cuda_engine", "stage head: TensorRT: the plan does not load"),
        ("cudaMalloc", "stage head: cudaMalloc failed: cudaErrorMemoryAllocation"),
        ("crash", "stage head: the builder's process ended with code -6 and no plan.*memory full"),
    ],
)
def test_what_fails_in_the_builder_is_one_line_here(
    gpu: FakeGpu, store: PlanStore, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, call: str, text: str
) -> None:
    failing(monkeypatch, call)
    with pytest.raises(EngineError, match=text) as caught:
        compile_stage(bundle, store)
    assert "\n" not in str(caught.value)
    assert not list(store.folder.glob("*.plan"))
    monkeypatch.delenv("FAKE_GPU_FAILURES")
    assert compile_stage(bundle, store).accepted  # nothing stands in the way afterwards


def test_an_operator_that_tensorrt_does_not_take_is_named_before_it_is_asked(
    gpu: FakeGpu, store: PlanStore, tmp_path: Path
) -> None:
    folder = write_bundle(tmp_path / "odd")
    model = onnx.load(folder / "head.onnx")
    model.graph.node.append(onnx.helper.make_node("NonZero", ["face"], ["where"], name="odd"))
    onnx.save(model, folder / "head.onnx")
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**manifest, "stages": stages(folder)}))
    with pytest.raises(EngineError, match=r"expected operators that TensorRT takes in head\.onnx, got: .*NonZero"):
        compile_stage(load(folder), store)


def test_a_bundle_that_was_changed_meanwhile_is_named(gpu: FakeGpu, store: PlanStore, bundle: Bundle) -> None:
    path = bundle.folder / "head.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(EngineError, match=r"head\.onnx has SHA-256"):  # the bundle is read anew in the builder
        compile_stage(bundle, store)


def test_a_damaged_plan_is_built_again(gpu: FakeGpu, store: PlanStore, bundle: Bundle) -> None:
    record = compile_stage(bundle, store)
    path = store.folder / f"{record.key.name}.plan"
    path.write_bytes(path.read_bytes()[:-10])
    assert compile_stage(bundle, store).built > record.built
    assert store.plan(record) == path.read_bytes()


def test_a_plan_that_no_longer_loads_is_built_again(gpu: FakeGpu, store: PlanStore, bundle: Bundle) -> None:
    record = compile_stage(bundle, store)
    gpu.fail("deserialize_cuda_engine")  # once, in this process: as after a change of the driver
    assert compile_stage(bundle, store).built > record.built


def test_builders_that_want_the_same_plan_do_not_collide(gpu: FakeGpu, store: PlanStore, bundle: Bundle) -> None:
    code = (
        "import sys\n"
        "from engines.bundle import load\n"
        "from engines.tensorrt.build import BuildOptions\n"
        "from engines.tensorrt.compile import compiled\n"
        "from engines.tensorrt.library import probe\n"
        "from engines.tensorrt.plans import PlanStore\n"
        "found, version = probe()\n"
        "record = compiled(load(sys.argv[1]), 'head', BuildOptions(batch='1,4'), PlanStore(), gpu=found,"
        " tensorrt=version)\n"
        "print(record.built)"
    )

    def build(_: int) -> str:
        command = [sys.executable, "-c", code, str(bundle.folder)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((os.environ["PYTHONPATH"], os.getcwd()))}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return done.stdout

    with ThreadPoolExecutor(3) as pool:
        built = set(pool.map(build, range(3)))
    assert len(built) == 1
    assert sorted(path.suffix for path in store.folder.iterdir() if path.suffix != ".lock") == [
        ".cache",
        ".json",
        ".plan",
    ]
