"""`python3 -I setup` makes .venv, with all that the project needs in it; `python3 -I setup pins` renews the pins.

This file and supported.py must be readable by any Python 3, or an old one would show a SyntaxError instead of what
to do about it.
"""

import os
import sys

if __name__ == "__main__":
    # A folder that is run stands first on the path as itself; its modules are imported as a package.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 (Python 3.3)
    from setup.supported import problem_of

    problem = problem_of(sys.platform, sys.version_info[0], sys.version_info[1])
    if problem:
        sys.exit(problem)

    from setup.install import main

    sys.exit(main(sys.argv[1:]))
