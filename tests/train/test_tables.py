"""Rows of tables: all of them there, each training once, ours beside the published figures, whatever fails."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from matplotlib.image import imread

from tests import corpora_files
from tests.train.colour_task import ColourConfig, ColourTask, corpus, store
from train.clips import run_folder
from train.clips.recipes import CLIP_RECIPES, ClipRecipe
from train.corpora import afew, cremad_clips, iemocap, videoemotion8
from train.corpora.clips import ClipCorpus
from train.corpora.items import CorpusError
from train.loop import LoopConfig
from train.models import bilinear, emodal, icanet, skeleton, temporal
from train.models.icanet import Icanet, IcanetConfig
from train.preparation.prepared import Needs, Prepared
from train.tables import plot as table_plot
from train.tables import report as table_report
from train.tables.report import Outcome
from train.tables.rows import PAPERS, ClipPlan, Member, TableRow, chosen, matches, mean, ratio
from train.tables.run import run_tables
from train.tables.runs import Runs
from train.tables.sources import Settings, check_values

LABELS = {
    "temporal": cremad_clips.LABELS,
    "icanet": iemocap.LABELS,
    "skeleton": videoemotion8.LABELS,
    "emodal": emodal.LABELS,
    "bilinear": tuple(afew.FOLDERS.values()),
}
LOOP = LoopConfig(epochs=4, batch_size=4, learning_rate=0.1, weight_decay=0.0, optimiser="adamw", average=0.8)
COLOURS = ClipRecipe(name="colour", text="", corpora=("made",), kind=ColourTask, loop=LOOP)


class Preparing:
    """Stands for `train.prepare.prepare`, and counts its calls."""

    def __init__(self, problem: str = "") -> None:
        self.calls, self.problem = 0, problem

    def __call__(self, of: ClipCorpus, needs: Needs, cache: Path, **options: object) -> list[Prepared]:
        self.calls += 1
        if self.problem:
            raise CorpusError(self.problem)
        return store(of)


def runs(out: Path, preparing: Preparing, **changes: Any) -> Runs:
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    settings: dict[str, Any] = {"recipe": COLOURS, "corpus": corpus(), "folds": ("odd",), "loop": LOOP, **changes}
    return Runs(out=out, cache=out / "cache", fabric=fabric, n_threads=1, prepare=preparing, **settings)


def row(key: str, paper: str) -> TableRow:
    return next(one for one in PAPERS[paper] if one.key == key)


def members(paper: str, pattern: str) -> list[Member]:
    return [m for one in chosen(paper, pattern) if isinstance(one.plan, ClipPlan) for m in one.plan.members]


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_every_row_of_every_table_is_there_with_its_figure() -> None:
    rows = list(itertools.chain(*PAPERS.values()))
    assert set(PAPERS) == set(CLIP_RECIPES)
    assert sum(one.published is not None for one in rows) >= 40
    assert sum(one.published is not None and one.plan is not None for one in rows) >= 40
    assert len({(one.paper, one.key) for one in rows}) == len(rows)
    assert all((one.plan is None) == bool(one.reason) for one in rows)
    figures: dict[str, list[float | None]] = {
        "temporal": [*(one.published for one in temporal.TABLE), *(figure for _, figure in temporal.QUOTED[:-1])],
        "icanet": [*(one.published for one in icanet.TABLE), 53.04, 53.37],
        "skeleton": [one.accuracy for one in skeleton.TABLE],
        "emodal": [figure for _, _, figure in emodal.TABLE],
        "bilinear": [*(one.published for one in bilinear.TABLE), 59.0, 62.481, 54.518],
    }
    for paper, expected in figures.items():
        assert sorted(str(one.published) for one in PAPERS[paper]) == sorted(map(str, expected))
    assert row("IV-D: 4:2:4", "icanet").published == row("Table II: ours", "icanet").published == 80.77


def test_every_model_of_a_row_is_a_task_for_the_labels_of_its_corpus(tmp_path: Path) -> None:
    for paper, rows in PAPERS.items():
        of = replace(corpus(), labels=LABELS[paper])
        made = runs(tmp_path, Preparing(), recipe=CLIP_RECIPES[paper], corpus=of)
        for one in rows:
            for member in one.plan.members if isinstance(one.plan, ClipPlan) else ():
                task = made.task(member)
                assert task.labels == LABELS[paper]
                if paper != "bilinear":
                    assert task.config == member.config


def test_rows_that_differ_in_fusion_alone_share_their_trainings() -> None:
    branches = members("icanet", "IV-D")
    assert len(branches) == 15
    assert len(set(map(repr, branches))) == 3
    alone = members("icanet", "CA-VGG16-3") + members("icanet", "I3D")
    assert set(map(repr, alone)) == set(map(repr, branches))
    basic = set(map(repr, members("bilinear", "Table 3: *")))
    five = members("bilinear", "submission 5, validation")
    assert len(five) == 5
    assert set(map(repr, five)) <= basic
    four = members("bilinear", "submission 4, validation")
    assert [member.repeat for member in four] == [0, 1, 2, 3]
    assert len(set(map(repr, (member.config for member in four)))) == 1
    assert repr(four[0]) in basic
    assert repr(row("Table 2: visual transformer, audio transformer", "bilinear").plan) == repr(
        row("Table 3: Basic", "bilinear").plan
    )


def test_branches_that_were_trained_alone_are_fused_as_the_network_does() -> None:
    config = IcanetConfig(
        weights=(5.0, 3.0, 2.0), narrow=8, crop_px=32, n_frames=9, n_samples=4000,
        vgg=replace(IcanetConfig().vgg, picture_px=32, widths=(4, 4, 8, 8, 8), hidden=8),
    )  # fmt: skip
    torch.manual_seed(0)
    network = Icanet(config).eval()
    given = (
        torch.randint(0, 256, (2, 9, 32, 32, 3), dtype=torch.uint8),
        torch.randn(2, 9, 32, 32, 2),
        torch.randn(2, 4000) * 0.1,
    )
    with torch.no_grad():
        logits = network.logits(*given).values()
        for scores in ("logits", "posteriors"):
            network.config = replace(config, scores=scores)
            fused = ratio([one.softmax(1) for one in logits], network.config)
            torch.testing.assert_close(fused, network(*given))


def test_models_are_fused_by_the_mean_of_their_posteriors_times_class_weights() -> None:
    generator = np.random.default_rng(0)
    given = generator.dirichlet(np.ones(3), (2, 4))
    weights = (0.5, 0.3, 0.2)
    expected = [[(a + b) / 2 * w for a, b, w in zip(x, y, weights, strict=True)] for x, y in zip(*given, strict=True)]
    found = mean([torch.from_numpy(one) for one in given], weights).numpy()
    np.testing.assert_allclose(found, [np.array(one) / np.sum(one) for one in expected], rtol=1e-6)


def test_a_training_is_done_once(tmp_path: Path) -> None:
    preparing, member = Preparing(), Member(config=ColourConfig())
    first = runs(tmp_path, preparing)
    made = first.training(member)
    assert first.training(member).folder == made.folder
    assert (preparing.calls, made.is_new, made.epochs) == (1, True, 4)
    before = times(tmp_path)
    again = runs(tmp_path, preparing).training(member)
    assert (preparing.calls, again.is_new) == (1, False)
    assert times(tmp_path) == before
    posteriors, labels = again.folds["odd"]
    result = run_folder.read(made.folder / "result.json")
    assert (posteriors.argmax(1) == labels).mean() == result["mean"]["accuracy"]
    assert labels.tolist() == [corpus().clips[k].label for k in corpus().folds[0].test]
    assert again.minutes * 60 == pytest.approx(run_folder.read(made.folder / "odd" / "result.json")["seconds"])
    # another seed, number of epochs, corpus or setting is another folder
    others = [
        first.training(Member(config=ColourConfig(), repeat=1)),
        runs(tmp_path, preparing, loop=replace(LOOP, epochs=2)).training(member),
        runs(tmp_path, preparing, corpus=corpus(4)).training(member),
        runs(tmp_path, preparing, settings={"dropout": "0.1"}).training(member),
    ]
    assert len({made.folder, *(other.folder for other in others)}) == 5
    assert {path: times(tmp_path)[path] for path in before} == before
    # a call that was killed between training and scoring scores what was trained
    (made.folder / "odd" / "posteriors.npz").unlink()
    (found, _) = runs(tmp_path, preparing).training(member).folds["odd"]
    np.testing.assert_array_equal(found, posteriors)
    assert times(made.folder)[made.folder / "odd" / "weights.pt"] == before[made.folder / "odd" / "weights.pt"]


def test_networks_that_were_trained_before_are_given_to_the_rows_that_name_them(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.pt" for name in ("AffectNet", "RAF-DB", "visual")}
    for name, path in files.items():
        path.write_text(name)

    def task(paper: str, key: str, *names: str) -> Any:
        of, weights = replace(corpus(), labels=LABELS[paper]), {name: files[name] for name in names}
        made = runs(tmp_path, Preparing(), recipe=CLIP_RECIPES[paper], corpus=of, weights=weights)
        (member,) = members(paper, f"*: {key}")
        return made.task(member)

    both = task("bilinear", "F-AR-Mean", "AffectNet", "RAF-DB")
    assert (both.face_weights, both.freeze) == ((files["AffectNet"], files["RAF-DB"]), True)
    assert task("bilinear", "F-AR-Mean", "AffectNet").face_weights == ()
    assert task("bilinear", "Basic, RAF-DB", "AffectNet", "RAF-DB").face_weights == (files["RAF-DB"],)
    # without them, what face networks were to be trained on makes no difference, and the rows are one training
    assert task("bilinear", "Basic, RAF-DB").config == task("bilinear", "Basic").config
    assert task("skeleton", "w/o audio branch", "visual").weights == {"visual": files["visual"]}
    assert task("skeleton", "w/o visual branch", "visual").weights == {}


def test_clips_that_cannot_be_used_are_looked_at_once(tmp_path: Path) -> None:
    preparing = Preparing("3 of 18 clips of made cannot be used")
    made = runs(tmp_path, preparing)
    for repeat in range(3):
        with pytest.raises(CorpusError, match="3 of 18 clips of made cannot be used"):
            made.training(Member(config=ColourConfig(), repeat=repeat))
    assert preparing.calls == 1


def test_settings_that_make_rows_alike_are_refused(tmp_path: Path) -> None:
    def made(**values: str) -> Runs:
        of = replace(corpus(), labels=LABELS["skeleton"])
        return runs(tmp_path, Preparing(), recipe=CLIP_RECIPES["skeleton"], corpus=of, settings=values)

    check_values(made(n_fused="64"), chosen("skeleton"))
    with pytest.raises(ValueError, match="leave rows different, got n_clusters: 8 configurations would be 5"):
        check_values(made(n_clusters="2"), chosen("skeleton"))
    with pytest.raises(ValueError, match=r"expected settings of skeleton: .*; got clusters"):
        check_values(made(clusters="2"), chosen("skeleton"))


def test_a_pattern_is_part_of_a_name_or_has_marks() -> None:
    assert [one.name for one in chosen("icanet", "fig. 5: ca-")] == ["CA-VGG16-3", "CA-VGG16-5"]
    assert [one.name for one in chosen("icanet", "*VGG16")] == ["VGG16", "SE-VGG16", "CBAM-VGG16"]
    assert matches(row("IV-D: 4:2:4", "icanet"), "4:?:4") is False
    with pytest.raises(ValueError, match="--rows: expected a pattern of rows of emodal, as 'Table 1: audio-only'"):
        chosen("emodal", "Table 2")
    with pytest.raises(ValueError, match="expected a paper of temporal, icanet, skeleton, emodal, bilinear, got 'ica'"):
        chosen("ica")


def test_the_report_has_all_rows_and_ours_where_there_are_some(tmp_path: Path) -> None:
    found = Outcome(
        row="Table 1: image-only", corpus="folders", accuracy=61.234, deviation=1.5, uar=60.0, n=40,
        folds=("a", "b"), protocol="two halves", seeds=(3,), epochs=60, minutes=12.34, machine="2 cores of a kind",
        runs=("runs/emodal-1",), notes=("with | in it",),
    )  # fmt: skip
    failed = Outcome(row="Table 1: audio-only", corpus="folders", problem="3 clips\nare | silent")
    text = table_report.write("emodal", [found, failed], tmp_path).read_text()
    state = r"folders; result; with \| in it"
    assert f"| image-only | 63.73 | 61.23 | 1.50 | 60.00 | 40 | 2 | 60 | 3 | 12.3 | {state} |" in text
    assert r"| audio-only | 52.2 |" + " – |" * 8 + r" no result: 3 clips are \| silent |" in text
    assert "| audio+image | 66.02 |" + " – |" * 8 + " not run yet |" in text
    for line in (
        "- folders: two halves; tested on a, b",
        "- 2 cores of a kind",
        "- `runs/emodal-1`: Table 1: image-only",
    ):
        assert line in text.splitlines()
    assert table_report.read("emodal", tmp_path) == [found, failed]
    (tmp_path / "emodal.json").write_text('{"outcomes": [{"row": 1}]}')
    with pytest.raises(ValueError, match=r"emodal\.json is damaged .*; delete it to go on: runs are kept"):
        table_report.read("emodal", tmp_path)


def test_no_row_is_replaced_by_less() -> None:
    result = Outcome(row="a", corpus="x", accuracy=50.0)
    newer, trial = replace(result, accuracy=51.0), replace(result, accuracy=70.0, trial="1 epoch")
    problem, elsewhere = Outcome(row="a", corpus="x", problem="no"), replace(result, corpus="y")
    assert table_report.keep([result], trial) == table_report.keep([result], problem) == [result]
    assert table_report.keep([problem], trial) == [trial]
    assert table_report.keep([trial], result) == [result]
    assert table_report.keep([result], newer) == [newer]
    assert table_report.keep([result], elsewhere) == [result, elsewhere]


def columns(path: Path, colour: tuple[float, float, float], rows: slice) -> np.ndarray:
    """Columns of a picture that hold this colour in some of its rows."""
    near = np.abs(imread(path)[rows, :, :3] - np.array(colour)).max(2) < 0.05
    return np.flatnonzero(near.any(0))


def test_the_picture_has_ours_where_the_figure_says(tmp_path: Path) -> None:
    path, above_the_legend = tmp_path / "emodal.png", slice(0, 200)
    blue, orange = (0.122, 0.467, 0.706), (1.0, 0.498, 0.055)

    def drawn(colour: tuple[float, float, float], accuracy: float, trial: str = "") -> np.ndarray:
        ours = Outcome(row="Table 1: image-only", corpus="folders", accuracy=accuracy, trial=trial)
        table_plot.draw("emodal", [ours], path)
        picture = imread(path)[..., :3]
        assert min(picture.shape[:2]) > 250
        edge = np.concatenate(
            [picture[:3].ravel(), picture[-3:].ravel(), picture[:, :3].ravel(), picture[:, -3:].ravel()]
        )
        assert edge.min() == 1.0  # nothing is cut off
        return columns(path, colour, above_the_legend)

    low, high = drawn(blue, 20.0).max(), drawn(blue, 60.0).max()  # the number is left of its mark
    assert 250 < high - low < 500  # 40 of 108 per cent of some 970 pixels
    assert abs(drawn(orange, 60.0, "1 epoch").max() - high) < 5
    assert not len(columns(path, blue, above_the_legend))


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpora_files.even_ferplus(tmp_path_factory.mktemp("faces") / "ferplus", train=2, valid=1)


SMALL = Settings(epochs=1, values={"faces.width": "4", "faces.crop_px": "32"}, weights={}, accelerator="cpu", threads=1)


def test_pictures_are_learned_and_a_corpus_that_is_broken_takes_its_own_rows_alone(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "afew").mkdir()
    said: list[str] = []

    def tables(pattern: str, **data: Path) -> tuple[Outcome, ...]:
        return run_tables("bilinear", data, tmp_path / "out", SMALL, pattern=pattern, say=said.append)

    found = tables("*FER+*", afew=tmp_path / "afew", ferplus=faces)
    by_row = {one.row: one for one in found}
    assert len(found) == 4
    assert "folders that are missing" in by_row["Section 3: IR50 of FER+ alone"].problem
    resnet = by_row["Table 1: ResNet18, FER+"]
    assert (resnet.n, resnet.epochs, resnet.seeds, resnet.folds) == (7, 1, (0,), ("valid",))
    assert resnet.trial == "1 epochs, not 32; with faces.width=4, faces.crop_px=32"
    assert 0 <= (resnet.accuracy or 0.0) <= 100
    text = (tmp_path / "out" / "bilinear.md").read_text()
    assert f"| ResNet18, FER+ | 88.65 | {resnet.accuracy:.2f} |" in text
    assert "no reader for this corpus: RAF-DB |" in text
    assert (tmp_path / "out" / "bilinear.png").is_file()
    assert f"bilinear, Table 1: ResNet18, FER+, ferplus: {resnet.accuracy:.2f} % (published 88.65 %)" in said[1]
    before = times(tmp_path / "out" / "runs")
    assert tables("ResNet18, FER+", ferplus=faces) == (resnet,)
    assert times(tmp_path / "out" / "runs") == before
    kept = {one.row for one in table_report.read("bilinear", tmp_path / "out")}
    assert kept == set(by_row)


def test_a_call_that_is_interrupted_keeps_what_it_has(faces: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def interrupted(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            raise KeyboardInterrupt

    def tables() -> tuple[Outcome, ...]:
        return run_tables("bilinear", {"ferplus": faces}, tmp_path, SMALL, say=interrupted)

    with pytest.raises(KeyboardInterrupt):
        tables()
    kept, before = table_report.read("bilinear", tmp_path), times(tmp_path / "runs")
    assert [one.row for one in kept] == ["Table 1: VGGFace, FER+", "Table 1: ResNet18, FER+"]
    found = tables()
    assert list(found[:2]) == kept
    assert found[2].row == "Table 1: IR50, FER+"
    assert {path: times(tmp_path / "runs")[path] for path in before} == before
    assert table_report.read("bilinear", tmp_path) == list(found)


def test_what_cannot_be_run_is_one_line(faces: Path, tmp_path: Path) -> None:
    def tables(paper: str, pattern: str | None, settings: Settings = SMALL, **data: Path) -> None:
        run_tables(paper, data, tmp_path / "out", settings, pattern=pattern)

    (tmp_path / "folder").mkdir()
    folder = tmp_path / "folder"
    lost, strange = (replace(SMALL, weights={name: folder / "nowhere"}) for name in ("visual", "FER"))
    idle = replace(SMALL, values={"n_frames": "2"}, folds=("val",))
    no_reader, quoted = r"no reader for this corpus: RAF-DB\)$", r"SentiBank \(another system, quoted by the paper\)"
    for error, call in (
        (rf"Table 1: IR50, RAF-DB \({no_reader}", lambda: tables("bilinear", "IR50, RAF", ferplus=faces)),
        (r"Table 3: F-Mean \(wants --data afew=DIR\)", lambda: tables("bilinear", "*: F-Mean", ferplus=faces)),
        (quoted, lambda: tables("skeleton", "SentiBank", videoemotion8=folder)),
        (r"corpora of iemocap, .* for icanet, got ferplus", lambda: tables("icanet", None, ferplus=faces)),
        (r"with corpora of .* for emodal, got none", lambda: tables("emodal", None)),
        (r"there is no .*nowhere", lambda: tables("skeleton", None, lost, videoemotion8=folder)),
        (
            r"weights of visual, audio for skeleton, got FER",
            lambda: tables("skeleton", None, strange, videoemotion8=folder),
        ),
        (r"fewer than two folders of labels", lambda: tables("emodal", None, folders=folder)),
        (
            r"which begin with faces\., and no fold; got n_frames, val",
            lambda: tables("bilinear", None, idle, ferplus=faces),
        ),
    ):
        with pytest.raises(ValueError, match=error):
            call()
    assert not (tmp_path / "out").exists()
