"""Runs the stack with a stand-in for ``fewbitsd``: the arguments are that program, the data folder and the port."""

import os
import sys
from pathlib import Path

from core.errors import FewbitsError
from server.cli import _announce_json
from server.first_use import api_is_ready
from server.up import Options, Programs, run_up

program, data, port = sys.argv[1:]
programs = Programs(
    fewbitsd=Path(program),
    ensure_key=lambda _url, known: known or "fb_made",
    is_ready=lambda host, port, _url, _pids: api_is_ready(host, port),
)
try:
    run_up(Options(Path(data), int(port)), os.environ, _announce_json, programs)
except FewbitsError as error:
    sys.exit(error.message)
