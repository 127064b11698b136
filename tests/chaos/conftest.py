"""What the tests with real workers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import not_to_be_had
from tests.support.children import Unavailable
from tests.support.kafka import KafkaBroker, short_lived_jvm


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    """A broker of this module's own, which it may stop."""
    try:
        with KafkaBroker(jvm=short_lived_jvm) as running:
            yield running
    except Unavailable as reason:
        not_to_be_had(reason)
