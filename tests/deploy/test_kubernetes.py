"""Each overlay builds, is valid by strict schemas, and says nothing that the code does not know."""

import json
import re
import shutil
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import kubernetes_validate  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml

from processor.cli import main
from processor.config import PREFIXES, Role, load
from processor.run.start import AFTER_DRAIN_S
from processor.sandbox.apis.script import SANDBOX_KEY
from tests.deploy import mirror
from tests.deploy.manifests import OVERLAYS, Manifest, built, containers, of_kind, settings
from tests.deploy.tools import DEPLOY

KUBERNETES_VERSIONS = ("1.31", "1.34")
"""The oldest that has every field used, and a recent one."""

FOREIGN_KINDS: Mapping[str, str] = {
    "ScaledObject": "cloudcoil.models.keda.v1alpha1",
    "PodMonitor": "cloudcoil.models.prometheus_operator.v1",
    "PrometheusRule": "cloudcoil.models.prometheus_operator.v1",
}
"""Kinds that an operator brings, and where their models are. These ignore unknown keys, so a round trip is compared.
They are imported by whoever needs one: five seconds of CPU, which each process that only collects tests would take."""

SIZING = (DEPLOY / "SIZING.md").read_text()


@cache
def overlay(name: str) -> list[Manifest]:
    return built(DEPLOY / "kubernetes" / "overlays" / name)


def paths(value: object, at: str = "") -> Iterator[str]:
    """Every key of a tree, as a path; `a[].b` for what stands in lists."""
    match value:
        case dict():
            for key, inner in value.items():
                yield f"{at}.{key}"
                yield from paths(inner, f"{at}.{key}")
        case list():
            for inner in value:
                yield from paths(inner, f"{at}[]")


def unknown_keys(manifest: Manifest) -> set[str]:
    kind = manifest["kind"]
    model = getattr(import_module(FOREIGN_KINDS[kind]), kind).model_validate(manifest)
    back = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
    return set(paths(manifest)) - set(paths(back))


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_built_in_kinds_are_valid_and_have_no_unknown_key(name: str, version: str) -> None:
    checked = [one for one in overlay(name) if one["kind"] not in FOREIGN_KINDS]
    assert len(checked) >= 10
    for one in checked:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_validation_would_refuse_an_unknown_key() -> None:
    (pod_disruption_budget, *_) = of_kind(overlay("production"), "PodDisruptionBudget").values()
    wrong = {**pod_disruption_budget, "spec": {**pod_disruption_budget["spec"], "maxUnavailible": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES_VERSIONS[0], strict=True)


@pytest.mark.parametrize("kind", FOREIGN_KINDS)
def test_operators_kinds_are_valid_and_have_no_unknown_key(kind: str) -> None:
    found = of_kind(overlay("production"), kind)
    assert found
    for one in found.values():
        assert unknown_keys(one) == set()


def test_the_comparison_would_find_an_unknown_key() -> None:
    (monitor,) = of_kind(overlay("production"), "PodMonitor").values()
    assert unknown_keys({**monitor, "spec": {**monitor["spec"], "selektor": {}}}) == {".spec.selektor"}


def test_the_operators_rules_are_the_rule_files() -> None:
    assert mirror.MIRROR.read_text() == mirror.mirrored(), "run: python -m tests.deploy.mirror"


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_worker_starts_with_its_settings(name: str) -> None:
    """As the worker itself would judge them, roles included: no unknown name, nothing missing but secrets."""
    shared = settings(overlay(name))
    for container in containers(overlay(name)):
        arguments = container.spec.get("args", [])
        roles = (Role(arguments[arguments.index("--role") + 1]),) if "--role" in arguments else None
        environment = shared | container.environment
        assert all(key.startswith(PREFIXES) for key in environment)
        load(environment, roles)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_command_is_one_of_ours(name: str) -> None:
    for container in containers(overlay(name)):
        if "command" in container.spec:
            continue  # sleeps, for an operator's commands
        command: click.Command = main
        arguments = list(container.spec["args"])
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), arguments.pop(0))
            assert found is not None, container.spec["args"]
            command = found
        command.make_context(command.name, arguments)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_file_that_a_setting_names_is_mounted(name: str) -> None:
    shared = settings(overlay(name))
    for container in containers(overlay(name)):
        named = [
            value
            for key, value in (shared | container.environment).items()
            if key.endswith(("_FILE", "_LOCATION", "_DIR")) and value
        ]
        for path in named:
            if "stand-ins" in container.spec["name"]:
                continue
            assert path.rpartition("/")[0] in container.mounts, f"{container.workload}: {path}"


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_pod_has_longer_to_end_than_its_drain(name: str) -> None:
    for container in containers(overlay(name)):
        if "run" in container.spec.get("args", []):
            drain_s = load(settings(overlay(name)), None).drain_s + AFTER_DRAIN_S
            assert container.pod["terminationGracePeriodSeconds"] >= drain_s + 10


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_of_ours_keeps_the_restricted_standard(name: str) -> None:
    for container in containers(overlay(name)):
        pod, spec = container.pod["securityContext"], container.spec["securityContext"]
        assert pod["runAsNonRoot"]
        assert pod["runAsUser"] != 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec["allowPrivilegeEscalation"]
        assert spec["readOnlyRootFilesystem"]
        assert spec["capabilities"] == {"drop": ["ALL"]}
        assert not container.pod["automountServiceAccountToken"]
        assert "memory" in container.spec["resources"]["limits"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_state_has_a_place_that_can_be_written(name: str) -> None:
    for container in containers(overlay(name)):
        arguments = container.spec.get("args", [])
        if "run" in arguments and Role.REKEY not in arguments:  # which keeps nothing on disk
            assert load({}, None).state_dir in container.mounts


def test_a_user_is_the_images() -> None:
    (user,) = {container.pod["securityContext"]["runAsUser"] for container in containers(overlay("production"))}
    assert f"USER {user}:{user}\n" in (DEPLOY / "Dockerfile").read_text()


def test_the_port_is_the_settings_default() -> None:
    for container in containers(overlay("production")):
        for port in container.spec.get("ports", []):
            assert port == {"name": "metrics", "containerPort": load({}, None).metrics_port}


def test_what_is_said_of_the_cluster_reaches_every_place_of_it(tmp_path: Path) -> None:
    """site.yaml alone changed: ports, namespaces, addresses and links follow, as the types that Kubernetes wants."""
    copy = tmp_path / "deploy"
    shutil.copytree(DEPLOY, copy)
    site = copy / "kubernetes/overlays/production/site.yaml"
    other = yaml.safe_load(site.read_text())
    other["spec"] = {
        "brokerPorts": {"first": 19092, "last": 19095},
        "registryPort": 8443,
        "dnsNamespace": "dns",
        "prometheus": {"namespace": "watching", "address": "http://prom.watching:9090", "release": "stack"},
        "documents": "https://wiki.example.com/processor",
    }
    site.write_text(yaml.safe_dump(other))
    manifests = built(copy / "kubernetes/overlays/production")
    policies = of_kind(manifests, "NetworkPolicy")
    for policy in policies.values():
        kubernetes_validate.validate(policy, KUBERNETES_VERSIONS[0], strict=True)
    everybody = policies["all"]["spec"]
    assert everybody["egress"][2]["ports"] == [{"port": 19092, "endPort": 19095}]
    assert policies["registry"]["spec"]["egress"] == [{"ports": [{"port": 8443}]}]
    named = "kubernetes.io/metadata.name"
    assert everybody["egress"][1]["to"][0]["namespaceSelector"]["matchLabels"] == {named: "dns"}
    assert everybody["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"] == {named: "watching"}
    for scaled in of_kind(manifests, "ScaledObject").values():
        assert scaled["spec"]["triggers"][0]["metadata"]["serverAddress"] == "http://prom.watching:9090"
    monitors = [*of_kind(manifests, "PodMonitor").values(), *of_kind(manifests, "PrometheusRule").values()]
    assert {one["metadata"]["labels"]["release"] for one in monitors} == {"stack"}
    (rules,) = of_kind(manifests, "PrometheusRule").values()
    links = [
        rule["annotations"]["runbook_url"]
        for group in rules["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert links
    assert all(link.startswith("https://wiki.example.com/processor/RUNBOOK.md#") for link in links)
    assert not of_kind(manifests, "Site"), "it is read by kustomize and by nobody else"


def test_without_operators_the_workers_are_counted_and_found_by_annotations(tmp_path: Path) -> None:
    copy = tmp_path / "deploy"
    shutil.copytree(DEPLOY, copy)
    place = copy / "kubernetes/overlays/plain"
    place.mkdir()
    shutil.copy(copy / "kubernetes/overlays/sandbox/settings.env", place)
    plain = yaml.safe_load((copy / "kubernetes/overlays/sandbox/kustomization.yaml").read_text())
    plain["components"] = ["../../components/without-keda", "../../components/without-prometheus-operator"]
    (place / "kustomization.yaml").write_text(yaml.safe_dump(plain))
    manifests = built(place)
    assert not {one["kind"] for one in manifests} & set(FOREIGN_KINDS)
    workers = of_kind(manifests, "StatefulSet") | of_kind(manifests, "Deployment")
    assert {name: one["spec"].get("replicas") for name, one in workers.items()} == {
        "transform": 2,
        "send": 2,
        "hako": 1,
        "rekey": 0,
        "operator": 0,
    }
    for name in ("transform", "send", "hako"):
        annotations = workers[name]["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(load({}, None).metrics_port)


def test_an_operator_has_what_the_jobs_have_and_waits() -> None:
    manifests = overlay("production")
    operator = of_kind(manifests, "Deployment")["operator"]["spec"]
    job = of_kind(manifests, "CronJob")["dead-letters-replay"]["spec"]["jobTemplate"]["spec"]["template"]
    assert operator["replicas"] == 0
    component = "app.kubernetes.io/component"
    assert operator["template"]["metadata"]["labels"][component] == job["metadata"]["labels"][component]
    (ours,), (theirs,) = operator["template"]["spec"]["containers"], job["spec"]["containers"]
    same = ("image", "envFrom", "volumeMounts", "securityContext", "resources")
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert operator["template"]["spec"]["volumes"] == job["spec"]["volumes"]


def test_secrets_are_mounted_whole_and_may_be_missing() -> None:
    for container in containers(overlay("production")):
        assert not any("subPath" in mount for mount in container.spec.get("volumeMounts", []))
        for volume in container.pod.get("volumes", []):
            assert "secret" not in volume or volume["secret"]["optional"]


def test_a_change_of_settings_is_a_rollout() -> None:
    """The ConfigMap's name holds its contents' digest, and every pod refers to it by that name."""
    manifests = overlay("production")
    (name,) = (name for name in of_kind(manifests, "ConfigMap") if name.startswith("settings"))
    assert name != "settings"
    for container in containers(manifests):
        assert {"configMapRef": {"name": name}} in container.spec["envFrom"]


def test_the_autoscaler_asks_for_its_own_installation_and_waits() -> None:
    manifests = overlay("production")
    (namespace,) = of_kind(manifests, "Namespace")
    scaled: dict[str, Any] = {name: one["spec"] for name, one in of_kind(manifests, "ScaledObject").items()}
    assert set(scaled) == {"transform", "send", "hako"}
    for name, spec in scaled.items():
        (trigger,) = spec["triggers"]
        query = f'max(processor:wanted_replicas{{role="{name}",namespace="{namespace}"}})'
        assert trigger["metadata"]["query"] == query
        assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("AverageValue", "1")
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 1800
        workload = of_kind(manifests, spec["scaleTargetRef"]["kind"])[name]
        assert "replicas" not in workload["spec"], "each apply would undo what the autoscaler did"


def test_the_components_of_rekey_turn_it_on_for_all_and_scale_it(tmp_path: Path) -> None:
    copy = tmp_path / "deploy"
    shutil.copytree(DEPLOY, copy)
    path = copy / "kubernetes/overlays/production/kustomization.yaml"
    kustomization = yaml.safe_load(path.read_text())
    manifests: list[Manifest] = []
    for components, replicas in ((["rekey"], 1), (["rekey", "rekey-keda"], None)):
        named = [f"../../components/{name}" for name in components]
        path.write_text(yaml.safe_dump({**kustomization, "components": [*kustomization["components"], *named]}))
        manifests = built(path.parent)
        assert settings(manifests)["PROCESSOR_REKEY"] == "on"
        assert of_kind(manifests, "Deployment")["rekey"]["spec"].get("replicas") == replicas
    scaled = of_kind(manifests, "ScaledObject")
    wanted = json.loads(json.dumps(scaled["hako"]["spec"]).replace("hako", "rekey"))
    assert scaled["rekey"]["spec"] == wanted


def test_local_uses_the_stand_ins_key_and_address() -> None:
    manifests = overlay("local")
    secrets = of_kind(manifests, "Secret").values()
    assert {secret["data"]["api-key"] for secret in secrets} == {b64encode(SANDBOX_KEY.encode()).decode()}
    assert len(secrets) == 2
    simulate = main.get_command(click.Context(main), "simulate")
    assert simulate is not None
    by_name = {one.spec["name"]: one for one in containers(manifests)}
    for name, setting, port, path in (
        ("stand-ins", "HAKUNA_BASE_URL", "hakuna_port", ""),
        ("hako-stand-in", "HAKO_BASE_URL", "hako_port", "/v0"),
    ):
        parsed = simulate.make_context("simulate", list(by_name[name].spec["args"][1:])).params
        assert settings(manifests)[setting] == f"http://127.0.0.1:{parsed[port]}{path}"


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_worker_is_probed_spread_out_and_disrupted_one_at_a_time(name: str) -> None:
    manifests = overlay(name)
    budgets = of_kind(manifests, "PodDisruptionBudget")
    workers = [one for one in containers(manifests) if "run" in one.spec.get("args", [])]
    assert {one.workload for one in workers} == set(budgets) == {"transform", "send", "hako", "rekey"}
    for one in workers:
        probes = {kind: one.spec[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {kind: probe["path"] for kind, probe in probes.items()} == {
            "startup": "/livez",
            "liveness": "/livez",  # never /readyz: no restart mends what that complains of
            "readiness": "/readyz",
        }
        assert {probe["port"] for probe in probes.values()} == {"metrics"}
        spread = {constraint["topologyKey"] for constraint in one.pod["topologySpreadConstraints"]}
        assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        budget = budgets[one.workload]["spec"]
        assert budget["maxUnavailable"] == 1
        workload = of_kind(manifests, "StatefulSet") | of_kind(manifests, "Deployment")
        labels = workload[one.workload]["spec"]["template"]["metadata"]["labels"]
        assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_resources_are_what_sizing_says() -> None:
    (told,) = re.findall(r"so requests of (\d+), (\d+) and (\d+) MiB", SIZING)
    asked = {
        one.workload: one.spec["resources"]["requests"]["memory"]
        for one in containers(overlay("production"))
        if "run" in one.spec.get("args", [])
    }
    assert asked.pop("rekey") == asked["send"], "it holds batches and digests, as much as send's queues"
    assert asked == {role: f"{mib}Mi" for role, mib in zip(("transform", "send", "hako"), told, strict=True)}


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_of_ours_is_reached_by_a_policy(name: str) -> None:
    policies = of_kind(overlay(name), "NetworkPolicy")
    assert policies["all"]["spec"]["podSelector"] == {}
    assert policies["all"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
