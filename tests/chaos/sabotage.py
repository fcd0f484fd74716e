"""``fewbitsd`` with one of its guards taken out, so that the harness can show that it finds what then goes wrong.

Started as ``python -m tests.chaos.sabotage WHAT …``, where what follows is a command of ``fewbitsd``. A guard is taken
out before the modules that use it are loaded, so nothing of the service is imported here at first.
"""

import os
import sys
from typing import Any


def forget_tokens() -> None:
    """Let whoever once held an execution write, and renew the lease, as long as anybody holds it."""
    from sqlalchemy import text

    from db import renewal, tokens

    for name in ("_TO_CHANGE", "_TO_STAY"):
        known = getattr(tokens, name).text
        without = known.replace("executions.token = :token", "TRUE")
        assert without != known
        setattr(tokens, name, text(without))
    known = renewal._RENEW.text
    without = known.replace("JOIN wanted USING (id, token)", "JOIN wanted USING (id)")
    assert without != known
    renewal._RENEW = text(without)


def forget_states() -> None:
    """Let any status follow any other."""
    from db import states

    def origins(status: states.Status) -> list[str]:
        return [origin.value for origin in type(status)]

    states.origins = origins


def forget_orders() -> None:
    """Tell an operator that pools are paused and workers drained, and do nothing of it."""
    from db import workers

    def pause(*_: Any, **__: Any) -> None:
        return

    def drain(*_: Any, **__: Any) -> bool:
        return True

    workers.pause = pause
    workers.drain = drain


def forget_quotas() -> None:
    """Let every team run as much as there is room for."""
    from db import quotas

    def always(*_: Any, **__: Any) -> bool:
        return True

    quotas.may_run = always


def forget_deaths() -> None:
    """Try work again however many workers have died over it."""
    os.environ["FEWBITS_DEATHS_MAX"] = "100"


SABOTAGES = {
    "tokens": forget_tokens,
    "states": forget_states,
    "orders": forget_orders,
    "quotas": forget_quotas,
    "deaths": forget_deaths,
}


def main() -> None:
    """Take out the guard that is named first, and run the command that follows."""
    SABOTAGES[sys.argv.pop(1)]()
    from server.cli import main as fewbitsd

    fewbitsd()


if __name__ == "__main__":
    main()
