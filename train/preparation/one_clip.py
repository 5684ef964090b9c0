"""One clip while its file is read: the stream's own perception of its pictures, its samples, and what is wrong."""

from collections import Counter, defaultdict
from typing import cast

import msgspec
import numpy as np

from engines.bundle import FaceInput
from stream.clip_assembly import with_flow
from stream.perception.detection import Detection, FaceDetector
from stream.perception.pose import N_LANDMARKS, PoseEstimator
from stream.perception.views import Perception, View
from stream.records import RATE_HZ, AudioBlock, Face, FrameFaces, SourceEvent, VideoFrame
from stream.voice import peak_level_dbfs
from stream.windows import NS_PER_S, sample_index
from train.corpora.clips import Clip, Side
from train.preparation.prepared import Needs, Prepared

SHORTEST_S = 0.1  # an analysis window
SHORT_S = 0.25  # a file may end that much before a clip in it does: a matter of how containers round
BROKEN = ("truncated", "damaged")  # what a source says of a file that is not whole
ANY_SCENE = FaceInput(size_px=16, align="frame")  # where no crops are needed, perception cuts these


class NoFaces:
    """Stands in for a detector where pictures are taken whole: it finds nobody, and costs nothing."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        """No faces."""
        return []


class Take:
    """A clip being read; its times begin with the clip. One thread at a time.

    Args:
        clip: The clip.
        needs: What is taken out of it.
        detector: An open one, which stays open.
        estimator: An open one, where pose is needed.
    """

    def __init__(
        self, clip: Clip, needs: Needs, detector: FaceDetector | NoFaces, estimator: PoseEstimator | None
    ) -> None:
        self.clip = clip
        self.end_ns = None if clip.end_s is None else round(clip.end_s * NS_PER_S)
        self._start_ns = round(clip.start_s * NS_PER_S)
        self._needs = needs
        self._picture = needs.face or ANY_SCENE
        if self._picture.align == "frame":  # then the whole picture is there even where it shows nobody
            self._picture = msgspec.structs.replace(self._picture, fallback="frame")
        view = View(self._picture, rate_hz=needs.frame_hz, flow=needs.flow)
        # Not entered: that would only open and close the detector. Pose is estimated here, because opening its networks
        # for each clip, as perception does for each stream, costs as much as half of a clip.
        self._perception, self._estimator = Perception([view], detector=cast(FaceDetector, detector)), estimator
        self._seen: list[FrameFaces] = []
        self._poses: dict[int, np.ndarray] = {}
        self._n_looked = 0
        self._first_ns = self._last_ns = 0
        self._heard: list[tuple[int, np.ndarray]] = []
        self._broken: list[str] = []

    def look(self, frame: VideoFrame, period_ns: int) -> None:
        """Take the file's next picture, which is shown for about `period_ns`."""
        if frame.t_ns < self._start_ns or (self.end_ns is not None and frame.t_ns >= self.end_ns):
            return
        t_ns = frame.t_ns - self._start_ns
        self._first_ns = self._first_ns if self._n_looked else t_ns
        self._last_ns, self._n_looked = t_ns + period_ns, self._n_looked + 1
        image = side_of(frame.image, self.clip.side)
        [seen] = self._perception.process(VideoFrame(t_ns=t_ns, image=image))
        if seen is None:
            return
        self._seen.append(seen)
        if self._estimator is not None and (pose := self._estimator.estimate(image, t_ns)) is not None:
            self._poses[t_ns] = pose.landmarks

    def hear(self, block: AudioBlock) -> None:
        """Take the file's next sound."""
        first = block.first - sample_index(self._start_ns, RATE_HZ)
        end = (
            None if self.end_ns is None else sample_index(self.end_ns, RATE_HZ) - sample_index(self._start_ns, RATE_HZ)
        )
        stop = len(block.samples) if end is None else min(len(block.samples), end - first)
        if stop > max(0, -first):
            self._heard.append((max(0, first), block.samples[max(0, -first) : stop]))

    def note(self, event: SourceEvent) -> None:
        """Take what the source says of the file. Of a longer recording only the clip's own length is judged."""
        if event.kind in BROKEN and self.end_ns is None:
            self._broken.append(f"{event.kind}: {event.text}")

    def finish(self) -> Prepared | str:
        """The clip, or all that is wrong with it, in one line."""
        samples = self._samples() if self._needs.audio else None
        wrong = list(dict.fromkeys(self._broken))
        if self._wants_pictures:
            wrong += self._wrong_with_pictures()
        if samples is not None:
            wrong += self._wrong_with_sound(samples)
        kept = self._kept()
        if self._wants_pictures and self._seen and not kept:
            wrong.append(f"none of its {len(self._seen)} pictures shows a face")
        return "; ".join(wrong) if wrong else self._prepared(kept, samples)

    @property
    def _wants_pictures(self) -> bool:
        return self._needs.face is not None or self._needs.pose

    def _samples(self) -> np.ndarray:
        samples = np.zeros(max((first + len(part) for first, part in self._heard), default=0), np.float32)
        for first, part in self._heard:
            samples[first : first + len(part)] = part
        return samples

    def _wrong_with_pictures(self) -> list[str]:
        if not self._n_looked:
            return ["it has no picture"]
        return self._wrong_length("picture", self._first_ns / NS_PER_S, self._last_ns / NS_PER_S)

    def _wrong_with_sound(self, samples: np.ndarray) -> list[str]:
        if not len(samples):
            return ["it has no sound"]
        wrong = self._wrong_length("sound", 0.0, len(samples) / RATE_HZ)
        level = peak_level_dbfs(samples, RATE_HZ)
        if not wrong and level < self._needs.silence_dbfs:
            wrong.append(
                f"it is silent: its loudest 50 ms have {level:.0f} dBFS, less than {self._needs.silence_dbfs:g}"
            )
        return wrong

    def _wrong_length(self, what: str, first_s: float, last_s: float) -> list[str]:
        if last_s - first_s < SHORTEST_S:
            return [f"its {what} lasts {last_s - first_s:.3f} s, less than the {SHORTEST_S:g} s of an analysis window"]
        if self.clip.end_s is not None and self.clip.end_s - self.clip.start_s - last_s > SHORT_S:
            return [f"its {what} ends at {self.clip.start_s + last_s:.2f} s, the clip at {self.clip.end_s:.2f} s"]
        return []

    def _kept(self) -> list[tuple[int, Face, bool]]:
        # Time, crop, and whether it shows the clip's person: who is in most pictures, among equals who is largest.
        n_seen: Counter[int] = Counter()
        area_px: defaultdict[int, int] = defaultdict(int)
        for seen in self._seen:
            for face in seen.faces:
                n_seen[face.person] += 1
                area_px[face.person] += face.box[2] * face.box[3]
        person = max(n_seen, key=lambda one: (n_seen[one], area_px[one], -one), default=None)
        kept: list[tuple[int, Face, bool]] = []
        for seen in self._seen:
            own = [face for face in seen.faces if face.person == person and self._picture.align != "frame"]
            if chosen := own or ([seen.whole] if seen.whole is not None else []):
                kept.append((seen.t_ns, chosen[0], bool(own) or self._picture.align == "frame"))
        return kept

    def _prepared(self, kept: list[tuple[int, Face, bool]], samples: np.ndarray | None) -> Prepared:
        faces, needs = with_flow(tuple(face for _, face, _ in kept)), self._needs
        crops = needs.face is not None
        nobody = np.zeros((N_LANDMARKS, 3), np.float32)
        return Prepared(
            name=self.clip.name,
            times_s=np.array([t_ns / NS_PER_S for t_ns, _, _ in kept], np.float64),
            crops=np.stack([face.crop for face in faces]) if crops else None,
            seen=np.array([seen for _, _, seen in kept], np.bool_) if crops else None,
            flow=np.stack([cast(np.ndarray, face.flow) for face in faces]) if needs.flow != "none" else None,
            pose=np.stack([self._poses.get(t_ns, nobody) for t_ns, _, _ in kept]) if needs.pose else None,
            body=np.array([t_ns in self._poses for t_ns, _, _ in kept], np.bool_) if needs.pose else None,
            samples=samples,
        )


def side_of(image: np.ndarray, side: Side) -> np.ndarray:
    """The part of a picture, (height_px, width_px, 3), that shows the person; a half is new, contiguous memory."""
    middle = image.shape[1] // 2
    if side == "whole":
        return image
    return np.ascontiguousarray(image[:, :middle] if side == "left" else image[:, middle:])
