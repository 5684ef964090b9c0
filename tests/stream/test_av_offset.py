"""Flashes and clicks at known times, in numbers and in files; what cannot be told; what is stored."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.av_offset import Offset, OffsetError, clicks, flashes, measure, offset
from stream.device_offsets import offsets_path, store_offset, stored_offset
from stream.records import AudioBlock, VideoFrame
from stream.sources.media import MediaSource, Speed
from tests.flash_and_click import flash_and_click, flash_times_s

MS = 1_000_000
PERIOD_NS = 40 * MS


def grid(n: int, period_ns: int = PERIOD_NS) -> list[int]:
    return [k * period_ns for k in range(n)]


def lit(times_ns: list[int], on: list[tuple[int, int]], dark: float = 20.0, bright: float = 200.0) -> list[float]:
    """Brightness of frames that see a light which is on in each [start, end)."""
    return [bright if any(a <= t < b for a, b in on) else dark for t in times_ns]


# flashes


def test_a_flash_begins_between_the_last_dark_and_the_first_bright_frame() -> None:
    times_ns = grid(100)
    assert flashes(times_ns, lit(times_ns, [(1000 * MS, 1200 * MS), (2010 * MS, 2200 * MS)])) == [980 * MS, 2020 * MS]


def test_a_frame_exposed_while_the_light_goes_on_tells_more() -> None:
    times_ns = grid(50)
    levels = lit(times_ns, [(1000 * MS, 1200 * MS)])
    levels[25] = 20 + 0.75 * 180  # three quarters of its light: half is crossed two thirds on the way to it
    assert flashes(times_ns, levels) == [pytest.approx(960 * MS + 40 * MS * 2 / 3)]
    levels[25] = 20 + 0.25 * 180
    assert flashes(times_ns, levels) == [pytest.approx(1000 * MS + 40 * MS / 3)]


def test_flicker_slow_light_and_frames_left_out_are_no_flashes() -> None:
    times_ns = grid(200)
    generator = np.random.default_rng(0)
    flicker = 100 + 2 * generator.standard_normal(200)
    slow = np.linspace(20, 220, 200)
    assert flashes(times_ns, list(flicker)) == []
    assert flashes(times_ns, list(slow)) == []
    levels = lit(times_ns, [(1000 * MS, 1200 * MS), (3000 * MS, 3200 * MS)])
    missing = [k for k in range(200) if k not in (23, 24)]  # just before the first one
    assert flashes([times_ns[k] for k in missing], [levels[k] for k in missing]) == [2980 * MS]
    assert flashes([0, 1], [0.0, 255.0]) == []


def test_a_small_phone_in_a_noisy_picture_is_seen() -> None:
    times_ns = grid(100)
    noise = np.random.default_rng(1).normal(0, 0.4, 100)
    assert len(flashes(times_ns, list(np.array(lit(times_ns, [(1000 * MS, 1200 * MS)], 80, 92)) + noise))) == 1


@given(st.integers(0, PERIOD_NS - 1))
def test_a_flash_is_never_further_off_than_half_a_frame(phase_ns: int) -> None:
    times_ns = grid(60)
    (found,) = flashes(times_ns, lit(times_ns, [(1000 * MS + phase_ns, 1300 * MS)]))
    assert abs(found - (1000 * MS + phase_ns)) <= PERIOD_NS // 2


# clicks


def clicking(at_s: list[float], rate_hz: int, level: float, background: np.ndarray) -> np.ndarray:
    t_s = np.arange(len(background)) / rate_hz
    wave = background.copy()
    for at in at_s:
        into = np.maximum(t_s - at, 0)
        wave += np.where(t_s >= at, level * np.exp(-into / 0.005) * np.sin(2 * np.pi * 1500 * into), 0)
    return wave.astype(np.float32)


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
@pytest.mark.parametrize("noise", [0.0, 0.001, 0.03])
def test_clicks_are_found_to_a_millisecond_in_noise_and_hum(rate_hz: int, noise: float) -> None:
    t_s = np.arange(4 * rate_hz) / rate_hz
    hum = 0.1 * np.sin(2 * np.pi * 50 * t_s)
    background = hum + noise * np.random.default_rng(2).standard_normal(len(t_s))
    found = clicks(clicking([0.5, 1.7003, 2.9], rate_hz, 0.5, background), rate_hz, 7 * 10**9)
    np.testing.assert_allclose(np.array(found) / 1e9 - 7, [0.5, 1.7003, 2.9], atol=1.1e-3)


def test_echoes_are_no_clicks_and_neither_is_noise_alone() -> None:
    t_s = np.arange(32_000) / 16_000
    echoing = clicking([0.5], 16_000, 0.5, np.zeros(32_000)) + clicking([0.6, 0.72], 16_000, 0.2, np.zeros(32_000))
    assert clicks(echoing, 16_000, 0) == [pytest.approx(500 * MS, abs=MS)]
    assert clicks((0.1 * np.random.default_rng(3).standard_normal(len(t_s))).astype(np.float32), 16_000, 0) == []
    assert clicks(np.zeros(32_000, np.float32), 16_000, 0) == []
    assert clicks(np.zeros(10, np.float32), 16_000, 0) == []


# pairs


def test_pairs_are_averaged_and_strangers_left_out() -> None:
    flash = [1000 * MS, 2000 * MS, 3000 * MS, 4000 * MS, 5000 * MS, 6000 * MS, 9000 * MS]
    click = [950 * MS, 1960 * MS, 2940 * MS, 3950 * MS, 4950 * MS, 6300 * MS, 7500 * MS]
    assert offset(flash, click) == Offset(offset_ms=50.0, spread_ms=7.07, n_pairs=5)


def test_a_click_belongs_to_one_flash() -> None:
    flash = [k * 1000 * MS for k in range(6)]
    assert offset([*flash, 400 * MS], flash).n_pairs == 6


@pytest.mark.parametrize(
    ("flash", "click", "text"),
    [
        ([], [1, 2, 3], r"5 or more flashes .*, got 0 of 0 flashes and 3 clicks; try more light"),
        ([k * 1000 * MS for k in range(9)], [], r"got 0 of 9 flashes and 0 clicks; try a louder click"),
        (
            [k * 1000 * MS for k in range(8)],
            [k * 1000 * MS + d * MS for k, d in enumerate((-200, 150, -90, 60, 220, -150, 20, 110))],
            r"agree within 40 ms, 8 of 8 flashes and 8 clicks spread over 149 ms; try a louder click",
        ),
    ],
)
def test_what_cannot_be_told_says_what_to_do(flash: list[int], click: list[int], text: str) -> None:
    with pytest.raises(OffsetError, match=text):
        offset(flash, click)


# whole files


@pytest.mark.parametrize("offset_ms", [0.0, 80.0, -120.0])
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("a.mkv", {}),
        ("a.avi", {}),
        ("a.mp4", {}),
        ("a.mkv", {"rate_hz": 15}),
        ("a.mkv", {"shutter_s": 0.03}),
        ("a.mkv", {"noise": 0.03}),
    ],
)
def test_eight_flashes_of_a_file_tell_its_offset_within_5_ms(
    tmp_path: Path, name: str, changes: dict[str, float], offset_ms: float
) -> None:
    clip = flash_and_click(tmp_path / name, offset_ms=offset_ms, n_flashes=8, **changes)  # type: ignore[arg-type]
    with MediaSource(str(clip), speed=Speed.MAX) as source:
        found = measure(source)
    assert found.offset_ms == pytest.approx(offset_ms, abs=5)
    assert found.n_pairs == 8


def test_it_ends_as_soon_as_enough_came_and_bears_gaps() -> None:
    times_s = flash_times_s(10)
    t_ns = grid(26 * 13)
    image = {20.0: np.full((8, 8, 3), 20, np.uint8), 200.0: np.full((8, 8, 3), 200, np.uint8)}
    levels = lit(t_ns, [(round(s * 1e9), round((s + 0.2) * 1e9)) for s in times_s])
    sound = clicking(times_s, 16_000, 0.5, 0.001 * np.random.default_rng(4).standard_normal(13 * 16_000))
    blocks = [AudioBlock(first=k, samples=sound[k : k + 800]) for k in range(0, len(sound), 800)]
    del blocks[35:38]  # 150 ms were never captured: neither their edge nor what follows is a click
    frames = [VideoFrame(t_ns=t, image=image[level]) for t, level in zip(t_ns, levels, strict=True)]
    items = sorted([*blocks, *frames], key=lambda i: i.t_ns if isinstance(i, VideoFrame) else i.first * 62_500)
    read = iter(items)
    found = measure(read, n_flashes=5)
    assert (found.n_pairs, found.offset_ms) == (5, pytest.approx(0, abs=20))
    assert next(read) not in items[: len(items) // 3]
    assert next(read) in items[: len(items) * 3 // 4]
    read = iter(items)
    assert measure(read, longest_s=8.0).n_pairs in (5, 6)


# what is stored


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path))
    return tmp_path


def test_each_pair_of_devices_has_its_offset(home: Path) -> None:
    assert stored_offset("cam", "mic") is None
    first = Offset(offset_ms=81.5, spread_ms=11.0, n_pairs=12)
    assert store_offset("cam", "mic", first, "2026-01-31T12:00:00.000Z") == home / "devices.json" == offsets_path()
    store_offset("cam", "headset", Offset(offset_ms=-20.0, spread_ms=9.0, n_pairs=8), "2026-02-01T12:00:00.000Z")
    store_offset("cam", "mic", Offset(offset_ms=79.0, spread_ms=11.0, n_pairs=12), "2026-02-02T12:00:00.000Z")
    assert (stored_offset("cam", "mic"), stored_offset("cam", "headset")) == (79.0, -20.0)
    assert stored_offset("mic", "cam") is None


@pytest.mark.parametrize("content", ["{", "[]", '{"cam|mic": 5}', '{"cam|mic": {"offset_ms": "far"}}'])
def test_a_damaged_file_is_one_line_and_is_not_written_over(home: Path, content: str) -> None:
    (home / "devices.json").write_text(content)
    for call in (
        lambda: stored_offset("cam", "mic"),
        lambda: store_offset("cam", "mic", Offset(offset_ms=1.0, spread_ms=1.0, n_pairs=5), ""),
    ):
        with pytest.raises(OffsetError, match=r"devices.json, it cannot be read \(.*\); remove it and run"):
            call()
    assert (home / "devices.json").read_text() == content
