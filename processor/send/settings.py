"""The settings of a sending role: names, limits and times, each with the accident that its bound prevents."""

from __future__ import annotations

from dataclasses import dataclass

from processor.config import Quota


@dataclass(frozen=True, slots=True)
class SendTopics:
    """Whole names, with the installation's prefix. All have as many partitions as the first source, whose partitions
    share the quota; partition N of the others belongs to the owner of its partition N."""

    sources: tuple[str, ...]
    receipts: str
    """The topic for records of accepted entries: `hakuna.deliveries`, `hako.sent`."""
    dead_letters: str
    holds: str | None
    """None if a refusal holds nothing (the feed, Hako)."""
    offsets: str | None
    """None if finished offsets beyond the committed one need not be kept (Hako)."""
    resolutions: str | None = None
    """The topic for marks on letters that a newer snapshot or value has superseded; None if entries are neither."""
    resolution_partitions: int | None = None
    """None: as many as the letters' topic."""
    witnesses: tuple[str, str] | None = None
    """The topics of letters and of resolutions, from which lost holds are made anew; None if nothing is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """The settings of the event loop for one destination, Hakuna or Hako."""

    base_url: str
    """Without a slash at its end; a destination's paths begin with one."""
    quota: Quota | None
    partitions_total: int
    """The partitions that share the quota: a worker's share is its own over all."""
    in_flight_max: int = 1024
    """Requests at once. More would exhaust file descriptors and only queue at the server."""
    request_s_max: float = 30.0
    """A server that takes a request and never answers would hold its order for ever."""
    backoff_first_s: float = 0.2
    backoff_s_max: float = 30.0
    """The longest own backoff; a longer one would leave a recovered server idle."""
    poison_after_s: float = 300.0
    replay_share_max: float = 0.5
    """Of the quota, or of the requests at once. A replay of a thousand orders would delay live ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSettings:
    """The settings of the Kafka thread."""

    topics: SendTopics
    group: str
    partitions: int
    """Of the first source, at the start: the shares of the quota rest on it."""
    dead_letter_share_max: float = 0.5
    entries_max: int = 20_000
    """Taken and unfinished entries. They are read again after a crash, and fill the memory."""
    bytes_max: int = 64 * 1024 * 1024
    """The sum of their values: 20,000 orders of a megabyte would be 20 GB."""
    partition_share: int = 4
    """One partition may have a quarter of the entries: a long lane behind a slow order must not stop the others."""
    poll_records_max: int = 500
    """Records of one turn. With more, acknowledged receipts would wait for it, and the event loop that stands still."""
    poll_s_max: float = 0.05
    """The longest wait for records; endings wait for it in a quiet hour."""
    catch_up_s_max: float | None = None
    """The longest time for reading the sources to their ends, after an assignment, before anything of them is sent;
    None: not at all. Without a bound, a partition that cannot be read to its end would hold all keys for ever."""
    commit_s: float = 1.0
    """After a crash, requests that were answered since the last commit are sent again."""
    revoke_s_max: float = 3.5
    """The time for requests in flight at a planned move; their answers are worth it, but a move takes under 5 s."""
    drain_s_max: float = 25.0
