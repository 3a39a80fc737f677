"""`Violation`: one thing that a target cannot hold, as an object."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """What was found where, and the limit of the target."""

    where: str
    what: str
    limit: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} (limit: {self.limit})"
