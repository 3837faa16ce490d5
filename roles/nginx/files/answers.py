"""Asks this host for /readyz by the name that users type: answers.py PORT NAME."""

import http.client
import socket
import ssl
import sys

port, name = int(sys.argv[1]), sys.argv[2]
# Whether the certificate is one to trust is for those to say who come from outside.
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
try:
    connection = http.client.HTTPConnection(name, port, timeout=10)
    plain = socket.create_connection(("localhost", port), timeout=10)
    connection.sock = context.wrap_socket(plain, server_hostname=name)
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"https://{name}:{port}/readyz does not answer on this host: {error}")
if answer.status != 200:
    sys.exit(f"https://{name}:{port}/readyz answers {answer.status}: {answer.read(1000).decode(errors='replace')}")
