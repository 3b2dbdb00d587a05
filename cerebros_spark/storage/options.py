"""Options of stores: none of them may be a secret, for they travel to the workers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cerebros_spark.core.errors import ArgumentError

_SECRET = re.compile(
    r"(.*_)?(key|secret|token|password|passwd|passphrase|credentials?|sas|connection_string"
    r"|access_key_id)|.*customer_?key",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"//[^/@]*:[^/@]*@")
_ADVICE = (
    "options travel to the workers and lie in pickles, so leave credentials to the environment of "
    "the driver and of every worker (variables, a profile, the machine's role)"
)


def check_no_secrets(url: str, options: Mapping[str, Any]) -> None:
    """Refuses credentials in a store's URL or options; what they are is not told.

    Args:
        url: The store's URL.
        options: Options for its file system, at any depth.

    Raises:
        ArgumentError: If there are some; the message names the option.
    """
    if _IN_URL.search(url):
        raise ArgumentError(f"the store's URL holds a password: {_ADVICE}")
    for name, value in _flat(options):
        last = name.rpartition(".")[2]
        if _SECRET.fullmatch(last) and value is not None and not isinstance(value, bool):
            raise ArgumentError(f"the option {name!r} of a store is a credential: {_ADVICE}")
        if isinstance(value, str) and _IN_URL.search(value):
            raise ArgumentError(f"the option {name!r} of a store holds a password: {_ADVICE}")


def _flat(options: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        yield f"{before}{name}", value
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
