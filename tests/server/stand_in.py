"""Stands in for ``fewbitsd``: takes the same arguments, and does nothing until it is told to end."""

import http.server
import os
import signal
import sys


class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
sys.stdout.write(f"argument list: {sys.argv[1:]}\n")
sys.stdout.flush()
if sys.argv[1] == "migrate":
    sys.exit(int(os.environ.get("STAND_IN_MIGRATE_STATUS", "0")))
if sys.argv[1] == "api":
    address = os.environ["FEWBITS_API_HOST"], int(os.environ["FEWBITS_API_PORT"])
    http.server.HTTPServer(address, Ready).serve_forever()
while True:
    signal.pause()
