"""Which microphone is meant: by name, by a part of it, by number, or the system's own choice."""

import re
from collections.abc import Sequence

from stream.sources.errors import SourceError
from stream.sources.microphones.portaudio import Audio, MicrophoneInfo, PortAudio

NONE = "expected a microphone, PortAudio lists none; plug one in, and see that the sound server runs (pactl info)"


def list_microphones(audio: Audio | None = None) -> list[MicrophoneInfo]:
    """The microphones that are there now.

    Raises:
        SourceError: If PortAudio is missing.
    """
    audio = audio or PortAudio()
    audio.rescan()
    return audio.inputs()


def find(microphones: Sequence[MicrophoneInfo], spec: str) -> MicrophoneInfo:
    """The one that `spec` means: `default`, an index, a whole name, or a part of one that no other has.

    Names are compared without regard to case. Where several hosts list the same name, the main host's is taken.

    Raises:
        SourceError: If none is meant, or several are; the text lists what there is.
    """
    if not microphones:
        raise SourceError(NONE)
    name = spec.strip().casefold()
    if name == "default" and (default := [one for one in microphones if one.is_default]):
        return default[0]
    if name.isdecimal():
        found = [one for one in microphones if one.index == int(name)]
    else:
        found = [one for one in microphones if one.name.casefold() == name]
        found = found or [one for one in microphones if name and name in one.name.casefold()]
    if len(found) > 1:
        found = [one for one in found if one.is_main_host] or found
    if not found:
        raise SourceError(f"expected a microphone of: {_listed(microphones)}; got {spec!r}")
    if len(found) > 1:
        raise SourceError(f"expected a name that one microphone has, {spec!r} fits: {_listed(found)}; give more of it")
    return found[0]


def find_again(microphones: Sequence[MicrophoneInfo], lost: MicrophoneInfo) -> MicrophoneInfo:
    """The one that was lost: by its whole name, or by its name without the place that it was plugged in at.

    Raises:
        SourceError: If it is not there, or several are like it.
    """
    same = [one for one in microphones if one.name == lost.name]
    same = same or [one for one in microphones if _unplaced(one.name) == _unplaced(lost.name)]
    same = [one for one in same if one.host == lost.host] or same
    if len(same) != 1:
        raise SourceError(f"expected microphone {lost.name!r}, there is: {_listed(microphones) or 'none'}")
    return same[0]


def _unplaced(name: str) -> str:
    return re.sub(r"\s*\(hw:[^)]*\)$", "", name)  # ALSA's card numbers go by the order of plugging in


def _listed(microphones: Sequence[MicrophoneInfo]) -> str:
    return ", ".join(f"{one.index} {one.name!r} ({one.rate_hz} Hz, {one.channels} ch)" for one in microphones)
