"""The README's first order by hand: its commands, as they stand there, on a real Kafka and a real registry."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.conftest import StartWorker
from tests.support.children import REPOSITORY, wait_until
from tests.support.commands import ask
from tests.support.processes import Worker
from tests.support.topics import TopicSpace


def section() -> tuple[dict[str, str], list[list[str]]]:
    """What the section exports, and its commands' arguments in their order."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    text = readme.partition("## Your first order by hand\n")[2].partition("\n## ")[0]
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    exports = [word for line in lines if line.startswith("export ") for word in shlex.split(line)[1:]]
    commands = [part for line in lines for part in line.split(" && ") if part.startswith("hakuna-processor ")]
    return dict(word.split("=", 1) for word in exports), [shlex.split(command)[1:] for command in commands]


def printed_exports(simulate: Worker) -> dict[str, str]:
    return dict(re.findall(r"^  export (\w+)=(\S+)$", simulate.log_tail(), re.MULTILINE))


def test_the_first_order_by_hand_goes_as_the_readme_says(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    """All that is another here than there: addresses, the prefix, the ports, where the state is."""
    exports, (topics, simulate, check, run, order, status, refusing, refused, letters) = section()
    here = topic_space.environment | {
        "SCHEMA_REGISTRY_URL": schema_registry,
        "PROCESSOR_STATE_DIR": str(tmp_path / "state"),
    }
    assert set(exports) == {*here, "HAKUNA_BASE_URL", "HAKUNA_API_KEY"}

    assert ask(*topics, environment=here).code == 0
    ports = ("--hakuna-port", "0", "--hako-port", "0")
    stand_in = start_worker(*simulate, *ports, environment=here, name="simulate", await_ready=False)
    wait_until(lambda: "The shop wrote" in stand_in.log_tail(), what="the shop", timeout_s=60, child=stand_in.child)
    told = printed_exports(stand_in)
    assert told["HAKUNA_API_KEY"] == exports["HAKUNA_API_KEY"]
    here |= {name: told[name] for name in ("HAKUNA_BASE_URL", "HAKUNA_API_KEY")}

    checked = ask(*check, environment=here)
    assert checked.code == 0, checked.out
    worker = start_worker(*run, environment=here)
    wait_until(
        lambda: ask(*order, environment=here).out.count("HTTP 201") >= 3,
        what="the order's requests",
        timeout_s=60,
        child=worker.child,
    )
    timeline = ask(*order, environment=here)
    assert timeline.code == 0
    for word in ("order_placed", "delivered", "line_items_fulfilled", "placed"):
        assert word in timeline.out
    *asked, url = status
    assert url.startswith("http://")
    seen = ask(*asked, f"http://127.0.0.1:{worker.port}", environment=here)
    assert seen.code == 0, seen.out
    assert "ready" in seen.out
    assert stand_in.terminate() == 0
    assert "mistake" not in stand_in.log_tail(), "check's own request is one of them"

    ports = ("--hakuna-port", told["HAKUNA_BASE_URL"].rpartition(":")[2], "--hako-port", "0")
    stand_in = start_worker(*refusing, *ports, environment=here, name="refusing", await_ready=False)
    wait_until(
        lambda: "location_unsupported" in ask(*letters, environment=here).out,
        what="a refused order",
        timeout_s=60,
        child=stand_in.child,
    )
    wait_until(
        lambda: "location_unsupported" in ask(*refused, environment=here).out,
        what="the order that the README names",
        timeout_s=60,
        child=stand_in.child,
    )
    assert stand_in.terminate() == 0
    assert worker.terminate() == 0
