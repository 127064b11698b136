"""The Prometheus rules as the operator takes them: `python -m tests.deploy.mirror` writes the file.

Prometheus itself reads `groups:` at the top of a file, the operator a resource with the same groups under `spec`, and
kustomize cannot put the one into the other. So the resource is made from the rule files, and a test compares the two.
"""

from typing import Any

import yaml

from tests.support.children import REPOSITORY

RULES = (REPOSITORY / "deploy/prometheus/recording.rules.yaml", REPOSITORY / "deploy/prometheus/alerts.rules.yaml")
MIRROR = REPOSITORY / "deploy/kubernetes/components/prometheus-operator/rules.yaml"
HEAD = "# Made from deploy/prometheus/*.rules.yaml by `python -m tests.deploy.mirror`: change those.\n"


def mirrored() -> str:
    """The resource's text, from the rule files as they are."""
    groups: list[Any] = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "hakuna-processor"},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(resource, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    MIRROR.write_text(mirrored())
