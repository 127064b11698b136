"""What Hakuna wants to be told and what it answers, in Hakuna's words; nothing here knows of Kafka.

Hakuna takes orders in one of two ways, and an installation uses one of them:

- `events`: the Events API is told each thing that happened, one request an event (`events.py`);
- `feed`: the Order feed is given whole orders, many to a request, the newest snapshot of each (`feed.py`).

The two differ in more than form, and the differences are the API's, not ours: brand `Hakuna` or `hakuna`, ISO
8601 or epoch milliseconds, a reference from the protection to its product or the other way round.

`answers.py` says what an answer means, `destination.py` where requests go: paths, headers, bodies;
`entry_ids.py` what makes one request another one.
"""

from __future__ import annotations

from enum import StrEnum


class Api(StrEnum):
    """Which of the two ways is used (`HAKUNA_API`)."""

    EVENTS = "events"
    FEED = "feed"


class Orders(StrEnum):
    """Which orders Hakuna is told of (`HAKUNA_ORDERS`): all, or those that hold a protection line item."""

    ALL = "all"
    PROTECTED = "protected"
