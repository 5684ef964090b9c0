"""Calibration without devices: files stand in for them, and what is shown is written down."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.bundle import load
from stream.av_offset import OffsetError, measure
from stream.baseline import KINDS, BaselineError, read_baseline
from stream.clock import ManualClock
from stream.config import SessionConfig
from stream.delivery import Delivery
from stream.device_offsets import stored_offset
from stream.sources.media import MediaSource, Speed
from tests.flash_and_click import flash_and_click
from tests.media_files import Audio, Video, write_media
from tests.sessions import played
from tools.capture.calibrate import make_clip, measure_offset, take_neutral
from tools.capture.flash_show import SOUND_HZ, click_samples, click_wave, show_flashes
from tools.replaying.demo_clip import make

NAMES = {"camera": "cam", "microphone": "mic"}


def source(path: Path) -> MediaSource:
    return MediaSource(str(path), speed=Speed.MAX)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMOCAST_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo.mp4"
    make(path)
    return path


# the offset


def test_the_offset_is_measured_said_and_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = flash_and_click(tmp_path / "a.mkv", offset_ms=80)
    found = measure_offset(source(clip), names=NAMES.copy, n_flashes=8)
    assert found.offset_ms == pytest.approx(80, abs=5)
    assert stored_offset("cam", "mic") == found.offset_ms
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "looking and listening for 8 flashes with a click, at most 60 s"
    assert said[1].startswith(f"the picture of cam is {found.offset_ms:.1f} ms late against mic (8 pairs, each ± ")


def test_nothing_is_stored_where_nothing_was_measured(tmp_path: Path, home: Path) -> None:
    still = write_media(tmp_path / "still.mkv", video=Video(n_frames=75), audio=Audio(duration_s=3.0))
    with pytest.raises(OffsetError, match="5 or more flashes"):
        measure_offset(source(still), names=NAMES.copy)
    silent = write_media(tmp_path / "silent.mkv", video=Video())
    with pytest.raises(ValueError, match=r"expected a camera and a microphone, got .* alone"):
        measure_offset(source(silent), names=NAMES.copy)
    assert not home.exists()


class Shown:
    """A screen and a speaker that write down what they are told."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.lit_ns: list[int] = []
        self.clicks_ns: list[int] = []
        self.on = False

    def light(self, on: bool) -> None:
        assert on != self.on
        self.on = on
        if on:
            self.lit_ns.append(self.clock.now_ns())

    def click_at(self, t_ns: int) -> None:
        assert t_ns > self.clock.now_ns() + 500_000_000  # in time for any sound card
        self.clicks_ns.append(t_ns)


def test_the_screen_is_lit_a_display_s_delay_before_each_click_at_many_phases() -> None:
    clock = ManualClock(jumps=True)
    shown = Shown(clock)
    done: Callable[[], bool] = lambda: len(shown.lit_ns) == 12  # noqa: E731
    assert show_flashes(shown, shown, clock, done=done) == 12
    assert not shown.on
    assert {click - light for click, light in zip(shown.clicks_ns, shown.lit_ns, strict=True)} == {25_000_000}
    for rate_hz in (15, 25, 30, 60):
        phases = np.array(shown.clicks_ns) / 1e9 * rate_hz % 1
        assert len(np.unique((phases * 3).astype(int))) == 3  # each third of a frame is met
    assert show_flashes(Shown(clock), shown, clock, done=lambda: False, n_most=2) == 2


def test_clicks_are_the_same_however_their_sound_is_cut() -> None:
    times_ns = [10_000_000, 60_000_000]
    whole = click_samples(times_ns, 0, 4800, SOUND_HZ)
    parts = [click_samples(times_ns, k * 10**9 // SOUND_HZ, 240, SOUND_HZ) for k in range(0, 4800, 240)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-3)
    np.testing.assert_allclose(whole[480:1440], click_wave(np.arange(960) / SOUND_HZ), atol=1e-6)
    assert not whole[:480].any()


def test_the_clip_for_a_phone_has_each_click_at_the_first_white_frame(tmp_path: Path) -> None:
    with source(make_clip(tmp_path / "clip.mp4")) as clip:
        found = measure(clip, n_flashes=20)
    # its flashes begin with frames: half of a frame period early by the middle between two
    assert found.offset_ms == pytest.approx(-1000 / 60, abs=2)
    assert found.n_pairs >= 20


def test_a_clip_of_another_kind_or_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--make: expected a name that ends in .mp4, .mkv or .mov, got clip.gif"):
        make_clip(Path("clip.gif"))
    with pytest.raises(ValueError, match=r"--make: .*none/clip.mp4 cannot be written: No such file"):
        make_clip(tmp_path / "none" / "clip.mp4")


# the baseline


def test_a_neutral_period_is_taken_kept_and_used(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = SessionConfig(engine="onnx")
    taken = take_neutral(source(demo), 4.0, person="anna", session=config, delivery=Delivery.WAIT)
    assert read_baseline("anna", load("default")) == taken
    assert taken.person == "anna"
    assert 14 <= sum(taken.n_windows.values()) <= 16  # four a second
    assert "kept in" in capsys.readouterr().out
    # a face that smiles all the time is read as happy: that is taken for its standing bias
    label = taken.labels.index("happiness")
    assert min(taken.shift[kind][label] for kind in KINDS) == pytest.approx(-1.386294)
    plain, corrected = played(demo, engine="onnx"), played(demo, engine="onnx", baseline="anna")
    assert {e.baseline for e in plain.of(1)} == {None}
    assert {e.baseline for e in corrected.of(1)} == {"anna"}
    assert len(plain.estimates) == len(corrected.estimates)
    for before, after in zip(plain.of(1), corrected.of(1), strict=True):
        assert after.posterior["happiness"] <= before.posterior["happiness"] + 1e-6
        assert before.windows == after.windows
        assert sum(after.posterior.values()) == pytest.approx(1, abs=1e-5)


def test_a_session_refuses_a_baseline_that_is_not_there(demo: Path) -> None:
    with pytest.raises(BaselineError, match=r"baseline: expected a JSON file or a person \(nobody\), got 'bob'"):
        played(demo, engine="onnx", baseline="bob")


def test_what_gives_no_baseline_is_refused_before_and_after(tmp_path: Path, home: Path) -> None:
    nobody = write_media(tmp_path / "nobody.mkv", video=Video(n_frames=75))
    with pytest.raises(BaselineError, match="8 or more windows with one face or a voice, got 0; sit alone"):
        take_neutral(source(nobody), 3.0, person="a", session=SessionConfig(engine="onnx"), delivery=Delivery.WAIT)
    for session in (SessionConfig(model=("default", "default")), SessionConfig(baseline="anna")):
        with pytest.raises(BaselineError, match="expected one --model and no --baseline"):
            take_neutral(source(nobody), person="a", session=session)
    with pytest.raises(BaselineError, match="seconds: expected 2 to 600, got 1"):
        take_neutral(source(nobody), 1, person="a", session=SessionConfig())
    assert not home.exists()
