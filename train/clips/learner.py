"""Clips as a learner: items are made in background threads, each from its own seed, so that the step never decodes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from train.clips.evaluation import scores
from train.preparation.prepared import Prepared
from train.tasks.task import Task

Item = dict[str, np.ndarray]
A = TypeVar("A")
B = TypeVar("B")


class Clips(Protocol):
    """Prepared clips by their index in the corpus, as a `Store` has them; any thread may ask."""

    def __getitem__(self, index: int) -> Prepared: ...


class Batch:
    """Inputs of a batch. Fabric moves what has a `to`, and rounds tensors to half precision but nothing inside this."""

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        self.inputs = dict(inputs)

    def to(self, device: torch.device, **options: Any) -> "Batch":
        return Batch({name: value.to(device, **options) for name, value in self.inputs.items()})


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a clip learner draws from, shared by the copies of the learner.

    Attributes:
        task: The recogniser.
        labels: (n,) int64, of all clips of the corpus.
        store: The clips.
        train: Indices of the clips to learn from.
        valid: Indices of the clips that `evaluate` measures.
        seed: Of order and views.
        batch_size: Items in a batch, on each device.
        n_threads: Threads that make items; 0 makes them in the caller's.
    """

    task: Task
    labels: np.ndarray
    store: Clips
    train: tuple[int, ...]
    valid: tuple[int, ...]
    seed: int
    batch_size: int
    n_threads: int

    def __deepcopy__(self, memo: dict[int, object]) -> "Material":
        return self  # averaging copies the learner: not a store with its files and locks


class ClipLearner(nn.Module):
    """A `train.loop.Learner` for any task.

    An epoch is a permutation of the clips; the last batch is filled up from its beginning. The view of an item depends
    on the seed, the epoch and its place in the epoch alone: neither on threads, ranks, nor on where a run began.

    Raises:
        ValueError: If there is no clip to learn from.
    """

    def __init__(self, network: nn.Module, material: Material) -> None:
        super().__init__()
        if not material.train:
            raise ValueError("expected one clip or more to learn from, got none")
        self.network = network
        self._material = material

    def n_batches(self, n_ranks: int = 1) -> int:
        return -(-len(self._material.train) // (self._material.batch_size * n_ranks))

    def batches(self, epoch: int, rank: int = 0, n_ranks: int = 1) -> Iterator[tuple[Any, ...]]:
        m = self._material
        together = m.batch_size * n_ranks
        order = np.random.default_rng([m.seed, epoch]).permutation(len(m.train))
        order = np.resize(order, self.n_batches(n_ranks) * together)
        places = np.arange(len(order)).reshape(-1, together)[:, rank::n_ranks].ravel()

        def make(place: int) -> tuple[Item, int]:
            clip = m.train[order[place]]
            return m.task.inputs(m.store[clip], np.random.default_rng([m.seed, epoch, place])), int(m.labels[clip])

        made = in_order(make, places.tolist(), n_threads=m.n_threads, n_ahead=m.batch_size + m.n_threads)
        for items in _groups(made, m.batch_size):
            yield Batch(collate([item for item, _ in items])), torch.tensor([label for _, label in items])

    def forward(self, batch: Batch, labels: Tensor) -> Tensor:
        return self._material.task.loss(self.network, batch.inputs, labels)

    def evaluate(self) -> dict[str, float]:
        m = self._material
        if not m.valid:
            return {}
        return scores(posteriors(m, self.network, m.valid), m.labels[list(m.valid)])


@torch.no_grad()
def posteriors(material: Material, network: nn.Module, clips: Sequence[int]) -> np.ndarray:
    """(n, L) float32, of the evaluated view of clips by their indices; the network is left in evaluation mode."""
    network.eval()
    task, store, n_threads = material.task, material.store, material.n_threads
    device = next(network.parameters()).device
    n_ahead = material.batch_size + n_threads
    made = in_order(lambda clip: task.inputs(store[clip], None), clips, n_threads=n_threads, n_ahead=n_ahead)
    parts = []
    for items in _groups(made, material.batch_size):
        inputs = Batch(collate(items)).to(device).inputs
        parts.append(task.posterior(network, inputs).float().cpu())
    return np.asarray(torch.cat(parts).numpy())


def collate(items: Sequence[Item]) -> dict[str, Tensor]:
    """Items as one batch: each array with an axis of items before its own.

    Raises:
        ValueError: If items differ in their arrays or these in their shapes.
    """
    shapes = {tuple((name, array.shape) for name, array in sorted(item.items())) for item in items}
    if len(shapes) != 1:
        raise ValueError(f"expected items alike, got arrays of {' and '.join(str(dict(s)) for s in sorted(shapes))}")
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def in_order(make: Callable[[A], B], what: Iterable[A], *, n_threads: int, n_ahead: int) -> Iterator[B]:
    """What `make` makes of each, in order, made by threads that are at most `n_ahead` ahead; 0 threads: by the caller.

    An exception of `make` is raised where its result would be.
    """
    if n_threads < 1:
        yield from map(make, what)
        return
    pool = ThreadPoolExecutor(n_threads)
    waiting: deque[Future[B]] = deque()
    try:
        for one in what:
            waiting.append(pool.submit(make, one))
            if len(waiting) > n_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also where the caller takes no more
        pool.shutdown(cancel_futures=True)


def keep_single_precision(network: nn.Module) -> None:
    """Take the front ends of a network out of mixed precision: a spectrogram in half of it has lost its quiet half.

    A front end is a module that learns nothing and holds constants, such as a Fourier basis.
    """
    for module in network.modules():
        if not list(module.parameters()) and any(b.is_floating_point() for b in module.buffers(recurse=False)):
            entered: list[torch.autocast] = []

            def enter(_: nn.Module, given: Any, entered: list[torch.autocast] = entered) -> None:
                device = next((x.device.type for x in given if isinstance(x, Tensor)), "cpu")
                entered.append(torch.autocast(device, enabled=False))
                entered[-1].__enter__()

            def leave(_: nn.Module, __: Any, ___: Any, entered: list[torch.autocast] = entered) -> None:
                entered.pop().__exit__(None, None, None)

            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave, always_call=True)


def _groups(what: Iterable[A], size: int) -> Iterator[list[A]]:
    group: list[A] = []
    for one in what:
        group.append(one)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
