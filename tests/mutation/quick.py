"""A plugin of pytest for the runs of mutants: examples come first, a test in many parts is run in two of them, and a
failing example is not made smaller.

Hypothesis makes an example that fails as small as it can, for minutes; a mutant only has to be noticed.
"""

from __future__ import annotations

from typing import Final

import hypothesis
import pytest

EXAMPLES: Final = 50
"""Of a property that does not say how many it wants."""
PARTS: Final = 2
"""Of a test that is parametrised by `part`."""


@pytest.hookimpl(trylast=True)  # after tests/conftest.py, which loads the profile of a usual run
def pytest_configure() -> None:
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        max_examples=EXAMPLES,
        derandomize=True,  # every mutant meets the same examples
        database=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        suppress_health_check=tuple(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutation")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Examples before parts and properties: mutmut names tests in no order, and stops at the first that fails."""
    items[:] = [item for item in items if _part(item) < PARTS]
    items.sort(key=lambda item: (_part(item) >= 0, hypothesis.is_hypothesis_test(getattr(item, "function", None))))


def _part(item: pytest.Item) -> int:
    called = getattr(item, "callspec", None)
    return -1 if called is None else int(called.params.get("part", -1))
