"""Records what a real registry answers, as data for tests: `python -m tests.support.registry_answers NAME ORIGIN PATH`.

`ORIGIN` is scheme, host and port, `PATH` where Confluent's API is (`/apis/ccompat/v7`, or empty). The registry should
be empty: schemas are registered, one refused, and then all is asked for that the processor asks, and what garbage
makes it ask. Each answer is a line of JSON: method, path, status, content type, body.

Apicurio 2.6.13 is the archive `io.apicurio:apicurio-registry-app:2.6.13.Final:tar.gz:all` of Maven Central, started as
`registry.py` starts 3.0.9.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from processor.edges.avro import reader_schema
from processor.topics import Topic

RECORDED: Final = Path(__file__).parent.parent / "unit" / "edges" / "registries"
SUBJECT: Final = "orders.cancelled-value"
GUIDS: Final = ("00010203-0405-0607-0809-0a0b0c0d0e0f", "00000000-0000-0000-0000-000000000000")
ADDRESS: Final = '{"type":"record","name":"Address","namespace":"o","fields":[{"name":"city","type":"string"}]}'
ORDER: Final = (
    '{"type":"record","name":"Order","namespace":"o","fields":[{"name":"home","type":"Address"},'
    '{"name":"order_id","type":"string"}]}'
)


def record(name: str, origin: str, path: str) -> None:
    file = RECORDED / f"{name}.jsonl"
    with httpx.Client(base_url=origin, timeout=20) as registry, file.open("w") as lines:
        for method, place, content in _questions(path):
            answer = registry.request(method, place, json=content)
            said = {
                "method": method,
                "path": place,
                "status": answer.status_code,
                "type": answer.headers.get("content-type", "").partition(";")[0],
                "body": answer.text,
            }
            lines.write(json.dumps(said) + "\n")


def _questions(path: str) -> Iterator[tuple[str, str, Any]]:
    incompatible = json.loads(reader_schema(Topic.CANCELLED))
    incompatible["fields"][-1]["type"] = "string"
    reference = {"name": "o.Address", "subject": "address", "version": 1}
    yield "PUT", f"{path}/config", {"compatibility": "BACKWARD"}
    for subject, content in (
        (SUBJECT, {"schema": reader_schema(Topic.CANCELLED)}),
        (SUBJECT, {"schema": json.dumps(incompatible)}),
        ("address", {"schema": ADDRESS}),
        ("order", {"schema": ORDER, "references": [reference]}),
    ):
        yield "POST", f"{path}/subjects/{subject}/versions", content
    for place in (
        "/subjects",
        f"/subjects/{SUBJECT}/versions",
        f"/subjects/{SUBJECT}/versions/latest",
        "/subjects/order/versions/latest",
        "/subjects/address/versions/1",
        "/subjects/nobody/versions",
        "/subjects/nobody/versions/latest",
        "/config",
        f"/config/{SUBJECT}?defaultToGlobal=true",
        "/config/nobody?defaultToGlobal=true",
        *(f"/schemas/ids/{number}" for number in (1, 2, 3, 999_999, 2**31)),
        *(f"/schemas/guids/{guid}" for guid in GUIDS),
    ):
        yield "GET", path + place, None
    for number in (1, 3, 999_999):
        yield "GET", f"/apis/registry/v3/ids/globalIds/{number}?references=DEREFERENCE", None
        yield "GET", f"/apis/registry/v2/ids/globalIds/{number}?dereference=true", None


if __name__ == "__main__":
    record(*sys.argv[1:4])
