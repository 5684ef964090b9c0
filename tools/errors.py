"""Which exceptions are a person's to mend: they end a command with one line and exit code 2, not with a traceback."""

from engines.bundle import BundleError
from engines.engine import EngineError
from stream.feed.security import FeedError
from stream.perception.networks import NetworkError
from stream.sources.errors import SourceError

# ValueError is what settings raise: dataclasses validate themselves when they are made.
WRONG_USE = (BundleError, EngineError, FeedError, NetworkError, SourceError, ValueError)

DONE, FAULT, MISUSE, INTERRUPTED = 0, 1, 2, 130
