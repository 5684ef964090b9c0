"""`emocast train`: a recipe on the corpora of a person's own disk, to a bundle."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.table import Table

from tools.corpus_folders import folders, train_module
from tools.errors import DONE


def train(
    recipe: str,
    data: Sequence[str],
    *,
    out: Path | None,
    stage: str | None,
    epochs: int | None,
    seed: int,
    precision: str,
    threads: int,
) -> int:
    """Run a recipe and print where its bundle lies. Returns the exit code.

    Args:
        recipe: Its name.
        data: NAME=DIR of each corpus.
        out: Folder of the run; `runs/<recipe>` where not given.
        stage: This stage alone.
        epochs: Instead of the recipe's own, for each stage.
        seed: Of everything random.
        precision: Lightning Fabric's name for it.
        threads: Threads of torch on a CPU.

    Raises:
        ValueError: If the recipe is unknown, a number is out of its range, or a corpus is missing or not in its layout.
    """
    for name, number in (("--epochs", epochs), ("--threads", threads)):
        if number is not None and number < 1:
            raise ValueError(f"{name}: expected 1 or more, got {number}")
    recipes = _recipes()
    if recipe not in recipes.RECIPES:
        raise ValueError(f"expected a recipe of {', '.join(recipes.RECIPES)}, got {recipe!r}; see emocast train --list")
    chosen = recipes.RECIPES[recipe]
    found = dict(folders(data, option="--data", mark="=", known=chosen.corpora))
    made = chosen.train(
        found,
        out if out is not None else Path("runs") / recipe,
        seed=seed,
        stage=stage,
        epochs=epochs,
        precision=precision,
        threads=threads,
    )
    is_bundle = (made / "bundle.json").is_file()
    print(f"bundle: {made}" if is_bundle else f"stage {stage}: {made / str(stage)}", flush=True)
    return DONE


def list_recipes() -> int:
    """A line for each recipe. Returns the exit code.

    Raises:
        ValueError: If the train extra is missing.
    """
    table = Table("recipe", "corpora", "makes", box=None, pad_edge=False)
    for recipe in _recipes().RECIPES.values():
        table.add_row(recipe.name, " ".join(recipe.corpora), recipe.text)
    Console().print(table)
    return DONE


def _recipes() -> ModuleType:
    return train_module("train.recipes")
