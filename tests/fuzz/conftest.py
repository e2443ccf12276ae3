"""How many inputs the fuzzers try: some dozens, always the same, or with EXAMPLES=10000 so many
new ones of each kind, which is what `make fuzz` is for."""

import os
import pathlib
import sys

from hypothesis import HealthCheck, Phase, settings

# The tests of readers, which write the files that the fuzzers begin with.
_TESTS = pathlib.Path(__file__).parents[1]
sys.path += [str(_TESTS / name) for name in ("app", "tabular")]

_EXAMPLES = os.environ.get("EXAMPLES")
# How long a case may take is part of the law; large inputs and many edits are what this is about.
_COMMON = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=set(Phase) - {Phase.explain},  # which traces every line
)

settings.register_profile("short", _COMMON, max_examples=24, derandomize=True)
settings.register_profile("long", _COMMON, max_examples=int(_EXAMPLES or 10_000), print_blob=True)
settings.load_profile("long" if _EXAMPLES else "short")
