"""Assembly for recognisers that look at a whole clip: the last seconds of each person, at the end of each segment."""

from collections import deque
from dataclasses import replace

import numpy as np

from engines.bundle import AudioInput, ClipInput
from stream.assembly import WindowAssembler
from stream.perception.seen import SeenFaces
from stream.records import RATE_HZ, VOICE_ONLY, Clip, Face, FrameFaces, Window
from stream.rings import AudioRing
from stream.voice import VoiceState
from stream.windows import NS_PER_S, Draw, WindowScheme, sample_index


class ClipAssembler(WindowAssembler):
    """Forms clip windows, one a person, which all end where their segment ends. Scoring thread.

    Nothing is drawn at random: a window is the last `clip.span_s` of pictures and the last waveform, of a stream that
    has begun as late as that too. While a stream is younger, its window holds what there is.

    Args:
        scheme: Its segments are the hops, its audio the waveform.
        seed: Without meaning here.
        stream: Name of the stream.
        seen: What perception has seen; None where the stream has no picture.
        audio: The audio ring; None where the stream has no sound.
        spec: When a window holds a voice.
        clip: The window.
        attributes_voice: With several persons in view, whether each window gets the voice that cannot be told apart,
            as a recogniser needs that can say nothing of a face alone.
        stands_in: Whether the whole picture stands in also where nobody is in view.
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
        clip: ClipInput,
        attributes_voice: bool,
        stands_in: bool = True,
    ) -> None:
        super().__init__(scheme=scheme, seed=seed, stream=stream, seen=seen, audio=audio, spec=spec)
        self._clip, self._attributes_voice, self._stands_in = clip, attributes_voice, stands_in
        self._span_ns = round(clip.span_s * NS_PER_S)
        self._chunk = 0 if clip.chunk_s is None else round(clip.chunk_s * RATE_HZ)
        self._past: deque[FrameFaces] = deque()
        self._chunks: deque[tuple[int, np.ndarray]] = deque()
        self._next_chunk = 0

    def _draw(self, segment: int, bounds: tuple[int, int], frames: list[FrameFaces]) -> Draw:
        held = frames or [frame for frame in self._past if frame.t_ns >= bounds[1] - self._span_ns]
        newest_ns = held[-1].t_ns if held else bounds[1] - 1
        return Draw(
            segment=segment,
            frame_ns=newest_ns,
            frame_index=len(frames) - 1 if frames else None,
            offset_ns=0,
            audio_start_ns=bounds[1] - self._scheme.audio_ns,
            audio_end_ns=bounds[1],
        )

    def _windows(self, draw: Draw, end_ns: int, frames: list[FrameFaces]) -> list[Window]:
        self._past.extend(frames)
        while self._past and self._past[0].t_ns < end_ns - self._span_ns:
            self._past.popleft()
        voice, waveform = self._listen(draw)
        chunks = self._heard_chunks(end_ns)
        if voice is VoiceState.PRESENT and self._chunk and not chunks:
            voice = VoiceState.GAP  # less was heard than one chunk
        shared = len(self._present) > 1 and voice is VoiceState.PRESENT and not self._attributes_voice

        def window(person: int, state: VoiceState) -> Window:
            clip = self._clip_of(person, chunks)
            return Window(
                person=person,
                draw=draw,
                end_ns=end_ns,
                face=clip.frames[-1] if clip.frames else None,
                voice=state,
                waveform=waveform if state is VoiceState.PRESENT else None,
                clip=clip,
            )

        alone = [window(VOICE_ONLY, voice)] if shared or not self._present else []
        return alone + [window(person, VoiceState.SHARED if shared else voice) for person in self._present]

    def _clip_of(self, person: int, chunks: tuple[tuple[int, np.ndarray], ...]) -> Clip:
        found: list[tuple[int, Face]] = []
        for frame in self._past:
            own = next((face for face in frame.faces if face.person == person), None)
            if own is None and (person != VOICE_ONLY or (self._stands_in and not self._present)):
                own = frame.whole  # where the recogniser takes the whole picture for a face that is not seen
            if own is not None:
                found.append((frame.t_ns, own))
        return Clip(frames=tuple(f for _, f in found), times_ns=tuple(t for t, _ in found), chunks=chunks)

    def _heard_chunks(self, end_ns: int) -> tuple[tuple[int, np.ndarray], ...]:
        if self._audio is None or not self._chunk:
            return ()
        first = max(0, sample_index(end_ns - self._span_ns, RATE_HZ)) // self._chunk
        while self._chunks and self._chunks[0][0] < first:
            self._chunks.popleft()
        last = sample_index(end_ns, RATE_HZ) // self._chunk  # the chunks before it are whole
        for number in range(max(first, self._next_chunk), last):
            samples, n_real = self._audio.read(number * self._chunk, self._chunk)
            if n_real >= self._spec.min_coverage * self._chunk:
                self._chunks.append((number, samples))
        self._next_chunk = max(self._next_chunk, last)
        return tuple(self._chunks)

    def _release(self, end_ns: int) -> None:
        if self._audio is None:
            return
        next_ns = end_ns + self._scheme.segment_ns
        keep = sample_index(next_ns - self._scheme.audio_ns, RATE_HZ)
        if self._chunk:
            keep = min(keep, self._next_chunk * self._chunk)
        self._audio.release(max(0, keep))


def with_flow(frames: tuple[Face, ...]) -> tuple[Face, ...]:
    """Frames whose missing flow is that of the next one: the first of a person has no predecessor.

    Where no frame has any, the person was seen once: nothing moved.
    """
    size = frames[0].crop.shape[:2] if frames else (0, 0)
    following = np.zeros((*size, 2), np.float32)
    filled = []
    for face in reversed(frames):
        following = face.flow if face.flow is not None else following
        filled.append(face if face.flow is not None else replace(face, flow=following))
    return tuple(reversed(filled))
