"""Where emocast keeps what it fetched or built for this user and machine."""

import os
from pathlib import Path

import platformdirs


def cache_folder(room: str) -> Path:
    """The folder of a room: in EMOCAST_CACHE, or in the user's cache folder of emocast."""
    base = os.environ.get("EMOCAST_CACHE")
    return (Path(base) if base else platformdirs.user_cache_path("emocast")) / room
