"""Measure the queue, print each figure beside the target it was given, and keep what was printed in bench/results.

Usage: ``python -m bench.queue [SECTION…]``; without arguments every section. The last line is JSON: all figures, their
bounds, and which were missed. The exit status tells whether it ran, not whether a target was missed.
"""

import argparse
import datetime as dt
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from bench.queue import side_by_side
from bench.queue.figures import Report
from bench.queue.machine import description
from bench.queue.place import CHECKOUT, Place, place

RESULTS = CHECKOUT / "bench" / "results"
SECTIONS: Mapping[str, Callable[[Place, Report], None]] = {
    "side-by-side": side_by_side.run,
}


def main(arguments: Sequence[str]) -> int:
    """Run and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description="Measure the queue.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"any of {', '.join(SECTIONS)}; by default all")
    chosen = parser.parse_args(arguments).sections
    if unknown := [name for name in chosen if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    report = Report()
    began = time.monotonic()
    report.say(" ".join(["$ python -m bench.queue", *chosen, f"   # {today}"]))
    report.say(f"{description()}\n")
    for name, run in SECTIONS.items():
        if not chosen or name in chosen:
            section_began = time.monotonic()
            report.say(f"## {name}")
            with place() as at:
                run(at, report)
            report.say(f"({time.monotonic() - section_began:.0f} s)\n")
    name = "-".join([today, "queue", *chosen])
    report.write(RESULTS / f"{name}.txt", seconds=round(time.monotonic() - began))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
