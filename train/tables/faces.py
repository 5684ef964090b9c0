"""Rows over single pictures: a face network from random weights on FER+, as `train.real_data.pictures` has it.

Their paper takes pictures of 224 pixels and networks that other faces were learned with before. FER+ are 48 pixels,
and enlarging them twofold is what a training on a CPU can pay for.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from train.clips import run_folder
from train.corpora import ferplus
from train.loop import LoopConfig, fit
from train.models.bilinear import FaceClassifier, FaceConfig
from train.real_data import pictures
from train.real_data.recipes import FACES_PROTOCOL
from train.tables.runs import Training, hardware
from train.tables.tasks import face_config

PROTOCOL = FACES_PROTOCOL
VGG_RATE = 0.01  # without batch normalisation the others' 0.1 lets it diverge
SPLIT = "valid"


def loop_of(config: FaceConfig, *, epochs: int | None, seed: int) -> LoopConfig:
    """How a face network is trained."""
    rate = VGG_RATE if config.backbone == "VGGFace" else pictures.LOOP.learning_rate
    return replace(pictures.LOOP, learning_rate=rate, epochs=epochs or pictures.LOOP.epochs, seed=seed)


@dataclass(frozen=True, kw_only=True)
class FaceRuns:
    """All trainings on single pictures.

    Attributes:
        corpus: Folder of FER+.
        out: Where the folders of trainings lie.
        fabric: Launched, one process.
        epochs: Instead of `train.real_data.pictures.LOOP`'s.
        seed: Of everything random.
        settings: Values of the face network as texts, `faces.width` for example; others are not for it.
    """

    corpus: Path
    out: Path
    fabric: Fabric
    epochs: int | None = None
    seed: int = 0
    settings: Mapping[str, str]

    def training(self, row: FaceConfig) -> Training:
        """The training of a row's network, done now where it is not there.

        Raises:
            CorpusError: If FER+ is not in its layout.
            ValueError: If a setting does not fit, or the loss is no number.
        """
        config = face_config(replace(row, crop_px=pictures.SIZES_PX[-1]), self.settings)
        loop = loop_of(config, epochs=self.epochs, seed=self.seed)
        # Only a network that ends in a mean over places takes pictures of several sizes.
        sizes = pictures.SIZES_PX if config.backbone == "ResNet18" else (config.crop_px,)
        if config.crop_px != pictures.SIZES_PX[-1]:
            sizes = (config.crop_px,)
        configuration = {
            "face": asdict(config), "sizes_px": sizes, "loop": asdict(loop), "corpus": "ferplus",
            "table": run_folder.file_digest(self._table()),
            "precision": str(self.fabric.strategy.precision.precision),
        }  # fmt: skip
        folder = self.out / f"faces-{run_folder.digest(configuration)[:12]}"
        done = run_folder.complete(folder, configuration)
        if done is None:
            notes = {
                "machine": run_folder.machine(1, 1),
                "device": str(self.fabric.device),
                "versions": run_folder.versions(),
            }
            run_folder.begin(folder, configuration, notes)
            self._train(config, sizes, loop, folder, configuration)
        result = run_folder.read(folder / "result.json")
        with np.load(folder / "posteriors.npz") as stored:
            fold = stored["posteriors"], stored["labels"]
        return Training(
            folder=folder,
            folds={SPLIT: fold},
            epochs=result["epochs"],
            minutes=result["seconds"] / 60,
            machine=hardware(run_folder.read(folder / "run.json")),
            note=f"from random weights, pictures of {config.crop_px} px",
            is_new=done is None,
        )

    def _table(self) -> Path:
        # The reader says what is wrong with a folder without it.
        path = self.corpus / "fer2013new.csv"
        if not path.is_file():
            ferplus.read(self.corpus, SPLIT, 8)
        return path

    def _train(
        self, config: FaceConfig, sizes: tuple[int, ...], loop: LoopConfig, folder: Path, whole: Mapping[str, Any]
    ) -> None:
        known, held_out = (ferplus.read(self.corpus, split, 8) for split in ("train", SPLIT))
        torch.manual_seed(loop.seed)
        network = FaceClassifier(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        learner = pictures.PictureLearner(
            network, known, held_out, seed=loop.seed, batch_size=loop.batch_size, epochs=loop.epochs, sizes_px=sizes
        )
        trained: Any = fit(self.fabric, learner, loop, folder)
        torch.save(trained.network.state_dict(), folder / "weights.pt")
        np.savez(folder / "posteriors.npz", posteriors=trained.posteriors(held_out), labels=held_out.majority)
        lines = run_folder.curve(folder)
        seconds = round(sum(line["seconds"] for line in lines), 1)
        # Last: a folder with a result is complete.
        result = {"hash": run_folder.digest(whole), "epochs": len(lines), "seconds": seconds}
        run_folder.write(folder / "result.json", result)
