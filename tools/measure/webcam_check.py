"""Does the stream see faces as the recogniser was trained to? FER+ pictures, shown as a webcam would show them.

    python -m tools.measure.webcam_check FERPLUS_DIR [--n 600]

Each grey 48-pixel picture is enlarged, tinted like skin under a lamp, set into a noisy colour frame of 640 x 360,
turned a little, compressed as JPEG, found by the stream's own detector, and cut by the bundle's geometry. What it then
scores, beside the same picture scored as it is, tells what detector, alignment and colour cost.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from engines.bundle import load
from engines.select import Engines
from stream.perception.crops import cut
from stream.perception.detection import FaceDetector
from train.corpora import ferplus

FRAME = (360, 640)


def webcam_frame(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A grey (48, 48) uint8 picture in a colour frame, (360, 640, 3) uint8 RGB."""
    side = int(generator.integers(110, 200))
    large = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
    # A border of its own edge: the detector wants to see where a face ends.
    large = cv2.copyMakeBorder(large, side // 3, side // 3, side // 3, side // 3, cv2.BORDER_REPLICATE)
    tint = np.array([1.0, generator.uniform(0.7, 0.95), generator.uniform(0.5, 0.9)])
    colour = np.clip(large[..., None] * tint, 0, 255)
    frame = np.full((*FRAME, 3), generator.integers(40, 200, 3), np.float64)
    height, width = colour.shape[:2]
    top, left = int(generator.integers(0, FRAME[0] - height + 1)), int(generator.integers(0, FRAME[1] - width + 1))
    frame[top : top + height, left : left + width] = colour
    centre = (left + width / 2, top + height / 2)
    turn = cv2.getRotationMatrix2D(centre, generator.uniform(-15, 15), 1.0)
    turned = cv2.warpAffine(frame, turn, FRAME[::-1], borderMode=cv2.BORDER_REPLICATE)
    noisy = np.clip(turned + generator.normal(0, 4, turned.shape), 0, 255)
    _, packed = cv2.imencode(".jpg", noisy.astype(np.uint8)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))[..., ::-1]


def main() -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ferplus", type=Path)
    parser.add_argument("--n", type=int, default=600)
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    bundle = load(arguments.model)
    faces = ferplus.read(arguments.ferplus, "valid")
    generator = np.random.default_rng(0)
    chosen = generator.permutation(len(faces.names))[: arguments.n]
    crops, kept = [], []
    with FaceDetector() as detector:
        for index in chosen:
            frame = webcam_frame(faces.images[index], generator)
            found = detector.detect(np.ascontiguousarray(frame))
            if found:
                crops.append(cut(frame, max(found, key=lambda face: face.score), bundle.manifest.face))
                kept.append(index)
    engine = Engines().open(bundle, "frame_encoder")

    def right(pictures: np.ndarray) -> float:
        return float((engine.run({"crop": pictures})["posterior"].argmax(1) == faces.majority[kept]).mean())

    plain = np.repeat(faces.images[kept][..., None], 3, axis=3)
    print(f"{len(chosen)} pictures of FER+ valid, {len(kept)} found by the detector ({len(kept) / len(chosen):.1%})")
    print(f"accuracy of those: {right(plain):.1%} as they are, {right(np.stack(crops)):.1%} through the webcam frame")
    return 0


if __name__ == "__main__":
    sys.exit(main())
