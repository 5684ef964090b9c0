"""Settings of a session: the names of the command line and of a TOML file, with their one default each."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.bundle import Bundle
from stream.feed.messages import CODECS
from stream.feed.security import DEFAULT_ADDRESS
from stream.windows import NS_PER_S, Alignment, WindowScheme


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """How a stream is analysed.

    Attributes:
        model: A shipped bundle's name, or a bundle folder; several are fused at decision level, and the first sets how
            often.
        weights: Of each model's posterior in the fused one, `4:2:4` for example; unset are equal ones.
        scoring: `incremental` computes what a frame gives once; `whole` computes each window anew, to compare.
        engine: `auto`, or a backend by name.
        device: Where ONNX Runtime runs: `cpu`, or `cuda` for a GPU without TensorRT.
        threads: Threads inside an operator of an engine.
        seed: Seed of the window draws; the same recording and seed give the same windows.
        alignment: `centered` or `causal`; unset takes the bundle's first.
        analysis_hz: Video frames analysed per second of media; frames beyond that rate are passed over.
        baseline: Person whose kept baseline corrects the posteriors, or its JSON file (`emocast calibrate --neutral`).
    """

    model: tuple[str, ...] = ("default",)
    weights: str | None = None
    scoring: Literal["incremental", "whole"] = "incremental"
    engine: str = "auto"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    seed: int = 0
    alignment: Alignment | None = None
    analysis_hz: float = 12.5
    baseline: str | None = None

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device: expected cpu or cuda, got {self.device!r}")
        if self.threads < 1:
            raise ValueError(f"threads: expected 1 or more, got {self.threads}")
        if not 0 <= self.seed < 2**53:
            # beyond, readers of JSON that know only floats would take it for another
            raise ValueError(f"seed: expected 0 to 2^53 - 1, got {self.seed}")
        if not 4 <= self.analysis_hz <= 1000:
            raise ValueError(f"analysis_hz: expected 4 to 1000 frames a second, got {self.analysis_hz}")
        if self.scoring not in ("incremental", "whole"):
            raise ValueError(f"scoring: expected incremental or whole, got {self.scoring!r}")
        weights = self.fusion_weights
        if weights and (len(weights) != len(self.model) or min(weights) < 0 or sum(weights) <= 0):
            raise ValueError(
                f"weights: expected {len(self.model)} numbers of 0 or more like 4:2:4, got {self.weights!r}"
            )

    @property
    def fusion_weights(self) -> tuple[float, ...]:
        """`weights` as numbers; empty where unset.

        Raises:
            ValueError: If they are not numbers with colons between.
        """
        if self.weights is None:
            return ()
        try:
            return tuple(float(part) for part in self.weights.split(":"))
        except ValueError:
            raise ValueError(f"weights: expected numbers like 4:2:4, got {self.weights!r}") from None


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """Where messages go.

    Attributes:
        feed: Whether to publish on ZeroMQ at all (`--no-feed`).
        address: Where to publish.
        codec: `json` or `msgpack`.
        insecure: Allows an address other than loopback without keys.
        keys: Encrypt, and let only authorised clients in (`emocast keys`); any address is then allowed.
            The control of a live session has keys, too, and lets in who may control.
        out: Also write every message to this file, one JSON object a line.
        lsl: Also publish through the Lab Streaming Layer, which has no keys and so needs `insecure`.
        metrics: Port of 127.0.0.1 that serves metrics to Prometheus; unset serves none.
    """

    feed: bool = True
    address: str = DEFAULT_ADDRESS
    codec: str = "json"
    insecure: bool = False
    keys: bool = False
    out: Path | None = None
    lsl: bool = False
    metrics: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ValueError(f"codec: expected {' or '.join(CODECS)}, got {self.codec!r}")
        if self.metrics is not None and not 0 <= self.metrics <= 65_535:
            raise ValueError(f"metrics: expected a port of 0 to 65535, got {self.metrics}")


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """Which devices a live session reads, and what it does beside the feed.

    Attributes:
        camera: Index, name or a part of it, /dev path, or URL (RTSP, MJPEG); `none` does without.
        microphone: Index, name or a part of it, or `default`; `none` does without.
        name: Name of the stream.
        width: Of the picture to ask for, in pixels; unset leaves it to the camera.
        height: Likewise.
        camera_hz: Pictures a second to ask for; likewise.
        pixel_format: Four characters, `MJPG` for example; likewise.
        microphone_hz: Sample rate to ask for; unset is the device's own.
        channels: Channels to ask for; likewise.
        camera_latency_ms: From the light to the arrival of a picture; unset takes what `emocast calibrate` stored.
        microphone_latency_ms: From the sound to PortAudio's time of it.
        record: Write picture, sound, feed and settings to this .mkv and files beside it.
        record_lossless: Keep pictures and samples bit by bit, so that `emocast replay --verify` can repeat the session.
        preview: Show the picture with boxes, labels and rates.
        chaos: Faults to inject, `camera-loss@10s+3s,drift=200ppm` for example.
        control: Address where `emocast control` is listened to, tcp://127.0.0.1:5564 for example; any but loopback
            needs `keys`.
        record_folder: Where recordings go that `emocast control record` asks for; unset is the current folder.
    """

    camera: str = "0"
    microphone: str = "default"
    name: str = "live"
    width: int | None = None
    height: int | None = None
    camera_hz: float | None = None
    pixel_format: str | None = None
    microphone_hz: int | None = None
    channels: int | None = None
    camera_latency_ms: float | None = None
    microphone_latency_ms: float = 0.0
    record: Path | None = None
    record_lossless: bool = False
    preview: bool = False
    chaos: str | None = None
    control: str | None = None
    record_folder: Path | None = None

    def __post_init__(self) -> None:
        if self.camera == "none" and self.microphone == "none":
            raise ValueError("camera, microphone: expected one of them at least, both are none")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", self.name):
            raise ValueError(f"name: expected letters, digits, '.', '_' and '-', got {self.name!r}")
        if self.record_lossless and self.record is None:
            raise ValueError("record_lossless: expected --record FILE.mkv too, it says where to")
        if self.record_folder is not None and self.control is None:
            raise ValueError("record_folder: expected --control ADDRESS too, recordings there are asked for by control")


def window_scheme(bundle: Bundle, alignment: Alignment | None) -> WindowScheme:
    """The bundle's window scheme, in the alignment asked for or its first.

    Raises:
        ValueError: If the recogniser was not trained with that alignment.
    """
    scheme = bundle.manifest.scheme
    wanted = Alignment(alignment or scheme.alignments[0])
    if wanted.value not in scheme.alignments:
        raise ValueError(
            f"alignment: {bundle.manifest.name} was trained with {' and '.join(scheme.alignments)}, got {wanted.value}"
        )
    return WindowScheme(
        segment_ns=round(scheme.segment_s * NS_PER_S),
        audio_ns=round(scheme.audio_s * NS_PER_S),
        jitter_ns=round(scheme.jitter_s * NS_PER_S),
        alignment=wanted,
        n_segments=scheme.n_segments,
    )
