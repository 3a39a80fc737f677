"""A network to craft transferred attacks on, where there is no other: an ANN trained on the spot."""

from __future__ import annotations

from dataclasses import replace
from tempfile import TemporaryDirectory

from ....models.data.dataset import Dataset, DatasetError
from ....models.settings import Settings
from ....models.training import train
from ..victims import FloatVictim

SAMPLES, EPOCHS = 6000, 10


def substitute(data: Dataset, seed: int = 0) -> FloatVictim:
    """An ANN (one hidden layer of 256) trained for 10 epochs on at most 6,000 of the training images.

    The attacker of Papernot et al. (2017) who knows the task but not the network. Raises DatasetError
    for data without training samples.
    """
    if not len(data.train):
        raise DatasetError(
            f"{data.name} has no training samples, on which a network to transfer from could be trained: "
            f"give another network (--source), or --data."
        )
    settings = Settings.of(spiking=False, coding="direct", epochs=EPOCHS, seed=seed)
    with TemporaryDirectory() as folder:
        classifier, _ = train(
            settings, replace(data, train=data.train.first(SAMPLES)), folder, progress=False
        )
    return FloatVictim(classifier, "substitute ANN")
