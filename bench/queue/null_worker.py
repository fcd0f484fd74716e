"""A worker of fewbits whose executor is no child: it tells that the claim is committed, and commits an empty result."""

from functools import partial

from bench.queue.contenders.contender import SLOTS, marker
from bench.queue.marks import Marker
from db.claim import Claim
from db.lease import Result, finish
from workers.supervisor import Workplace
from workers.worker import run_worker

NOTHING = Result({})


def do_nothing(told: Marker, workplace: Workplace, claim: Claim, _device: str) -> None:
    """Be done with a claim at once."""
    told.mark()
    workplace.database.run(lambda session: finish(session, claim.lease, NOTHING))


def main() -> None:
    """Run until SIGTERM."""
    run_worker("cpu", SLOTS, execute=partial(do_nothing, marker()))


if __name__ == "__main__":
    main()
