"""The soak: a clip that goes on for ever on one timeline, and a verdict on the memory."""

from pathlib import Path

import numpy as np
import pytest

from stream.records import AudioBlock, VideoFrame
from tests.media_files import Audio, Video, write_media
from tools.measure.soak import Loop, main, resident_mb, soak

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("soak") / "clip.mkv"
    # 1.9 s: rounds are whole seconds, so each ends with a gap
    return write_media(path, video=Video(rate_hz=10, n_frames=19), audio=Audio(rate_hz=16_000, duration_s=1.9))


def test_rounds_follow_each_other_on_one_timeline(clip: Path) -> None:
    with Loop(clip, n_rounds=3) as loop:
        items = list(loop)
    assert loop.round_ns == 2 * 10**9
    frames = [item for item in items if isinstance(item, VideoFrame)]
    blocks = [item for item in items if isinstance(item, AudioBlock)]
    expected = [k * 2 * 10**9 + i * 10**8 for k in range(3) for i in range(19)]
    assert [frame.t_ns for frame in frames] == expected
    assert [block.first for block in blocks if block.first % 32_000 == 0] == [0, 32_000, 64_000]
    assert sum(len(block.samples) for block in blocks) == 3 * 30_400
    np.testing.assert_array_equal(frames[0].image, frames[19].image)
    ends = [item.t_ns if isinstance(item, VideoFrame) else (item.first + len(item.samples)) * 62_500 for item in items]
    assert ends == sorted(ends)


def test_a_stopped_loop_ends(clip: Path) -> None:
    loop = Loop(clip, n_rounds=1000)
    items = iter(loop)
    next(items)
    loop.stop()
    assert list(items) == []


@pytest.mark.timeout(120)
def test_a_minute_of_media_does_not_grow_the_memory(clip: Path) -> None:
    lines: list[str] = []
    got = soak(clip, minutes=1, report_s=5, show=lines.append)
    assert got.media_s == 60
    assert got.totals["hops"] == 240
    assert got.totals["frames"] == 30 * 19
    drops = {name: n for name, n in got.totals.items() if name.startswith("dropped_")}
    assert drops == {"dropped_frames": 0, "dropped_faces": 0, "dropped_audio_samples": 0}
    assert len(lines) == 12
    assert got.grown_mb < 20


def test_the_exit_code_is_the_verdict(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--clip", str(clip), "--minutes", "0.1"]
    assert main([*few, "--limit-mb", "50"]) == 0
    assert main([*few, "--limit-mb", "-1"]) == 1  # any memory is too much
    assert capsys.readouterr().out.count("memory grew by") == 2


def test_memory_that_is_held_is_counted() -> None:
    before = resident_mb()
    held = np.ones(64 * 2**20, np.uint8)
    assert 50 < resident_mb() - before < 80
    assert held[-1] == 1
