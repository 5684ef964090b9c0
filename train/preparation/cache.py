"""The cache of prepared clips: one file a clip, named by what it was made from, checked whenever it is read.

Measured on talking heads of 224 pixels, each picture encoded and decoded by one core: JPEG of quality 95 without chroma
subsampling takes 19 KiB and 0.2 + 0.3 ms at 45 dB, PNG 65 KiB and 2.4 + 1.2 ms. 5,531 clips of 4.5 s at 25 Hz are 12 GB
as JPEG and 41 GB as PNG, and reading PNG takes four times as long. So pictures above 128 pixels are JPEG; those up to
128 pixels, which JPEG harms most and which take 25 KiB at 128, are PNG and come back as they were.
"""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np

from engines.whole_file import write_whole
from train.corpora.clips import Clip
from train.corpora.items import CorpusError
from train.preparation.prepared import Needs, Prepared

VERSION = 1  # of what is stored and how it is made: a new one makes every clip anew
LOSSLESS_PX = 128  # largest side of the pictures that are stored without loss
QUALITY = 95  # of the others, as JPEG: 0.9 of 255 levels off in the mean
FLOW_STEPS = 16  # for each pixel: stored flow is at most 1/32 pixel off, and 24 KiB a picture of 224 pixels
SUFFIX = ".clip"
_MAGIC = b"emoclip1"
_DIGEST = 16
_STALE_S = 3600.0


class Damaged(ValueError):  # noqa: N818 - what is wrong with a file
    """A file of the cache that is cut off, was changed, or is none."""


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    times_s: bytes
    crops: list[bytes] | None
    seen: bytes | None
    flow: list[bytes] | None
    pose: bytes | None
    body: bytes | None
    samples: bytes | None
    peak: float


def sources(clip: Clip, needs: Needs) -> tuple[Path | None, Path | None]:
    """The file that the pictures come from and the one that the sound comes from; None where they are not needed."""
    picture = clip.path if needs.face is not None or needs.pose else None
    return picture, (clip.audio or clip.path) if needs.audio else None


def file_of(folder: Path, clip: Clip, needs: Needs, digests: Sequence[str]) -> Path:
    """Where a clip is kept: its name is a hash of the media's content, the clip's bounds, the needs and `VERSION`.

    Args:
        folder: The cache.
        clip: The clip; its name, label and person play no part.
        needs: What is prepared of it.
        digests: Of the content of its `sources`; empty for one that is not needed.
    """
    exact = msgspec.convert(msgspec.to_builtins(needs), Needs)  # 25 and 25.0 are one rate
    end_s = None if clip.end_s is None else float(clip.end_s)
    made_from = [VERSION, digests, float(clip.start_s), end_s, clip.side, exact]
    name = hashlib.blake2b(msgspec.json.encode(made_from), digest_size=_DIGEST).hexdigest()
    return folder / name[:2] / f"{name}{SUFFIX}"


def write(path: Path, clip: Prepared) -> None:
    """Store a clip; whoever reads `path` sees all of it or nothing. Raises CorpusError where it cannot be written."""
    payload = msgspec.msgpack.encode(_pack(clip))
    content = _MAGIC + hashlib.blake2b(payload, digest_size=_DIGEST).digest() + payload
    try:
        write_whole(path, content)
    except OSError as error:
        raise CorpusError(
            f"cannot write {path}: {error.strerror}; make room, or choose another cache folder"
        ) from error


def read(path: Path, name: str) -> Prepared:
    """The clip stored at `path`, under the name of the clip that asks. Any thread may call.

    Crops up to `LOSSLESS_PX` are exact. Flow is off by 1/32 pixel at most, samples by 1/65,534 of full scale, or of the
    loudest one where that is beyond it.

    Raises:
        Damaged: If the file is not as it was written.
        OSError: If it cannot be read.
    """
    return _unpack(name, msgspec.msgpack.decode(_payload(path), type=_Stored))


def is_whole(path: Path) -> bool:
    """Whether a clip is stored at `path` as it was written."""
    try:
        _payload(path)
    except (Damaged, OSError):
        return False
    return True


def sweep(folder: Path) -> None:
    """Remove what killed runs left half written, more than an hour ago: a younger one may be another run's."""
    for part in folder.glob(f"??/*{SUFFIX}*.part"):
        try:
            if time.time() - part.stat().st_mtime > _STALE_S:
                part.unlink()
        except FileNotFoundError:  # another run swept it
            continue


def _payload(path: Path) -> bytes:
    content = path.read_bytes()
    begin = len(_MAGIC) + _DIGEST
    digest = hashlib.blake2b(content[begin:], digest_size=_DIGEST).digest()
    if content[:begin] != _MAGIC + digest:
        raise Damaged(f"{path} is damaged; prepare the corpus again, which makes it anew")
    return content[begin:]


def _pack(clip: Prepared) -> _Stored:
    peak = 1.0 if clip.samples is None else float(max(1.0, np.abs(clip.samples).max(initial=0.0)))
    return _Stored(
        times_s=clip.times_s.astype("<f8").tobytes(),
        crops=None if clip.crops is None else [_encode_crop(crop) for crop in clip.crops],
        seen=None if clip.seen is None else clip.seen.astype("?").tobytes(),
        flow=None if clip.flow is None else [_encode_flow(flow) for flow in clip.flow],
        pose=None if clip.pose is None else clip.pose.astype("<f4").tobytes(),
        body=None if clip.body is None else clip.body.astype("?").tobytes(),
        samples=None if clip.samples is None else np.rint(clip.samples / peak * 32767).astype("<i2").tobytes(),
        peak=peak,
    )


def _unpack(name: str, stored: _Stored) -> Prepared:
    samples = None
    if stored.samples is not None:
        samples = np.frombuffer(stored.samples, "<i2").astype(np.float32) * np.float32(stored.peak / 32767)
    return Prepared(
        name=name,
        times_s=np.frombuffer(stored.times_s, "<f8").copy(),
        crops=None if stored.crops is None else np.stack([_decode_crop(crop) for crop in stored.crops]),
        seen=None if stored.seen is None else np.frombuffer(stored.seen, "?").copy(),
        flow=None if stored.flow is None else np.stack([_decode_flow(flow) for flow in stored.flow]),
        pose=None if stored.pose is None else np.frombuffer(stored.pose, "<f4").reshape(-1, 33, 3).copy(),
        body=None if stored.body is None else np.frombuffer(stored.body, "?").copy(),
        samples=samples,
    )


def _encode_crop(crop: np.ndarray) -> bytes:
    full_chroma = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    form, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *full_chroma]
    if len(crop) <= LOSSLESS_PX:
        form, options = ".png", [cv2.IMWRITE_PNG_COMPRESSION, 3]
    return cv2.imencode(form, cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def _decode_crop(content: bytes) -> np.ndarray:
    return cv2.cvtColor(_decode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _encode_flow(flow: np.ndarray) -> bytes:
    # (S, S, 2) to a grey PNG of 16 bits, (2 S, S): its filters predict the smooth map well.
    steps = np.clip(np.rint(flow * FLOW_STEPS), -32768, 32767).astype(np.int32) + 32768
    tall = np.concatenate([steps[..., 0], steps[..., 1]]).astype(np.uint16)
    return cv2.imencode(".png", tall, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _decode_flow(content: bytes) -> np.ndarray:
    tall = _decode(content, cv2.IMREAD_UNCHANGED).astype(np.float32)
    return np.stack(np.split((tall - 32768) / FLOW_STEPS, 2), axis=-1)


def _decode(content: bytes, mode: int) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), mode))
