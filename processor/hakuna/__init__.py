"""What Hakuna wants and what it answers, in Hakuna's words. Nothing here knows of Kafka.

Hakuna takes orders in one of two ways, and an installation uses one of them:

- `events`: the Events API takes each thing that happened, one request an event (`events.py`);
- `feed`: the Order feed takes whole orders, many in a request, the newest snapshot of each (`feed.py`).

The API made them differ in more than form: brand `Hakuna` or `hakuna`, ISO 8601 or epoch milliseconds, a reference from
the protection to its product or from the product to its protection. `answers.py` reads what an answer means,
`destination.py` has paths, headers and bodies, `entry_ids.py` the ID of each request.
"""

from __future__ import annotations

from enum import StrEnum


class Api(StrEnum):
    """Which of the two ways is used (`HAKUNA_API`)."""

    EVENTS = "events"
    FEED = "feed"


class Orders(StrEnum):
    """Which orders Hakuna gets (`HAKUNA_ORDERS`): all, or those with a protection line item."""

    ALL = "all"
    PROTECTED = "protected"
