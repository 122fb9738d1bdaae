"""Folders of the user's own that keyvid keeps things in."""

from pathlib import Path

import platformdirs


def cache_folder(name: str) -> Path:
    """Where what can be made again is kept, such as ~/.cache/keyvid/NAME; it may not exist."""
    return platformdirs.user_cache_path("keyvid", appauthor=False) / name
