"""Makes a recogniser's bundle at its full size with fresh weights, to measure how fast it streams before it is trained.

    python -m tools.measure.untrained icanet OUT CLIP CLIP

Graphs are checked against torch on the clips, which show a face and have sound.
"""

import argparse
import sys
from pathlib import Path

import torch

from tools.recognisers.models import show_bundle
from train.clips.bundle import write_untrained
from train.clips.recipes import CLIP_RECIPES
from train.corpora.clips import Clip, ClipCorpus
from train.preparation.prepare import prepare


def main() -> int:
    """Make the bundle and show it. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("recipe", choices=tuple(CLIP_RECIPES))
    parser.add_argument("out", type=Path)
    parser.add_argument("clips", type=Path, nargs="+", help="two or more")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    task = CLIP_RECIPES[arguments.recipe].kind()
    clips = tuple(
        Clip(name=f"{k}-{path.stem}", path=path, label=0, person=str(k)) for k, path in enumerate(arguments.clips)
    )
    corpus = ClipCorpus(name="clips", labels=task.labels, clips=clips, folds=(), protocol="none")
    store = prepare(corpus, task.needs(), arguments.out / "cache", workers=1)
    write_untrained(
        task,
        [store[k] for k in range(len(store))],
        arguments.out,
        f"python -m tools.measure.untrained {arguments.recipe}",
    )
    return show_bundle(str(arguments.out))


if __name__ == "__main__":
    sys.exit(main())
