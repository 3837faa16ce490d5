"""nginx as the playbook sets it up, in front of a process on this machine."""

import datetime
import re
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jinja2 import Environment, StrictUndefined
from target import PROJECT, free_port, running

from load.cpu import children, cpu_seconds
from waiting import wait_until

TEMPLATES = PROJECT / "templates" / "etc" / "nginx"
NEW_HTTP2 = (1, 25, 1)
"""The version of nginx from which on HTTP/2 is a directive of its own."""


def program() -> str:
    """Where nginx is; Debian keeps it off PATH for most."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or ""


def make_certificate(directory: Path) -> Path:
    """A key and a certificate for `localhost`, which is its own authority; its path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    path = directory / "localhost.pem"
    path.write_bytes(certificate.public_bytes(encoding))
    secret = directory / "localhost.key"
    secret.touch(mode=0o600)
    secret.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return path


class Nginx:
    """One nginx with the configuration of the templates, changed in the one thing that is tried.

    `upstream` is an address of `server` in `upstream {}`; `changes` are patterns and what they become; `variables` are
    those of the role that are not as its defaults say.
    """

    def __init__(
        self, directory: Path, certificate: Path, upstream: str, changes: dict[str, str], **variables: object
    ) -> None:
        self.port = free_port()
        self.http_port = free_port()
        self._directory = directory
        self._directory.mkdir()
        self._stack = ExitStack()
        self._write(certificate, upstream, changes, variables)

    def _write(self, certificate: Path, upstream: str, changes: dict[str, str], variables: dict[str, object]) -> None:
        said = subprocess.run([program(), "-v"], capture_output=True, text=True, check=True).stderr
        version = tuple(int(part) for part in re.search(r"nginx/([\d.]+)", said)[1].split("."))
        defaults = yaml.safe_load((PROJECT / "roles/nginx/defaults/main.yml").read_text())
        fixed = yaml.safe_load((PROJECT / "roles/nginx/vars/main.yml").read_text())
        values = {
            **defaults,
            **fixed,
            "ansible_managed": "For the benchmark",
            "nginx_upstream_processes": 1,
            "nginx_http_port": self.http_port,
            "nginx_https_port": self.port,
            "nginx_port_suffix": f":{self.port}",
            "nginx_ipv6": False,
            "nginx_domain": "localhost",
            "nginx_alt_names": [],
            "nginx_tls": True,
            "nginx_acme_root": self._directory,
            "nginx_has_http2_directive": version >= NEW_HTTP2,
            "nginx_certificate": certificate,
            "nginx_certificate_key": certificate.with_suffix(".key"),
            "nginx_curves": "X25519:prime256v1:secp384r1",
            "nginx_static_root": self._directory,
            "nginx_files_root": self._directory,
            # The crowd of the benchmark has one address.
            "nginx_exempt_networks": ["127.0.0.0/8"],
            **variables,
        }
        environment = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False)  # noqa: S701 (no HTML)
        here = {
            "unix:/run/salon/daphne-1.sock": upstream,
            "/var/log/nginx": str(self._directory),
            "/run/nginx.pid": str(self._directory / "nginx.pid"),
            "include /etc/nginx/modules-enabled/*.conf;": "daemon off;",
            "include /etc/nginx/conf.d/*.conf;": f"include {self._directory}/salon.conf;",
        }
        for source, name in (("nginx.conf.j2", "nginx.conf"), ("conf.d/salon.conf.j2", "salon.conf")):
            text = environment.from_string((TEMPLATES / source).read_text()).render(values)
            for there, ours in here.items():
                text = text.replace(there, ours)
            text = re.sub(r"\blisten (\d+)", r"listen 127.0.0.1:\1", text)
            for pattern, replacement in changes.items():
                text = re.sub(pattern, replacement, text)
            (self._directory / name).write_text(text)

    def __enter__(self) -> "Nginx":
        command = [program(), "-c", str(self._directory / "nginx.conf")]
        process = self._stack.enter_context(running(command, self._directory / "log"))
        self._pid = process.pid
        wait_until(lambda: process.poll() is not None or children(self._pid), "nginx")
        time.sleep(0.2)
        if process.poll() is not None:
            raise RuntimeError(f"nginx did not start:\n{(self._directory / 'log').read_text()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cpu_seconds(self) -> float:
        """CPU of all its processes."""
        return sum(cpu_seconds(pid) for pid in [self._pid, *children(self._pid)])
