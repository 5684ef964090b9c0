"""How a recorded session analysed: FILE.session.json, all that a replay needs beyond the media."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import msgspec

from engines.bundle import Bundle
from engines.whole_file import write_whole
from stream.config import SessionConfig
from stream.feed.publisher import rfc3339, utc_now
from stream.recording.files import RecordingError
from stream.records import SourceInfo
from stream.windows import Alignment

BASELINE = "baseline"  # in `more`: the personal baseline itself, for the file that the config names may change
# What computes the estimates: another version may round otherwise.
PACKAGES = ("emocast", "numpy", "mediapipe", "onnxruntime", "soxr", "av")


class RecordedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A recogniser: the name or folder that it was asked for by, and what it then was."""

    model: str
    name: str
    sha256: str


class RecordedSession(msgspec.Struct, frozen=True, kw_only=True):
    """FILE.session.json.

    Attributes:
        format: Version of the recording's format.
        began: Wall clock, UTC, RFC 3339.
        stream: Name of the stream, which the window draws are keyed by.
        has_video: Whether the source had a picture.
        has_audio: Whether the source had sound.
        frame_rate_hz: Rate that the source stated.
        source: The source, for a person.
        devices: Each device for a person, by its role.
        lossless: Whether pictures and samples are kept bit by bit.
        config: The fields of `SessionConfig`.
        alignment: The one that was taken, where `config` leaves it open.
        bundles: The recognisers, in the order of `config.model`.
        labels: Order of the labels.
        engine: Backend that ran the graphs at the start.
        engine_why: Why that one.
        versions: Of emocast and of what its estimates depend on.
        machine: Operating system and processor.
        more: What else the session depended on.
        began_s: Media seconds at which it was begun in mid-session, so that what came before is not in it; null where
            it was begun with the session.
    """

    format: Literal[1] = 1
    began: str
    stream: str
    has_video: bool
    has_audio: bool
    frame_rate_hz: float | None
    source: str
    devices: dict[str, str]
    lossless: bool
    config: dict[str, Any]
    alignment: str
    bundles: tuple[RecordedBundle, ...]
    labels: tuple[str, ...]
    engine: str
    engine_why: str
    versions: dict[str, str]
    machine: str
    more: dict[str, Any]
    began_s: float | None = None

    def session_config(self) -> SessionConfig:
        """The settings, to analyse again by.

        Raises:
            RecordingError: If there is a setting that this version does not know, or a value that it does not take.
        """
        unknown = set(self.config) - {field.name for field in fields(SessionConfig)}
        if unknown:
            raise RecordingError(
                f"expected settings that this emocast knows, the recording has {', '.join(sorted(unknown))} of emocast "
                f"{self.versions.get('emocast', '?')}; replay it with that version"
            )
        try:
            return msgspec.convert(self.config, SessionConfig)
        except (msgspec.ValidationError, ValueError) as error:
            raise RecordingError(f"the recorded settings cannot be used: {error}") from error


def settings_of(
    info: SourceInfo,
    config: SessionConfig,
    bundles: Sequence[Bundle],
    *,
    alignment: Alignment,
    engine: tuple[str, str],
    lossless: bool,
    devices: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
    began: datetime | None = None,
    began_s: float | None = None,
) -> RecordedSession:
    """The settings of a recording that is about to begin.

    Args:
        info: The source.
        config: How it is analysed.
        bundles: What `config.model` names, loaded.
        alignment: The one that is taken, where `config` leaves it open.
        engine: Backend and why, as `Engines.state` gives them.
        lossless: Whether the pictures are kept bit by bit.
        devices: Each device for a person, by its role.
        more: What else the session depends on, as JSON.
        began: Wall clock; now where it is not given.
        began_s: Media seconds, where it is begun in mid-session.
    """
    return RecordedSession(
        began=rfc3339(began or utc_now()),
        stream=info.name,
        has_video=info.has_video,
        has_audio=info.has_audio,
        frame_rate_hz=info.frame_rate_hz,
        source=info.text,
        devices=dict(devices or {}),
        lossless=lossless,
        config=asdict(config),
        alignment=alignment.value,
        bundles=tuple(
            RecordedBundle(model=model, name=bundle.manifest.name, sha256=bundle.sha256)
            for model, bundle in zip(config.model, bundles, strict=True)
        ),
        labels=bundles[0].manifest.labels,
        engine=engine[0],
        engine_why=engine[1],
        versions=versions(),
        machine=f"{platform.platform()}, {platform.processor() or platform.machine()}",
        more=dict(more or {}),
        began_s=began_s,
    )


def versions() -> dict[str, str]:
    """Installed versions of emocast and of what its estimates depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def write_settings(path: Path, settings: RecordedSession) -> None:
    """Write the file whole. Raises OSError if that is not possible."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(settings, enc_hook=str), indent=1) + b"\n")


def read_settings(path: Path) -> RecordedSession:
    """Read them back.

    Raises:
        RecordingError: If there is no such file, or it is not one of this format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RecordingError(
            f"expected a recording's settings in {path}: {reason}; name a file that was made with --record"
        ) from error
    try:
        return msgspec.json.decode(content, type=RecordedSession)
    except msgspec.DecodeError as error:
        raise RecordingError(f"{path} holds no settings of a recording of format 1: {error}") from error
