"""Ask every address of every name at port 80, as an authority will: probe.py MARK NAME…

Runs where Ansible tells it to, with nothing but Python. Prints a sentence for each thing that is wrong, and for each
address that nobody here has a way to: that is left to the authority, as long as the name has another one.
"""

import http.client
import socket
import sys

PORT = 80
PATH = "/.well-known/acme-challenge/salon-host"

# Seconds after which nobody waits any longer; an authority gives up after ten.
PATIENCE = 10


def addresses(name: str) -> list[str]:
    """Where the DNS says that it is."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def has_way(address: str) -> bool:
    """Whether this machine has a way to it, as one without IPv6 has not to an address of that. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as link:
            link.connect((address, PORT))
    except OSError:
        return False
    return True


def ask(name: str, address: str) -> tuple[int, str]:
    """What is answered there: status and body."""
    connection = http.client.HTTPConnection(name, PORT, timeout=PATIENCE)
    try:
        connection.sock = socket.create_connection((address, PORT), timeout=PATIENCE)
        connection.request("GET", PATH, headers={"Host": name})
        answer = connection.getresponse()
        return answer.status, answer.read(4096).decode(errors="replace").strip()
    finally:
        connection.close()


def mistake(name: str, address: str, mark: str) -> str | None:
    """A sentence if it is not this host that answers."""
    try:
        status, body = ask(name, address)
    except (OSError, http.client.HTTPException) as error:
        return (
            f"nothing answers for {name} at port {PORT} of {address} ({error or type(error).__name__}): open port"
            f" {PORT} to the whole world, or correct the DNS if that is not this host."
        )
    if (status, body) != (200, mark):
        return (
            f"{name} leads to {address}, and it is not this host that answers there (status {status}): correct the"
            " name's A and AAAA records in the DNS."
        )
    return None


def look(mark: str, names: list[str]) -> tuple[list[str], list[str]]:
    """What an authority would stumble over, and what could not be tried."""
    found, untried = [], []
    for name in names:
        try:
            places = addresses(name)
        except OSError as error:
            found.append(f"{name} has no address in the DNS ({error.strerror or error}): let its A record lead here.")
            continue
        reached = [address for address in places if has_way(address)]
        found += filter(None, (mistake(name, address, mark) for address in reached))
        if beyond := ", ".join(address for address in places if address not in reached):
            if reached:
                untried.append(f"{name} was not tried at {beyond}, to which there is no way from here.")
            else:
                found.append(
                    f"{name} leads to {beyond}, and there is no way to it from here: name a host of the inventory that"
                    " has one in certificate_acme_tested_from, or correct the DNS."
                )
    return found, untried


def main() -> int:
    """The exit status: 1 where something is wrong."""
    mark, *names = sys.argv[1:]
    found, untried = look(mark, names)
    sys.stdout.write("".join(f"{sentence}\n" for sentence in found + untried))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
