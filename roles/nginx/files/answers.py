"""Asks this host for /readyz by the name that users type: answers.py SCHEME PORT NAME.

With http, as the proxy in front does for somebody who has come to it over TLS.
"""

import http.client
import socket
import ssl
import sys

scheme, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
# Whether the certificate is one to trust is for those to say who come from outside.
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
try:
    connection = http.client.HTTPConnection(name, port, timeout=10)
    plain = socket.create_connection(("localhost", port), timeout=10)
    connection.sock = context.wrap_socket(plain, server_hostname=name) if scheme == "https" else plain
    connection.request("GET", "/readyz", headers={"X-Forwarded-Proto": "https"})
    answer = connection.getresponse()
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"{scheme}://{name}:{port}/readyz does not answer on this host: {error}")
if answer.status != 200:
    sys.exit(f"{scheme}://{name}:{port}/readyz answers {answer.status}: {answer.read(1000).decode(errors='replace')}")
