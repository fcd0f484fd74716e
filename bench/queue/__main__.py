"""Measure the queue, print each figure beside the target it was given, and keep what was printed in bench/results.

Usage: ``python -m bench.queue [SECTION…]``; without arguments every section. The last line is JSON: all figures, their
bounds, and which were missed. The exit status tells whether it ran, not whether a target was missed.
"""

import argparse
import datetime as dt
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from bench.queue import claims, first_line, listing, side_by_side, submits
from bench.queue.figures import Report
from bench.queue.machine import description, load
from bench.queue.place import CHECKOUT, Place, place

RESULTS = CHECKOUT / "bench" / "results"
TERMINATED = 128 + signal.SIGTERM
Section = Callable[[Place, Report], None]
# Those of a group use the same servers, and what the one before has written.
GROUPS: Sequence[Mapping[str, Section]] = (
    {"side-by-side": side_by_side.run},
    {"first-line": first_line.run},
    {"submits": submits.run},
    {"claims": claims.run, "listing": listing.run},
)
SECTIONS = [name for group in GROUPS for name in group]


def main(arguments: Sequence[str]) -> int:
    """Run and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description="Measure the queue.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"any of {', '.join(SECTIONS)}; by default all")
    chosen = parser.parse_args(arguments).sections
    if unknown := [name for name in chosen if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(TERMINATED))  # servers and files go with us
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    report = Report()
    began = time.monotonic()
    report.say(" ".join(["$ python -m bench.queue", *chosen, f"   # {today}"]))
    report.say(f"{description()}\n{load()} before anything was measured\n")
    for group in GROUPS:
        if wanted := {name: run for name, run in group.items() if not chosen or name in chosen}:
            with place() as at:
                for name, run in wanted.items():
                    _measure(name, partial(run, at), report)
    name = "-".join([today, "queue", *chosen])
    report.write(RESULTS / f"{name}.txt", seconds=round(time.monotonic() - began))
    return 0


def _measure(name: str, run: Callable[[Report], None], report: Report) -> None:
    began = time.monotonic()
    report.say(f"## {name}")
    run(report)
    report.say(f"({time.monotonic() - began:.0f} s)\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
