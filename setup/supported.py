"""Which Pythons and systems the project runs on. Must be readable by any Python 3 (see __main__.py)."""

OLDEST = (3, 11)
NEWEST = (3, 13)


def problem_of(platform: str, major: int, minor: int) -> str:
    """Says why this Python cannot be used and what to do, or nothing.

    Args:
        platform: What `sys.platform` says.
        major: The first number of the Python version.
        minor: The second number of the Python version.

    Returns:
        The message, or "" if there is nothing to say.
    """
    if platform == "win32":
        return "fewbits runs on Linux and macOS. On Windows, use it inside WSL."
    if OLDEST <= (major, minor) <= NEWEST:
        return ""
    have = str(major) + "." + str(minor)
    if (major, minor) < OLDEST:
        why = "Python " + have + " is too old: fewbits needs Python 3.11, 3.12 or 3.13."
    else:
        why = "Python " + have + " is too new: torch and others are pinned for Python 3.11, 3.12 and 3.13."
    return why + "\nInstall one of them and name it, for example: make setup PYTHON=python3.12"
