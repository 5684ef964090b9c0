"""Who may import whom: tools above train above stream above engines, no circle, and torch only where one trains."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("engines", "stream", "train", "tools")  # each may import itself and those before it
WITHOUT_TORCH = ("engines", "stream")
TRAINING_ONLY = ("torch", "lightning", "torchmetrics", "onnxscript")


def modules(root: Path) -> dict[str, Path]:
    """Every module of the floors by its dotted name."""
    found = {}
    for floor in FLOORS:
        for path in sorted((root / floor).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a module imports, wherever in it; a submodule is named, not its package."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield node.lineno, alias.name
            case ast.ImportFrom():
                base = node.module or ""
                if node.level:
                    above = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*above, *([base] if base else [])])
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield node.lineno, inner if inner in known else base


def wrong_directions(root: Path) -> list[str]:
    """One line for each import that goes up, or brings training into what only runs."""
    known = modules(root)
    found = []
    for name, path in known.items():
        floor = name.split(".")[0]
        above = (*FLOORS[FLOORS.index(floor) + 1 :], "tests")
        forbidden = above + (TRAINING_ONLY if floor in WITHOUT_TORCH else ())
        found += [
            f"{path.relative_to(root)}:{line} imports {target}"
            for line, target in imports(name, path, known)
            if target.split(".")[0] in forbidden
        ]
    return found


def circles(root: Path) -> list[str]:
    """Each circle among the modules, as `a -> b -> a`."""
    known = modules(root)
    graph = {
        name: sorted({target for _, target in imports(name, path, known) if target in known and target != name})
        for name, path in known.items()
    }
    found: list[str] = []
    done: set[str] = set()

    def follow(trail: list[str]) -> None:
        for target in graph[trail[-1]]:
            if target in trail:
                found.append(" -> ".join([*trail[trail.index(target) :], target]))
            elif target not in done:
                follow([*trail, target])
        done.add(trail[-1])

    for name in graph:
        if name not in done:
            follow([name])
    return found


def test_imports_go_down() -> None:
    assert wrong_directions(ROOT) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(ROOT) == []


def test_every_module_is_looked_at() -> None:
    known = modules(ROOT)
    assert {"stream.session", "engines.select", "train.loop", "tools.cli", "stream.feed"} <= set(known)
    targets = {target for _, target in imports("stream.session", known["stream.session"], known)}
    assert {"stream.assembly", "engines.bundle", "contextlib", "stream.feed.messages"} <= targets


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree like ours in which all is well."""
    files = {
        "engines/engine.py": "import numpy",
        "stream/rings.py": "import engines.engine",
        "stream/feed/messages.py": "from stream import rings",
        "stream/session.py": "from stream.feed.messages import x\nfrom .feed import messages",
        "train/loop.py": "import torch\nfrom stream.rings import x",
        "tools/cli.py": "def f():\n    from train.loop import x",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text + "\n")
    return tmp_path


def test_a_tree_in_order_passes(tree: Path) -> None:
    assert wrong_directions(tree) == []
    assert circles(tree) == []


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("engines/engine.py", "import stream.rings", "engines/engine.py:1 imports stream.rings"),
        ("stream/rings.py", "from train.loop import x", "stream/rings.py:1 imports train.loop"),
        ("stream/feed/messages.py", "def f():\n    import tools", "stream/feed/messages.py:2 imports tools"),
        ("train/loop.py", "from tools import cli", "train/loop.py:1 imports tools.cli"),
        ("tools/cli.py", "import tests.media_files", "tools/cli.py:1 imports tests.media_files"),
        ("stream/rings.py", "if 1:\n    import torch.nn as nn", "stream/rings.py:2 imports torch.nn"),
        ("engines/engine.py", "from torch import nn", "engines/engine.py:1 imports torch"),
    ],
)
def test_a_wrong_direction_is_found(tree: Path, file: str, text: str, line: str) -> None:
    (tree / file).write_text(text + "\n")
    assert wrong_directions(tree) == [line]


@pytest.mark.parametrize(
    ("file", "text", "circle"),
    [
        ("stream/rings.py", "from stream.session import x", ("stream.rings", "stream.session", "stream.feed.messages")),
        ("stream/feed/messages.py", "def f():\n    from .. import session", ("stream.feed.messages", "stream.session")),
        ("engines/engine.py", "from engines import other", ("engines.engine", "engines.other")),
    ],
)
def test_a_circle_is_found(tree: Path, file: str, text: str, circle: tuple[str, ...]) -> None:
    (tree / "engines" / "other.py").write_text("from engines.engine import x\n")
    (tree / file).write_text(text + "\n")
    (found,) = circles(tree)
    assert set(found.split(" -> ")) == set(circle)


def test_what_only_runs_never_loads_torch() -> None:
    names = [name for name in modules(ROOT) if name.split(".")[0] in WITHOUT_TORCH]
    code = (
        "import importlib, sys\n"
        f"for name in {names}: importlib.import_module(name)\n"
        f"print([name for name in {TRAINING_ONLY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
