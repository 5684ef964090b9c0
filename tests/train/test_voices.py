"""Utterances in memory, and that their windows are those of a stream."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.bundle import AudioInput
from stream.assembly import WindowAssembler
from stream.delivery import Delivery
from stream.records import AudioBlock
from stream.rings import AudioRing
from stream.windows import Alignment, WindowScheme, sample_index
from tests import corpora_files as made
from train.corpora.items import CorpusError, Utterance
from train.voices import MIN_COVERAGE, SILENCE_DBFS, Voices, cut, is_voice, load, random_windows, windows_of

N = 20_480
SPEC = AudioInput(rate_hz=16_000, n_samples=N, silence_dbfs=SILENCE_DBFS, min_coverage=MIN_COVERAGE)


def bursts(n: int, seed: int) -> np.ndarray:
    """Noise that comes and goes for up to a second, (n,) int16."""
    generator = np.random.default_rng(seed)
    level = np.repeat(generator.choice([0.0, 0.0, 1e-3, 0.2], n // 4000 + 1), 4000)[:n]
    return np.asarray(generator.standard_normal(n) * level * 8000, dtype=np.int16)


def streamed(samples: np.ndarray, name: str, scheme: WindowScheme, seed: int) -> list[np.ndarray]:
    """Waveforms of the windows that a stream of these samples, without a picture, would score."""
    ring = AudioRing(60.0, delivery=Delivery.WAIT)
    ring.write(AudioBlock(first=0, samples=samples / np.float32(32768)))
    ring.close()
    assembler = WindowAssembler(scheme=scheme, seed=seed, stream=name, seen=None, audio=ring, spec=SPEC)
    heard, segment = [], 0
    while (hop := assembler.next_hop(segment, lambda: None)) is not None:
        heard += [w.waveform for w in hop.windows if w.waveform is not None]
        segment += 1
    return heard


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 70_000) | st.sampled_from([4000, 4001, 8000, 19_999, 48_000]),
    seed=st.integers(0, 100),
    alignment=st.sampled_from(Alignment),
)
def test_an_utterances_windows_are_those_of_a_stream(n: int, seed: int, alignment: Alignment) -> None:
    scheme = WindowScheme(alignment=alignment)
    samples = bursts(n, seed)
    expected = streamed(samples, "clip", scheme, seed)
    got = windows_of(samples, "clip", scheme, seed)
    if not expected:  # a stream may score nothing, an utterance has one window at least
        expected = [cut(samples, (n - N) // 2, N)[0]]
    assert len(got) == len(expected)
    np.testing.assert_array_equal(got, np.stack(expected))


def test_windows_of_a_voice_throughout() -> None:
    samples = (made.tone(3, 3.0, 0) * 32767).astype(np.int16)
    windows = windows_of(samples, "a", WindowScheme(), 0)
    # 12 segments; those whose window lies mostly beyond an end would be left out, centred at 0 to 3 s none does by half
    assert 10 <= len(windows) <= 12
    assert windows.dtype == np.float32
    assert windows.shape[1] == N
    np.testing.assert_array_equal(windows, windows_of(samples, "a", WindowScheme(), 0))
    assert not np.array_equal(windows[0], windows_of(samples, "b", WindowScheme(), 0)[0])
    assert not np.array_equal(windows[0], windows_of(samples, "a", WindowScheme(), 1)[0])


@pytest.mark.parametrize("n", [0, 1, 5000, 20_480, 48_000])
def test_an_utterance_of_silence_has_the_one_window_around_its_middle(n: int) -> None:
    windows = windows_of(np.zeros(n, np.int16), "a", WindowScheme(), 0)
    assert windows.shape == (1, N)
    assert not windows.any()


def test_the_one_window_lies_around_the_middle() -> None:
    samples = np.arange(1, 30_001).astype(np.int16) % 7  # too quiet to be a voice
    windows = windows_of(samples, "a", WindowScheme(), 0)
    np.testing.assert_array_equal(windows, samples[None, 4760 : 4760 + N] / np.float32(32768))


def test_cut_by_hand() -> None:
    samples = np.array([1, 2, 3, 4], np.int32) * 8192
    for start, n, expected, n_real in (
        (1, 2, [0.5, 0.75], 2),
        (-2, 4, [0, 0, 0.25, 0.5], 2),
        (2, 4, [0.75, 1.0, 0, 0], 2),
        (-1, 6, [0, 0.25, 0.5, 0.75, 1.0, 0], 4),
        (-9, 3, [0, 0, 0], 0),
        (4, 2, [0, 0], 0),
    ):
        window, real = cut(samples, start, n)
        assert window.dtype == np.float32
        np.testing.assert_array_equal(window, expected)
        assert real == n_real


def test_a_voice_is_what_the_stream_would_score() -> None:
    loud = np.full(N, 0.1, np.float32)
    assert is_voice(loud, N)
    assert is_voice(loud, N // 2)
    assert not is_voice(loud, N // 2 - 1)
    assert not is_voice(np.full(N, 0.001, np.float32), N)


def material(*waves: np.ndarray) -> Voices:
    utterances = tuple(
        Utterance(name=f"made/{k}", path=Path(f"{k}.wav"), speaker=f"made/{k}", label=k % 7, split="train")
        for k in range(len(waves))
    )
    return Voices(utterances=utterances, samples=waves)


def test_random_windows_are_wide_ones_around_drawn_windows() -> None:
    voices = material(*(bursts(40_000 + 5000 * k, k + 20) for k in range(4)))
    schemes = (WindowScheme(), WindowScheme(alignment=Alignment.CAUSAL))
    rows = random_windows(voices, [3, 1, 0, 2], schemes, 5, N + 6400)
    assert rows.shape == (4, N + 6400)
    assert rows.dtype == np.float32
    for row, (position, index) in zip(rows, enumerate([3, 1, 0, 2]), strict=True):
        samples, scheme = voices.samples[index], schemes[position % 2]
        drawn = [
            scheme.draw(5, f"made/{index}", k, scheme.segment_bounds(k), ())
            for k in range(scheme.segment_of(len(samples) * 62_500) + 1)
        ]
        wide = [cut(samples, sample_index(d.audio_start_ns, 16_000) - 3200, N + 6400)[0] for d in drawn]
        usable = [
            w
            for w, d in zip(wide, drawn, strict=True)
            if is_voice(*cut(samples, sample_index(d.audio_start_ns, 16_000), N))
        ]
        assert any(np.array_equal(row, w) for w in usable)
    np.testing.assert_array_equal(rows, random_windows(voices, [3, 1, 0, 2], schemes, 5, N + 6400))
    assert not np.array_equal(rows, random_windows(voices, [3, 1, 0, 2], schemes, 6, N + 6400))


def test_random_windows_of_silence_are_around_the_middle() -> None:
    samples = (np.arange(50_000) % 5).astype(np.int16)
    rows = random_windows(material(samples), [0], (WindowScheme(),), 0, N)
    np.testing.assert_array_equal(rows[0], samples[14_760 : 14_760 + N] / np.float32(32768))


def test_load_reads_each_split_and_labels(tmp_path: Path) -> None:
    corpora = [("ravdess", made.ravdess(tmp_path / "r")), ("emodb", made.emodb(tmp_path / "e"))]
    by_split = {split: load(corpora, split) for split in ("train", "valid", "all")}
    assert [len(v.utterances) for v in by_split.values()] == [8 + 6, 8 + 6, 16 + 18]
    voices = by_split["valid"]
    assert {u.speaker for u in voices.utterances} == {"ravdess/17", "emodb/12"}
    assert voices.labels.tolist() == [u.label for u in voices.utterances]
    expected, _ = soundfile.read(voices.utterances[0].path, dtype="int16")
    assert voices.samples[0].dtype == np.int16
    assert len(voices.samples[0]) == 12_800
    assert np.abs(voices.samples[0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("suffix", "rate_hz"), [(".wav", 48_000), (".flac", 44_100), (".wav", 8000), (".opus", 16_000)]
)
def test_load_brings_any_rate_and_channels_to_16_khz_mono(tmp_path: Path, suffix: str, rate_hz: int) -> None:
    made.emodb(tmp_path)
    t = np.arange(rate_hz) / rate_hz
    tone = 0.25 * np.sin(2 * np.pi * 500 * t)
    stereo = np.stack([tone * 1.6, tone * 0.4], axis=1)
    form = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {}
    for old in (tmp_path / "wav").glob("12a01Na.*"):
        old.unlink()
    soundfile.write(tmp_path / "wav" / f"12a01Na{suffix}", stereo, rate_hz, **form)
    voices = load([("emodb", tmp_path)], "valid")
    samples = voices.samples[[u.name for u in voices.utterances].index("emodb/12a01Na")]
    assert len(samples) == pytest.approx(16_000, abs=2)
    expected = 0.25 * np.sin(2 * np.pi * 500 * np.arange(len(samples)) / 16_000)
    tolerance = 0.03 if suffix == ".opus" else 1e-3
    np.testing.assert_allclose(samples[1000:-1000] / 32767, expected[1000:-1000], atol=tolerance)


def test_load_names_what_cannot_be_decoded(tmp_path: Path) -> None:
    made.emodb(tmp_path)
    (tmp_path / "wav" / "12a01Na.wav").write_bytes(b"RIFF nothing")
    (tmp_path / "wav" / "12a01Wa.wav").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"2 of 6 audio files cannot be decoded: 12a01Na\.wav, 12a01Wa\.wav$"):
        load([("emodb", tmp_path)], "valid")


def test_load_refuses_unknown_corpora_empty_splits_and_unknown_splits(tmp_path: Path) -> None:
    made.emodb(tmp_path, speakers=("03",))
    with pytest.raises(CorpusError, match="expected a voice corpus of ravdess, emodb, nemo, cremad, got 'iemocap'"):
        load([("iemocap", tmp_path)], "train")
    with pytest.raises(CorpusError, match=r"emodb at .* holds no speaker of split 'test'; try --split all"):
        load([("emodb", tmp_path)], "test")
    with pytest.raises(CorpusError, match="expected a split of train, valid, test, all, got 'dev'"):
        load([("emodb", tmp_path)], "dev")
