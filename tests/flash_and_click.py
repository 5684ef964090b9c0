"""Makes a clip of white flashes and clicks at known times, as a camera and a microphone would have taken them.

    flash_and_click(path, offset_ms=80)

The flashes begin between frames, each at another phase, as they do before a real camera: a frame is white where the
light was on at its time. The click of each sounds `offset_ms` before the flash, so that the picture is late by that
(negative: early). `.mkv` and `.avi` hold PCM, whose clicks are exact to the sample; `.mp4` holds AAC. To run it as a
camera: `python -m tests.mjpeg_server CLIP --rate 25`, with the sound of the same file as the microphone's.
"""

from pathlib import Path

import numpy as np

from tests.media_files import Audio, Video, write_media

FIRST_S, EVERY_S, LIT_S = 1.0, 1.2, 0.2


def flash_times_s(n_flashes: int = 10, rate_hz: int = 25) -> list[float]:
    """When each flash begins: every 1.2 s, at phases that are spread evenly over a frame."""
    phases = [(k * 7 % n_flashes + 0.5) / n_flashes for k in range(n_flashes)]  # not in order of their size
    return [FIRST_S + EVERY_S * k - phase / rate_hz for k, phase in enumerate(phases)]


def flash_and_click(
    path: Path,
    *,
    offset_ms: float = 0.0,
    n_flashes: int = 10,
    rate_hz: int = 25,
    noise: float = 0.002,
    shutter_s: float = 0.0,
    grain: int = 0,
    size_px: tuple[int, int] = (160, 120),
    seed: int = 0,
) -> Path:
    """Write the clip; returns the path.

    Args:
        path: Where to; .mkv, .avi or .mp4.
        offset_ms: How late the picture is.
        n_flashes: How many, one each 1.2 s.
        rate_hz: Frames a second.
        noise: Standard deviation of the noise in the sound, of full scale 1.
        shutter_s: How long each frame is exposed around its time; a flash that begins meanwhile gives a grey one.
        grain: Most that a pixel departs from its level; with 0 dark frames are the same byte for byte, which no
            camera's are.
        size_px: Width and height.
        seed: Of the noise.
    """
    times_s = np.array(flash_times_s(n_flashes, rate_hz))
    duration_s = FIRST_S + EVERY_S * n_flashes

    def picture(i: int, height_px: int, width_px: int) -> np.ndarray:
        into_s = i / rate_hz - times_s  # negative before a flash
        if shutter_s:
            lit = np.clip(into_s / shutter_s + 0.5, 0, 1) * (into_s < LIT_S)
        else:
            lit = (into_s >= -1e-9) & (into_s < LIT_S)
        level = round(20 + 215 * float(lit.max()))
        spread = np.random.default_rng(i).integers(-grain, grain + 1, (height_px, width_px, 1))
        return np.broadcast_to(level + spread, (height_px, width_px, 3)).astype(np.uint8)

    generator = np.random.default_rng(seed)

    def sound(t_s: np.ndarray) -> np.ndarray:
        wave = noise * generator.standard_normal(len(t_s))
        for at_s in times_s - offset_ms / 1e3:
            into_s = t_s - at_s
            fading = 0.8 * np.exp(-np.maximum(into_s, 0.0) / 0.004)
            wave += np.where(into_s >= 0, fading * np.sin(2 * np.pi * 2000 * into_s), 0.0)
        return wave

    width_px, height_px = size_px
    n_frames = round(duration_s * rate_hz)
    heard, seen = ("aac" if path.suffix == ".mp4" else "pcm_s16le"), ("mjpeg" if path.suffix == ".avi" else "libx264")
    audio = Audio(rate_hz=48_000, duration_s=duration_s, codec=heard, sound=sound)
    video = Video(
        width_px=width_px,
        height_px=height_px,
        rate_hz=rate_hz,
        n_frames=n_frames,
        picture=picture,
        codec=seen,
        pixels="yuvj420p" if seen == "mjpeg" else "yuv420p",
        options=() if seen == "mjpeg" else Video.options,
    )
    return write_media(path, video=video, audio=audio)
