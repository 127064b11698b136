"""Dashboards: Grafana's schema knows every key, each query asks for what exists, each panel says what to do."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.deploy.promql import metric_names, our_metrics
from tests.deploy.test_kubernetes import paths
from tests.deploy.test_prometheus import RECORDED
from tests.deploy.test_runbook import ANCHORS
from tests.deploy.tools import DEPLOY

GRAFANA = DEPLOY / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))

OF_OTHERS = {"ALERTS", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}
"""Series of Prometheus itself and of prometheus_client."""


def loaded(path: Any) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    return dashboard


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


def plain(query: str) -> str:
    """A query with its variables filled in, as Grafana would."""
    query = query.replace("$__rate_interval", "1m")
    return re.sub(r"\$(installation|worker|destination)", ".*", query)


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and query of every panel's targets and of every annotation."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", plain(target["expr"])
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], plain(annotation["expr"])


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    return loaded(request.param)


def unknown_keys(dashboard: dict[str, Any]) -> set[str]:
    register_default_plugins()
    back = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    return set(paths(dashboard)) - set(paths(back))


def test_grafanas_schema_knows_every_key(dashboard: dict[str, Any]) -> None:
    assert unknown_keys(dashboard) == set()


def test_the_round_trip_would_lose_an_unknown_key(dashboard: dict[str, Any]) -> None:
    (first, *_) = panels(dashboard)
    first["fieldConfig"]["defaults"]["unti"] = "s"
    assert unknown_keys(dashboard) == {".panels[].fieldConfig.defaults.unti"}


def test_every_query_parses_and_asks_for_metrics_that_exist(dashboard: dict[str, Any]) -> None:
    for name, query in queries(dashboard):
        assert "$" not in query, f"{name}: {query}"
        assert metric_names(query) <= our_metrics() | OF_OTHERS | RECORDED, name


def test_every_panel_says_what_to_do_in_which_unit_and_where_to_read_on(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        for link in panel.get("links", []):
            address, _, anchor = link["url"].partition("#")
            folder, _, page = address.partition("/")
            assert folder == "${documents}"
            assert anchor in ANCHORS[page], panel["title"]


def test_a_legend_says_what_its_number_counts(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            assert target["legendFormat"] != "{{partition}}", panel["title"]


def test_panels_do_not_overlap_and_have_ids_of_their_own(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_every_dashboard_is_in_the_config_map_and_has_a_uid_of_its_own() -> None:
    kustomization = yaml.safe_load((GRAFANA / "kustomization.yaml").read_text())
    files = [file for generator in kustomization["configMapGenerator"] for file in generator["files"]]
    assert sorted(files) == sorted(f"dashboards/{path.name}" for path in DASHBOARDS)
    assert len({loaded(path)["uid"] for path in DASHBOARDS}) == len(DASHBOARDS)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_config_map_fits_into_the_annotation_that_apply_makes_of_it(path: Path) -> None:
    """`kubectl apply` keeps what it was given in an annotation, and annotations have a limit of 256 KiB."""
    assert len(json.dumps({"data": {path.name: path.read_text()}})) < 240 * 1024


def test_the_provisioning_reads_where_the_dashboards_are_mounted() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/hakuna-processor.yaml").read_text())["providers"]
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]


def test_every_dashboard_has_its_picture_and_none_is_large() -> None:
    pictures = {path.stem: path.stat().st_size for path in (GRAFANA / "pictures").glob("*.png")}
    assert set(pictures) == {path.stem for path in DASHBOARDS}
    assert max(pictures.values()) < 150_000, "a README is read over slow lines too"
    readme = (DEPLOY / "README.md").read_text()
    assert all(f"(grafana/pictures/{name}.png)" in readme for name in pictures)
