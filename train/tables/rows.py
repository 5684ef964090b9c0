"""Every row of every table of the five papers in one form: its published figure, and how ours is made, if it can be.

A row that quotes other people's systems, or that nobody can repeat here, is a row without a plan, and says why.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import Tensor

from train.models import bilinear, emodal, icanet, skeleton, temporal
from train.models.bilinear import BilinearConfig, FaceConfig
from train.models.icanet import MODALITIES, IcanetConfig

FACE_CORPORA = {"FER+": "ferplus"}  # those that have a reader
QUOTED = "another system, quoted by the paper"
# Rows of Table II that are no configuration of ours, and those of Tables 3 and 4 with FG-Net; per cent.
ICANET_QUOTED = (("1D Music CNN", 53.04), ("ResNet50+LSTM", 53.37))
FG_NET = (
    ("Table 3", "FG-Net", 59.0),
    ("Table 4", "submission 1, test", 62.481),
    ("Table 4", "submission 3, test", 54.518),
)
ALONE = {"rgb": (1.0, 0.0, 0.0), "flow": (0.0, 1.0, 0.0), "audio": (0.0, 0.0, 1.0)}

Combine = Callable[[Sequence[Tensor]], Tensor]


def only(posteriors: Sequence[Tensor]) -> Tensor:
    """The posterior of one model, (B, L)."""
    (posterior,) = posteriors
    return posterior


def ratio(posteriors: Sequence[Tensor], config: IcanetConfig) -> Tensor:
    """ICANet's fusion of its branches, each trained by itself: k times (B, L) to (B, L).

    The logarithm of a posterior is its logits but for a constant of the clip, which the softmax after the average
    does not see.
    """
    given = dict(zip(config.modalities, (posterior.clamp_min(1e-38).log() for posterior in posteriors), strict=True))
    return icanet.fuse(given, dict(zip(MODALITIES, config.weights, strict=True)), config.scores)


def mean(posteriors: Sequence[Tensor], class_weights: tuple[float, ...]) -> Tensor:
    """Models fused by the mean of their posteriors, times class weights: k times (B, L) to (B, L)."""
    return bilinear.posterior([posterior.clamp_min(1e-38).log() for posterior in posteriors], class_weights)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A model that a row takes: its configuration, and which of several trainings of it (each has its own seed)."""

    config: Any
    repeat: int = 0


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """Models that are trained on a corpus of clips, and how a clip's posterior comes of theirs."""

    members: tuple[Member, ...]
    combine: Combine = only


@dataclass(frozen=True, kw_only=True)
class FacePlan:
    """A classifier of single pictures."""

    config: FaceConfig


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of a paper.

    Attributes:
        paper: The recogniser's name, as `train.clips.recipes.CLIP_RECIPES` has it.
        table: Where it stands.
        name: Unique in its table.
        published: Accuracy in per cent; None where the paper gives no number.
        plan: How ours is made; None where it is not.
        reason: Why not.
    """

    paper: str
    table: str
    name: str
    published: float | None
    plan: ClipPlan | FacePlan | None = None
    reason: str = ""

    @property
    def key(self) -> str:
        """What names it within its paper."""
        return f"{self.table}: {self.name}"


def _plain(config: Any) -> ClipPlan:
    return ClipPlan(members=(Member(config=config),))


def _icanet() -> list[TableRow]:
    rows = []
    for row in icanet.TABLE:
        table, _, name = row.name.partition(": ")
        # Branches share nothing, so each is trained alone, once for all the rows that fuse it.
        alone = tuple(Member(config=replace(row.config, weights=ALONE[one])) for one in row.config.modalities)
        combine = partial(ratio, config=row.config) if len(alone) > 1 else only
        plan = ClipPlan(members=alone, combine=combine)
        rows.append(TableRow(paper="icanet", table=table, name=name, published=row.published, plan=plan))
    quoted = [
        TableRow(paper="icanet", table="Table II", name=name, published=figure, reason=QUOTED)
        for name, figure in ICANET_QUOTED
    ]
    return [*rows, *quoted]


def _skeleton() -> list[TableRow]:
    return [
        TableRow(
            paper="skeleton",
            table=row.table,
            name=row.name,
            published=row.accuracy,
            plan=None if row.config is None else _plain(row.config),
            reason=QUOTED if row.config is None else "",
        )
        for row in skeleton.TABLE
    ]


def _emodal() -> list[TableRow]:
    return [
        TableRow(paper="emodal", table="Table 1", name=name, published=figure, plan=_plain(config))
        for name, config, figure in emodal.TABLE
    ]


def _bilinear() -> list[TableRow]:
    rows = []
    for row in bilinear.TABLE:
        table, _, name = row.name.partition(": ")
        plan: ClipPlan | FacePlan | None = None
        reason = ""
        if isinstance(row.config, FaceConfig):
            plan = FacePlan(config=row.config) if row.config.corpus in FACE_CORPORA else None
            reason = "" if plan else f"no reader for this corpus: {row.config.corpus}"
        elif name.endswith(", test"):
            reason = "the labels of AFEW's test part are not published"
        else:
            plan = _ensemble(row.config if isinstance(row.config, tuple) else (row.config,))
        rows.append(
            TableRow(paper="bilinear", table=table, name=name, published=row.published, plan=plan, reason=reason)
        )
    rows += [
        TableRow(
            paper="bilinear", table=table, name=name, published=figure, reason="the paper does not describe FG-Net"
        )
        for table, name, figure in FG_NET
    ]
    tables = list(dict.fromkeys(row.table for row in rows))
    return sorted(rows, key=lambda row: (tables.index(row.table), row.name if row.table == "Table 4" else ""))


def _ensemble(configs: tuple[BilinearConfig, ...]) -> ClipPlan:
    # Class weights only multiply posteriors. Models of one configuration differ by their seed.
    (class_weights,) = {config.class_weights for config in configs}
    bare = [replace(config, class_weights=()) for config in configs]
    members = tuple(Member(config=config, repeat=bare[:k].count(config)) for k, config in enumerate(bare))
    single = len(members) == 1 and not class_weights
    return ClipPlan(members=members, combine=only if single else partial(mean, class_weights=class_weights))


def _temporal() -> list[TableRow]:
    ours = [name for name, _ in temporal.QUOTED][-1]  # the last line of Table I is a row of TABLE
    quoted = [
        TableRow(paper="temporal", table="Table I", name=name, published=figure, reason=QUOTED)
        for name, figure in temporal.QUOTED
        if name != ours
    ]
    rows = [
        TableRow(
            paper="temporal",
            table="Table I" if row.published is not None else "Fig. 5" if row.name.startswith("N = ") else "Variants",
            name=row.name,
            published=row.published,
            plan=_plain(row.config),
        )
        for row in temporal.TABLE
    ]
    return sorted([*quoted, *rows], key=lambda row: ("Table I", "Fig. 5", "Variants").index(row.table))


PAPERS: Mapping[str, tuple[TableRow, ...]] = {
    "temporal": tuple(_temporal()),
    "icanet": tuple(_icanet()),
    "skeleton": tuple(_skeleton()),
    "emodal": tuple(_emodal()),
    "bilinear": tuple(_bilinear()),
}


def matches(row: TableRow, pattern: str) -> bool:
    """Whether a row's key holds the pattern, or matches it where it has `*` or `?`; whatever their case."""
    wanted = pattern.lower() if any(mark in pattern for mark in "*?") else f"*{pattern.lower()}*"
    return fnmatchcase(row.key.lower(), wanted.replace("[", "[[]"))


def chosen(paper: str, pattern: str | None = None) -> tuple[TableRow, ...]:
    """Rows of a paper; with a pattern, those that match it.

    Raises:
        ValueError: If there is no such paper, or no such row.
    """
    if paper not in PAPERS:
        raise ValueError(f"expected a paper of {', '.join(PAPERS)}, got {paper!r}; see emocast tables --list")
    rows = PAPERS[paper]
    found = tuple(row for row in rows if pattern is None or matches(row, pattern))
    if not found:
        raise ValueError(
            f"--rows: expected a pattern of rows of {paper}, as {rows[0].key!r}, none matches {pattern!r}; "
            "see emocast tables --list"
        )
    return found
