"""Every test here is marked `deploy`; what one of them needs and lacks is a skip, and in CI a failure (`tools.py`)."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import not_to_be_had
from tests.deploy.containers import BASE, IMAGE, Engine, base_tar, engine
from tests.deploy.tools import DEPLOY
from tests.support.children import Unavailable

REVISION = "0123abc"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.deploy)


@pytest.fixture(scope="session")
def containers_with_base() -> Iterator[Engine]:
    """An engine with BASE in it."""
    with ExitStack() as running:
        try:
            it = running.enter_context(engine())
            it.imported(base_tar(), BASE)
        except Unavailable as reason:
            not_to_be_had(reason)
        else:
            yield it


@pytest.fixture(scope="session")
def containers(containers_with_base: Engine) -> Engine:
    """An engine with BASE and, built from deploy/Dockerfile, IMAGE in it."""
    containers_with_base.built(DEPLOY / "Dockerfile", IMAGE, {"BASE": BASE, "REVISION": REVISION})
    return containers_with_base
