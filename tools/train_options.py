"""What `emocast train` can be told: one frozen dataclass, whose fields are options of the command line."""

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
        for name in ("epochs", "threads", "devices", "nodes", "workers"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"--{name}: expected 1 or more, got {number}")
        if not 0 <= self.valid_share < 1:
            raise ValueError(f"--valid-share: expected a share from 0 to below 1, got {self.valid_share}")
        if self.leave_out is not None and not self.leave_out.is_file():
            raise ValueError(f"--leave-out: expected a file of clip names, {self.leave_out} is none")

    def named(self, option: str, *, bare: bool = False) -> dict[str, str]:
        """The NAME=VALUE texts of `set` or `initial`; `bare` ones without a mark get an empty name.

        Raises:
            ValueError: If one is not of that form, or a name comes twice.
        """
        found: dict[str, str] = {}
        for text in getattr(self, option):
            name, mark, value = text.partition("=")
            if not mark and bare:
                name, value = "", text
            if (not name and not bare) or not value:
                raise ValueError(f"--{option}: expected NAME=VALUE, got {text!r}")
            if name in found:
                raise ValueError(f"--{option}: expected {name or 'the whole network'} once, got it twice")
            found[name] = value
        return found

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
