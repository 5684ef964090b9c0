"""What can be said of a media file: whether there is one, what it holds, and what was wrong with it in the end."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from av.stream import Disposition

from stream.records import RATE_HZ, SourceInfo
from stream.sources.decode import Packets
from stream.sources.errors import SourceError
from stream.sources.tracks import AudioTrack, Track
from stream.windows import NS_PER_S

# Demuxers that read the length in the file. The others estimate it from bit rate or size, which proves nothing.
STATES_DURATION = {"mov", "matroska", "webm", "avi", "flv", "wav", "w64", "flac", "asf", "mxf", "aiff", "caf"}
SHORT_S = 0.25  # a shortfall under this is a matter of how containers round
MAX_PACKET = 2**16 + 64  # bytes of an MPEG program stream's packet, and its pack header
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two letters at least: C:\ is a drive


def stream_name(target: str) -> str:
    """A name fit for a topic, made of a file's or a URL's last part without its suffix."""
    stem = Path(target.split("?")[0].rstrip("/")).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("_") or "stream"


def check_local(target: str) -> str | None:
    """The path of a file on disk or a pipe; None for a URL.

    Raises:
        SourceError: If there is no such file, or it is a directory or empty.
    """
    path = Path(target)
    if not path.exists():
        if URL.match(target):
            return None
        raise SourceError(f"expected a media file or a URL, got {target}, which does not exist; check the path")
    if path.is_dir():
        raise SourceError(f"expected a media file, got the directory {target}; name the files in it")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"expected a media file, got {target}, which is empty; choose another file")
    return target


def pick(container: Any, kind: str) -> Any | None:
    """The first decodable track of a kind (`video` or `audio`) that is marked as default, or the first at all."""
    streams = [
        stream
        for stream in container.streams
        if stream.type == kind
        and stream.codec_context is not None
        and not stream.disposition & Disposition.attached_pic  # a cover picture is no video
    ]
    return next((s for s in streams if s.disposition & Disposition.default), streams[0] if streams else None)


def describe(name: str, container: Any, streams: list[Any]) -> SourceInfo:
    """The container and the tracks that are played, for a person and for the session."""
    kinds = {stream.type: stream for stream in streams}
    video, audio = kinds.get("video"), kinds.get("audio")
    parts = []
    rate = None
    if video is not None:
        rate = float(video.average_rate) if video.average_rate else None
        size = f"{video.codec_context.name} {video.codec_context.width}x{video.codec_context.height}"
        parts.append(size + (f" {rate:g} Hz" if rate else ""))
    if audio is not None:
        context = audio.codec_context
        n_channels = context.layout.nb_channels
        channels = {1: "mono", 2: "stereo"}.get(n_channels, f"{n_channels} channels")
        parts.append(f"{context.name} {context.sample_rate} Hz {channels}")
    return SourceInfo(
        name=name,
        has_video=video is not None,
        has_audio=audio is not None,
        frame_rate_hz=rate,
        duration_s=container.duration / 1e6 if container.duration else None,
        text=f"{container.format.name}: {', '.join(parts)}",
    )


def cut_off(target: str, format_name: str) -> str | None:
    """How a file on disk shows that its end is missing, where FFmpeg does not say; None where it shows nothing.

    A RIFF file (WAV, AVI) states its size at its start. The last packet of an MPEG program stream states its own.
    """
    with Path(target).open("rb") as file:
        head = file.read(8)
        size = file.seek(0, 2)
        file.seek(max(size - 2 * MAX_PACKET, 0))
        tail = file.read()
    if head[:4] == b"RIFF":
        stated = int.from_bytes(head[4:], "little") + 8
        # Recorders that cannot seek back leave a size near 2^32.
        return f"the file states {stated} bytes and has {size}" if size < stated < 2**32 - 2**16 else None
    if format_name == "mpeg" and _last_packet_is_short(tail):
        return "the last packet of the file is cut off; how much is missing is not stated"
    return None


def _last_packet_is_short(tail: bytes) -> bool:
    # ISO 11172-1: a pack header of 12 bytes (14 and stuffing in 13818-1), then packets that state their length.
    at = tail.rfind(b"\x00\x00\x01\xba")
    if at < 0 or len(tail) < at + 14:
        return at >= 0
    at += 12 if tail[at + 4] >> 4 == 2 else 14 + (tail[at + 13] & 7)
    while tail[at : at + 3] == b"\x00\x00\x01" and tail[at + 3 : at + 4] >= b"\xbb":
        at += 6 + int.from_bytes(tail[at + 4 : at + 6], "big")
    return at > len(tail)


def closing_notes(
    tracks: list[Track], packets: list[Packets], cut: str | None, n_late: int
) -> Iterator[tuple[str, str]]:
    """What went wrong while the tracks were played, as (kind, one line)."""
    n_last = sum(track.decoder.n_damaged_last for track in tracks)
    n_damaged = sum(track.decoder.n_damaged for track in tracks)
    unstated = "how much is missing is not stated"
    if missing := _missing(tracks):
        yield "truncated", f"expected {missing[0]:.2f} s as the container states, got {missing[1]:.2f} s"
    elif reasons := [
        *(reader.failure for reader in packets if reader.failure),
        *([cut] if cut else []),
        *([f"packets at the end ({n_last}) do not decode; {unstated}"] if n_last else []),
    ]:
        yield "truncated", f"got {max(track.end_ns for track in tracks) / NS_PER_S:.2f} s; {reasons[0]}"
    if n_damaged > n_last:
        yield "damaged", f"packets in the middle ({n_damaged - n_last}) do not decode and were skipped"
    n_restarts = max(track.n_restarts for track in tracks)
    if n_restarts:
        yield "timestamps_restarted", f"presentation times began anew {n_restarts} times; the media was played on"
    for track in tracks:
        if isinstance(track, AudioTrack):
            if track.n_left_out > RATE_HZ // 100:
                yield "audio_left_out", f"{track.n_left_out} samples lay before what had been played"
        elif track.n_left_out:
            yield "frames_left_out", f"{track.n_left_out} frames had times that repeat or run back"
    if n_late:
        yield "late", f"{n_late} frames or audio blocks came too late to be in order"


def _missing(tracks: list[Track]) -> tuple[float, float] | None:
    # (expected, came) in seconds, of the track that lacks most; None where nothing is known to lack.
    worst: tuple[float, float] | None = None
    for track in tracks:
        stream = track.decoder.stream
        container = stream.container
        if not STATES_DURATION & set(container.format.name.split(",")):
            continue
        whole_s = (container.duration or 0) / 1e6
        own_s = whole_s if stream.duration is None else float(stream.duration * stream.time_base)
        # FFmpeg fills in the container's length where a track has none (sparse pictures in Matroska): that says
        # nothing of this track.
        stated = abs(own_s - whole_s) > 0.001
        expected_s = own_s
        # Without a length of its own a track may rightly be shorter than the container: the longest one counts.
        came_s = (track.end_ns - track.start_ns if stated else max(t.end_ns for t in tracks)) / NS_PER_S
        if expected_s - came_s > SHORT_S and (worst is None or expected_s - came_s > worst[0] - worst[1]):
            worst = expected_s, came_s
    return worst
