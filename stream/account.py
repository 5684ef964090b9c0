"""What a stream has come to so far: what its queues dropped, its status message, and its totals at the end."""

from collections.abc import Sequence

from stream.feed.messages import Status
from stream.hop_choice import LeftOut
from stream.lane import Lane
from stream.meters import Meters
from stream.notes import status_message
from stream.perception.seen import SeenFaces
from stream.records import RATE_HZ
from stream.rings import AudioRing, FrameRing
from stream.source import Source
from stream.windows import NS_PER_S


class Account:
    """Reads the meters and the queues of a running stream. Scoring thread.

    Args:
        stream: Its name.
        source: Where its media come from.
        meters: What it measures of itself.
        frames: Captured frames that wait; None where there is no picture.
        lanes: The recognisers, the first one first.
    """

    def __init__(
        self, stream: str, source: Source, meters: Meters, frames: FrameRing | None, lanes: Sequence[Lane]
    ) -> None:
        self._stream, self._source, self._meters = stream, source, meters
        self._frames, self._lanes = frames, lanes

    def drops(self) -> dict[str, int]:
        """Queue to what it dropped; of all recognisers together: what any of them lost is told."""
        queues: dict[str, Sequence[FrameRing | SeenFaces | AudioRing | None]] = {
            "frames": [self._frames],
            "faces": [lane.seen for lane in self._lanes],
            "audio_samples": [lane.audio for lane in self._lanes],
        }
        there = {name: [ring for ring in rings if ring is not None] for name, rings in queues.items()}
        drops = {name: sum(ring.n_dropped for ring in rings) for name, rings in there.items() if rings}
        if self._source.health().left_out:
            drops["device_items"] = self._source.health().left_out
        if n_overtaken := self._meters.total(LeftOut.OVERTAKEN):
            drops["hops"] = n_overtaken
        return drops

    def status(self, t_ns: int, engine: tuple[str, str]) -> Status:
        """How it stands at a media time; `engine` is the backend that runs, and why."""
        audio = next((lane.audio for lane in self._lanes if lane.audio is not None), None)
        return status_message(
            self._stream,
            t_ns,
            self._meters,
            persons=len(self._lanes[0].present),
            drops=self.drops(),
            audio_gap_s=audio.n_gap / RATE_HZ if audio is not None else 0.0,
            engine=engine,
            picture=self._frames.picture if self._frames is not None else None,
            health=self._source.health(),
        )

    def totals(self, t_ns: int) -> dict[str, float]:
        """What it amounts to, at its end. Hops that were left out because somebody asked are no drops."""
        total = self._meters.total
        totals = {
            "media_s": round(t_ns / NS_PER_S, 6),
            "frames": total("frames"),
            "analysed_frames": total("analysed"),
            "hops": total("hops"),
            "estimates": total("labelled") + total("abstained"),
            "abstained": total("abstained"),
            **{f"dropped_{name}": n for name, n in self.drops().items()},
        }
        if n_asked := total(LeftOut.ASKED):
            totals["left_out_hops"] = n_asked
        return totals
