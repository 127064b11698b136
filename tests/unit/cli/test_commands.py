"""The command line as a whole: help, completion, exit codes, without anything behind it."""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from processor.cli import INTERRUPTED, main
from processor.cli.check import _gathered
from processor.cli.output import folded, interruptible, printable
from processor.cli.settings import environment
from processor.cli.topics import _both, _shown
from processor.config import Role
from processor.errors import BrokerOutage, Fatal, Unusable
from processor.operate.check.findings import Area, problem
from processor.sandbox.apis.gateway import Gateway
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import NEEDED, Action, Step, Topic
from tests.support.commands import ask, command, run, told
from tests.support.json_output import printed

HELP_S_MAX = 0.3
HELP_TRIES_MAX = 5
NAMES = ("run", "check", "topics", "schemas", "status", "order", "sku", "dead-letters", "erase", "simulate", "demo")


def test_help_names_every_command() -> None:
    said = told(0, "--help")
    assert [name for name in NAMES if f"  {name} " not in said] == []


@pytest.mark.parametrize(
    ("said", "answer"),
    [("oder", "No such command 'oder'. The nearest is order."), ("xyzzy", "No such command 'xyzzy'.\n")],
)
def test_a_misspelt_command_is_told_the_nearest(said: str, answer: str) -> None:
    assert answer in told(1, said, "--whatever")


@pytest.mark.parametrize(
    "name", ["check", "schemas check", "schemas register", "status", "order", "sku", "erase", "topics plan"]
)
def test_each_command_shows_an_example(name: str) -> None:
    assert f"hakuna-processor {name}" in told(0, *name.split(), "--help")


def examples(command: click.Command, context: click.Context) -> Iterator[str]:
    """Those in the help of a command and of all below it."""
    for line in (command.help or "").splitlines():
        yield from (part.strip() for part in line.split("&&") if part.strip().startswith("hakuna-processor"))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from examples(below, context)


def parsed(line: list[str]) -> None:
    """As far as click takes it before a command does anything. Raises `click.ClickException`."""
    context = main.make_context("hakuna-processor", line)
    while isinstance(context.command, click.Group):
        name, below, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert below is not None
        context = below.make_context(name, rest, parent=context)


EXAMPLES = sorted(set(examples(main, click.Context(main))))


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_help_is_a_line_that_is_understood(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = shlex.split(example.partition("|")[0], comments=True)
    assert line[0] == "hakuna-processor"
    monkeypatch.chdir(tmp_path)
    for word in line:
        if word.endswith((".json", ".env")):
            (tmp_path / word).write_text("{}")
    parsed(line[1:])


@pytest.mark.parametrize("gateway", Gateway)
def test_a_gateway_is_given_by_its_name(gateway: Gateway) -> None:
    parsed(["simulate", "--gateway", gateway.value])


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_sentence_on_a_terminal_is_folded_between_words(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = "no broker answers:\n  127.0.0.1:1 cannot be connected to; start the broker, or correct host and port\n\nso"
    lines = folded(text).split("\n")
    assert " ".join(lines).split() == text.split()
    assert max(map(len, lines)) < columns
    assert lines[0] == "no broker answers:"[: columns - 1]
    assert lines[1].startswith("  127.0.0.1:1")
    assert lines[-2:] == ["", "so"]
    assert {line[:4] for line in lines[2:-2]} == {"    "}


@pytest.mark.parametrize("name", ["", "order", "dead-letters replay"])
def test_help_answers_within_300_ms(name: str) -> None:
    """Of a processor's time, which is all that it takes: it waits for nobody. A machine that has too much to do may
    need a second try."""
    took_s: list[float] = []
    while not took_s or (min(took_s) > HELP_S_MAX and len(took_s) < HELP_TRIES_MAX):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command(*name.split(), "--help"), stdout=subprocess.DEVNULL, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took_s) <= HELP_S_MAX, took_s


def python(program: str, **environment: str) -> str:
    """What it prints."""
    child = [sys.executable, "-c", program]
    return subprocess.check_output(child, env=os.environ | environment, text=True, timeout=60)


def modules_after(program: str) -> set[str]:
    return set(python(f"import sys\n{program}print(*sys.modules, sep='\\n')").splitlines())


def test_help_imports_nothing_of_what_the_commands_need() -> None:
    """What makes it fast."""
    names = [name for name in NAMES if name not in ("run", "simulate")]  # their options are checked by the settings
    program = (
        "from processor.cli import main\n"
        f"for name in {names!r}:\n"
        "    try: main([name, '--help'])\n"
        "    except SystemExit: pass\n"
    )
    heavy = {"confluent_kafka", "fastavro", "httpx", "rich", "structlog", "msgspec", "dotenv"}
    assert heavy & modules_after(program) == set()


def test_order_waits_for_no_import_that_it_can_do_without() -> None:
    """Each of these takes 0.2 s and more of the second in which it shall answer."""
    program = (
        "import processor.cli.order, processor.operate.order.gather, processor.operate.order.story\n"
        "import processor.edges.avro, processor.edges.registry, processor.operate.check.doors\n"
    )
    heavy = {"httpx", "rich", "structlog", "confluent_kafka.schema_registry", "prometheus_client", "fastavro"}
    assert heavy & modules_after(program) == set()


def test_completion_knows_the_commands_without_loading_them() -> None:
    words = {"COMP_WORDS": "hakuna-processor o", "COMP_CWORD": "1"}
    program = "from processor.cli import main; main(prog_name='hakuna-processor')"
    assert python(program, _HAKUNA_PROCESSOR_COMPLETE="bash_complete", **words) == "plain,order\n"


def failing(raised: Exception) -> click.Command:
    @click.command()
    def fails() -> None:
        raise raised

    return fails


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (Unusable(["HAKUNA_API: 'soap' is not one of events, feed"]), 78, "1 problem with the settings"),
        (BrokerOutage("no broker answers"), 1, "Error: no broker answers"),
        (Fatal("not allowed to ask"), 1, "Error: not allowed to ask"),
    ],
)
def test_what_the_project_raises_is_one_line_and_an_exit_code(
    raised: Exception, code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processor.cli.order.command", failing(raised))
    assert says in told(code, "order")


@pytest.mark.parametrize("line", [["run", "--role", "nobody"], ["frobnicate"], ["order"], ["--nonsense"]])
def test_a_command_line_that_makes_no_sense_is_1(line: list[str]) -> None:
    assert "Error: " in told(1, *line)


def test_an_env_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_bytes(b"HAKUNA_API_KEY=\xff\n")
    for name in (("order", "x"), ("status",), ("run",)):
        assert f"--env-file {file}: is not UTF-8 text" in told(78, *name, "--env-file", str(file))
    assert [one["what"] for one in checked(file) if one["subject"] == f"--env-file {file}"] == [
        "is not UTF-8 text (invalid start byte at byte 15)"
    ]


def checked(file: Path) -> list[dict[str, str]]:
    """The problems that `check` finds with these settings."""
    code, out, _ = ask("check", "--output", "json", "--env-file", str(file))
    assert code == 78
    return [one for one in printed("check", out)["findings"] if one["verdict"] != "sound"]


def test_a_line_of_an_env_file_that_is_no_assignment_is_named_with_its_place_and_not_repeated(tmp_path: Path) -> None:
    """Read over, it would be a worker without its quota."""
    file = tmp_path / "settings.env"
    file.write_text("# ours\nKAFKA_BOOTSTRAP_SERVERS=k:1\n\nHAKUNA_QUOTA 120/60s\nexport HAKUNA_API=feed\nsecret\n")
    places = [f"--env-file {file}, line {number}" for number in (4, 6)]
    for name in (["run", "--role", "send"], ["topics", "plan"]):
        said = told(78, *name, "--env-file", str(file))
        assert all(f"{place}: is not an assignment" in said for place in places)
        assert "120/60s" not in said
        assert "secret" not in said
    found = checked(file)
    assert [one["subject"] for one in found if one["what"] == "is not an assignment"] == places
    assert "120/60s" not in str(found)
    assert "secret" not in str(found)


def test_a_line_that_is_no_assignment_hides_no_other_problem(tmp_path: Path) -> None:
    """Nor is a request made without the quota that the line may have meant."""
    asked = StandIn(HakunaApi(), Script())
    with Loopback(asked) as api:
        file = tmp_path / "settings.env"
        file.write_text(
            f"KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1\nHAKUNA_QUOTA 120/60s\nHAKUNA_AIP=feed\n"
            f"HAKUNA_API_KEY={SANDBOX_KEY}\nHAKUNA_BASE_URL={api.url}\nPROCESSOR_STATE_DIR={tmp_path}\n"
        )
        subjects = {one["subject"] for one in checked(file) if one["verdict"] == "problem"}
        assert subjects == {f"--env-file {file}, line 2", "HAKUNA_AIP", "127.0.0.1:1"}
        said = told(78, "run", "--env-file", str(file))
        assert "2 problems with the settings" in said
        assert "HAKUNA_AIP: no such setting" in said
    assert asked.record.requests == 0


def test_an_env_file_is_taken_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_text('KAFKA_SASL_PASSWORD=a${HOME}b$c\nHAKUNA_API_KEY="sk # 1"\n')
    read, unread = environment(file)
    assert not unread
    assert (read["KAFKA_SASL_PASSWORD"], read["HAKUNA_API_KEY"]) == ("a${HOME}b$c", "sk # 1")


def strimzis(*options: str, **environment: str) -> dict[str, dict[str, Any]]:
    """The topics that `topics plan` prints for Strimzi, by name."""
    code, out, _ = ask("topics", "plan", "--output", "strimzi", *options, environment=environment)
    assert code == 0
    return {one["spec"]["topicName"]: one["spec"] for one in json.loads(out)["items"]}


def test_strimzis_topics_are_those_that_topics_create_would_make() -> None:
    orders = {topic for role in (Role.TRANSFORM, Role.SEND) for topic in NEEDED[role]} | {Topic.RESOLUTIONS}
    assert strimzis().keys() == orders
    assert strimzis(HAKO_API_KEY="k").keys() == strimzis("--all").keys() == orders | {*NEEDED[Role.HAKO]}
    assert strimzis(PROCESSOR_REKEY="on").keys() == orders | {*NEEDED[Role.REKEY]}


def test_strimzis_topics_are_as_safe_and_as_small_as_those_of_topics_create() -> None:
    outbox = strimzis("--replication-factor", "3", "--max-message-bytes", "8388608")[Topic.OUTBOX]
    assert outbox["replicas"] == 3
    assert outbox["config"]["min.insync.replicas"] == "2"
    assert outbox["config"]["max.message.bytes"] == "8388608"
    assert "min.insync.replicas" not in strimzis("--replication-factor", "1")[Topic.OUTBOX]["config"]


NO_BROKER = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
ASKS_BROKERS = (
    ("order", "x"), ("sku", "x"), ("erase", "x"), ("status",), ("topics", "plan"),
    ("rewind", "--role", "send", "--to", "earliest"),
    ("dead-letters", "list"), ("dead-letters", "show"), ("dead-letters", "replay", "--everything"),
    ("dead-letters", "discard", "--everything", "--reason", "x"), ("dead-letters", "abandon", "--topic", "x"),
    ("dead-letters", "purge", "--older-than", "1d"),
)  # fmt: skip


@pytest.mark.parametrize("arguments", ASKS_BROKERS, ids=" ".join)
def test_every_command_says_at_once_that_no_broker_answers(arguments: tuple[str, ...]) -> None:
    before_s = time.monotonic()
    said = told(1, *arguments, environment=NO_BROKER)
    assert "127.0.0.1:1 cannot be connected to: Connection refused; start the broker" in said
    assert time.monotonic() - before_s < 5, "librdkafka's own patience is ten seconds"
    before_s = time.process_time()  # with its imports done, whatever else the machine has to do
    ask(*arguments, environment=NO_BROKER)
    assert time.process_time() - before_s < 0.2


def test_a_proxy_and_a_certificate_that_cannot_be_used_end_a_worker_before_it_asks_anybody() -> None:
    given = NO_BROKER | {
        "HAKUNA_API_KEY": "sk_test_x",
        "HTTPS_PROXY": "socks5://127.0.0.1:1",
        "HAKUNA_CA_FILE": "/nonexistent/ca.pem",
        "PROCESSOR_METRICS_PORT": "0",
    }
    said = run("run", "--role", "send", environment=given)
    assert said.code == 78
    assert "HTTPS_PROXY: SOCKS (socks5://) is not spoken here" in said.out + said.err
    assert "HAKUNA_CA_FILE: /nonexistent/ca.pem cannot be read" in said.out + said.err


def test_an_order_id_that_is_empty_is_none() -> None:
    for order_id, stdin in (("", b""), ("-", b"\n")):
        assert "ORDER_ID: is empty" in told(1, "order", order_id, environment=NO_BROKER, stdin=stdin)


def test_sigterm_before_the_worker_listens_itself_is_0() -> None:
    program = (
        "import os, signal, time, processor.cli.run\n"
        "def stopped(*_):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "processor.cli.run.settings_or_exit = stopped\n"
        "from processor.cli import main\n"
        "main(['run'])\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0


def test_a_bug_of_ours_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.cli.order.command", failing(AssertionError("an invariant")))
    with pytest.raises(AssertionError, match="an invariant"):
        ask("order")


def test_ctrl_c_is_130_while_a_thread_of_ours_waits() -> None:
    program = (
        "import time, click, processor.cli.order\n"
        "from processor.cli import main\n"
        "from processor.cli.output import interruptible\n"
        "@click.command()\n"
        "def waits():\n"
        "    print('waiting', flush=True)\n"
        "    interruptible(lambda: time.sleep(60))\n"
        "processor.cli.order.command = waits\n"
        "main(['order'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"waiting\n"
        started = time.monotonic()
        child.send_signal(2)
        _, err = child.communicate(timeout=30)
    assert child.returncode == INTERRUPTED
    assert b"Traceback" not in err
    assert time.monotonic() - started < 5


def test_a_pipe_that_closes_is_no_traceback() -> None:
    with subprocess.Popen(command("--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert b"Traceback" not in child.stderr.read()


def test_interruptible_hands_on_what_its_work_returns_and_raises() -> None:
    assert interruptible(lambda: 7) == 7
    with pytest.raises(BrokerOutage):
        interruptible(_outage)


def _outage() -> None:
    raise BrokerOutage("gone")


def test_a_terminal_is_told_nothing_that_it_would_obey() -> None:
    assert printable("\x1b[31mred\x07\n") == "\\x1b[31mred\\x07\\n"
    assert printable("Köln ☃") == "Köln ☃"
    assert printable("\ud800") == "\\ud800"
    assert printable("x" * 600) == "x" * 500 + "… (600 characters)"


def test_check_gathers_what_one_remedy_mends() -> None:
    missing = [problem(Area.TOPICS, f"t{number}", "does not exist", "make it") for number in range(3)]
    other = problem(Area.TOPICS, "t9", "has 3 partitions", "make it")
    gathered = _gathered([*missing, other])
    all_three = ("3 topics", "does not exist: t0, t1, t2")
    assert [(one.subject, one.what) for one in gathered] == [all_three, ("t9", "has 3 partitions")]


def test_what_follows_from_the_replicas_that_a_cluster_chose_is_told_with_what_was_done() -> None:
    made = Step("outbox", Action.CREATE, 3, {"retention.ms": "1"}, "x")
    left = Step("holds", Action.LEAVE, 3, {}, "as it should be")
    then = [Step("outbox", Action.CHANGE, 3, {"min.insync.replicas": "2"}, "y"), left]
    both = {"retention.ms": "1", "min.insync.replicas": "2"}
    assert [step.config for step in _both([made, left], then)] == [both, {}]


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("retention.ms", "604800000", "7d"),
        ("retention.ms", "-1", "no limit"),
        ("message.timestamp.after.max.ms", "9223372036854775807", "no limit"),
        ("segment.ms", "90000", "90s"),
        ("max.message.bytes", "16777216", "16 MiB"),
        ("max.message.bytes", "1000012", "1000012"),
        ("min.cleanable.dirty.ratio", "0.1", "0.1"),
        ("cleanup.policy", "compact", "compact"),
    ],
)
def test_a_topics_settings_are_said_in_days_and_sizes(key: str, value: str, shown: str) -> None:
    assert _shown(key, value) == shown
