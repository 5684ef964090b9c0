"""The bench of engines: times by a clock that tests turn, figures that make sense, failures told and not fatal."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.bundle import Bundle
from engines.engine import EngineError
from engines.onnx_runtime import OnnxEngine
from engines.samples import Samples
from tests.small_bundle import STAGES, small_bundle
from tests.small_clip_bundle import small_clip_bundle
from tools.engine.bench import bench, default_backends, fed
from tools.engine.footprint import Footprint, Open, footprint
from tools.engine.picture import DPI, figure_size
from tools.engine.timing import timed


@dataclass
class Clock:
    """A clock that only work turns."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Slowed(OnnxEngine):
    """An engine whose calls take a stated time; it may refuse a batch, and its outputs may be off."""

    def __init__(self, path: Path, *, clock: Clock, cost_s: float, most: int = 1000, off: float = 0.0) -> None:
        super().__init__(path)
        self._clock, self._cost_s, self._most, self._off = clock, cost_s, most, np.float32(off)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        n = len(next(iter(feeds.values())))
        if n > self._most:
            raise EngineError(f"expected a batch of at most {self._most}, got {n}\nand more")
        self._clock.now += self._cost_s * n
        return {name: array + self._off for name, array in super().run(feeds).items()}


@dataclass
class Bench:
    """A bench of fakes: what it is asked, and the report that it prints."""

    folder: str
    capsys: pytest.CaptureFixture[str]
    clock: Clock = field(default_factory=Clock)
    code: int = -1

    def slowed(self, cost_s: float, **more: Any) -> Open:
        return partial(Slowed, clock=self.clock, cost_s=cost_s, **more)

    def __call__(self, backends: Mapping[str, Open], **settings: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"clock": self.clock, "weigh": weightless, "rounds": 3, "picture": None, **settings}
        self.code = bench(self.folder, as_json=True, backends=backends, **given)
        report: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return report


def weightless(backend: str, opener: Open, path: Path, feeds: Mapping[str, np.ndarray]) -> Footprint:
    return Footprint(load_ms=2.0, memory_mb=3.0, library_mb=None)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "bundle")


@pytest.fixture
def fakes(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(folder=str(bundle.folder), capsys=capsys)


def only(report: dict[str, Any], backend: str) -> list[dict[str, Any]]:
    return [row for row in report["rows"] if row["backend"] == backend]


def test_ratios_rates_and_totals_are_those_of_the_clock(fakes: Bench) -> None:
    backends = {"torch": fakes.slowed(0.010), "onnx": fakes.slowed(0.004), "tortoise": fakes.slowed(0.050)}
    report = fakes(backends, budget_s=100.0)
    assert fakes.code == 0
    assert report["reference"] == "torch"
    assert [row["graph"] for row in only(report, "torch")] == list(STAGES)
    for backend, ms, ratio in (("torch", 10, 1), ("onnx", 4, 0.4), ("tortoise", 50, 5)):
        for row in only(report, backend):
            assert list(row["at"]) == ["1", "4", "16"]
            first = row["at"]["1"]["timing"]
            assert [first[name] for name in ("p50_ms", "p99_ms", "ratio")] == pytest.approx([ms, ms, ratio])
            for at in row["at"].values():
                assert at["items_per_s"] == pytest.approx(1000 / ms)
                assert at["timing"]["ratio"] == pytest.approx(ratio)
                assert at["difference"] == 0
            assert row["footprint"] == {"load_ms": 2.0, "memory_mb": 3.0, "library_mb": None}
        assert report["totals"][backend] == pytest.approx({"p50_ms": 3 * ms, "ratio": ratio})


def test_without_torch_the_reference_is_onnx_runtime(fakes: Bench) -> None:
    report = fakes({"new": fakes.slowed(0.002, off=0.25), "onnx": fakes.slowed(0.001)}, batches=(2,))
    assert report["reference"] == "onnx"
    assert report["batches"] == [1, 2]
    for row in only(report, "new"):
        assert row["at"]["2"]["difference"] == pytest.approx(0.25, abs=1e-6)
        assert row["at"]["2"]["timing"]["ratio"] == pytest.approx(2)


def test_without_a_reference_there_are_times_alone(fakes: Bench) -> None:
    report = fakes({"new": fakes.slowed(0.002)}, batches=(1,))
    assert report["reference"] is None
    assert [row["at"]["1"]["difference"] for row in report["rows"]] == [None] * 3
    assert report["totals"] == {"new": {"p50_ms": pytest.approx(6), "ratio": None}}


def test_slow_graphs_stay_within_the_budget(fakes: Bench) -> None:
    report = fakes({"onnx": fakes.slowed(1.0)}, batches=(1, 4), budget_s=5.0)
    for row in report["rows"]:
        assert list(row["at"]) == ["1"]
        assert row["at"]["1"]["timing"]["n_calls"] <= 2
    assert report["notes"][0].startswith("frame_encoder at batch 4 left out: a call on each backend takes about 4.0 s")
    assert fakes.clock.now <= 3 * 5.0


def test_what_is_slower_than_the_budget_is_called_once(fakes: Bench) -> None:
    report = fakes({"torch": fakes.slowed(6.0), "onnx": fakes.slowed(3.0)}, batches=(1,))
    for row in only(report, "onnx"):
        timing = row["at"]["1"]["timing"]
        assert timing == {"n_calls": 1, "p50_ms": 3000, "p99_ms": 3000, "mean_ms": 3000, "ratio": 0.5}
    assert fakes.clock.now == pytest.approx(3 * 9.0)
    assert report["notes"] == [f"{stage}: timed by first calls, which took its 8 s" for stage in STAGES]


def test_what_takes_long_to_feed_is_fed_one_item_again(bundle: Bundle) -> None:
    one = {"waveform": np.arange(3, dtype=np.float32)[None]}
    with Samples(bundle) as samples:
        again = fed(samples, "audio_encoder", one, 1.0, 4)
        assert again["waveform"].tolist() == [[0, 1, 2]] * 4
        differ = fed(samples, "audio_encoder", one, 0.1, 4)["waveform"]
        np.testing.assert_array_equal(differ, samples.feeds("audio_encoder", 4)["waveform"])


def test_fast_graphs_are_called_often_enough_for_a_percentile(fakes: Bench) -> None:
    report = fakes({"onnx": fakes.slowed(0.02)}, batches=(1,), rounds=2, budget_s=60.0)
    assert [row["at"]["1"]["timing"]["n_calls"] for row in report["rows"]] == [100] * 3
    report = fakes({"onnx": fakes.slowed(0.001)}, batches=(1,), rounds=5, budget_s=60.0)
    assert all(140 <= row["at"]["1"]["timing"]["n_calls"] <= 150 for row in report["rows"])


def test_turns_begin_with_another_each_round() -> None:
    clock, order = Clock(), []

    def call(name: str) -> None:
        order.append(name)
        clock.now += 1.0

    calls = {name: partial(call, name) for name in "abc"}
    found = timed(calls, dict.fromkeys("abc", 2.0), reference="a", rounds=3, budget_s=60.0, clock=clock)
    assert "".join(order[:9]) == "abc" + "bca" + "cab"
    assert {name: (timing.n_calls, timing.ratio) for name, timing in found.items()} == dict.fromkeys("abc", (20, 1.0))


def test_a_first_call_that_was_slow_only_once_is_looked_at_again() -> None:
    clock = Clock()

    def call() -> None:
        clock.now += 0.01

    found = timed({"a": call}, {"a": 0.1}, reference=None, rounds=1, budget_s=0.05, clock=clock)
    assert (found["a"].n_calls, found["a"].p50_ms, found["a"].ratio) == (3, pytest.approx(10), None)


def test_a_backend_that_does_not_open_is_a_row_that_says_why(fakes: Bench) -> None:
    def broken(path: Path) -> OnnxEngine:
        raise OSError("libnvinfer.so.11 is not here\nand a second line")

    report = fakes({"tensorrt": broken, "onnx": fakes.slowed(0.001)}, batches=(1,))
    assert fakes.code == 0
    for row in only(report, "tensorrt"):
        assert (row["error"], row["at"], row["footprint"]) == ("libnvinfer.so.11 is not here", {}, None)
    assert "tensorrt" not in report["totals"]
    assert report["notes"][0] == "frame_encoder on tensorrt failed: libnvinfer.so.11 is not here"
    fakes({"tensorrt": broken})
    assert fakes.code == 1


def test_a_batch_that_fails_ends_that_backend_alone(fakes: Bench) -> None:
    report = fakes({"onnx": fakes.slowed(0.001), "small": fakes.slowed(0.001, most=4)})
    for row in only(report, "small"):
        assert list(row["at"]) == ["1", "4"]
        assert row["error"] == "expected a batch of at most 4, got 16"
    assert [list(row["at"]) for row in only(report, "onnx")] == [["1", "4", "16"]] * 3


def test_outputs_that_are_not_finite_are_told(fakes: Bench) -> None:
    report = fakes({"onnx": fakes.slowed(0.001), "bad": fakes.slowed(0.001, off=np.nan)}, batches=(1,))
    assert "head on bad: outputs of another shape, or not finite" in report["notes"]


def test_wrong_settings_are_refused(fakes: Bench) -> None:
    with pytest.raises(EngineError, match=r"expected batches and rounds of 1 or more, got \(0, 4\) and 3"):
        fakes({}, batches=(0, 4))
    with pytest.raises(EngineError, match=r"got \(1,\) and 0"):
        fakes({}, batches=(1,), rounds=0)


# the backends that are here


def test_torch_and_onnx_runtime_on_real_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = small_clip_bundle(tmp_path)
    backends = default_backends(1)
    assert list(backends) == ["torch", "onnx"]
    code = bench(
        str(bundle.folder), batches=(1, 2), rounds=2, budget_s=0.2, as_json=True, picture=None, weigh=weightless
    )
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (report["bundle"], report["sha256"], report["threads"]) == ("clip", bundle.sha256, 1)
    assert report["versions"]["torch"].startswith("2.")
    assert [(row["graph"], row["backend"]) for row in report["rows"]] == [
        (stage, backend) for stage in bundle.manifest.stages for backend in backends
    ]
    for row in report["rows"]:
        for at in row["at"].values():
            timing = at["timing"]
            assert 0 < timing["p50_ms"] <= timing["p99_ms"]
            assert timing["ratio"] > 0
            assert at["difference"] < 1e-4


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_load_time_and_memory_are_measured_in_another_process(bundle: Bundle, backend: str) -> None:
    feeds = {name: np.ones((1, 3), np.float32) for name in ("face", "voice")}
    found = footprint(backend, default_backends(1)[backend], bundle.stage("head"), feeds)
    assert 0 < found.load_ms < 60_000
    if found.library_mb is not None and found.memory_mb is not None:  # where the system says
        assert 5 < found.library_mb < 2000
        assert 0 < found.memory_mb < 200


def test_a_footprint_that_cannot_be_taken_says_why(bundle: Bundle) -> None:
    opener = default_backends(1)["onnx"]
    with pytest.raises(EngineError, match=r"^expected an opener that another process can unpickle"):
        footprint("onnx", lambda path: OnnxEngine(path), bundle.stage("head"), {})
    with pytest.raises(
        EngineError, match=r"the process that loads the graph failed: .*expected inputs \['face', 'voice'\]"
    ):
        footprint("onnx", opener, bundle.stage("head"), {})


# what a person sees


def test_the_table_fits_a_hundred_columns(fakes: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    backends = {"torch": fakes.slowed(0.5), "onnx": fakes.slowed(0.25), "onnx-cuda": fakes.slowed(0.001, most=0)}
    bench(fakes.folder, as_json=False, picture=None, backends=backends, clock=fakes.clock, weigh=weightless)
    lines = capsys.readouterr().out.splitlines()
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in lines if line.strip()}
    table = lines[2 : next(k for k, line in enumerate(lines) if line.startswith("onnx takes"))]
    assert max(map(len, table)) <= 100
    assert rows["audio_encoder", "torch"][:4] == ["500", "500", "(4)", "1.00"]
    assert rows["head", "torch"][:4] == ["500", "500", "(4)", "1.00"]
    assert any("failed" in line for line in table)
    assert "onnx takes 0.50 of torch's time: 2.00 times as fast" in lines
    assert "(n): p99 of n calls, fewer than 100" in lines
    assert "head on onnx-cuda failed: expected a batch of at most 0, got 1" in lines


def test_the_picture_is_a_png_of_its_size(fakes: Bench, tmp_path: Path) -> None:
    path = tmp_path / "bench.png"
    fakes({"torch": fakes.slowed(0.010), "onnx": fakes.slowed(0.0004)}, picture=path)
    start = path.read_bytes()[:24]
    assert start[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = figure_size(len(STAGES))
    assert struct.unpack(">II", start[16:24]) == (round(width * DPI), round(height * DPI))
