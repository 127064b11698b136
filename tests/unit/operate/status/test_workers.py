"""A worker that does not answer as one should is a row that says so."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping

import pytest

from processor.operate.status import workers
from processor.operate.status.workers import ask
from tests.support.children import free_ports
from tests.support.small_server import Quiet, serving

STATUS = {"role": "send", "life": "running", "partitions": [], "destinations": []}
METRICS = (
    '# HELP x\nprocessor_held_orders{partition="0"} 2.0\nprocessor_held_orders{partition="1"} 3.0\n'
    'processor_requests_total{status="200"} 9.0\n'
)
ANSWERS: dict[str, Mapping[str, tuple[int, str]]] = {
    "well": {
        "/status": (200, json.dumps(STATUS)),
        "/readyz": (200, json.dumps({"ok": True, "reasons": []})),
        "/metrics": (200, METRICS),
    },
    "unready": {
        "/status": (200, json.dumps({"roles": [STATUS, STATUS]})),
        "/readyz": (503, json.dumps({"ok": False, "reasons": ["send: the key is refused"]})),
        "/metrics": (200, ""),
    },
    "html": {"/status": (200, "<html>")},
    "gone": {"/status": (404, "not here")},
    "list": {"/status": (200, "[]"), "/readyz": (200, "[]"), "/metrics": (200, "")},
}


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Iterator[str]:
    answers = ANSWERS[request.param]

    class Answer(Quiet):
        def do_GET(self) -> None:  # noqa: N802  # the base class looks for this name
            status, text = answers.get(self.path, (500, ""))
            self.answer(status, "text/plain", text.encode())

    with serving(Answer) as url:
        yield f"{url}/"


@pytest.mark.parametrize("worker", ["well"], indirect=True)
def test_a_worker_that_is_well(worker: str) -> None:
    (told,) = ask([worker])
    assert (told.silent, told.unready, told.roles) == (None, (), (STATUS,))
    assert told.gauges["processor_held_orders"] == 5


@pytest.mark.parametrize("worker", ["unready"], indirect=True)
def test_a_worker_that_is_not_ready_says_why(worker: str) -> None:
    (told,) = ask([worker])
    assert told.unready == ("send: the key is refused",)
    assert len(told.roles) == 2


@pytest.mark.parametrize(
    ("worker", "says"),
    [("html", "that is not JSON"), ("gone", "answers HTTP 404 at /status"), ("list", "that is not a status")],
    indirect=["worker"],
)
def test_something_else_that_listens_there_is_known_for_it(worker: str, says: str) -> None:
    (told,) = ask([worker])
    assert told.silent is not None
    assert says in told.silent


def test_one_that_takes_the_question_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ANSWER_S_MAX", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (told,) = workers.ask([f"http://127.0.0.1:{silent.getsockname()[1]}"])
    assert told.silent == "does not answer within 0.1 s"


def test_nobody_at_all_is_a_row_too() -> None:
    (port,) = free_ports(1)
    found = ask([f"http://127.0.0.1:{port}", "http://no.such.host.invalid:9400"])
    assert [one.silent is not None and one.silent.startswith("does not answer") for one in found] == [True, True]
    assert ask([]) == []
