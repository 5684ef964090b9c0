"""The demo: a made clip with a real face through everything, at real-time speed, printed as it is published."""

from pathlib import Path

from engines.cache_folder import cache_folder
from stream.config import FeedConfig, SessionConfig
from stream.sources.media import Speed
from tools.replaying.demo_clip import make
from tools.replaying.replay import replay

VERSION = 2  # of the clip; a change of `demo_clip` makes it anew


def clip_path() -> Path:
    """Where the made clip is kept."""
    return cache_folder(f"demo-{VERSION}") / "demo.mp4"


def demo(*, session: SessionConfig, feed: FeedConfig) -> int:
    """Make the clip where it is not cached yet, and stream it. Returns the exit code."""
    clip = clip_path()
    if not clip.is_file():
        clip.parent.mkdir(parents=True, exist_ok=True)
        make(clip)
    return replay([str(clip)], speed=Speed.REALTIME, session=session, feed=feed)
