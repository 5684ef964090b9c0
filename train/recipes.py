"""Recipes: what `emocast train NAME` does, from corpora to a bundle, with the numbers that the shipped files have."""

import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from train import voices as speech
from train.corpora import ferplus
from train.corpora.items import CorpusError
from train.default.finish import finish
from train.default.int8 import train_int8
from train.default.learners import FaceLearner, PairLearner, VoiceLearner
from train.loop import LoopConfig, fit
from train.models.temporal import AudioVisualNetwork, TemporalConfig
from train.real_data.recipes import train_bilinear_faces, train_bilinear_features, train_emodal_matched

# The shipped `default`, seed 0, on two cores of an AMD EPYC (family 26), bf16: faces 65 min and voices 51 min side by
# side, one thread each; polish 14, pairs 3, bundle 1 min. Scores are in the bundle's card.
FACES = LoopConfig(epochs=30, learning_rate=0.1, weight_decay=5e-4, optimiser="sgd")
FACES_SIZES_PX = (36,) * 12 + (48,)  # smaller pictures first: the same result for two thirds of the time
# Then closer to what is served: whole pictures, moved and relit less, in their natural shares.
POLISH = LoopConfig(
    epochs=6,
    learning_rate=0.01,
    weight_decay=5e-4,
    optimiser="sgd",
    warmup_epochs=0.25,
    average=0.995,
    evaluate_every=1,
)
POLISH_STRENGTH = 0.4
VOICES = LoopConfig(
    epochs=140, learning_rate=2e-3, weight_decay=0.05, optimiser="adamw", average=0.995, evaluate_every=20
)
VOICES_BATCHES = 40
PAIRS = LoopConfig(epochs=6, learning_rate=3e-4, weight_decay=0.01, optimiser="adamw", average=0.98)
PAIRS_BATCHES = 20
STAGES = ("faces", "polish", "voices", "pairs", "bundle")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A name on the command line: what it makes, the corpora it takes, and the function that does it."""

    name: str
    text: str
    corpora: tuple[str, ...]
    train: Callable[..., Path]


def train_default(
    data: Mapping[str, Path],
    out: Path,
    *,
    seed: int = 0,
    stage: str | None = None,
    epochs: int | None = None,
    precision: str = "bf16-mixed",
    threads: int = 2,
) -> Path:
    """Train the temporal aggregation recogniser on FER+ faces and the speech corpora given, and make its bundle.

    Args:
        data: Corpus name to folder: `ferplus` and at least one of the speech corpora.
        out: The run's folder; stages that are complete there are not repeated, one that was interrupted goes on.
        seed: Of everything random.
        stage: One of `STAGES` alone, so that faces and voices can train side by side.
        epochs: Instead of the recipe's own, for each stage: for a trial.
        precision: Fabric's name for it.
        threads: Threads of torch on a CPU.

    Returns:
        The bundle's folder, or the run's where one stage was asked for.

    Raises:
        CorpusError: If a corpus is missing or not in its layout.
    """
    spoken = [(name, folder) for name, folder in data.items() if name in speech.READERS]
    if "ferplus" not in data or not spoken or len(spoken) + 1 != len(data):
        raise CorpusError(
            f"expected --data ferplus=DIR and one or more of {', '.join(f'{n}=DIR' for n in speech.READERS)}, "
            f"got {', '.join(data) or 'nothing'}"
        )
    if stage is not None and stage not in STAGES:
        raise ValueError(f"expected a stage of {', '.join(STAGES)}, got {stage!r}")
    torch.set_num_threads(threads)
    fabric = Fabric(devices=1, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(fabric=fabric, data=dict(data), spoken=spoken, out=out, seed=seed, epochs=epochs)
    for name in STAGES if stage is None else (stage,):
        run.stage(name)
    return out / "bundle" if stage in (None, "bundle") else out


@dataclass(frozen=True, kw_only=True)
class _Run:
    fabric: Fabric
    data: dict[str, Path]
    spoken: list[tuple[str, Path]]
    out: Path
    seed: int
    epochs: int | None

    def stage(self, name: str) -> None:
        began = time.monotonic()
        getattr(self, name)()
        note = {
            "stage": name, "seed": self.seed, "minutes": round((time.monotonic() - began) / 60, 1),
            "data": sorted(self.data), "machine": platform.processor() or platform.machine(),
            "versions": {p: version(p) for p in ("torch", "lightning", "onnx", "onnxruntime", "numpy")},
        }  # fmt: skip
        if self.fabric.is_global_zero:
            with (self.out / "run.jsonl").open("a") as lines:
                lines.write(json.dumps(note) + "\n")

    def faces(self) -> None:
        self._learn_faces(self._network(), FACES, "faces", FACES_SIZES_PX)

    def polish(self) -> None:
        network = self.trained(("faces",))
        self._learn_faces(network, POLISH, "polish", FACES_SIZES_PX[-1:], strength=POLISH_STRENGTH, rare_every=0)

    def _learn_faces(
        self, network: AudioVisualNetwork, config: LoopConfig, stage: str, sizes_px: tuple[int, ...], **look: Any
    ) -> None:
        config = self._config(config)
        learner = FaceLearner(
            network,
            ferplus.read(self.data["ferplus"], "train"),
            ferplus.read(self.data["ferplus"], "valid"),
            seed=self.seed,
            batch_size=config.batch_size,
            sizes_px=sizes_px,
            **look,
        )
        self._fit(learner, config, stage)

    def voices(self) -> None:
        network, config = self._network(), self._config(VOICES)
        learner = VoiceLearner(
            network,
            speech.load(self.spoken, "train"),
            speech.load(self.spoken, "valid"),
            seed=self.seed,
            batch_size=config.batch_size,
            n_batches=VOICES_BATCHES,
            smoothing=0.05,
            mixup=0.3,
        )
        self._fit(learner, config, "voices")

    def pairs(self) -> None:
        network, config = self.trained(("polish", "voices")), self._config(PAIRS)
        learner = PairLearner(
            network,
            (ferplus.read(self.data["ferplus"], "train"), ferplus.read(self.data["ferplus"], "valid")),
            (speech.load(self.spoken, "train"), speech.load(self.spoken, "valid")),
            seed=self.seed,
            batch_size=config.batch_size,
            n_batches=PAIRS_BATCHES,
        )
        self._fit(learner, config, "pairs")

    def bundle(self) -> None:
        network = self.trained(("polish", "voices", "pairs"))
        if self.fabric.is_global_zero:
            folder = self.out / "bundle"
            finish(network, self.data["ferplus"], self.spoken, folder, seed=self.seed, epochs=self.epochs)

    def trained(self, stages: tuple[str, ...]) -> AudioVisualNetwork:
        """The network with what the stages left, each its averaged weights."""
        network = self._network()
        parts: dict[str, dict[str, nn.Module]] = {
            "faces": {"face": network.face, "head": network.face_head},
            "polish": {"face": network.face, "head": network.face_head},
            "voices": {"voice": network.voice, "head": network.voice_head},
            "pairs": {"head": network.both_head},
        }
        for stage in stages:
            path = self.out / stage / "weights.pt"
            if not path.is_file():
                raise CorpusError(f"expected stage {stage} to be trained in {self.out}; run it first: --stage {stage}")
            state = torch.load(path, weights_only=True)
            for prefix, module in parts[stage].items():
                own = {k.removeprefix(prefix + "."): v for k, v in state.items() if k.startswith(prefix + ".")}
                module.load_state_dict(own)
        return network.eval()

    def _network(self) -> AudioVisualNetwork:
        torch.manual_seed(self.seed)
        return AudioVisualNetwork(TemporalConfig()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _config(self, config: LoopConfig) -> LoopConfig:
        return replace(config, seed=self.seed, epochs=self.epochs or config.epochs)

    def _fit(self, learner: nn.Module, config: LoopConfig, stage: str) -> None:
        averaged = fit(self.fabric, learner, config, self.out / stage)
        if self.fabric.is_global_zero:
            torch.save(averaged.state_dict(), self.out / stage / "weights.pt")
        self.fabric.barrier()  # the next stage reads these weights on every device


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="default",
            text="temporal aggregation, faces and voices; the bundle that emocast ships",
            corpora=("ferplus", *speech.READERS),
            train=train_default,
        ),
        Recipe(
            name="default-int8",
            text="the shipped default in 8-bit integers, faster on CPUs that have dot products for them",
            corpora=("ferplus", *speech.READERS),
            train=train_int8,
        ),
        Recipe(
            name="emodal-matched",
            text="EMODal's rows audio, image and both on class-matched pairs, beside the published figures",
            corpora=("ferplus", *speech.READERS),
            train=train_emodal_matched,
        ),
        Recipe(
            name="bilinear-features",
            text="three attentions with bilinear pooling and concatenation on paired features, actors apart",
            corpora=("ravdess-features",),
            train=train_bilinear_features,
        ),
        Recipe(
            name="bilinear-faces",
            text="ResNet18 on FER+ pictures from random weights, beside the published figure",
            corpora=("ferplus",),
            train=train_bilinear_faces,
        ),
    )
}
