"""Pictures of the dashboards: real workers, a real Prometheus, an outage of both APIs in the midst, and Grafana's own
components to draw what the queries of each panel answered.

    python -m tests.deploy.pictures            a quarter of an hour; deploy/grafana/pictures/*.png
    python -m tests.deploy.pictures --again    draws the last run once more, in a minute

                      ┌── Prometheus ──► answers of every panel's queries ──► build/pictures/NAME.json
    installation ─────┘                                                              │
    (`watching.py`)          page.jsx, bundled with @grafana/ui ──► Chromium ──► NAME.png

Needs, beside what the tests need, npm and Chromium. What npm fetches stays in build/pictures.

Not chosen: Grafana's server and its image renderer (a server, a plugin and a browser, for four pictures); screenshots
by hand (nobody makes them anew).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template
from typing import Any, Final

import click

from tests.deploy.test_grafana import DASHBOARDS, GRAFANA, loaded, panels, plain
from tests.deploy.test_prometheus import RULE_FILES
from tests.deploy.tools import run, tool
from tests.deploy.watching import Load, Watched, watched
from tests.support.children import REPOSITORY, own_directory
from tests.support.installation import Installation
from tests.support.kafka import KafkaBroker
from tests.support.processes import Worker
from tests.support.registry import schema_registry_url
from tests.support.topics import TopicSpace

PICTURES: Final = GRAFANA / "pictures"
BUILD: Final = REPOSITORY / "build" / "pictures"
HERE: Final = Path(__file__).parent
LOAD: Final = Load(
    orders_a_second=8,
    bad_share=0.08,
    faults=("503=0.01",),
    hakuna_quota="2400/60s",
    hako_quota="120/60s",
    changes_a_second=40,
    joins_after_s=60,
)
CALM_S: Final = 150
OUTAGE_S: Final = 150
RECOVERY_S: Final = 240
SCRAPE_S: Final = 5
WIDTH, CELL, MARGIN = 1280, 36, 16
"""Pixels; as in page.jsx, whose grid has 24 columns of 52."""
PAGE: Final = Template("""<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css">
<div id="page"></div><script>window.DASHBOARD = $dashboard</script><script src="page.js"></script>
""")
NPM_SECONDS_MAX: Final = 900.0


@click.command()
@click.option("--again", is_flag=True, help="Draw the last run once more.")
def main(again: bool) -> None:
    """Makes the pictures anew."""
    BUILD.mkdir(parents=True, exist_ok=True)
    if not again:
        record()
    bundle()
    for path in DASHBOARDS:
        draw(path.stem)


def record() -> None:
    """Runs the installation through the outage, and keeps what every panel's queries answered."""
    with own_directory("pictures") as directory, KafkaBroker() as broker, schema_registry_url() as registry:
        space = TopicSpace(broker.bootstrap_servers)
        space.prefix = ""  # the broker is ours alone, and the legends shall say what a user's say
        installation = Installation(space, registry, partitions=4)
        rules = {path.name: path.read_text() for path in RULE_FILES}
        with workers(directory) as start, watched(installation, start, directory, LOAD, rules, SCRAPE_S) as seen:
            click.echo("calm")
            time.sleep(CALM_S)
            click.echo("an outage")
            seen.apis.down()
            time.sleep(OUTAGE_S)
            click.echo("it is over")
            seen.apis.up()
            time.sleep(RECOVERY_S)
            until = time.time()
            for path in DASHBOARDS:
                kept = answered(seen, loaded(path), until)
                (BUILD / f"{path.stem}.json").write_text(json.dumps(kept))


@contextmanager
def workers(directory: Path) -> Iterator[Any]:
    """Starts processes of ours as the fixture `start_worker` does."""
    with ExitStack() as running:

        def start(
            *arguments: str, environment: Mapping[str, str], name: str = "worker", await_ready: bool = True
        ) -> Worker:
            worker = Worker(*arguments, environment=environment, directory=directory / name, await_ready=await_ready)
            return running.enter_context(worker)

        yield start


def answered(seen: Watched, dashboard: dict[str, Any], until: float) -> dict[str, Any]:
    """The dashboard with `series` in each panel: a legend, and a value or None at each of `times`."""
    first = int(seen.began) + 30  # before that there was nothing to see
    times = list(range(first, int(until), SCRAPE_S))
    for panel in panels(dashboard):
        panel["series"] = []
        for target in panel["targets"]:
            # Grafana's own rule for it: four scrapes.
            query = plain(target["expr"].replace("$__rate_interval", f"{4 * SCRAPE_S}s"))
            span = {"start": times[0], "end": times[-1], "step": SCRAPE_S}
            for series in seen.asked("query_range", query=query, **span)["result"]:
                values = {int(at): None if value == "NaN" else value for at, value in series["values"]}
                panel["series"].append(
                    {
                        "legend": legend(target["legendFormat"], series["metric"]),
                        "values": [values.get(at) for at in times],
                    }
                )
    return {**dashboard, "times": times, "from": times[0], "to": times[-1]}


def legend(form: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace(f"{{{{{name}}}}}", value)
    return form


def bundle() -> None:
    """page.jsx and Grafana's components, as one script."""
    npm = tool("npm", "apt install npm")
    for name in ("package.json", "page.jsx", "shrink.mjs"):
        shutil.copy(HERE / name, BUILD / name)
    # Scripts of packages are not run: none is needed, and they could do anything.
    for command in (["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"], ["run", "bundle"]):
        _must([npm, "--silent", *command], NPM_SECONDS_MAX)


def draw(name: str) -> None:
    dashboard = json.loads((BUILD / f"{name}.json").read_text())
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    page = BUILD / "out" / f"{name}.html"
    page.write_text(PAGE.substitute(dashboard=json.dumps(dashboard).replace("</", "<\\/")))
    shot, picture = BUILD / "out" / f"{name}.png", PICTURES / f"{name}.png"
    _must(
        [
            tool("chromium", "apt install chromium"),
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"),
            *("--virtual-time-budget=5000", f"--window-size={WIDTH},{rows * CELL + 2 * MARGIN}"),
            f"--screenshot={shot}",
            page.as_uri(),
        ]
    )
    PICTURES.mkdir(exist_ok=True)
    _must([tool("node", "apt install nodejs"), "shrink.mjs", str(shot), str(picture)])
    click.echo(f"{picture.relative_to(REPOSITORY)}: {picture.stat().st_size // 1000} kB")


def _must(command: list[str], timeout_s: float = 120.0) -> None:
    done = run(command, cwd=BUILD, timeout_s=timeout_s)
    if done.returncode != 0:
        raise click.ClickException(done.stdout + done.stderr)


if __name__ == "__main__":
    sys.exit(main())
