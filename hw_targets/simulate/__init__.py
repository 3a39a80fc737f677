"""The definition, the engine and Lava: three ways to the same integers."""

from .cache import ensure_cache

ensure_cache()
