"""The compose file, loaded by compose's own loader, and its settings by ours."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from processor.cli import main
from processor.config import Role, load
from processor.sandbox.apis.script import SANDBOX_KEY
from tests.deploy.tools import DEPLOY, run, tool

LOADER = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
COMPILE_SECONDS_MAX = 280.0
"""The first use fetches and compiles it: half a minute of one core, and cores may be shared."""
COMPOSE = DEPLOY / "compose.yaml"
TEXT = COMPOSE.read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "hakuna-processor"}


def load_by_compose(path: Path) -> tuple[int, str]:
    go = tool("go", "install Go, 1.21 or later")
    done = run([go, "run", LOADER, str(path)], timeout_s=COMPILE_SECONDS_MAX)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_composes_own_loader_takes_it_and_refuses_a_misspelt_key(tmp_path: Path) -> None:
    code, said = load_by_compose(COMPOSE)
    assert code == 0, said
    misspelt = tmp_path / "compose.yaml"
    misspelt.write_text(TEXT.replace("cap_drop:", "cap_dropp:"))
    code, said = load_by_compose(misspelt)
    assert code != 0
    assert "cap_dropp" in said


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source


def test_nothing_listens_beyond_loopback() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_has_settings_and_a_command_that_work(name: str) -> None:
    command: click.Command = main
    arguments = list(OURS[name]["command"])
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), arguments.pop(0))
        assert found is not None
        command = found
    parsed = command.make_context(name, arguments).params
    for rekey in ("on",) if name == "rekey" else ("off", "on"):
        environment = {key: interpolated(value, rekey) for key, value in OURS[name]["environment"].items()}
        assert load(environment, (Role(parsed["role"]),) if "role" in parsed else None).rekey == (rekey == "on")


def interpolated(value: str, rekey: str) -> str:
    """As compose does with what a shell may say."""
    return rekey if value == "${PROCESSOR_REKEY:-off}" else value


def test_the_worker_and_the_stand_in_agree_on_key_and_address() -> None:
    environment = OURS["send"]["environment"]
    assert environment["HAKUNA_API_KEY"] == SANDBOX_KEY
    simulate = main.get_command(click.Context(main), "simulate")
    assert simulate is not None
    parsed = simulate.make_context("simulate", list(OURS["stand-ins"]["command"][1:])).params
    assert environment["HAKUNA_BASE_URL"] == f"http://127.0.0.1:{parsed['hakuna_port']}"
    assert OURS["stand-ins"]["network_mode"] == "service:send"


def test_all_that_runs_is_scraped() -> None:
    (scraped,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())["scrape_configs"]
    (names,) = scraped["dns_sd_configs"]
    assert set(names["names"]) == {name for name, service in OURS.items() if service["command"][0] == "run"}


def test_every_role_has_something_to_do_and_its_api_beside_it() -> None:
    roles = {name for name, service in OURS.items() if service["command"][0] == "run"}
    assert roles == {"transform", "send", "hako", "rekey"}
    assert OURS["rekey"]["profiles"] == ["rekey"], "off, unless it is asked for"
    written = [word for service in OURS.values() for word in service["command"] if service["command"][0] == "simulate"]
    assert {"--orders", "--changes"} <= set(written)
    assert OURS["hako-stand-in"]["network_mode"] == "service:hako"


def test_the_ports_stand_in_the_readme() -> None:
    told = (DEPLOY / "README.md").read_text().split("On the laptop:")[1].split("\n\n")[0]
    ports = {port.rsplit(":", 2)[1] for service in SERVICES.values() for port in service.get("ports", [])}
    assert ports == set(re.findall(r"\b\d{4,5}\b", told))
