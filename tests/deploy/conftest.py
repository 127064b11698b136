"""Every test here is marked `deploy`; what one of them needs and lacks is a skip, and in CI a failure (`tools.py`)."""

from collections.abc import Iterator

import pytest

from tests.deploy.containers import BASE, IMAGE, Engine, base_tar, engine
from tests.deploy.tools import DEPLOY

REVISION = "0123abc"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/deploy/"):
            item.add_marker(pytest.mark.deploy)


@pytest.fixture(scope="session")
def containers_with_base() -> Iterator[Engine]:
    """An engine with BASE in it."""
    with engine() as it:
        it.imported(base_tar(), BASE)
        yield it


@pytest.fixture(scope="session")
def containers(containers_with_base: Engine) -> Engine:
    """An engine with BASE and, built from deploy/Dockerfile, IMAGE in it."""
    containers_with_base.built(DEPLOY / "Dockerfile", IMAGE, {"BASE": BASE, "REVISION": REVISION})
    return containers_with_base
