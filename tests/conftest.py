"""Fixtures that give tests real parts, and the rules for when there are none.

    kafka            bootstrap servers of a real Kafka, one for the whole run, whatever number of processes it has
    schema_registry  URL of a real schema registry, likewise
    topic_space      a prefix of its own on `kafka`, cleaned up after the test
    kafka_broker     a broker of the test's own, to be killed and restarted
    secured          a broker with an authoriser, TLS and passwords, one a process
    start_worker     starts `hakuna-processor …` processes that end with the test

A part that cannot be had skips its tests, with the reason in the summary; with CI=true that is a failure, as
is any other skip of a test marked `kafka`: the guarantees would look proven when nobody has tried them.
"""

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
import structlog

from tests.support.children import Unavailable
from tests.support.kafka import KafkaBroker, existing_cluster, short_lived_jvm
from tests.support.lending import Lender, Part, borrowed
from tests.support.processes import Worker
from tests.support.registry import schema_registry_url
from tests.support.secured_kafka import SecuredKafka, secured_kafka
from tests.support.side_by_side import FILLING_NICE, SideBySide, fills, turn_of
from tests.support.topics import TopicSpace

REAL_PARTS = frozenset({"kafka", "schema_registry", "kafka_broker", "secured"})
LOG_TAILS: pytest.StashKey[list[tuple[str, Callable[[], str]]]] = pytest.StashKey()
LENDER: pytest.StashKey[Lender] = pytest.StashKey()


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"true", "1"}


def pytest_configure() -> None:
    # A shell starts what it runs in the background with Ctrl-C ignored, and whatever we start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Hypothesis fails an example that takes longer than 200 ms, or long to be made: nothing new of a busy machine.
    unhurried = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.register_profile("unhurried", unhurried)
    hypothesis.settings.load_profile("unhurried")
    _let_loggers_be_captured()


def _let_loggers_be_captured() -> None:
    """A command that a test runs in this process sets its log up for good: a logger that has been used since would
    say nothing to `capture_logs` in any later test."""
    configure = structlog.configure
    structlog.configure = lambda **given: configure(**given | {"cache_logger_on_first_use": False})


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    structlog.reset_defaults()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Each of several processes imports a share of the modules first: pytest rewrites every assertion before a module
    is compiled, and what one process has compiled the others load."""
    worker: Mapping[str, Any] | None = getattr(session.config, "workerinput", None)
    if worker is None:
        return
    if fills(worker["workerid"], worker["workercount"]):
        os.nice(FILLING_NICE)
    if sys.dont_write_bytecode:
        return
    root = session.config.rootpath
    share = slice(int(worker["workerid"].removeprefix("gw")), None, worker["workercount"])
    for path in sorted((root / "tests").rglob("test_*.py"))[share]:
        with suppress(Exception):  # what is wrong with it is said when it is collected
            import_module(".".join(path.relative_to(root).with_suffix("").parts))


# ---- what is collected and reported ------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if REAL_PARTS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)
    items.sort(key=lambda item: turn_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    return SideBySide(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and in_ci() and item.get_closest_marker("kafka") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"A test on real parts must not be skipped in CI. {reason}"
    if report.failed:
        for name, tail in item.stash.get(LOG_TAILS, []):
            report.sections.append((f"Last log lines of {name}", tail()))
    return report


@contextmanager
def whatever_can_be_had() -> Iterator[None]:
    """Who asks for a part that cannot be had raises Unavailable: a skip, and in CI a failure."""
    try:
        yield
    except Unavailable as reason:
        if in_ci():
            pytest.fail(f"CI must have every real part: {reason}", pytrace=False)
        pytest.skip(str(reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    with whatever_can_be_had():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    with whatever_can_be_had():
        yield


# ---- real parts ----------------------------------------------------------------------------------------


@contextmanager
def kafka_bootstrap_servers() -> Iterator[str]:
    existing = existing_cluster()
    if existing is not None:
        yield existing
        return
    with KafkaBroker(jvm=short_lived_jvm) as broker:
        yield broker.bootstrap_servers


PARTS: Mapping[str, Part] = {"kafka": kafka_bootstrap_servers, "schema_registry": schema_registry_url}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist's, before it starts a process for tests."""
    if LENDER not in node.config.stash:
        node.config.stash[LENDER] = Lender(PARTS)
    node.workerinput["lender"] = node.config.stash[LENDER].address


def pytest_unconfigure(config: pytest.Config) -> None:
    if LENDER in config.stash:
        config.stash[LENDER].close()


@pytest.fixture(scope="session")
def real_parts(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[str]]]:
    """The parts that the collected tests ask for, starting side by side: the slowest sets the time, not the
    sum."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    lender = getattr(request.config, "workerinput", {}).get("lender")
    with ExitStack() as running, ThreadPoolExecutor() as pool:

        def start(name: str) -> str:
            return running.enter_context(PARTS[name]()) if lender is None else borrowed(lender, name)

        yield {name: pool.submit(start, name) for name in PARTS if name in wanted}


@pytest.fixture(scope="session")
def kafka(real_parts: Mapping[str, Future[str]]) -> str:
    return real_parts["kafka"].result()


@pytest.fixture(scope="session")
def schema_registry(real_parts: Mapping[str, Future[str]]) -> str:
    return real_parts["schema_registry"].result()


@pytest.fixture
def topic_space(kafka: str) -> Iterator[TopicSpace]:
    space = TopicSpace(kafka)
    yield space
    space.delete()


@pytest.fixture
def kafka_broker(request: pytest.FixtureRequest) -> Iterator[KafkaBroker]:
    with KafkaBroker(jvm=short_lived_jvm) as broker:
        watch_log(request.node, "the broker", broker.log_tail)
        yield broker


@pytest.fixture(scope="session")
def secured() -> Iterator[SecuredKafka]:
    """Who was granted something by an earlier test keeps it: a test says first what may be done in its own space."""
    with secured_kafka() as broker:
        yield broker


# ---- our own processes ---------------------------------------------------------------------------------


class StartWorker(Protocol):
    """`start_worker("run", "--role", "send", environment=…)`; `name` tells several workers' directories
    apart, and the same name again is a restart on the same state."""

    def __call__(
        self, *arguments: str, environment: Mapping[str, str], name: str = "worker", await_ready: bool = True
    ) -> Worker: ...


@pytest.fixture
def start_worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartWorker]:
    with ExitStack() as running:

        def start(
            *arguments: str, environment: Mapping[str, str], name: str = "worker", await_ready: bool = True
        ) -> Worker:
            worker = Worker(*arguments, environment=environment, directory=tmp_path / name, await_ready=await_ready)
            watch_log(request.node, name, lambda: worker.log_tail())
            return running.enter_context(worker)

        yield start


def watch_log(item: pytest.Item, name: str, tail: Callable[[], str]) -> None:
    """Have the last log lines of a process in the report of `item`, should it fail."""
    item.stash.setdefault(LOG_TAILS, []).append((name, tail))
