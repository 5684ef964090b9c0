"""A process that flashes before a camera and clicks into a microphone at the same instants, and measures their offset.

    python -m tests.alignment_process CAMERA_URL MICROPHONE SPEAKER N_FLASHES

The camera is `tests.mjpeg_server` with the clip of `tests.flash_and_click`, whose flashes are known on the monotonic
clock once the clip is begun; the clicks are placed on the same clock by PortAudio's account of its output. Prints
the offset that the live source leaves between them, as JSON.
"""

import json
import sys
import urllib.request
from functools import partial
from typing import Any

import numpy as np
import sounddevice

from stream.av_offset import Watch, offset
from stream.clock import MonotonicClock
from stream.sources.camera import Camera
from stream.sources.drift import LiveAudioGrid
from stream.sources.live import LiveSource
from stream.sources.microphone import Microphone
from stream.windows import NS_PER_S
from tests.flash_and_click import EVERY_S, FIRST_S, flash_times_s
from tools.capture.flash_show import SOUND_HZ, click_samples


def main(camera: str, microphone: str, speaker: str, n_flashes: str) -> None:
    clock, times_ns = MonotonicClock(), list[int]()

    def fill(out: np.ndarray, n: int, time: Any, status: Any) -> None:
        start_ns = clock.now_ns() + round((time.outputBufferDacTime - time.currentTime) * NS_PER_S)
        out[:, 0] = click_samples(times_ns, start_ns, n, SOUND_HZ)

    source = LiveSource(
        camera=lambda sink: Camera(camera, clock=clock, sink=sink),
        microphone=lambda sink: Microphone(microphone, clock=clock, sink=sink),
        grid=LiveAudioGrid,
        clock=clock,
    )
    output = partial(sounddevice.OutputStream, samplerate=SOUND_HZ, channels=1, dtype="float32", latency="low")
    with source, output(callback=fill, device=speaker):
        with urllib.request.urlopen(camera + "begin") as answer:
            began_ns = int(answer.read())
        times_ns += [began_ns + round(t_s * NS_PER_S) for t_s in flash_times_s(int(n_flashes))]
        watch = Watch()
        for item in source:
            watch.take(item)
            if watch.reached_ns > (FIRST_S + EVERY_S * int(n_flashes)) * NS_PER_S:
                source.stop()
    found = offset(*watch.found())
    print(json.dumps({"offset_ms": found.offset_ms, "n_pairs": found.n_pairs}))


if __name__ == "__main__":
    main(*sys.argv[1:])
