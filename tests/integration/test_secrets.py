"""What must not be seen is planted, and looked for in all that a worker and the commands show: by an API that repeats
whatever it is sent, as careless ones do."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.message import Message
from functools import partial
from pathlib import Path

import pytest

from processor.topics import Topic
from tests.conftest import StartWorker
from tests.support.children import wait_until
from tests.support.commands import ask
from tests.support.installation import Installation
from tests.support.small_server import posts, serving
from tests.support.topics import TopicSpace

SECRETS = {
    "HAKUNA_API_KEY": "sk_live_4seen1by2nobody3",
    "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": "registry:pw-4seen1by2nobody3",
    "KAFKA_SASL_PASSWORD": "kafka-pw-4seen1by2nobody3",
    "HTTPS_PROXY": "http://proxy:proxy-pw-4seen1by2nobody3@127.0.0.1:9",
}
PERSONAL = ("unseen@example.com", "Annunseen", "Unseenova", "+49 160 7654321", "Unseen Lane 7")
HIDDEN = ("4seen1by2nobody3", *PERSONAL)
COMMANDS = (
    ("check", "--try-key"),
    ("status", "--all"),
    ("dead-letters", "list", "--each"),
    ("dead-letters", "show", "--order-id", "ord-0"),
    ("dead-letters", "replay", "--everything", "--dry-run"),
    ("order", "ord-0"),
)


class Careless:
    """Answers each request with its own key and content. Mutable: `status` is what it answers with, `asked`
    how often it did."""

    def __init__(self) -> None:
        self.status = 422
        self.asked = 0

    def was_asked(self, times: int) -> bool:
        return self.asked >= times

    def answer(self, headers: Message, body: bytes) -> tuple[int, object]:
        sent = json.loads(body or b"{}")
        self.asked += 1
        said = f"{headers['Authorization']} is not known; you sent '{body.decode()}', {sent.get('email', '')}"
        error = {"error_code": "made_up", "message": said, "input": sent, "validation_errors": [said]}
        return self.status, {"error": error} if self.status in (401, 422) else error


def place(installation: Installation, count: int, start: int = 0) -> None:
    first_name, last_name = PERSONAL[1], PERSONAL[2]
    line = dict.fromkeys(("product_id", "product_title", "product_brand"), "x")
    for number in range(start, start + count):
        event = {
            "event_id": f"placed-{number}",
            "order_id": f"ord-{number}",
            "placed_at": round(time.time() * 1000),
            "currency": "EUR",
            "customer": {
                "first_name": first_name, "last_name": last_name, "email": PERSONAL[0], "phone": PERSONAL[3]
            },
            "billing_address": {"country": "DE", "address_line_1": PERSONAL[4]},
            "line_items": [{**line, "id": "l", "quantity": 1, "price_amount": 1, "protection": None}],
        }  # fmt: skip
        installation.event(Topic.PLACED, event)
    installation.flush()


def seen(shown: Mapping[str, str]) -> list[str]:
    """What was planted, and where it is to be seen."""
    return [f"{what} in {where}" for where, text in shown.items() for what in HIDDEN if what in text]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_secret_and_no_persons_data_is_shown_whatever_an_api_repeats(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    installation = Installation(topic_space, schema_registry)
    careless = Careless()
    with serving(posts(careless.answer)) as url:
        settings = installation.environment | SECRETS | {"HAKUNA_BASE_URL": url}
        settings |= {"PROCESSOR_LOG_LEVEL": "DEBUG"}
        worker = start_worker("run", environment=settings, await_ready=False)
        shown: dict[str, str] = {}

        def look(when: str) -> None:
            for path in ("/metrics", "/status", "/readyz"):
                shown[f"{path}, {when}"] = worker.get(path).text

        place(installation, 3)
        wait_until(lambda: len(topic_space.records(Topic.HAKUNA_DEAD_LETTERS)) == 3, what="three letters", timeout_s=60)
        look("refused")
        for number, status in enumerate((400, 500, 401), start=1):
            careless.status, before = status, careless.asked
            place(installation, 3, start=10 * number)
            wait_until(partial(careless.was_asked, before + 1), what=f"HTTP {status}", timeout_s=60)
            time.sleep(1.0)
            look(f"HTTP {status}")
        for command in COMMANDS:
            for output in ("table", "json"):
                said = ask(*command, "--output", output, environment=settings)
                shown[f"{' '.join(command)}, {output}"] = said.out + said.err
        limits = Path(f"/proc/{worker.pid}/limits").read_text()
        assert "Max core file size 0 0 bytes" in " ".join(limits.split())
        assert int(Path(f"/proc/{worker.pid}/coredump_filter").read_text(), 16) == 0
        worker.terminate()
        shown["the log"] = worker.log.read_text()
    assert len(shown["the log"].splitlines()) > 5
    assert "made_up" in shown["dead-letters list --each, json"], "it is the answers that were read"
    assert seen(shown) == []
