"""Every test here is marked `deploy`; what one of them needs and lacks is a skip, and in CI a failure (`tools.py`)."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.deploy)
