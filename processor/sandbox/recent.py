"""RECENT_MAX: a dict that forgets its oldest entry, so that a stand-in can run for days."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")

RECENT_MAX = 200_000
"""Orders or keys that a stand-in remembers. Without it, one left running over a weekend eats the machine."""


class Recent(Generic[V]):
    """Values by name; past `size_max` the entry made first goes. Mutable; `forgotten` counts those that
    went."""

    def __init__(self, size_max: int = RECENT_MAX) -> None:
        assert size_max > 0, "a memory of nothing"
        self._values: dict[str, V] = {}
        self._size_max = size_max
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> V | None:
        return self._values.get(name)

    def put(self, name: str, value: V) -> None:
        if name not in self._values and len(self._values) >= self._size_max:
            del self._values[next(iter(self._values))]
            self.forgotten += 1
        self._values[name] = value

    def remove(self, name: str) -> None:
        self._values.pop(name, None)
