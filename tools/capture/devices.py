"""`emocast devices`: the cameras and microphones that are here, each with a short look or listen."""

from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from stream.sources.cameras.listing import list_cameras
from stream.sources.cameras.picture_check import check
from stream.sources.errors import SourceError
from stream.sources.microphones.finding import list_microphones
from stream.sources.microphones.level import level
from tools.errors import DONE

QUIET_DBFS = -60.0  # a microphone in a room is above it, a muted one is not


def devices(*, seconds: float = 0.5, tried: bool = True) -> int:
    """List what is here, and try each for a moment.

    Args:
        seconds: How long each is tried.
        tried: False lists them and opens none.

    Returns:
        0: that nothing is here is no mistake.
    """
    table = Table("", "", "name", Column("found", overflow="fold"), box=None, pad_edge=False)
    cameras = list_cameras()
    for camera in cameras:
        found = _tried(partial(_seen, camera.path or str(camera.index), seconds)) if tried else ""
        table.add_row("camera", str(camera.index), escape(camera.name), escape(found or camera.permission))
    if not cameras:
        table.add_row("camera", "-", "none", "a network camera goes by its URL: --camera rtsp://HOST/PATH")
    for index, name, text in _microphones(seconds, tried):
        table.add_row("microphone", index, escape(name), escape(text))
    Console(highlight=False).print(table)
    return DONE


def _microphones(seconds: float, tried: bool) -> list[tuple[str, str, str]]:
    try:
        there = list_microphones()
    except SourceError as error:
        return [("-", "none", str(error))]
    if not there:
        return [("-", "none", "no input that PortAudio knows; see the system's sound settings")]
    rows = []
    for microphone in there:
        what = f"{microphone.host}, {microphone.rate_hz} Hz, {microphone.channels} channels"
        default = ", the default" if microphone.is_default else ""
        heard = _tried(partial(_heard, str(microphone.index), seconds)) if tried else ""
        rows.append((str(microphone.index), microphone.name, f"{what}{default}{'; ' if heard else ''}{heard}"))
    return rows


def _seen(spec: str, seconds: float) -> str:
    return check(spec, seconds).text


def _heard(spec: str, seconds: float) -> str:
    found = level(spec, seconds)
    muted = ", which is silent: muted?" if found.peak_dbfs < QUIET_DBFS else ""
    return f"level {found.rms_dbfs:.0f} dBFS, peak {found.peak_dbfs:.0f}{muted}"


def _tried(work: Callable[[], str]) -> str:
    try:
        return work()
    except SourceError as error:
        return str(error)
