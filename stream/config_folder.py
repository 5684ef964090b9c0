"""Where emocast keeps what it measured of this user's devices and of a person: calibrations, not settings."""

import os
from pathlib import Path

import platformdirs


def config_folder() -> Path:
    """EMOCAST_CONFIG, or the user's configuration folder of emocast; nothing is made."""
    base = os.environ.get("EMOCAST_CONFIG")
    return Path(base) if base else platformdirs.user_config_path("emocast")
