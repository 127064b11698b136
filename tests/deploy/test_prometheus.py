"""Rules and alerts: valid, tested by promtool firing and not firing, and about metrics that exist."""

from typing import Any

import pytest
import yaml

from tests.deploy.promql import metric_names, our_metrics
from tests.deploy.tools import DEPLOY, run, tool

PROMETHEUS = DEPLOY / "prometheus"
RULE_FILES = sorted(PROMETHEUS.glob("*.rules.yaml"))
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.test.yaml"))
REMEDY = "apt install prometheus"

FOREIGN = {"process_start_time_seconds", "kube_pod_container_status_restarts_total"}
"""Metrics of prometheus_client itself and of kube-state-metrics, which an alert may do without."""


def rules() -> list[dict[str, Any]]:
    return [
        rule for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
    ]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    done = run([tool("promtool", REMEDY), "check", "rules", "--lint-fatal", *map(str, RULE_FILES)])
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_shall_and_only_then() -> None:
    done = run([tool("promtool", REMEDY), "test", "rules", *map(str, TEST_FILES)])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tried_both_ways(alert: str) -> None:
    tried = [
        bool(case["exp_alerts"])
        for path in TEST_FILES
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == alert
    ]
    assert set(tried) == {True, False}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    assert metric_names(rule["expr"]) <= our_metrics() | FOREIGN | RECORDED


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert {"summary", "description", "runbook_url"} <= set(rule["annotations"])


def test_the_scraper_and_alertmanager_take_their_settings() -> None:
    prometheus = run([tool("promtool", REMEDY), "check", "config", "--syntax-only", "prometheus.yaml"], cwd=PROMETHEUS)
    assert prometheus.returncode == 0, prometheus.stderr
    amtool = tool("amtool", "apt install prometheus-alertmanager")
    alertmanager = run([amtool, "check-config", "alertmanager.yaml"], cwd=PROMETHEUS)
    assert alertmanager.returncode == 0, alertmanager.stdout
