"""Augmentation against loops over the same draws."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from train import augment
from train.frontends.grey_and_mel import standardise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_pictures(n: int) -> Tensor:
    return torch.randint(0, 256, (n, 48, 48), generator=seeded(9), dtype=torch.uint8)


def waves(n: int) -> Tensor:
    return torch.randn(n, 2000, generator=seeded(9)) * 0.1


def spectrograms(n: int) -> Tensor:
    return torch.randn(n, 16, 9, generator=seeded(9))


def faces_24(generator: torch.Generator) -> Tensor:
    return augment.faces(noise_pictures(5), 24, generator)


def voices_1500(generator: torch.Generator) -> Tensor:
    return augment.voices(waves(5), 1500, generator)


def log_mels(generator: torch.Generator) -> Tensor:
    return augment.log_mel(spectrograms(5), generator)


def masked(generator: torch.Generator) -> Tensor:
    return augment.mask(torch.ones(5, 2, 64, 126), generator)


@pytest.mark.parametrize(
    ("augmented", "shape"),
    [(faces_24, (5, 1, 24, 24)), (voices_1500, (5, 1500)), (log_mels, (5, 16, 9)), (masked, (5, 2, 64, 126))],
)
def test_shape_dtype_and_the_same_result_for_the_same_generator(
    augmented: Callable[[torch.Generator], Tensor], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    first = augmented(seeded(4))
    torch.manual_seed(1)  # the global generator has no part in it
    second = augmented(seeded(4))
    assert first.shape == shape
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert not torch.equal(first, augmented(seeded(5)))
    assert all(not torch.equal(first[0], other) for other in first[1:])


@pytest.mark.parametrize("level", [0, 17, 255])
@pytest.mark.parametrize("seed", range(8))
def test_flat_pictures_stay_finite(level: int, seed: int) -> None:
    flat = torch.full((16, 48, 48), level, dtype=torch.uint8)
    augmented = augment.faces(flat, 48, seeded(seed))
    assert torch.isfinite(augmented).all()
    assert augmented.abs().max() < 12


def test_half_of_the_faces_are_mirrored_and_half_lose_a_part() -> None:
    pictures = torch.zeros(600, 48, 48, dtype=torch.uint8)
    pictures[:, :, 24:] = 200  # bright on the right
    augmented = augment.faces(pictures, 24, seeded(1))
    share_mirrored = (augmented[:, 0, :, :12].mean((1, 2)) > augmented[:, 0, :, 12:].mean((1, 2))).float().mean()
    assert 0.43 < share_mirrored < 0.57
    share_hidden = (augmented == 0).flatten(1).any(1).float().mean()
    assert 0.43 < share_hidden < 0.57


def test_without_strength_faces_are_only_mirrored() -> None:
    pictures = noise_pictures(40)
    expected = standardise(pictures.unsqueeze(1).float())
    got = augment.faces(pictures, 48, seeded(3), strength=0.0)
    mirrored = 0
    for picture, plain in zip(got, expected, strict=True):
        if torch.allclose(picture, plain.flip(2), atol=1e-3):
            mirrored += 1
        else:
            torch.testing.assert_close(picture, plain, atol=1e-3, rtol=0)
    assert 10 < mirrored < 30


def test_faces_keep_most_of_the_picture() -> None:
    # A disc in the middle stays bright within and dark in the corners, however it is turned, shifted and lit.
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
    disc = (200 * (x**2 + y**2 < 0.5)).to(torch.uint8).expand(200, 48, 48)
    augmented = augment.faces(disc, 48, seeded(2))[:, 0]
    assert (augmented[:, 18:30, 18:30].mean((1, 2)) > augmented.mean((1, 2))).float().mean() > 0.9


@pytest.mark.parametrize("rate", [0.6, 0.78, 1.0, 1.1, 1.28, 2.5])
def test_stretch_is_interpolation_around_the_middle(rate: float) -> None:
    samples = torch.randn(3, 50, generator=seeded(3), dtype=torch.float64)
    got = augment.stretch(samples, torch.full((3,), rate, dtype=torch.float64), 40)
    assert got.shape == (3, 40)
    position = (np.arange(40) - 20) * rate + 25
    for row, out in zip(samples.numpy(), got.numpy(), strict=True):
        expected = np.interp(position, np.arange(-1, 51), np.concatenate([[0], row, [0]]), left=0, right=0)
        np.testing.assert_allclose(out, expected, atol=1e-12)


def test_each_row_is_stretched_at_its_own_rate() -> None:
    samples = torch.randn(2, 50, generator=seeded(3))
    both = augment.stretch(samples, torch.tensor([0.8, 1.2]), 40)
    torch.testing.assert_close(both[1:], augment.stretch(samples[1:], torch.tensor([1.2]), 40))


def test_voices_shift_pitch_by_about_a_third_of_an_octave_and_read_no_edge() -> None:
    t = torch.arange(26_880) / 16_000
    tone = torch.sin(2 * math.pi * 1000 * t).expand(200, -1)
    augmented = augment.voices(tone, 20_480, seeded(0))
    spectrum = torch.fft.rfft(augmented * torch.hann_window(20_480)).abs()
    octaves = torch.log2(spectrum.argmax(1) * 16_000 / 20_480 / 1000)
    assert octaves.abs().max() < 0.362
    assert octaves.min() < -0.33
    assert octaves.max() > 0.33
    # 26,880 samples hold the window of 20,480 even at the fastest rate: no end reads zero
    assert augment.voices(torch.ones(300, 26_880), 20_480, seeded(0)).abs()[:, [0, -1]].min() > 0


def test_noise_is_added_at_6_to_60_db_and_silence_stays_silent() -> None:
    tone = torch.sin(2 * math.pi * 200 * torch.arange(26_880) / 16_000).expand(200, -1)
    augmented = augment.voices(tone, 20_480, seeded(1))
    high = torch.fft.rfft(augmented).abs().square()[:, 2000:3000].mean(1)  # 1.6 to 2.3 kHz: noise alone, white or brown
    snr_db = 10 * torch.log10(augmented.square().mean(1) * 20_480 / high)
    assert snr_db.max() - snr_db.min() > 40
    assert snr_db.min() > 0
    assert augment.voices(torch.zeros(4, 26_880), 20_480, seeded(1)).abs().max() == 0


def test_the_equaliser_and_the_stretched_mel_axis_are_their_formulas() -> None:
    spectrogram = spectrograms(4)
    got = augment.log_mel(spectrogram, seeded(6))
    same = seeded(6)
    weights = [torch.randn(4, 1, 1, generator=same).reshape(4) * 1.6 / order for order in range(1, 5)]
    warps = torch.exp(-0.12 + 0.24 * torch.rand(4, generator=same))
    for item in range(4):
        for band in range(16):
            axis = band / 15
            gain = sum(float(weights[k][item]) * math.cos(math.pi * (k + 1) * axis) for k in range(4))
            place = min(band * float(warps[item]), 16 - 1.001)
            low = int(place)
            for frame in range(9):
                near, far = float(spectrogram[item, low, frame]), float(spectrogram[item, low + 1, frame])
                expected = near * (1 - place + low) + far * (place - low) + gain
                assert float(got[item, band, frame]) == pytest.approx(expected, abs=1e-4)


def test_masks_are_two_bands_and_two_spans_over_both_views() -> None:
    views = augment.mask(torch.ones(400, 2, 64, 126), seeded(0))
    assert set(views.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(views[:, 0], views[:, 1])
    hidden = views[:, 0] == 0
    bands, spans = hidden.all(2), hidden.all(1)
    # nothing is hidden but whole bands and whole spans
    assert torch.equal(hidden, bands[:, :, None] | spans[:, None, :])
    assert bands.sum(1).max() <= 20
    assert spans.sum(1).max() <= 40
    # widths are uniform in [0, 10) and [0, 20): two means of 5 of 64 and 10 of 126, less where they overlap
    expected = 1 - (1 - 5 / 64) ** 2 * (1 - 10 / 126) ** 2
    assert hidden.float().mean().item() == pytest.approx(expected, abs=0.025)
    runs = (torch.diff(bands.int(), dim=1, prepend=torch.zeros(400, 1)) == 1).sum(1)
    assert runs.max() == 2
