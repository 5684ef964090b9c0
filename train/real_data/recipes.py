"""Recipes whose result is a figure beside a published one, on real data that is at hand: `RESULTS.md` holds them.

Each takes what `train.recipes.train_default` takes and returns the run's folder. There `result.json` holds the
figures, the protocol, seeds, minutes and the machine. A run that is complete is not repeated; one that was
interrupted goes on from its last epoch.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from train import voices as speech
from train.corpora import ferplus
from train.corpora.items import CorpusError
from train.loop import LoopConfig, fit
from train.losses import LossWeights
from train.models import emodal
from train.models.bilinear import FaceClassifier, FaceConfig
from train.models.emodal import EmodalConfig, Modality
from train.real_data import matched_pairs, paired_features, paired_networks, pictures
from train.real_data.matched_pairs import MatchedLearner, Material, gather
from train.real_data.paired_features import PairedClips
from train.real_data.paired_networks import PairedConfig
from train.real_data.runs import chosen, figures, once, open_fabric, runs, summarise

REPEATS = 3  # seeds of a row: the one asked for and those that follow it

# Row, modality, weight of the common loss, published accuracy in per cent (Table 1; none for the ablation).
MATCHED_ROWS: dict[str, tuple[Modality, float, float | None]] = {
    "audio": ("audio", 0.0, 52.20),
    "image": ("image", 0.0, 63.73),
    "both": ("both", 1.0, 66.02),
    "both-without-common-loss": ("both", 0.0, None),
}
MATCHED_PROTOCOL = (
    "class-matched pairs, a face and a voice of one label but of two people: every FER+ valid picture of the four "
    "labels, each with a voice of held-out speakers; last epoch's averaged weights; batch, rate and first weights were "
    "settled by the training loss"
)
FEATURES_PROTOCOL = (
    "RAVDESS features of face and voice of the same clip, its eight labels, five folds of four actors apart, 1,199 "
    "clips each tested once; last epoch's weights; width, rate and length were settled by three rows on two of the "
    "folds"
)
# Table 2 and section 3 of the text, accuracy in per cent on AFEW's validation set.
FEATURES_PUBLISHED = {
    "self-self-fbp": 54.6, "self-relation-fbp": 56.9, "self-transformer-fbp": 60.3,
    "relation-self-fbp": 54.0, "relation-relation-fbp": 57.2, "relation-transformer-fbp": 60.0,
    "transformer-self-fbp": 54.8, "transformer-relation-fbp": 58.0, "transformer-transformer-fbp": 61.1,
    "transformer-transformer-concatenation": 58.0,
}  # fmt: skip
FACES_PROTOCOL = (
    "FER+ split valid, eight labels, a picture's label the majority of all ten votes, pictures whose majority is "
    "unknown or no face left out; last epoch's averaged weights"
)


def train_emodal_matched(
    data: Mapping[str, Path],
    out: Path,
    *,
    seed: int = 0,
    stage: str | None = None,
    epochs: int | None = None,
    precision: str = "bf16-mixed",
    threads: int = 2,
) -> Path:
    """Train the rows of EMODal's Table 1, and `both` without its common loss, on class-matched pairs.

    Args:
        data: Corpus name to folder: `ferplus` and at least one of the speech corpora.
        out: The run's folder.
        seed: The first of `REPEATS`.
        stage: One of `MATCHED_ROWS` alone.
        epochs: Instead of the recipe's own: for a trial.
        precision: Fabric's name for it.
        threads: Threads of torch on a CPU.

    Returns:
        `out`, with `result.json` and a folder a row and seed.

    Raises:
        CorpusError: If a corpus is missing or not in its layout.
        ValueError: If there is no such row, or `out` holds a run with other settings.
    """
    spoken = [(name, folder) for name, folder in data.items() if name in speech.READERS]
    if "ferplus" not in data or not spoken or len(spoken) + 1 != len(data):
        raise CorpusError(
            f"expected --data ferplus=DIR and one or more of {', '.join(f'{n}=DIR' for n in speech.READERS)}, "
            f"got {', '.join(data) or 'nothing'}"
        )
    rows = chosen(stage, MATCHED_ROWS)
    fabric = open_fabric(precision, threads)
    config = replace(matched_pairs.LOOP, epochs=epochs or matched_pairs.LOOP.epochs)

    material = cache(lambda: _matched_material(data["ferplus"], spoken, seed))  # a complete run needs none
    for repeat in range(seed, seed + REPEATS):
        for name in rows:
            settings = asdict(replace(config, seed=repeat)) | {"data": sorted(data), "views_seed": seed}
            folder = out / name / f"seed{repeat}"
            train = _matched_run(fabric, name, replace(config, seed=repeat), material, folder)
            once(fabric, folder, settings, train)
    summarise(fabric, out, {k: v[2] for k, v in MATCHED_ROWS.items()}, MATCHED_PROTOCOL, emodal.LABELS)
    return out


def _matched_material(faces: Path, spoken: list[tuple[str, Path]], seed: int) -> tuple[Material, Material]:
    train, valid = (
        gather(
            ferplus.read(faces, split),
            speech.load(spoken, split),
            n_samples=EmodalConfig().n_samples,
            seed=seed if split == "train" else None,
        )
        for split in ("train", "valid")
    )
    return train, valid


def _matched_run(
    fabric: Fabric, name: str, config: LoopConfig, material: Callable[[], tuple[Material, Material]], folder: Path
) -> Callable[[], dict[str, Any]]:
    modality, common, _ = MATCHED_ROWS[name]

    def train() -> dict[str, Any]:
        known, held_out = material()
        learner = MatchedLearner(
            matched_pairs.fresh(EmodalConfig(modality=modality), config.seed),
            known,
            held_out,
            seed=config.seed,
            batch_size=config.batch_size,
            n_batches=matched_pairs.N_BATCHES,
            weights=LossWeights(common=common),
        )
        trained: Any = fit(fabric, learner, config, folder)
        return figures(trained.posteriors(), held_out.face_labels)

    return train


def train_bilinear_features(
    data: Mapping[str, Path],
    out: Path,
    *,
    seed: int = 0,
    stage: str | None = None,
    epochs: int | None = None,
    precision: str = "32-true",
    threads: int = 1,
) -> Path:
    """Cross-validate attentions and fusions on paired features of RAVDESS (Table 2 of the bilinear paper's kind).

    Args:
        data: Corpus name to folder: `ravdess-features`, which holds `ravdess-features.npz`.
        out: The run's folder.
        seed: The first of `REPEATS`.
        stage: One row of `train.paired_networks.rows` alone.
        epochs: Instead of the recipe's own: for a trial.
        precision: Fabric's name for it.
        threads: Threads of torch on a CPU; such small networks gain nothing from a second.

    Returns:
        `out`, with `result.json` and a folder a row and seed.

    Raises:
        CorpusError: If the features are missing or not as expected.
        ValueError: If there is no such row, or `out` holds a run with other settings.
    """
    if set(data) != {"ravdess-features"}:
        raise CorpusError(f"expected --data ravdess-features=DIR, got {', '.join(data) or 'nothing'}")
    rows = paired_networks.rows()
    names = chosen(stage, rows)
    fabric = open_fabric(precision, threads)
    clips = paired_features.read(data["ravdess-features"])
    config = replace(paired_networks.LOOP, epochs=epochs or paired_networks.LOOP.epochs)
    for repeat in range(seed, seed + REPEATS):
        for name in names:
            train = _features_run(fabric, clips, rows[name], replace(config, seed=repeat))
            settings = asdict(replace(config, seed=repeat)) | {"row": asdict(rows[name])}
            once(fabric, out / name / f"seed{repeat}", settings, train)
    published = {name: FEATURES_PUBLISHED.get(name) for name in rows}
    differences = paired_networks.differences({name: _by_actor(out / name) for name in rows})
    summarise(fabric, out, published, FEATURES_PROTOCOL, paired_features.LABELS, differences=differences)
    return out


def _by_actor(folder: Path) -> np.ndarray | None:
    # Accuracy of each actor, the mean over seeds.
    found = [run["actors"] for run in runs(folder)]
    return np.mean(found, axis=0) if found else None


def _features_run(
    fabric: Fabric, clips: PairedClips, config: PairedConfig, loop: LoopConfig
) -> Callable[[], dict[str, Any]]:
    def train() -> dict[str, Any]:
        posteriors = paired_networks.cross_validate(fabric, clips, config, loop)
        right = posteriors.argmax(1) == clips.labels
        by_actor = [float(right[clips.actors == actor].mean()) for actor in np.unique(clips.actors)]
        by_fold = [float(right[clips.folds == fold].mean()) for fold in range(paired_features.N_FOLDS)]
        return figures(posteriors, clips.labels) | {"folds": by_fold, "actors": by_actor}

    return train


def train_bilinear_faces(
    data: Mapping[str, Path],
    out: Path,
    *,
    seed: int = 0,
    stage: str | None = None,
    epochs: int | None = None,
    precision: str = "bf16-mixed",
    threads: int = 2,
) -> Path:
    """Train ResNet18 on FER+ with eight labels, from random weights (Table 1 of the bilinear recogniser's paper).

    Args:
        data: Corpus name to folder: `ferplus`.
        out: The run's folder.
        seed: Of everything random.
        stage: `faces` or `polish` alone.
        epochs: Instead of the recipe's own: for a trial.
        precision: Fabric's name for it.
        threads: Threads of torch on a CPU.

    Returns:
        `out`, with `result.json` and the folders `faces` and `polish`, which hold `weights.pt`.

    Raises:
        CorpusError: If FER+ is missing or not in its layout.
        ValueError: If there is no such stage, or `out` holds a run with other settings.
    """
    if set(data) != {"ferplus"}:
        raise CorpusError(f"expected --data ferplus=DIR, got {', '.join(data) or 'nothing'}")
    stages = {"faces": pictures.LOOP, "polish": pictures.POLISH}
    fabric = open_fabric(precision, threads)
    for name in chosen(stage, stages):
        config = replace(stages[name], epochs=epochs or stages[name].epochs, seed=seed)
        settings = asdict(config) | {"data": sorted(data)}
        once(fabric, out / name, settings, partial(_train_faces, fabric, data["ferplus"], out, name, config))
    summarise(fabric, out, {"faces": None, "polish": 88.65}, FACES_PROTOCOL, ferplus.COLUMNS[:8])
    return out


def _train_faces(fabric: Fabric, folder: Path, out: Path, stage: str, config: LoopConfig) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    sizes_px = pictures.SIZES_PX if stage == "faces" else (pictures.POLISH_PX,)
    face = FaceConfig(backbone="ResNet18", corpus="FER+", crop_px=sizes_px[-1])
    network = FaceClassifier(face).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    known, held_out = (ferplus.read(folder, split, 8) for split in ("train", "valid"))
    learner = pictures.PictureLearner(
        network,
        known,
        held_out,
        seed=config.seed,
        batch_size=config.batch_size,
        epochs=config.epochs,
        gentle_epochs=pictures.GENTLE_EPOCHS if stage == "faces" else config.epochs,
        sizes_px=sizes_px,
    )
    if stage == "polish":
        before = out / "faces" / "weights.pt"
        if not before.is_file():
            raise CorpusError(f"expected the stage faces to be trained in {out}; run it first: --stage faces")
        learner.load_state_dict(torch.load(before, weights_only=True))
    trained: Any = fit(fabric, learner, config, out / stage)
    if fabric.is_global_zero:
        torch.save(trained.state_dict(), out / stage / "weights.pt")
    return figures(trained.posteriors(held_out), held_out.majority)
