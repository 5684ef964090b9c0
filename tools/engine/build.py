"""`emocast engine build`: compiles each graph of a bundle for this machine's GPU, and says whether each plan serves."""

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from engines.bundle import load
from engines.tensorrt.build import BuildOptions
from engines.tensorrt.compile import compiled
from engines.tensorrt.library import probe
from engines.tensorrt.plans import PlanStore, Record
from tools.errors import DONE, MISUSE


def build(name: str, options: BuildOptions, *, anew: bool = False) -> int:
    """Compile what is not compiled yet, and print a line for each graph.

    Args:
        name: A shipped bundle's name, or a bundle folder.
        options: How.
        anew: Also what was compiled before.

    Returns:
        0, or 2 where a plan was not accepted.

    Raises:
        BundleError, EngineError: If the bundle is not valid, or there is no GPU, no TensorRT, or no plan.
    """
    bundle, store = load(name), PlanStore()
    gpu, version = probe()
    console = Console(stderr=True)
    console.print(f"{gpu.name}, TensorRT {version}, {options.precision}, plans in {store.folder}")
    records = {}
    with BuildProgress(console) as shown:
        for stage in bundle.manifest.stages:
            records[stage] = compiled(
                bundle, stage, options, store, gpu=gpu, tensorrt=version, progress=shown.told, anew=anew
            )
    Console().print(table_of(records))
    refused = [stage for stage, record in records.items() if not record.accepted]
    for stage in refused:
        print(f"emocast: the plan of {stage} was not accepted: it {records[stage].why}", file=sys.stderr)
    return MISUSE if refused else DONE


class BuildProgress:
    """A bar on standard error for the graph that is being compiled; used with `with`."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._stage = ""

    def __enter__(self) -> "BuildProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self, stage: str, phase: str, done: int, steps: int) -> None:
        """Show how far a graph is."""
        if stage != self._stage:
            self._stage = stage
            self._task = self._progress.add_task(stage)
        self._progress.update(self._task, description=f"{stage}: {phase}", completed=done, total=max(steps, 1))


def table_of(records: dict[str, Record]) -> Table:
    """A row for each plan."""
    columns = ("graph", "precision", "batch: ms", "largest difference", "allowed", "built in", "serves")
    table = Table(*columns, box=None, pad_edge=False)
    for stage, record in records.items():
        table.add_row(
            stage,
            record.key.precision,
            "  ".join(f"{size}: {took:.2f}" for size, took in record.batch_ms.items()),
            f"{max(record.differences.values()):.1e}",
            f"{record.tolerance:g}",
            f"{record.built_s:.0f} s",
            "yes" if record.accepted else "no",
        )
    return table
