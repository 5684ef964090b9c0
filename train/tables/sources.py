"""What the rows of a call are run on and with: the settings, and the trainings of each corpus that was given."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightning.fabric import Fabric

from train.clips import run_folder
from train.clips.overrides import override
from train.clips.recipes import CLIP_RECIPES, ClipRecipe
from train.corpora.items import CorpusError
from train.corpora.readers import read_clips
from train.loop import LoopConfig
from train.models.bilinear import N_LABELS
from train.preparation.leave_out import without
from train.tables.faces import FaceRuns
from train.tables.rows import PAPERS, ClipPlan, FacePlan, Member, TableRow
from train.tables.runs import Runs
from train.tables.tasks import FACES

PICTURES = "ferplus"  # the corpus of rows over single pictures
OF_LOOP = "loop."
WEIGHTS = {"skeleton": ("visual", "audio"), "bilinear": tuple(N_LABELS)}  # networks that papers trained before


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the rows of a call are run.

    Attributes:
        epochs: Instead of the recipe's own: a trial.
        folds: Names of folds; None is the whole protocol, fewer are a trial.
        seed: Of everything random; further models of one configuration have those that follow it.
        values: Of model, task, `loop.` and `faces.` (each face network) by name, as texts: a trial.
        weights: Files of networks that were trained before: `visual` and `audio` of the skeleton recogniser, or the
            corpus of a face network, as `FER+`.
        leave_out: Names of clips to do without.
        cache: Of prepared clips; None is `cache` beside the report.
        precision: Lightning Fabric's name for it.
        accelerator: `cpu`, `cuda`, or `auto` for the best that is there.
        threads: Threads of torch on a CPU, and threads that load clips.
        workers: Processes that prepare clips; None is one for each core.
    """

    epochs: int | None = None
    folds: tuple[str, ...] | None = None
    seed: int = 0
    values: Mapping[str, str]
    weights: Mapping[str, Path]
    leave_out: Collection[str] = ()
    cache: Path | None = None
    precision: str = "32-true"
    accelerator: str = "auto"
    threads: int = 2
    workers: int | None = None

    def command(self, paper: str, corpus: str) -> str:
        """That repeats the trainings of a corpus, for their bundles."""
        words = ["emocast tables", paper, f"--data {corpus}=DIR"]
        words += [f"--seed {self.seed}"] if self.seed else []
        words += [f"--epochs {self.epochs}"] if self.epochs else []
        words += [f"--fold {fold}" for fold in self.folds or ()]
        words += [f"--set {name}={text}" for name, text in self.values.items()]
        words += [f"--weights {name}={path.name}" for name, path in self.weights.items()]
        words += ["--leave-out FILE"] if self.leave_out else []
        words += [f"--precision {self.precision}"] if self.precision != "32-true" else []
        return " ".join(words)


def corpora(paper: str) -> tuple[str, ...]:
    """Names of the corpora that rows of a paper can be run on, the paper's own first."""
    faces = (PICTURES,) if any(isinstance(row.plan, FacePlan) for row in PAPERS[paper]) else ()
    return (*own_corpora(paper), *faces, *(c for c in CLIP_RECIPES[paper].corpora if c not in own_corpora(paper)))


def own_corpora(paper: str) -> tuple[str, ...]:
    """Names of the corpora of clips that a paper's figures are of."""
    return ("cremad", "cremad-perceived") if paper == "temporal" else CLIP_RECIPES[paper].corpora[:1]


def check_given(paper: str, data: Mapping[str, Path], settings: Settings) -> None:
    """See that corpora and files are there, and settings have something to be for.

    Raises:
        ValueError: If one is not.
    """
    if not data or set(data) - set(corpora(paper)):
        raise ValueError(
            f"expected --data NAME=DIR with corpora of {', '.join(corpora(paper))} for {paper}, "
            f"got {', '.join(data) or 'none'}"
        )
    known = WEIGHTS.get(paper, ())
    if strange := [name for name in settings.weights if name not in known]:
        raise ValueError(
            f"expected weights of {', '.join(known)} for {paper}, got {', '.join(strange)}"
            if known
            else f"{paper} takes no networks that were trained before, got weights of {', '.join(strange)}"
        )
    if missing := [str(path) for path in settings.weights.values() if not path.is_file()]:
        raise ValueError(f"expected files of weights, there is no {', '.join(missing)}")
    of_clips = [name for name in settings.values if not name.startswith(FACES)]
    if set(data) == {PICTURES} and (of_clips or settings.folds is not None):
        raise ValueError(
            f"expected settings of single pictures, which begin with {FACES}, and no fold; "
            f"got {', '.join([*of_clips, *(settings.folds or ())])}"
        )


def source(
    paper: str, name: str, folder: Path, out: Path, settings: Settings, fabric: Fabric
) -> Runs | FaceRuns | CorpusError:
    """The trainings on a corpus, or what is wrong with it, which is the failure of its rows alone.

    Raises:
        ValueError: If a setting of the loop is wrong, or a fold is not in the corpus.
    """
    if name == PICTURES:
        return FaceRuns(
            corpus=folder,
            out=out / "runs",
            fabric=fabric,
            epochs=settings.epochs,
            seed=settings.seed,
            settings=settings.values,
        )
    recipe = CLIP_RECIPES[paper]
    loop = _loop(recipe, settings)
    try:
        corpus = without(read_clips(name, folder), settings.leave_out)
    except CorpusError as error:
        return error
    folds = tuple(fold.name for fold in corpus.folds)
    if settings.folds is not None and (unknown := set(settings.folds) - set(folds)):
        raise ValueError(f"expected folds of {name}: {', '.join(folds)}; got {', '.join(sorted(unknown))}")
    return Runs(
        recipe=recipe,
        corpus=corpus,
        out=out / "runs",
        cache=settings.cache or out / "cache",
        loop=loop,
        fabric=fabric,
        folds=tuple(fold for fold in folds if settings.folds is None or fold in settings.folds),
        settings={k: text for k, text in settings.values.items() if not k.startswith(OF_LOOP)},
        weights=settings.weights,
        left_out=tuple(sorted(settings.leave_out)),
        n_threads=settings.threads,
        workers=settings.workers,
        command=settings.command(paper, name),
    )


def _loop(recipe: ClipRecipe, settings: Settings) -> LoopConfig:
    own = {k.removeprefix(OF_LOOP): text for k, text in settings.values.items() if k.startswith(OF_LOOP)}
    loop = override(recipe.loop, own, hidden=("seed", "epochs"))
    return replace(loop, seed=settings.seed, epochs=settings.epochs or loop.epochs)


def check_values(runs: Runs, rows: Sequence[TableRow]) -> None:
    """See that no setting makes rows alike that differ.

    Raises:
        ValueError: If one does, or settings fit none of the rows.
    """
    members = [member for row in rows if isinstance(row.plan, ClipPlan) for member in row.plan.members]
    before, after = ({_description(one, member) for member in members} for one in (replace(runs, settings={}), runs))
    if after == {None}:
        runs.task(members[0])  # says why
    if len(after) < len(before):
        raise ValueError(
            f"expected settings that leave rows different, got {', '.join(runs.settings)}: {len(before)} "
            f"configurations would be {len(after)}"
        )


def _description(runs: Runs, member: Member) -> str | None:
    try:
        return run_folder.digest(run_folder.task_description(runs.task(member)))
    except ValueError:  # of its row, and said there
        return None
