"""The measurement of joins: of a real feed and a hub, and what it prints."""

import re

import pytest

from tools.measure.join_latency import join, main, publishing, table


def test_every_join_is_timed_but_the_first() -> None:
    with publishing() as address:
        took_ms = join(address, 2, seed=0)
    assert len(took_ms) == 2
    assert min(took_ms) > 0.0


def test_the_table_has_a_line_for_each_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--joins", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["| joined | n | p50 | p99 | max |", "|---|---|---|---|---|"]
    figures = r"\| 2 (\| \d+\.\d ms ){3}\|"
    assert re.fullmatch(r"\| direct " + figures, lines[3])
    assert re.fullmatch(r"\| through a hub " + figures, lines[4])


def test_figures_are_percentiles() -> None:
    assert table({"direct": [float(ms) for ms in range(101)]})[-1] == "| direct | 101 | 50.0 ms | 99.0 ms | 100.0 ms |"


def test_no_joins_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--joins", "0"])
    assert "expected --joins of 1 or more, got 0" in capsys.readouterr().err
