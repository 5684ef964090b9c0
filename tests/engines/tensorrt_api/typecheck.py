"""mypy over source files as they are, with the stubs of the real modules in place of nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.engines.tensorrt_api.bindings import ROOT

# Errors are wanted of our files alone. Without `disallow_any_expr` nobody would see what is not checked.
CONFIG = """\
[mypy]
disallow_untyped_defs = True
disallow_any_expr = True
ignore_missing_imports = True
follow_imports = silent
[mypy-tensorrt.*,cuda.*]
ignore_errors = True
"""
ANY = 'Expression has type "Any"'
HOLDS_ANY = "Expression type contains"

Span = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What mypy said of one file.

    Attributes:
        errors: `12: text  [code]`, by line.
        any_spans: Where it knows no type: first line and column, last line and column.
    """

    errors: list[str]
    any_spans: set[Span]


def check(files: Sequence[Path], *, stubs: Path, cache: Path) -> dict[Path, Report]:
    """A report for each file.

    Args:
        files: What to check.
        stubs: Folder that holds `tensorrt` and `cuda`.
        cache: Folder where mypy keeps what it knows of other modules; stubs of several versions may share one.
    """
    config = stubs.with_name("mypy.ini")
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--config-file", f"{config}", "--cache-dir", f"{cache}"]
    done = subprocess.run(
        [*command, "--show-error-end", "--output", "json", *map(str, files)],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": f"{stubs}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode > 1 or done.stderr:
        raise RuntimeError(f"mypy ended with {done.returncode}: {done.stderr or done.stdout}")
    reports = {path: Report(errors=[], any_spans=set()) for path in files}
    for line in filter(None, done.stdout.splitlines()):
        said = json.loads(line)
        report = reports[ROOT / said["file"]]
        if said["message"] == ANY:
            report.any_spans.add((said["line"], said["column"], said["end_line"], said["end_column"]))
        elif said["severity"] == "error" and not said["message"].startswith(HOLDS_ANY):
            report.errors.append(f"{said['line']}: {said['message']}  [{said['code']}]")
    return reports
