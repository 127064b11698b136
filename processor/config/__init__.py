"""Settings: every name, default, unit, range and relation, read from the environment once and checked together.

    parsers.py    text to value, and the values of our own: a quota, where a key comes from
    settings.py   each setting with its kind, default and meaning
    load.py       reads all of them, and says what does not go together

Used by the composition root (`processor/run/process.py`) and the commands.
"""

from processor.config.load import PREFIXES, load
from processor.config.parsers import KeySource, Quota, api_key, duration_s, quota, url
from processor.config.settings import (
    KAFKA_OWNED,
    Declaration,
    HakunaEnvironment,
    HttpTransport,
    LogFormat,
    LogLevel,
    Role,
    Settings,
    Traces,
    declarations,
)

__all__ = [
    "KAFKA_OWNED", "PREFIXES", "Declaration", "HakunaEnvironment", "HttpTransport", "KeySource", "LogFormat",
    "LogLevel", "Quota", "Role", "Settings", "Traces", "api_key", "declarations", "duration_s", "load", "quota", "url",
]  # fmt: skip
