"""The documents of deploy/ say what the code does: topics, alerts, links, settings, commands."""

import re
from collections.abc import Iterator

import yaml

from processor.config import PREFIXES, declarations
from processor.records import Reason
from processor.topics import DAY_MS, KEEP, plans
from tests.deploy.tools import DEPLOY

PAGES = {path.name: path.read_text() for path in sorted(DEPLOY.glob("*.md"))}
TEXT = "\n".join(PAGES.values())


def anchor(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


ANCHORS = {
    name: {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)} for name, text in PAGES.items()
}


def table(heading: str) -> Iterator[list[str]]:
    """The cells of the first table under a heading, without its head."""
    under = re.split(rf"^#+ {heading}\n", TEXT, maxsplit=1, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", under, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    yield from ([cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:])


def test_the_topics_are_the_codes() -> None:
    told = {name.strip("`"): (cleanup, retention, why) for name, cleanup, retention, why in table("Topics")}
    known = {}
    for plan in plans(rekey=True):
        cleanup = plan.config.get("cleanup.policy", "delete")
        retention = plan.config.get("retention.ms", KEEP)
        kept = "for ever" if retention == KEEP else f"{int(retention) // DAY_MS} days"
        known[str(plan.topic)] = (cleanup, kept, plan.why)
    assert told == known


def test_every_alert_stands_here_with_its_severity_and_its_runbook() -> None:
    told = {}
    for name, severity, _, action in table("Alerts"):
        link = re.search(r"\(#(.*)\)", action)
        assert link is not None, name
        told[name.strip("`")] = (severity, f"deploy/RUNBOOK.md#{link[1]}")
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.rules.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert told == {rule["alert"]: (rule["labels"]["severity"], rule["annotations"]["runbook_url"]) for rule in rules}


def test_every_link_leads_somewhere() -> None:
    for name, text in PAGES.items():
        for page, heading in re.findall(r"\]\(([\w.]*)#([^)]*)\)", text):
            assert heading in ANCHORS[page or name], f"{name}: {page}#{heading}"
        for page in re.findall(r"\]\((?!https?:)([\w./]+)(?:#[^)]*)?\)", text):
            assert (DEPLOY / page).exists(), f"{name}: {page}"
    assert sum(len(anchors) for anchors in ANCHORS.values()) > 20


def test_every_runbook_says_the_symptom_and_what_good_looks_like() -> None:
    runbooks = TEXT.split("\n## Runbooks\n")[1].split("\n## ")[0].split("\n### ")[1:]
    assert len(runbooks) >= 10
    for runbook in runbooks:
        assert "*Symptom:*" in runbook, runbook[:30]
        assert "*Good:*" in runbook, runbook[:30]


def test_every_setting_that_is_named_exists() -> None:
    ours = tuple(prefix for prefix in PREFIXES if prefix != "KAFKA_")  # those are librdkafka's, whatever they are
    named = {name for name in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", TEXT) if name.startswith(ours)}
    assert named <= {declared.name for declared in declarations()}


def test_every_reason_of_a_dead_letter_has_an_owner() -> None:
    rows = [line for line in TEXT.split("### Dead letters rise")[1].split("###")[0].splitlines() if "| `" in line]
    told = {reason for row in rows for reason in re.findall(r"`([a-z_0-9]+)`", row.split("|")[1])}
    assert set(Reason) <= told
