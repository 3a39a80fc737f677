"""Scikit-learn's digits, which come with it."""

from __future__ import annotations

from pathlib import Path

from .dataset import Dataset, Split, in_three


def read_digits(_: str | Path | None, __: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: 1,797 images of 8x8 pixels and 17 grey levels."""
    import torch
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    return in_three("digits", Split(images, torch.tensor(data.target, dtype=torch.int64)))
