"""The five recognisers as recipes: which corpora each learns from, and how. `train.clips.recipe_run` runs them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from train.clips.overrides import names, override
from train.corpora.readers import CLIP_READERS
from train.loop import LoopConfig
from train.tasks.bilinear import BilinearTask
from train.tasks.emodal import EmodalTask
from train.tasks.icanet import IcanetTask
from train.tasks.skeleton import SkeletonTask
from train.tasks.task import Task
from train.tasks.temporal import TemporalTask

# What is settled by the corpus, or is not a choice of the user's.
_NOT_OF_CONFIG = ("n_labels",)
_NOT_OF_TASK = ("config", "labels", "name", "paper")


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """A published recogniser to be trained from clips.

    Attributes:
        name: On the command line.
        text: What it is, in one line.
        corpora: Names of `train.corpora.readers.CLIP_READERS` that it takes, the paper's first.
        kind: Its task: a dataclass with a `config` and `labels`.
        loop: How to train it.
    """

    name: str
    text: str
    corpora: tuple[str, ...]
    kind: type[Any]
    loop: LoopConfig

    def task(self, labels: tuple[str, ...], settings: Mapping[str, str]) -> Task:
        """The recogniser for the labels of a corpus.

        Args:
            labels: Of the corpus, in its order.
            settings: Values of the model's configuration and of the task, by name, as texts.

        Raises:
            ValueError: If a setting is unknown, or its value not one that it can have.
        """
        config = self.kind().config
        if any(f.name == "n_labels" for f in fields(config)):
            config = replace(config, n_labels=len(labels))
        ours = {name.partition(".")[0] for name in names(config, _NOT_OF_CONFIG)}
        task = self.kind(config=config, labels=labels)
        others = {name.partition(".")[0] for name in names(task, _NOT_OF_TASK)}
        if unknown := [name for name in settings if name.partition(".")[0] not in ours | others]:
            known = ", ".join(sorted({*names(config, _NOT_OF_CONFIG), *names(task, _NOT_OF_TASK)}))
            raise ValueError(f"expected settings of {self.name}: {known}; got {', '.join(unknown)}")
        own = {name: text for name, text in settings.items() if name.partition(".")[0] in ours}
        rest = {name: text for name, text in settings.items() if name not in own}
        config = override(config, own, hidden=_NOT_OF_CONFIG)
        made: Task = override(self.kind(config=config, labels=labels), rest, hidden=_NOT_OF_TASK)
        return made


def _corpora(*first: str) -> tuple[str, ...]:
    return (*first, *(name for name in CLIP_READERS if name not in first))


# AdamW without decay is Adam. All of them warm up for an epoch and follow a cosine to zero, which no text has; what a
# text says of the optimiser, its rate, batch and epochs is kept where the comment says so.
CLIP_RECIPES: Mapping[str, ClipRecipe] = {
    recipe.name: recipe
    for recipe in (
        ClipRecipe(
            name="icanet",
            text="ICANet: I3D on pictures and optical flow, VGG16 with coordinate attention on the sound",
            corpora=_corpora("iemocap"),
            kind=IcanetTask,
            # The text is silent.
            loop=LoopConfig(
                epochs=40, batch_size=8, learning_rate=3e-4, weight_decay=0.01, optimiser="adamw", average=0.98,
                evaluate_every=5,
            ),
        ),
        ClipRecipe(
            name="skeleton",
            text="skeleton NeXtVLAD: Swin, VGGish and body pose, transformer encoders, NeXtVLAD and an SE gate",
            corpora=_corpora("videoemotion8"),
            kind=SkeletonTask,
            # The text's optimiser, rate, batch and epochs.
            loop=LoopConfig(
                epochs=100, batch_size=16, learning_rate=1e-4, weight_decay=0.0, optimiser="adamw", average=0.98,
                evaluate_every=10,
            ),
        ),
        ClipRecipe(
            name="emodal",
            text="EMODal: a face CNN and 68 audio features with the Soft-HGR common loss",
            corpora=_corpora("folders"),
            kind=EmodalTask,
            # The text says Adam, and nothing else. A batch must be large: Soft-HGR estimates covariances from it.
            loop=LoopConfig(
                epochs=60, batch_size=64, learning_rate=1e-3, weight_decay=0.0, optimiser="adamw", average=0.98,
                evaluate_every=5,
            ),
        ),
        ClipRecipe(
            name="bilinear",
            text="attention and factorised bilinear pooling of faces and an AlexNet on the spectrogram",
            corpora=_corpora("afew"),
            kind=BilinearTask,
            # The text is silent.
            loop=LoopConfig(
                epochs=40, batch_size=8, learning_rate=3e-4, weight_decay=0.01, optimiser="adamw", average=0.98,
                evaluate_every=5,
            ),
        ),
        ClipRecipe(
            name="temporal",
            text="temporal aggregation of segments, each a face and an asynchronous window of sound",
            corpora=_corpora("cremad", "cremad-perceived"),
            kind=TemporalTask,
            # The text's SGD with momentum 0.9 and batch. Its rate of 1e-3, cut tenfold every 50 steps of an epoch, is
            # for its own networks; these are smaller and begin with random weights.
            loop=LoopConfig(
                epochs=60, batch_size=16, learning_rate=0.02, weight_decay=5e-4, optimiser="sgd", average=0.98,
                evaluate_every=5,
            ),
        ),
    )
}  # fmt: skip
