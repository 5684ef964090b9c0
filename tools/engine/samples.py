"""Makes `engines/assets/samples.npz`: the real inputs on which an engine is held against its reference.

    python -m tools.engine.samples VOICE.wav

The pictures, their optical flow and the body's pose are of the demo's portrait (NASA, public domain); the voice is
`sense_and_sensibility_01_austen_64kb-0870.wav`, a reading by LibriVox in the public domain, as the source package of
pocketsphinx 5.1.1 carries it in `test/data/librivox`. They ship with emocast, so that no bundle has to carry the face
or the voice of somebody from its corpus.
"""

import argparse
import sys
from pathlib import Path

import av
import numpy as np

from engines.samples import FLOW_UNIT_PX, RATE_HZ, SAMPLES
from stream.perception.crops import FaceGeometry, cut
from stream.perception.detection import FaceDetector
from stream.perception.flow import OpticalFlow
from stream.perception.pose import PoseEstimator
from tools.replaying.demo_clip import picture, read_portrait

SIZE_PX = 128
MOMENTS_S = (0.5, 1.7, 3.1, 4.2, 5.6, 6.8, 8.1, 9.5)  # two of each expression, the head turned differently
STEP_S = 0.08


def main() -> int:
    """Write the file and say what is in it. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("voice", type=Path)
    waveform = _mono(parser.parse_args().voice)
    portrait, geometry = read_portrait(), FaceGeometry(size_px=SIZE_PX, align="box", margin=0.3)
    crops, flows, poses = [], [], []
    with FaceDetector() as detector, PoseEstimator() as estimator:
        for t_s in MOMENTS_S:
            before, now = picture(portrait, t_s - STEP_S), picture(portrait, t_s)
            (face,) = detector.detect(now)
            crops.append(cut(now, face, geometry))
            flows.append(OpticalFlow("farneback").between(cut(before, face, geometry), crops[-1]))
            body = estimator.estimate(now, round(t_s * 1e9))
            if body is not None:
                poses.append(body.landmarks)
    arrays = {
        "crop": np.stack(crops),
        "flow": np.clip(np.rint(np.stack(flows) / FLOW_UNIT_PX), -127, 127).astype(np.int8),
        "pose": np.stack(poses).astype(np.float32),
        "waveform": np.rint(waveform * 32767).astype(np.int16),
    }
    SAMPLES.parent.mkdir(exist_ok=True)
    np.savez_compressed(SAMPLES, **arrays)
    for name, array in arrays.items():
        print(f"{name:9} {array.dtype} {array.shape}")
    print(f"{SAMPLES}: {SAMPLES.stat().st_size / 1e3:.0f} kB")
    return 0


def _mono(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        if container.streams.audio[0].rate != RATE_HZ:
            raise ValueError(f"expected a voice at {RATE_HZ} Hz, got {path}")
        return np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)]) / 32768


if __name__ == "__main__":
    sys.exit(main())
