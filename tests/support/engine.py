"""`python -m tests.support.engine IMAGE` ends with 0 if a container engine answers and has IMAGE or can get
it.

A program of its own, because Docker's client leaves its socket open when nobody answers, and our tests
treat a forgotten socket as the fault that it usually is.
"""

import sys

import docker  # type: ignore[import-untyped]  # it has no types
from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]

PULL_SECONDS_MAX = 300


def main(image: str) -> int:
    try:
        client = docker.from_env(timeout=PULL_SECONDS_MAX)
        try:
            client.images.get(image)
        except ImageNotFound:
            client.images.pull(image)
    except DockerException as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
