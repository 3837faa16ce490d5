"""Asks this host for /readyz by the name that users type: answers.py https|http NAME PORT."""

import http.client
import socket
import ssl
import sys

scheme, name, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
address = f"{scheme}://{name}:{port}/readyz"
try:
    connection = http.client.HTTPConnection(name, port, timeout=10)
    connection.sock = socket.create_connection(("localhost", port), timeout=10)
    if scheme == "https":
        # Whether the certificate is one to trust is for those to say who come from outside.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection.sock = context.wrap_socket(connection.sock, server_hostname=name)
    # Plain HTTP is for a proxy in front at which TLS ends.
    connection.request("GET", "/readyz", headers={} if scheme == "https" else {"X-Forwarded-Proto": "https"})
    answer = connection.getresponse()
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"{address} does not answer on this host: {error}")
if answer.status != 200:
    sys.exit(f"{address} answers {answer.status} on this host: {answer.read(1000).decode(errors='replace')}")
