"""`emocast train`: a recipe on the corpora of a person's own disk, to a bundle."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.errors import DONE
from tools.recognisers.corpus_folders import folders, train_module
from tools.recognisers.train_options import TrainOptions

OF_CLIPS = (
    "fold", "set", "initial", "leave_out", "valid_share", "accelerator", "devices", "nodes", "workers", "cache",
)  # fmt: skip
PRECISION = "bf16-mixed"  # of recipes that say nothing else


def train(recipe: str, data: Sequence[str], options: TrainOptions) -> int:
    """Run a recipe and print where its result lies. Returns the exit code.

    Args:
        recipe: Its name.
        data: NAME=DIR of each corpus.
        options: How.

    Raises:
        ValueError: If the recipe is unknown, an option is out of its range or of no use, or a corpus is missing or
            not in its layout.
    """
    whole, clips = train_module("train.recipes").RECIPES, train_module("train.clips.recipes").CLIP_RECIPES
    if recipe not in whole and recipe not in clips:
        raise ValueError(
            f"expected a recipe of {', '.join((*whole, *clips))}, got {recipe!r}; see emocast train --list"
        )
    out = options.out if options.out is not None else Path("runs") / recipe
    made = _train_clips(recipe, data, out, options) if recipe in clips else _train_whole(recipe, data, out, options)
    is_bundle = (made / "bundle.json").is_file()
    kind = "bundle" if is_bundle else "result" if options.stage is None else f"stage {options.stage}"
    if os.environ.get("LOCAL_RANK", "0") == "0":  # each further device runs this command too
        print(f"{kind}: {made}", flush=True)
    return DONE


def _train_whole(recipe: str, data: Sequence[str], out: Path, options: TrainOptions) -> Path:
    options.refuse(recipe, OF_CLIPS)
    chosen = train_module("train.recipes").RECIPES[recipe]
    made: Path = chosen.train(
        dict(folders(data, option="--data", mark="=", known=chosen.corpora)),
        out,
        seed=options.seed,
        stage=options.stage,
        epochs=options.epochs,
        precision=options.precision or PRECISION,
        threads=options.threads,
    )
    return made if options.stage is None or made != out else out / options.stage


def _train_clips(recipe: str, data: Sequence[str], out: Path, options: TrainOptions) -> Path:
    options.refuse(recipe, ("stage",))
    chosen = train_module("train.clips.recipes").CLIP_RECIPES[recipe]
    left_out = train_module("train.preparation.leave_out")
    made: Path = train_module("train.clips.recipe_run").train_clip_recipe(
        chosen,
        dict(folders(data, option="--data", mark="=", known=chosen.corpora)),
        out,
        cache=options.cache,
        seed=options.seed,
        epochs=options.epochs,
        folds=options.fold or None,
        settings=options.named("set"),
        initial={part: Path(file).expanduser() for part, file in options.named("initial", bare=True).items()},
        leave_out=left_out.read_names(options.leave_out) if options.leave_out is not None else (),
        valid_share=options.valid_share,
        precision=options.precision or "32-true",
        accelerator=options.accelerator,
        devices=options.devices,
        nodes=options.nodes,
        threads=options.threads,
        workers=options.workers,
    )
    return made


def list_recipes() -> int:
    """A line for each recipe. Returns the exit code.

    Raises:
        ValueError: If the train extra is missing.
    """
    table = Table("recipe", "corpora", "makes", box=None, pad_edge=False)
    whole, clips = train_module("train.recipes").RECIPES, train_module("train.clips.recipes").CLIP_RECIPES
    for recipe in whole.values():
        table.add_row(recipe.name, " ".join(recipe.corpora), recipe.text)
    for recipe in clips.values():
        table.add_row(recipe.name, f"one of {' '.join(recipe.corpora)}", recipe.text)
    Console().print(table)
    return DONE
