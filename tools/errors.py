"""Which exceptions are a person's to mend: they end a command with one line and exit code 2, not with a traceback."""

import os
import sys

from engines.bundle import BundleError
from engines.engine import EngineError
from stream.feed.security import FeedError
from stream.perception.networks import NetworkError
from stream.sources.errors import SourceError

# ValueError is what settings raise: dataclasses validate themselves when they are made.
WRONG_USE = (BundleError, EngineError, FeedError, NetworkError, SourceError, ValueError)

DONE, MISUSE, INTERRUPTED = 0, 2, 130  # 1, a fault of ours, is what Python itself leaves with


def leave_output() -> None:
    """Give up standard output that nobody reads: Python flushes it once more as it exits, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
