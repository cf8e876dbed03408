"""Every benchmark that needs no key and kills nothing, one after the other: ``make bench``.

Why: each of them measures processes of its own, so they must not share one, and not run at once.

How to run::

    python -m benchmarks [--full] [--json]

At most 10 minutes on two quiet cores; more with ``--full``, which leaves nothing out. ``--json``
prints one object with a key a benchmark. What disturbs batches on purpose is apart:
``python -m benchmarks.durability``.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("throughput", "tokens", "store", "client")
WITH_QUICK = frozenset({"throughput", "client"})
"""Those that take ``--quick``; the others take about a minute anyway."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; 1 when one of them did not end well."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Every benchmark, one after the other."
    )
    parser.add_argument("--full", action="store_true", help="every situation, however long")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    failed = False
    for name in NAMES:
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        if not options.full and name in WITH_QUICK:
            command.append("--quick")
        if options.json:
            command.append("--json")
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE if options.json else None,
            text=True,
            check=False,
        )
        failed = failed or done.returncode != 0
        if options.json:
            results[name] = json.loads(done.stdout) if done.stdout else None
    if options.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
