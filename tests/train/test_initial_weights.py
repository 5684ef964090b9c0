"""Weights from files: what matches is taken, what does not is named, and a damaged file is one line."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from train.initial_weights import load


def network(n_out: int = 2) -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, n_out))


def other() -> dict[str, Tensor]:
    torch.manual_seed(8)
    state = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 5)).state_dict()
    return {name: torch.rand_like(x) if x.is_floating_point() else x + 9 for name, x in state.items()}


def write_safetensors(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> Path:
    """As the format's description has it: n, a JSON header of n bytes, values."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    values = b""
    for name, (kind, array) in tensors.items():
        raw = array.tobytes()
        shape = list(array.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(values), len(values) + len(raw)]}
        values += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + values)
    return path


@pytest.mark.parametrize("nesting", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_matches_is_taken_and_the_rest_is_named(tmp_path: Path, nesting: str | None, prefix: str) -> None:
    given = {prefix + name: x for name, x in other().items() if name != "1.running_var"}
    given[prefix + "extra.weight"] = torch.ones(2)
    torch.save(given if nesting is None else {nesting: given, "epoch": 3}, tmp_path / "w.pt")
    net, before = network(), network().state_dict()
    report = load(net, tmp_path / "w.pt")
    after = net.state_dict()
    taken = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.num_batches_tracked")
    assert report.taken == taken
    assert all(torch.equal(after[name], other()[name]) for name in taken)
    assert (report.missing, report.misshapen) == (("1.running_var",), ("2.weight", "2.bias"))
    assert report.left_over == ("extra.weight",)
    assert all(torch.equal(after[name], before[name]) for name in (*report.missing, *report.misshapen))
    assert str(report) == (
        f"{tmp_path / 'w.pt'}: 6 of 9 tensors matched; 1 missing in the file: 1.running_var; "
        "2 of another shape: 2.weight, 2.bias; 1 not in the network: extra.weight"
    )


def test_names_can_be_given_another_beginning(tmp_path: Path) -> None:
    torch.save({"features.weight": torch.ones(4, 3), "features.bn.weight": torch.ones(4) * 5}, tmp_path / "w.pth")
    net = network()
    report = load(net, tmp_path / "w.pth", rename={"features.": "0.", "features.bn.": "1."})
    assert report.taken == ("0.weight", "1.weight")  # the longest beginning wins
    assert net[1].weight.tolist() == [5.0] * 4
    whole = nn.ModuleDict({"voice": network()})
    assert len(load(whole, _saved(tmp_path, network().state_dict()), rename={"": "voice."}).taken) == 9
    with pytest.raises(ValueError, match=r"two of its tensors become 0\.weight by renaming"):
        load(net, tmp_path / "w.pth", rename={"features.": "0.", "features.bn.": "0."})


def _saved(folder: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, folder / "s.pt")
    return folder / "s.pt"


def test_safetensors(tmp_path: Path) -> None:
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    half = np.array([1.5, -2.0, 0.25, 3.0])
    bits = (half.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    path = write_safetensors(
        tmp_path / "w.safetensors",
        {
            "0.weight": ("F32", weight),
            "0.bias": ("BF16", bits),
            "1.weight": ("F16", half.astype(np.float16)),
            "1.num_batches_tracked": ("I64", np.array(12)),
        },
    )
    net = network()
    assert load(net, path).taken == ("0.weight", "0.bias", "1.weight", "1.num_batches_tracked")
    state = net.state_dict()
    np.testing.assert_array_equal(state["0.weight"], weight)
    np.testing.assert_array_equal(state["0.bias"], half)
    np.testing.assert_array_equal(state["1.weight"], half)
    assert int(state["1.num_batches_tracked"]) == 12


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    good = write_safetensors(tmp_path / "w.safetensors", {"0.bias": ("F32", np.zeros(4, np.float32))}).read_bytes()
    for content in (b"", good[:6], good[:20], good[:-3], b"\xff" * 40, good.replace(b"F32", b"F8?")):
        (tmp_path / "w.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"w\.safetensors: expected a whole \.safetensors file, got a damaged one"):
            load(network(), tmp_path / "w.safetensors")
    whole = _saved(tmp_path, other()).read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2]):
        (tmp_path / "s.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"s\.pt: expected a state dict saved by torch, got a file it cannot read"):
            load(network(), tmp_path / "s.pt")
    torch.save([1, 2], tmp_path / "s.pt")
    with pytest.raises(ValueError, match=r"s\.pt: expected tensors by name, got list without any"):
        load(network(), tmp_path / "s.pt")
    with pytest.raises(ValueError, match=r"gone\.pt: expected a file of weights, there is none"):
        load(network(), tmp_path / "gone.pt")


class Sly:
    """Runs code when it is unpickled, as a checkpoint from a stranger may."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("/nonexistent/run"),))  # type: ignore[return-value]


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"0.weight": Sly()}, tmp_path / "s.pt")
    with pytest.raises(ValueError, match="got a file it cannot read safely"):
        load(network(), tmp_path / "s.pt")


def test_no_match_is_an_error(tmp_path: Path) -> None:
    path = _saved(tmp_path, {"a.weight": torch.ones(2), "0.weight": torch.ones(9)})
    with pytest.raises(ValueError, match=r"0 of 9 tensors matched; 8 missing .* 1 of another shape: 0\.weight; 1 not"):
        load(network(), path)
