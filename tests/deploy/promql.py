"""What a PromQL expression asks for, and what the processor has to offer."""

from functools import cache

import promql_parser
from prometheus_client import REGISTRY

import processor.edges.metrics  # noqa: F401  # declares them


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression reads. Raises ValueError where it is no PromQL."""
    found: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name is not None, f"no metric is named in {expression}"
            found.add(node.name)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


@cache
def our_metrics() -> frozenset[str]:
    """Every series name under which `/metrics` may show one of our metrics, labels aside."""
    return frozenset(
        name + suffix
        for family in REGISTRY.collect()
        if family.name.startswith("processor_")
        for name, suffixes in [(family.name, {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")})]
        for suffix in suffixes.get(family.type, ("",))
    )
