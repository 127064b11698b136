"""Which tests run side by side, and in which order: `make test` runs seven at a time. Six of them begin with tests on
real parts, which wait most of the time; the seventh fills the cores meanwhile with what needs nothing, at low priority.

    a chain      runs on one process, one test after the other; the next free process takes the next chain
    "deadline"   what holds real processes to a time by the wall clock: never two of those at once
    "image"      what needs the image, which is built once
    a file       whatever else has real parts: its tests share them
    a test       a unit test, a few seeds of a simulation: anywhere

Long chains come first, then real workers each on a broker of its own, the longest of them minutes; what is light, a
unit test or some seeds, comes last. The filling process takes them from the end, and ends when none is left. A test is
told by its node ID alone, which is all that the process which hands them out knows.

Not chosen: xdist's own groups by marks. They rename a test, and `--last-failed` does not know it again: what failed
would not be run once more, and look mended.
"""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it says nothing of its types
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

DEADLINE: Final = "deadline"
IMAGE: Final = "image"
CHAINS: Final = {
    "tests/chaos/test_send_processes.py": DEADLINE,
    "tests/chaos/test_transform_processes.py": DEADLINE,
    "tests/integration/test_kafka_edges_in_trouble.py": DEADLINE,
    "tests/deploy/test_image.py": IMAGE,
    "tests/deploy/test_kafka_container.py": IMAGE,
}
LONE: Final = ("tests/unit/", "tests/chaos/")
LIGHT: Final = 3
"""The turn of what needs nothing."""
FILLING_NICE: Final = 10
SEEDS: Final = "[range("
"""In the ID of a test that has some of a simulation's seeds."""


def chain_of(node_id: str) -> str:
    """What a test belongs to; its own ID where it may run anywhere."""
    file = node_id.partition("::")[0]
    if file in CHAINS:
        return CHAINS[file]
    return node_id if file.startswith(LONE) else file


def turn_of(node_id: str) -> int:
    """Those with a lower number are handed out first."""
    chain = chain_of(node_id)
    if chain in (DEADLINE, IMAGE):
        return 0
    if chain != node_id:
        return 1
    return LIGHT if node_id.startswith("tests/unit/") or SEEDS in node_id else 2


def fills(worker_id: str, workers: int) -> bool:
    """True for one of xdist's processes, `gw0` and so on, of several."""
    return workers > 2 and worker_id == f"gw{workers - 1}"


class SideBySide(LoadScopeScheduling):  # type: ignore[misc]  # as above
    """xdist's scheduler of whole scopes, where a scope is a chain."""

    def _split_scope(self, nodeid: str) -> str:
        return chain_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self._fills(node):
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if self._fills(node) and self.workqueue and turn_of(next(reversed(self.workqueue))) != LIGHT:
            node.shutdown()
        else:
            super()._reschedule(node)

    def _fills(self, node: WorkerController) -> bool:
        return fills(node.gateway.id, self.numnodes)
