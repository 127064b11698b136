"""The chart, rendered by Helm's own engine: the objects that kustomize makes, and each value where it belongs."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import helm_python
import kubernetes_validate  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml

from processor.config import load
from tests.deploy.manifests import Manifest, built, of_kind
from tests.deploy.test_kubernetes import FOREIGN_KINDS, KUBERNETES_VERSIONS, unknown_keys
from tests.deploy.tools import DEPLOY

NAMESPACE = "hakuna-processor"
PRODUCTION = DEPLOY / "kubernetes/overlays/production"


def rendered(values: Mapping[str, Any]) -> list[Manifest]:
    with helm_python.Chart.load(str(DEPLOY / "helm")) as chart:
        files = chart.render(dict(values), name="processor", namespace=NAMESPACE)
    return [one for text in files.values() for one in yaml.safe_load_all(text) if one]


@cache
def production() -> Mapping[str, Any]:
    """Values that say what the production overlay says."""
    site = yaml.safe_load((PRODUCTION / "site.yaml").read_text())["spec"]
    lines = [line.split("=", 1) for line in (PRODUCTION / "settings.env").read_text().splitlines() if "=" in line]
    return {
        "settings": {name: value for name, value in lines if not name.startswith("#")},
        "image": {"tag": yaml.safe_load((PRODUCTION / "kustomization.yaml").read_text())["images"][0]["newTag"]},
        "secrets": {"kafkaCa": "kafka-ca"},
        "network": {key: site[key] for key in ("brokerPorts", "registryPort", "dnsNamespace")},
        "monitoring": {
            "enabled": True,
            "namespace": site["prometheus"]["namespace"],
            "labels": {"release": site["prometheus"]["release"]},
            "documents": site["documents"],
        },
        "dashboards": {"enabled": True},
        "keda": {
            "enabled": True,
            "prometheus": site["prometheus"]["address"],
            "minReplicas": {"transform": 2, "send": 2, "hako": 1},
        },
    }


def comparable(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    """Objects by kind and name, without the namespace, and with the settings under one name whatever their digest."""
    found = {}
    for one in manifests:
        if one["kind"] == "Namespace":
            continue
        text = json.dumps(one)
        for name in of_kind(manifests, "ConfigMap"):
            if name.startswith("settings-"):
                text = text.replace(name, "settings")
        plain = json.loads(text)
        plain["metadata"].pop("namespace", None)
        if plain["kind"] == "NetworkPolicy":
            # The overlay has a namespace of its own; the chart's policies name its pods, beside those of others.
            named = plain["spec"]["podSelector"].pop("matchLabels", {"app.kubernetes.io/name": "hakuna-processor"})
            assert named == {"app.kubernetes.io/name": "hakuna-processor"}
        found[plain["kind"], plain["metadata"]["name"]] = plain
    return found


def test_the_chart_makes_the_objects_of_the_production_overlay() -> None:
    theirs, ours = comparable(built(PRODUCTION)), comparable(rendered(production()))
    assert sorted(ours) == sorted(theirs)
    for key, wanted in theirs.items():
        assert ours[key] == wanted, key


def variants() -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "as it comes", {}
    yield "production", production()
    yield "one role", {"roles": {"send": {"enabled": False}, "hako": {"enabled": False}}}
    yield "counted", {"roles": {"send": {"replicas": 3}}, "network": {"enabled": False}}
    yield "a registry of images", {"image": {"repository": "images.example.com/hakuna", "pullSecrets": ["pull"]}}


@pytest.mark.parametrize(("values"), [pytest.param(values, id=name) for name, values in variants()])
def test_every_object_is_valid(values: Mapping[str, Any]) -> None:
    for one in rendered(values):
        if one["kind"] in FOREIGN_KINDS:
            assert unknown_keys(one) == set()
        else:
            kubernetes_validate.validate(one, KUBERNETES_VERSIONS[0], strict=True)


def test_values_reach_their_place() -> None:
    manifests = rendered(
        {
            "image": {"repository": "images.example.com/hakuna", "tag": "7", "pullSecrets": ["pull"]},
            "settings": {"HAKUNA_QUOTA": "120/60s"},
            "roles": {
                "transform": {"storage": "99Gi", "replicas": 0},
                "send": {"replicas": 3, "resources": {"limits": {"memory": "2Gi"}}},
                "hako": {"enabled": False},
            },
            "secrets": {"hakunaApiKey": "another-key", "kafkaPrefix": "user-"},
        }
    )
    workers = of_kind(manifests, "StatefulSet") | of_kind(manifests, "Deployment")
    assert set(workers) == {"transform", "send", "rekey", "operator"}
    assert workers["rekey"]["spec"]["replicas"] == 0, "off, unless it is asked for"
    (claim,) = workers["transform"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "99Gi"
    assert workers["transform"]["spec"]["replicas"] == 0
    send = workers["send"]["spec"]
    assert send["replicas"] == 3
    pod = send["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "images.example.com/hakuna:7"
    assert container["resources"] == {"limits": {"memory": "2Gi"}}
    assert container["envFrom"][1]["secretRef"]["name"] == "user-send"
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert "another-key" in {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    (settings,) = of_kind(manifests, "ConfigMap").values()
    assert load(settings["data"], None).hakuna_quota is not None
    assert not {one["kind"] for one in manifests} & set(FOREIGN_KINDS), "operators are asked for by name"


def test_rekey_is_counted_by_keda_where_it_is_on_and_by_nobody_where_it_is_off() -> None:
    values = {"keda": {"enabled": True}}
    assert "rekey" not in of_kind(rendered(values), "ScaledObject")
    manifests = rendered(values | {"settings": {"PROCESSOR_REKEY": "on"}})
    scaled = of_kind(manifests, "ScaledObject")
    wanted = json.loads(json.dumps(scaled["hako"]["spec"]).replace("hako", "rekey"))
    assert scaled["rekey"]["spec"] == wanted
    assert "replicas" not in of_kind(manifests, "Deployment")["rekey"]["spec"]
    counted = rendered({"settings": {"PROCESSOR_REKEY": "on"}, "roles": {"rekey": {"replicas": 2}}})
    assert of_kind(counted, "Deployment")["rekey"]["spec"]["replicas"] == 2


def test_a_change_of_settings_is_a_rollout() -> None:
    (before,) = of_kind(rendered({}), "ConfigMap")
    (after,) = of_kind(rendered({"settings": {"HAKUNA_QUOTA": "120/60s"}}), "ConfigMap")
    assert before != after
