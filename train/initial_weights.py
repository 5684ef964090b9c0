"""Weights that a network begins with, from a file that the user names, and what of it matched."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Types of a .safetensors file. bfloat16 has none in numpy: its bits are the upper half of a float32's.
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U8": "<u1", "BOOL": "?",
}  # fmt: skip
_MAX_HEADER = 100_000_000  # bytes, as the format says


@dataclass(frozen=True, kw_only=True)
class Matched:
    """What became of a file's tensors. Names, in the network's or the file's order.

    Attributes:
        path: The file.
        taken: Tensors of the network that now hold the file's values.
        missing: Tensors of the network that the file has not; they stay as they were.
        misshapen: Tensors that have the same name and another shape; they stay as they were.
        left_over: Tensors of the file that the network has not.
    """

    path: Path
    taken: tuple[str, ...]
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        n = len(self.taken) + len(self.missing) + len(self.misshapen)
        text = [f"{self.path}: {len(self.taken)} of {n} tensors matched"]
        for what, names in (
            ("missing in the file", self.missing),
            ("of another shape", self.misshapen),
            ("not in the network", self.left_over),
        ):
            if names:
                more = f" and {len(names) - 6} more" if len(names) > 6 else ""
                text.append(f"{len(names)} {what}: {', '.join(names[:6])}{more}")
        return "; ".join(text)


def load(network: nn.Module, path: Path, *, rename: Mapping[str, str] | None = None) -> Matched:
    """Give `network` every tensor of the file that has the name and shape of one of its own.

    Args:
        network: Changed in place.
        path: A `.safetensors` file, or a state dict saved by torch, plain or under `model` or `state_dict` as published
            checkpoints are. `module.`, which training on several devices leaves before all names, is dropped.
        rename: Beginnings of the file's names, and what stands for them in the network; the longest that fits is
            taken. An empty one fits all: `{"": "branches.rgb."}` is for a file that holds that part alone.

    Raises:
        ValueError: If there is no such file, it is damaged, holds no tensors by name, two of its names become one, or
            none of them matches.
    """
    given = _renamed(path, _read(path), rename or {})
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in given.items() if name in own and tensor.shape == own[name].shape}
    matched = Matched(
        path=path,
        taken=tuple(name for name in own if name in fitting),
        missing=tuple(name for name in own if name not in given),
        misshapen=tuple(name for name in own if name in given and name not in fitting),
        left_over=tuple(name for name in given if name not in own),
    )
    if not fitting:
        raise ValueError(f"{matched}; expected the weights of a {type(network).__name__}")
    network.load_state_dict(fitting, strict=False)
    return matched


def _renamed(path: Path, given: Mapping[str, Tensor], rename: Mapping[str, str]) -> dict[str, Tensor]:
    if all(name.startswith("module.") for name in given):
        given = {name.removeprefix("module."): tensor for name, tensor in given.items()}
    renamed: dict[str, Tensor] = {}
    for name, tensor in given.items():
        begins = max((begin for begin in rename if name.startswith(begin)), key=len, default=None)
        new = name if begins is None else rename[begins] + name.removeprefix(begins)
        if new in renamed:
            raise ValueError(f"{path}: two of its tensors become {new} by renaming; give rules that keep names apart")
        renamed[new] = tensor
    return renamed


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: expected a file of weights, there is none")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    # torch.load raises whatever its unpickler or the zip reader does on a file that is not one of its own
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: expected a state dict saved by torch, got a file it cannot read safely ({type(error).__name__})"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(given, dict) and isinstance(given.get(key), dict):
            given = given[key]
    tensors = {str(k): x for k, x in given.items() if isinstance(x, Tensor)} if isinstance(given, dict) else {}
    if not tensors:
        raise ValueError(f"{path}: expected tensors by name, got {type(given).__name__} without any")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    # The length of a JSON header in 8 bytes, the header, then all values: the format is that simple.
    raw = path.read_bytes()
    n_header = int.from_bytes(raw[:8], "little")
    try:
        if len(raw) < 8 + n_header or n_header > _MAX_HEADER:
            raise ValueError(f"{len(raw)} bytes are too few")
        header = json.loads(raw[8 : 8 + n_header])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _tensor(raw, 8 + n_header, entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected a whole .safetensors file, got a damaged one ({error})") from error


def _tensor(raw: bytes, begin: int, entry: Mapping[str, Any]) -> Tensor:
    first, last = entry["data_offsets"]
    kind = str(entry["dtype"])
    if kind not in _TYPES:
        raise ValueError(f"type {kind}, expected one of {', '.join(_TYPES)}")
    array = np.frombuffer(raw[begin + first : begin + last], _TYPES[kind]).reshape(entry["shape"])
    if kind == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return torch.from_numpy(array.copy())
