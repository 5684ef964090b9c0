"""The store of plans: what a plan belongs to, whole files, locks between processes, and damage."""

import dataclasses
import multiprocessing
from pathlib import Path

import msgspec
import pytest

from engines.engine import EngineError
from engines.tensorrt.build import BUILDER_VERSION, BuildOptions
from engines.tensorrt.cuda import Gpu
from engines.tensorrt.plans import Key, PlanStore, Record, key_of
from tests.small_bundle import head

GPU = Gpu(name="Some GPU", capability="9.0", memory_bytes=1, driver="13.0")
VERSION = "11.4.0.106"


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return head(tmp_path / "h.onnx")


def record(key: Key, plan: bytes = b"plan", *, accepted: bool = True, built: float = 1.0) -> Record:
    return Record(
        key=key, plan=PlanStore.digest(plan), accepted=accepted, why="departs by 1e-6", differences={"posterior": 1e-6},
        tolerance=1e-3, batch_ms={"1": 0.2}, built_s=3.0, built=built,
    )  # fmt: skip


def test_what_was_kept_is_found_again(store: PlanStore, graph: Path) -> None:
    key = key_of(graph, BuildOptions(), GPU, VERSION)
    assert store.record(key) is None
    store.keep(record(key), b"plan")
    assert PlanStore().record(key) == record(key)
    assert store.plan(record(key)) == b"plan"
    store.forget(key)
    assert (store.record(key), [path.suffix for path in store.folder.iterdir()]) == (None, [])


def test_a_plan_belongs_to_all_that_made_it(store: PlanStore, graph: Path, tmp_path: Path) -> None:
    options = BuildOptions()
    key = key_of(graph, options, GPU, VERSION)
    (other := tmp_path / "other.onnx").write_bytes(graph.read_bytes() + b"\0")
    others = [
        key_of(other, options, GPU, VERSION),
        key_of(graph, options, GPU, "11.3.0.99"),
        key_of(graph, options, dataclasses.replace(GPU, name="Other GPU"), VERSION),
        key_of(graph, options, dataclasses.replace(GPU, capability="8.9"), VERSION),
        key_of(graph, BuildOptions(precision="fp16"), GPU, VERSION),
        key_of(graph, BuildOptions(batch="1,4"), GPU, VERSION),
        key_of(graph, BuildOptions(workspace_mb=64), GPU, VERSION),
        key_of(graph, BuildOptions(level=5), GPU, VERSION),
        msgspec.structs.replace(key, builder=BUILDER_VERSION + 1),
    ]
    assert len({one.name for one in [key, *others]}) == 10
    assert key.options == options
    # Another driver for the same GPU loads the same plan, or says that it does not.
    assert key_of(graph, options, dataclasses.replace(GPU, driver="13.1"), VERSION) == key


def test_of_several_plans_the_newest_that_was_accepted_serves(store: PlanStore, graph: Path) -> None:
    for precision, accepted, built in (("fp32", True, 1.0), ("fp16", True, 2.0), ("bf16", False, 3.0)):
        key = key_of(graph, BuildOptions(precision=precision), GPU, VERSION)
        store.keep(record(key, accepted=accepted, built=built), b"plan")
    digest = key.graph
    found = store.newest(digest, GPU, VERSION)
    assert found is not None
    assert found.key.precision == "fp16"
    assert store.newest(digest, GPU, "11.3.0.99") is None
    assert store.newest("0" * 64, GPU, VERSION) is None
    for precision in ("fp32", "fp16"):
        store.forget(key_of(graph, BuildOptions(precision=precision), GPU, VERSION))
    refused = store.newest(digest, GPU, VERSION)
    assert refused is not None
    assert not refused.accepted


def test_damage_is_seen(store: PlanStore, graph: Path) -> None:
    key = key_of(graph, BuildOptions(), GPU, VERSION)
    store.keep(record(key), b"plan")
    path = store.folder / f"{key.name}.plan"
    path.write_bytes(b"pla")
    with pytest.raises(EngineError, match=f"expected the plan that was built at {path}, it was changed or damaged"):
        store.plan(record(key))
    path.unlink()
    with pytest.raises(EngineError, match=f"expected a plan at {path}, it cannot be read"):
        store.plan(record(key))
    (store.folder / f"{key.name}.json").write_text('{"half": ')
    assert store.record(key) is None
    assert store.newest(key.graph, GPU, VERSION) is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, graph: Path) -> None:
    (tmp_path / "file").touch()
    store = PlanStore(tmp_path / "file" / "plans")
    key = key_of(graph, BuildOptions(), GPU, VERSION)
    with pytest.raises(EngineError, match=r"cannot write .*plans: .*; make room, or set EMOCAST_CACHE"):
        store.keep(record(key), b"plan")
    with (
        pytest.raises(EngineError, match=r"cannot write .*plans: .*; set EMOCAST_CACHE to a folder"),
        store.building(key),
    ):
        pass


def _hold(folder: Path, key: Key, counts: Path) -> None:
    store = PlanStore(folder)
    for _ in range(20):
        with store.building(key):
            n = int(counts.read_text())
            counts.write_text(str(n + 1))  # lost where another process is in here, too


def test_one_process_builds_while_others_wait(store: PlanStore, graph: Path, tmp_path: Path) -> None:
    key = key_of(graph, BuildOptions(), GPU, VERSION)
    (counts := tmp_path / "n").write_text("0")
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_hold, args=(store.folder, key, counts)) for _ in range(3)]
    for process in others:
        process.start()
    for process in others:
        process.join()
    assert ([process.exitcode for process in others], counts.read_text()) == ([0, 0, 0], "60")
