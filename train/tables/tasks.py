"""The recogniser of a row: its configuration, made for a corpus, with a call's settings and networks trained before."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from train.clips import run_folder
from train.clips.overrides import override
from train.clips.recipes import ClipRecipe
from train.models.bilinear import BilinearConfig, FaceConfig
from train.tasks.bilinear import BilinearTask
from train.tasks.skeleton import SkeletonTask
from train.tasks.task import Task

FACES = "faces."  # before a setting of face networks, of which a configuration can have several


def row_task(
    recipe: ClipRecipe,
    config: Any,
    labels: tuple[str, ...],
    settings: Mapping[str, str],
    weights: Mapping[str, Path],
) -> Task:
    """The recogniser of a row's model.

    Args:
        recipe: Of the paper.
        config: The row's.
        labels: Of the corpus.
        settings: Values of model and task, as texts.
        weights: Files of networks trained before: `visual` and `audio` of the skeleton recogniser, or a face corpus.

    Raises:
        ValueError: If a setting is unknown, or does not fit this model.
    """
    own = {name: text for name, text in settings.items() if not name.startswith(FACES)}
    if isinstance(config, BilinearConfig):
        config = replace(config, faces=tuple(face_config(face, settings) for face in config.faces))

    def kind(**given: Any) -> Any:
        return recipe.kind(**{"config": config, **given})

    # `ClipRecipe.task` begins with the configuration that its kind has by itself: that of the row.
    task = replace(recipe, kind=cast(type[Any], kind)).task(labels, own)
    if isinstance(task, SkeletonTask):
        given = {stream: weights[stream] for stream in task.config.streams if stream in weights}
        return replace(task, weights=cast(Any, given))
    if isinstance(task, BilinearTask) and task.config.modality != "voice":
        files = tuple(weights[face.corpus] for face in task.config.faces if face.corpus in weights)
        if len(files) == len(task.config.faces):
            return replace(task, face_weights=files, freeze=True)
        # With random weights the pictures they were to be trained on before make no difference.
        faces = tuple(replace(face, corpus="FER+") for face in task.config.faces)
        return replace(task, config=replace(task.config, faces=faces))
    return task


def face_config(face: FaceConfig, settings: Mapping[str, str]) -> FaceConfig:
    """A face network with the settings that are for it. Raises ValueError if one does not fit."""
    own = {name.removeprefix(FACES): text for name, text in settings.items() if name.startswith(FACES)}
    return override(face, own, hidden=("backbone", "corpus"))


def weights_of(task: Task) -> dict[str, str]:
    """Path and hash of each file of weights that a task was given."""
    paths = task.weights.values() if isinstance(task, SkeletonTask) else getattr(task, "face_weights", ())
    return {str(path): run_folder.file_digest(path) for path in paths}


def made_without(task: Task) -> str:
    """What of the paper's a task is made without, in words; empty where that is nothing."""
    if isinstance(task, BilinearTask) and task.config.modality != "voice" and not task.face_weights:
        return "face networks began with random weights, not with those of face pictures"
    if isinstance(task, SkeletonTask):
        random = [s for s in ("visual", "audio") if s in task.config.streams and s not in task.weights]
        return f"feature networks with random weights: {', '.join(random)}" if random else ""
    return ""
