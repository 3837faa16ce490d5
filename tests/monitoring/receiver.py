"""Runs on the test host: takes what Alertmanager tells, and writes it down with the time, a line each."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

book = Path(sys.argv[1])


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with book.open("a") as opened:
            opened.write(json.dumps({"at": time.time(), "path": self.path, "alerts": told["alerts"]}) + "\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


HTTPServer(("127.0.0.1", 9099), Receiver).serve_forever()
