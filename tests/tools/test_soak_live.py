"""The live soak: simulated devices, what is measured of the process, and the verdict."""

import threading
from pathlib import Path

import numpy as np
import pytest

from stream.clock import ManualClock
from stream.sources.device import Picture, Sound
from tests.media_files import Audio, Video, write_media
from tools.measure.simulated_devices import DRIFT_PPM, FastClock, Simulated, simulated, simulated_devices
from tools.measure.soak_live import Sample, Soaked, main, report, soak

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("soak") / "clip.mkv"
    return write_media(path, video=Video(rate_hz=10, n_frames=20), audio=Audio(rate_hz=16_000, duration_s=2.0))


def soaked(**changes: object) -> Soaked:
    def at(t_s: float, mb: float, threads: int = 8, handles: int = 27) -> Sample:
        return Sample(t_s=t_s, resident_mb=mb, threads=threads, handles=handles)

    samples = [at(0, 10, 2, 9), at(25, 100), at(50, 104, 9), at(75, 103, 8, 30), at(100, 102)]
    totals = {"media_s": 100.0, "frames": 2_500.0, "hops": 400.0}
    given = {"drops": {}, "overruns": 0, "lost": 0, "drift_ppm": 80.04, "ages_ms": (12.2, 30.6), "totals": totals}
    return Soaked(samples=samples, **{**given, **changes})  # type: ignore[arg-type]


def test_growth_counts_from_the_end_of_the_warm_up() -> None:
    assert soaked().growth() == (4.0, 1, 3)


def test_the_report_says_what_a_run_amounted_to() -> None:
    assert report(soaked())[1:] == [
        "session: 100 s, 2500 frames, 400 hops",
        "growth after the warm-up: 4.0 MiB, 1 threads, 3 handles",
        "dropped: nothing; overruns: 0; messages that the subscriber missed: 0",
        "drift: 80.0 ppm",
        "age from capture to subscriber: p50 12 ms, p99 31 ms",
    ]
    lines = report(soaked(drops={"dropped_hops": 3}, drift_ppm=None, ages_ms=None))
    assert lines[3].startswith("dropped: {'dropped_hops': 3};")
    assert lines[4:] == [
        "drift: unknown",
        "age from capture to subscriber: not measured: the clock was not the machine's",
    ]


def test_a_simulated_device_hands_things_on_when_they_are_due_and_ends() -> None:
    clock, came = ManualClock(5), list[tuple[int, int]]()
    taken = threading.Semaphore(0)

    def take(item: object) -> None:
        assert isinstance(item, Picture)
        came.append((item.at_ns, clock.now_ns()))
        taken.release()

    def make(k: int, at_ns: int) -> Picture:
        return Picture(at_ns=at_ns, image=np.full((2, 2, 3), k, np.uint8))

    with Simulated("camera", period_ns=1_000, make=make, clock=clock, sink=take) as device:
        assert device.text == "simulated camera"
        for k in range(3):
            assert taken.acquire(timeout=10)
            assert clock.await_waits(k + 2)
            clock.advance(1_000)
        assert taken.acquire(timeout=10)
    assert came == [(5 + k * 1_000, 5 + k * 1_000) for k in range(4)]
    assert [thread.name for thread in threading.enumerate()].count("camera") == 0


def test_a_fast_clock_waits_no_longer_than_until_it_reads_the_time() -> None:
    clock, stop = FastClock(1_000.0), threading.Event()
    clock.wait_until(10**9, stop)
    assert clock.now_ns() >= 10**9
    stop.set()
    clock.wait_until(10**18, stop)  # returns at once
    assert clock.now_ns() < 10**18


def test_simulated_sound_is_the_clip_s_over_and_over_on_a_clock_that_drifts(clip: Path) -> None:
    came, clock = list[Sound](), ManualClock(0, jumps=True)
    done = threading.Event()

    def take(item: object) -> None:
        if isinstance(item, Sound) and len(came) < 250:
            came.append(item)
        elif len(came) == 250:
            done.set()

    with simulated_devices(clip, clock)[1](take):
        assert done.wait(10)
    assert [item.first for item in came] == [k * 320 for k in range(250)]
    np.testing.assert_array_equal(came[0].samples, came[100].samples)
    lasted_ns = came[200].adc_ns - came[0].adc_ns
    assert lasted_ns == pytest.approx(4e9 / (1 + DRIFT_PPM * 1e-6), abs=2)
    assert all(abs(item.arrived_ns - item.adc_ns - 20_000_000) < 3_000 for item in came)


def test_a_run_measures_as_it_goes_and_ends_by_itself(clip: Path) -> None:
    lines: list[str] = []
    clock = FastClock(4.0)
    got = soak(simulated(clip, clock), clock, minutes=0.2, speed=4.0, show=lines.append)
    assert len(lines) == len(got.samples) >= 2
    assert got.samples[-1].t_s <= got.totals["media_s"]
    assert 12 <= got.totals["media_s"] < 24
    assert got.totals["hops"] >= 1
    assert got.ages_ms is None
    assert got.totals["dropped_audio_samples"] == 0
    assert got.lost == 0


def test_the_machine_s_own_clock_has_ages(clip: Path) -> None:
    clock = FastClock(1.0)
    got = soak(simulated(clip, clock), clock, minutes=2 / 60, show=lambda line: None)
    assert got.ages_ms is not None
    assert 0 < got.ages_ms[0] <= got.ages_ms[1]


def test_real_devices_have_no_other_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--camera", "0", "--speed", "4"])
    assert "expected --speed 1 with real devices" in capsys.readouterr().err
