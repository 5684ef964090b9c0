"""What `emocast train` and `emocast tables` can be told: the fields are options of the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train; a recipe refuses what it has no use for.

    Attributes:
        out: Folder of the run; `runs/RECIPE` where not given. A run that was interrupted goes on.
        seed: Of everything random.
        epochs: Instead of the recipe's own: for a trial.
        precision: Lightning Fabric's name for it: `bf16-mixed`, `32-true`, `16-mixed`.
        threads: Threads of torch on a CPU, and threads that load clips.
        stage: Only this stage or row of the recipe, so that several can train side by side.
        fold: Only this fold of the corpus's protocol; repeatable. Recipes of clips.
        set: NAME=VALUE of the model, the task, or as loop.NAME the loop; repeatable. Recipes of clips.
        initial: PART=FILE of first weights for a part of the network, or FILE for all of it. Recipes of clips.
        leave_out: File of clip names to do without, one a line. Recipes of clips.
        valid_share: Share of training clips, whole persons, to choose weights and to calibrate by. Recipes of clips.
        accelerator: `cpu`, `cuda`, or `auto` for the best that is there. Recipes of clips.
        devices: Devices on each machine. Recipes of clips.
        nodes: Machines; each runs the same command. Recipes of clips.
        workers: Processes that prepare clips; one for each core where not given. Recipes of clips.
        cache: Folder of prepared clips; `cache` in the run's folder where not given. Recipes of clips.
    """

    out: Path | None = None
    seed: int = 0
    epochs: int | None = None
    precision: str | None = None
    threads: int = 2
    stage: str | None = None
    fold: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    initial: tuple[str, ...] = ()
    leave_out: Path | None = None
    valid_share: float = 0.0
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        _check_counts(self, ("epochs", "threads", "devices", "nodes", "workers"))
        if not 0 <= self.valid_share < 1:
            raise ValueError(f"--valid-share: expected a share from 0 to below 1, got {self.valid_share}")
        _check_file("--leave-out", self.leave_out)

    def named(self, option: str, *, bare: bool = False) -> dict[str, str]:
        """The NAME=VALUE texts of `set` or `initial`, as the function of this name."""
        return named(f"--{option}", getattr(self, option), bare=bare)

    def refuse(self, recipe: str, names: tuple[str, ...]) -> None:
        """Say which of these options were given to a recipe that has no use for them.

        Raises:
            ValueError: If one was.
        """
        plain = TrainOptions()
        given = [name for name in names if getattr(self, name) != getattr(plain, name)]
        if given:
            options = ", ".join("--" + name.replace("_", "-") for name in given)
            raise ValueError(f"recipe {recipe} takes no {options}; leave it out")


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How to run the rows of a paper's tables.

    Attributes:
        out: Folder of the report and of all runs; `runs/tables` where not given. Runs that exist are not repeated.
        epochs: Instead of the recipe's own: a trial.
        fold: Only this fold of the protocol: a trial; repeatable.
        seed: Of everything random.
        set: NAME=VALUE of the model, the task, or as loop.NAME the loop: a trial; repeatable.
        weights: NAME=FILE of networks trained before: `visual`, `audio`, or the corpus of a face network; repeatable.
        leave_out: File of clip names to do without, one a line.
        cache: Folder of prepared clips; `cache` in the folder of all runs where not given.
        precision: Lightning Fabric's name for it.
        accelerator: `cpu`, `cuda`, or `auto` for the best that is there.
        threads: Threads of torch on a CPU, and threads that load clips.
        workers: Processes that prepare clips; one for each core where not given.
    """

    out: Path | None = None
    epochs: int | None = None
    fold: tuple[str, ...] = ()
    seed: int = 0
    set: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    leave_out: Path | None = None
    cache: Path | None = None
    precision: str = "32-true"
    accelerator: str = "auto"
    threads: int = 2
    workers: int | None = None

    def __post_init__(self) -> None:
        _check_counts(self, ("epochs", "threads", "workers"))
        _check_file("--leave-out", self.leave_out)

    def named(self, option: str) -> dict[str, str]:
        """The NAME=VALUE texts of `set` or `weights`. Raises ValueError if one is none, or a name comes twice."""
        return named(f"--{option}", getattr(self, option))


def named(option: str, texts: Sequence[str], *, bare: bool = False) -> dict[str, str]:
    """NAME=VALUE texts as a mapping; `bare` ones without a mark get an empty name.

    Raises:
        ValueError: If one is not of that form, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not mark and bare:
            name, value = "", text
        if (not name and not bare) or not value:
            raise ValueError(f"{option}: expected NAME=VALUE, got {text!r}")
        if name in found:
            raise ValueError(f"{option}: expected {name or 'the whole network'} once, got it twice")
        found[name] = value
    return found


def _check_counts(options: object, names: Sequence[str]) -> None:
    for name in names:
        number = getattr(options, name)
        if number is not None and number < 1:
            raise ValueError(f"--{name}: expected 1 or more, got {number}")


def _check_file(option: str, path: Path | None) -> None:
    if path is not None and not path.is_file():
        raise ValueError(f"{option}: expected a file of clip names, {path} is none")
