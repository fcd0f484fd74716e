"""The account that Postgres runs under, since it refuses to run as root.

docs/decisions/0002-embedded-postgres-as-root.md says why it is done in this way. No user is created and no folder's
permissions are loosened. Refuses to know Postgres: it gets paths that a program must be able to use.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.errors import StartFailed

NOBODY = "nobody"
# The least that suffices is taken: none, to read and search anything, to use anything.
CAPABILITIES = ("", "dac_read_search", "dac_override")


@dataclass(frozen=True)
class Account:
    """A user, and the words that make a program run as that user.

    Args:
        uid: the user's number.
        gid: the user's group.
        words: put before a program's arguments; none where we are that user already.
    """

    uid: int
    gid: int
    words: tuple[str, ...] = ()


def account_for(home: Path) -> Account:
    """Return the account that owns ``home``, or is to own it: ours, or for root that of ``home``'s owner or nobody.

    Raises:
        StartFailed: we are root, and there is no user to become.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    try:
        owner = home.stat().st_uid if home.exists() else 0
        entry = pwd.getpwuid(owner) if owner else pwd.getpwnam(NOBODY)
    except KeyError:
        raise StartFailed(
            f"Postgres does not run as root, and here is no user {NOBODY!r} to run it as. Run this as an ordinary user."
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def able_to_use(account: Account, *, programs: Iterable[Path], files: Iterable[Path], home: Path) -> Account:
    """Return the account with the words that let it run the programs, read the files and use its home.

    Raises:
        StartFailed: nothing lets it; the message says what to do.
    """
    if account.uid == os.geteuid():
        return account
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        raise StartFailed(
            "Postgres does not run as root, and setpriv, which runs it as another user, is missing. "
            "Install util-linux, or run this as an ordinary user."
        )
    probe = _probe(programs=programs, files=files, home=home)
    for capability in CAPABILITIES:
        words = (setpriv, *_as_user(account, capability))
        if subprocess.run([*words, *probe], cwd="/", env={}, capture_output=True, check=False).returncode == 0:
            return Account(account.uid, account.gid, words)
    name = pwd.getpwuid(account.uid).pw_name
    raise StartFailed(
        f"Postgres does not run as root but as {name!r}, who cannot use its programs or its data folder. "
        f"Each folder above {home} and above {next(iter(programs))} needs 'chmod o+x'; or choose --data and a checkout "
        "elsewhere; or run this as an ordinary user."
    )


def _as_user(account: Account, capability: str) -> list[str]:
    """Return setpriv's options. The first to succeed are tried: a container may lack a capability."""
    kept = f",+{capability}" if capability else ""
    options = [
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        "--clear-groups",
        "--no-new-privs",
        f"--inh-caps=-all{kept}",
        f"--ambient-caps=-all{kept}",
        f"--bounding-set=-all{kept}",
    ]
    if capability:
        # Else access(2), by which initdb looks for its own program, leaves capabilities out of account.
        options.append("--securebits=+no_setuid_fixup")
    return options


def _probe(*, programs: Iterable[Path], files: Iterable[Path], home: Path) -> list[str]:
    """Return a program that succeeds if its user can do all that is needed."""
    checks = [("-x", path) for path in programs] + [("-r", path) for path in files] + [("-x", home), ("-w", home)]
    words: list[str] = []
    for flag, path in checks:
        words += [flag, str(path), "-a"]
    return [shutil.which("test", path=os.defpath) or "test", *words[:-1]]
