"""Converts every graph of a bundle to each precision and prints what came of it.

    python -m tools.measure.half_graphs BUNDLE

The exit code is 2 where an output departs from the float32 graph's by more than its precision may, or a node is none
that TensorRT takes.
"""

import argparse
import sys

from rich.console import Console
from rich.table import Table

from engines.bundle import load
from engines.operators import unsupported
from engines.parity import TOLERANCES
from engines.precision import PRECISIONS, check, convert
from engines.samples import Samples

N_FEEDS = 2  # of one item each
WIDTH = 200  # of a table that goes to a file


def main() -> int:
    """Print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle", help="name or folder")
    parser.add_argument("--feeds", type=int, default=N_FEEDS, help="real inputs that each graph is checked on")
    arguments = parser.parse_args()
    table = Table("graph", "precision", "half", "kept", "why kept", "MB", "largest difference", "not for TensorRT")
    wrong = False
    bundle = load(arguments.bundle)
    with Samples(bundle) as samples:
        for stage in bundle.manifest.stages:
            graph = bundle.stage(stage).read_bytes()
            feeds = [samples.feeds(stage, 1, first=k) for k in range(arguments.feeds)]
            for precision in PRECISIONS:
                converted = convert(graph, precision, feeds)
                found = check(graph, converted, feeds)
                worst = max(found, key=lambda name: found[name])
                refused = unsupported(converted.model)
                wrong = wrong or bool(refused) or found[worst] > TOLERANCES[precision]
                table.add_row(
                    stage,
                    precision,
                    str(converted.n_half),
                    str(converted.n_kept),
                    ", ".join(f"{reason} {len(nodes)}" for reason, nodes in converted.kept.items()),
                    f"{len(converted.model) / 1e6:.2f}",
                    f"{found[worst]:.2g} {worst}",
                    "; ".join(refused) or "-",
                )
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
