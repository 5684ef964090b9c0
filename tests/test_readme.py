"""The README is executed: its commands parse, its subscriber is the tested one, its first command works."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [line.strip() for line in README.splitlines() if line.startswith("    ")]


def test_subscriber_of_the_readme_is_the_tested_example() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks == [(ROOT / "examples" / "subscribe.py").read_text()]


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("emocast ")])
def test_commands_of_the_readme_parse(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command, _, unused, _ = app.parse_known_args(words)
    assert unused == []
    assert command.__name__.startswith(words[0])


def test_scores_of_the_readme_are_those_of_the_card() -> None:
    card = (ROOT / "engines" / "bundles" / "default" / "README.md").read_text()
    scores = [line for line in card.split("## Scores")[1].splitlines() if line.startswith("|")]
    assert len(scores) >= 10
    assert [line for line in scores if line not in README.splitlines()] == []


def test_linked_files_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


@pytest.mark.timeout(600)
def test_first_command_of_the_readme_works_from_nothing(tmp_path: Path) -> None:
    """A copy of what git tracks, a new virtual environment, no torch: the demo prints estimates of both."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    command = next(c for c in COMMANDS if c.endswith("emocast demo"))
    # Another port than a feed that may be running beside the tests.
    command = command.replace("python3 ", f"{shlex.quote(sys.executable)} ") + " --address 'tcp://127.0.0.1:*'"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum("face 0.50 voice 0.50" in line for line in lines) >= 38
    assert "end: the source has ended" in lines[-1]
    torch = subprocess.run([tmp_path / ".venv/bin/python", "-c", "import torch"], capture_output=True)
    assert torch.returncode != 0
