"""Assembly: one segment of the stream to the windows that are scored for it, one a person.

A window is due once its segment is over, every frame of it was analysed, and the end of its audio has arrived. What
is formed depends on media time alone, never on when or in what pieces the media came.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engines.bundle import AudioInput
from stream.perception.seen import PersonEvent, SeenFaces
from stream.records import RATE_HZ, VOICE_ONLY, FrameFaces, Window
from stream.rings import AudioRing
from stream.voice import VoiceState, voice_state
from stream.windows import NS_PER_S, Draw, WindowScheme, sample_index

WAIT_S = 0.2  # between two looks at the clock while a window is not due yet


@dataclass(frozen=True, kw_only=True, eq=False)
class Hop:
    """What one segment gave: its windows, ascending by person, who came and went, and the newest media it needed."""

    segment: int
    windows: list[Window]
    events: list[PersonEvent]
    needed_ns: int


class WindowAssembler:
    """Forms the windows of segment after segment. Scoring thread.

    Args:
        scheme: The window scheme.
        seed: Seed of the draws.
        stream: Name of the stream, which the draws are keyed by too.
        seen: What perception has seen; None where the stream has no picture.
        audio: The audio ring; None where the stream has no sound.
        spec: When a window holds a voice.
        lose_ns: A person is lost when no frame at all came for so long.
    """

    def __init__(
        self,
        *,
        scheme: WindowScheme,
        seed: int,
        stream: str,
        seen: SeenFaces | None,
        audio: AudioRing | None,
        spec: AudioInput,
        lose_ns: int = 2 * NS_PER_S,
    ) -> None:
        self._scheme, self._seed, self._stream = scheme, seed, stream
        self._seen, self._audio, self._spec, self._lose_ns = seen, audio, spec, lose_ns
        self._present: list[int] = []
        self._last_frame_ns = 0

    @property
    def present(self) -> tuple[int, ...]:
        """Persons tracked now, ascending."""
        return tuple(self._present)

    def next_hop(self, segment: int, idle: Callable[[], None]) -> Hop | None:
        """Wait until a segment's windows are due and form them; None where the stream ended before the segment.

        Args:
            segment: The segment; to be asked for in order, each once.
            idle: Called now and then while waiting.

        Raises:
            Aborted: If the stream was aborted.
        """
        bounds = self._scheme.segment_bounds(segment)
        while self._seen is not None and not self._seen.wait_past(bounds[1], WAIT_S):
            idle()
        frames = self._seen.take(*bounds) if self._seen is not None else []
        draw = self._draw(segment, bounds, frames)
        # A causal window's audio may end before its segment: what happened until then must be known all the same.
        audio_end = sample_index(max(draw.audio_end_ns, bounds[1]), RATE_HZ)
        while self._audio is not None and not self._audio.wait_until(audio_end, WAIT_S):
            idle()
        if self._ended_before(bounds[0]):
            return None
        if frames:
            self._last_frame_ns = frames[-1].t_ns
        events = self._follow(bounds[1])
        windows = self._windows(draw, bounds[1], frames)
        self._release(bounds[1])
        return Hop(segment=segment, windows=windows, events=events, needed_ns=self._needed(bounds[1], draw))

    def is_due(self, segment: int) -> bool:
        """Whether `next_hop` would not wait for a segment, whatever is drawn for it, and more may come after it."""
        end_ns = self._scheme.segment_bounds(segment)[1]
        for track in (self._seen, self._audio):
            if track is not None and track.closed:
                return False
        awaited = sample_index(end_ns + self._scheme.lookahead_ns, RATE_HZ)
        if self._seen is not None and not self._seen.wait_past(end_ns, 0.0):
            return False
        return self._audio is None or self._audio.wait_until(awaited, 0.0)

    def _draw(self, segment: int, bounds: tuple[int, int], frames: list[FrameFaces]) -> Draw:
        return self._scheme.draw(self._seed, self._stream, segment, bounds, [frame.t_ns for frame in frames])

    def _needed(self, end_ns: int, draw: Draw) -> int:
        # At the end of a stream a window is complete with less than it would have awaited.
        if self._audio is None:
            return end_ns if self._seen is not None and not self._seen.closed else self._last_frame_ns
        if not self._audio.closed:
            return max(end_ns, draw.audio_end_ns)
        heard_ns = self._audio.end * NS_PER_S // RATE_HZ
        return min(max(end_ns, draw.audio_end_ns), max(heard_ns, self._last_frame_ns))

    def _ended_before(self, start_ns: int) -> bool:
        # Both tracks are closed, and neither has anything at or after the segment's start.
        if self._audio is not None and not (self._audio.closed and self._audio.end <= sample_index(start_ns, RATE_HZ)):
            return False
        return self._seen is None or self._seen.ended_before(start_ns)

    def _windows(self, draw: Draw, end_ns: int, frames: list[FrameFaces]) -> list[Window]:
        voice, waveform = self._listen(draw)
        chosen = frames[draw.frame_index].faces if draw.frame_index is not None else ()
        faces = {face.person: face for face in chosen}

        def window(person: int, state: VoiceState) -> Window:
            heard = waveform if state is VoiceState.PRESENT else None
            return Window(person=person, draw=draw, end_ns=end_ns, face=faces.get(person), voice=state, waveform=heard)

        # With several faces in view nothing here can tell whose voice it is: it is scored by itself.
        shared = len(self._present) > 1 and voice is VoiceState.PRESENT
        alone = [window(VOICE_ONLY, voice)] if shared or not self._present else []
        return alone + [window(person, VoiceState.SHARED if shared else voice) for person in self._present]

    def _follow(self, end_ns: int) -> list[PersonEvent]:
        events = []
        for event in self._seen.take_events(end_ns) if self._seen is not None else []:
            if event.kind == "face_found":
                self._present.append(event.person)
            elif event.person in self._present:
                self._present.remove(event.person)
            else:
                continue  # who was lost below already: the tracker only hears of time by the next picture
            events.append(event)
        self._present.sort()
        if self._present and end_ns - self._last_frame_ns > self._lose_ns:
            events += [
                PersonEvent(t_ns=end_ns, kind="face_lost", text=f"person {p} is lost: no picture came", person=p)
                for p in self._present
            ]
            self._present.clear()
        return events

    def _listen(self, draw: Draw) -> tuple[VoiceState, np.ndarray | None]:
        if self._audio is None:
            return VoiceState.NO_TRACK, None
        waveform, n_real = self._audio.read(sample_index(draw.audio_start_ns, RATE_HZ), self._spec.n_samples)
        state = voice_state(
            waveform,
            n_real,
            RATE_HZ,
            silence_dbfs=self._spec.silence_dbfs,
            min_coverage=self._spec.min_coverage,
        )
        return state, waveform

    def _release(self, end_ns: int) -> None:
        if self._audio is not None:
            # The earliest sample that the next segment can ask for: its first instant, drawn b too early.
            after = self._scheme.lookahead_ns - self._scheme.jitter_ns
            first_ns = end_ns + after - self._scheme.jitter_ns - self._scheme.audio_ns
            self._audio.release(max(0, sample_index(first_ns, RATE_HZ)))
