"""What a folder says of its run, and figures over folds."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.train.colour_task import ColourConfig, ColourTask
from train.clips import run_folder
from train.clips.evaluation import calibrate, fold_result, scores, summarise


def test_a_configuration_is_known_by_its_values(tmp_path: Path) -> None:
    one = run_folder.task_description(ColourTask())
    assert one == run_folder.task_description(ColourTask())
    assert run_folder.digest(one) == run_folder.digest(dict(reversed(one.items())))
    for other in (ColourTask(config=ColourConfig(dropout=0.3)), ColourTask(frame_hz=25.0), ColourTask(name="b")):
        assert run_folder.digest(run_folder.task_description(other)) != run_folder.digest(one)
    assert one["needs"]["face"]["size_px"] == 16


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    for name in ("a/w.pt", "b/w.pt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"weights")
    digests = [run_folder.digest({"file": tmp_path / name}) for name in ("a/w.pt", "b/w.pt")]
    assert digests[0] == digests[1]
    (tmp_path / "b/w.pt").write_bytes(b"others")
    assert run_folder.digest({"file": tmp_path / "b/w.pt"}) != digests[0]


def test_which_values_differ_is_said_briefly(tmp_path: Path) -> None:
    run_folder.begin(tmp_path, {"a": {"b": 1, "c": (2, 3)}, "d": None}, {"seed": 0})
    run_folder.begin(tmp_path, {"d": None, "a": {"c": [2, 3], "b": 1}}, {"seed": 0})
    with pytest.raises(ValueError, match=r"holds a run with a\.b 1 and not 2, e null and not \"x\"; use another"):
        run_folder.begin(tmp_path, {"a": {"b": 2, "c": (2, 3)}, "d": None, "e": "x"}, {"seed": 0})
    many = run_folder.differing({str(k): k for k in range(9)}, {})
    assert many == "0 0 and not null, 1 1 and not null, 2 2 and not null, 3 3 and not null and 5 more"


def test_a_run_is_complete_with_its_result_and_configuration(tmp_path: Path) -> None:
    configuration = {"a": 1}
    assert run_folder.complete(tmp_path, configuration) is None
    result = {"hash": run_folder.digest(configuration), "n": 3}
    run_folder.write(tmp_path / "result.json", result)
    assert run_folder.complete(tmp_path, configuration) == result
    assert run_folder.complete(tmp_path, {"a": 2}) is None
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    (tmp_path / "result.json").write_text('{"hash": ')
    with pytest.raises(ValueError, match=r"result\.json is damaged .*; delete it to go on"):
        run_folder.complete(tmp_path, configuration)


def test_a_curve_with_a_repeated_epoch_and_a_torn_line(tmp_path: Path) -> None:
    assert run_folder.curve(tmp_path) == []
    lines = [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 9.0}, {"epoch": 2, "loss": 2.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"epoch": 3, "lo')
    assert run_folder.curve(tmp_path) == [lines[0], lines[2]]


def test_figures_of_folds() -> None:
    generator = np.random.default_rng(0)
    results = []
    for fold, n in (("one", 40), ("two", 60)):
        labels = generator.integers(0, 3, n)
        posteriors = generator.dirichlet([0.5] * 3, n)
        result = fold_result(fold, (posteriors, labels), None)
        right = posteriors.argmax(1) == labels
        assert result.accuracy == pytest.approx(right.mean())
        assert result.uar == pytest.approx(np.mean([right[labels == k].mean() for k in range(3)]))
        assert result.ece_calibrated < result.ece  # random guesses that are sure of themselves
        assert (result.calibrated_on, np.sum(result.confusion)) == ("test", n)
        nll = -np.log(posteriors[np.arange(n), labels]).mean()
        assert scores(posteriors, labels)["nll"] == pytest.approx(nll)
        results.append(result)
    summary = summarise(results)
    accuracies = [result.accuracy for result in results]
    assert summary.mean["accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert summary.deviation["accuracy"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert (summary.n, np.sum(summary.confusion)) == (100, 100)
    assert set(summarise(results[:1]).deviation.values()) == {0.0}


def test_the_temperature_is_of_the_held_out_clips() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 200)
    unsure = np.where(np.eye(2, dtype=bool)[labels], 0.6, 0.4)  # always right: surer would be better
    wild = np.where(np.eye(2, dtype=bool)[generator.integers(0, 2, 200)], 0.99, 0.01)
    result = fold_result("one", (unsure, labels), (wild, labels))
    assert result.calibrated_on == "valid"
    assert result.temperature == pytest.approx(5.0)
    expected = 0.6**0.2 / (0.6**0.2 + 0.4**0.2)
    assert calibrate(unsure, 5.0).max() == pytest.approx(expected)
    assert result.ece_calibrated == pytest.approx(1 - expected, abs=1e-6)
