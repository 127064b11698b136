"""A plugin of pytest for the runs of mutants: what is quick comes first, and a failing example is not made smaller.

Hypothesis makes an example that fails as small as it can, for minutes; a mutant only has to be noticed.
"""

from __future__ import annotations

from typing import Final

import hypothesis
import pytest

EXAMPLES: Final = 50
"""Of a property that does not say how many it wants."""


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
    """Examples before properties: mutmut names tests in no order, and stops at the first that fails."""
    items.sort(key=lambda item: hypothesis.is_hypothesis_test(getattr(item, "function", None)))
