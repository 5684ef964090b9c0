"""A network that trains in a moment, and what the tests of the loop ask of a run's folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from train.loop import LoopConfig

CONFIG = LoopConfig(
    epochs=4, batch_size=8, learning_rate=0.05, weight_decay=0.01, optimiser="sgd", average=0.8, evaluate_every=2
)


class Breaks(Exception):  # noqa: N818
    """Stands for a power cut."""


class Tiny(nn.Module):
    """A line with dropout and batch normalisation, fitted to a fixed cloud; breaks off before epoch `until`."""

    def __init__(self, until: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.norm, self.last = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        self.dropout = nn.Dropout(0.5)
        self._until = until

    def n_batches(self, n_ranks: int = 1) -> int:
        return 3

    def batches(self, epoch: int, rank: int = 0, n_ranks: int = 1) -> Iterator[tuple[Tensor, ...]]:
        if epoch == self._until:
            raise Breaks
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(3):
            x = torch.randn(8, 3, generator=generator)
            yield x, x.sum(1, keepdim=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        guess: Tensor = self.last(self.dropout(self.norm(self.first(x)).relu()))
        return (guess - y).square().mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        assert not self.training
        x = torch.ones(2, 3)
        return {"error": float(self(x, x.sum(1, keepdim=True)))}


def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same(one: nn.Module, two: nn.Module) -> None:
    assert one.state_dict().keys() == two.state_dict().keys()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, atol=0, rtol=0, msg=name)


def changed(**changes: Any) -> LoopConfig:
    return LoopConfig(**{**CONFIG.__dict__, **changes})


class Steady(Tiny):
    """Without dropout and batch normalisation, whose batch would matter; its batches are parts of the same whole."""

    def __init__(self, n_parts: int, until: int | None = None) -> None:
        super().__init__(until)
        self.norm, self.dropout = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        self._n_parts = n_parts

    def n_batches(self, n_ranks: int = 1) -> int:
        return 3 * self._n_parts

    def batches(self, epoch: int, rank: int = 0, n_ranks: int = 1) -> Iterator[tuple[Tensor, ...]]:
        for x, y in super().batches(epoch):
            yield from zip(x.chunk(self._n_parts), y.chunk(self._n_parts), strict=True)
