"""Finds what is wrong with the certificate that an operator asks for or brings along, before anything changes.

Each mistake is one sentence that says what to do.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import ssl
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

# Where Linux distributions keep all public authorities in one file.
PUBLIC_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")

# What browsers take: nginx would serve another key to nobody, or not even start.
SMALLEST_RSA = 2048
CURVES = (ec.SECP256R1, ec.SECP384R1)

Chain = Sequence[x509.Certificate]


def settings_mistakes(settings: Mapping[str, Any], names: Sequence[str], addresses: Sequence[str]) -> list[str]:
    """What does not fit together."""
    return list(_settings_mistakes(settings, names, addresses))


def _settings_mistakes(settings: Mapping[str, Any], names: Sequence[str], addresses: Sequence[str]) -> Iterator[str]:
    mode = settings["mode"]
    if not 1 <= settings["renew_percent"] <= 99:
        yield "certificate_renew_percent is a share of a certificate's life, from 1 to 99."
    if mode == "selfsigned" and settings["authority_days"] <= settings["days"]:
        yield "certificate_authority_days must be more than certificate_days: the authority outlives what it signs."
    if mode == "acme":
        if addresses:
            yield (
                f"certificate_mode acme is for names, and {', '.join(addresses)} is an address;"
                " leave it out of salon_alt_names, or choose another certificate_mode."
            )
        short = [name for name in names if name not in addresses and "." not in name]
        if short:
            yield (
                f"certificate_mode acme is for names that the whole world knows, and {', '.join(short)} is not one;"
                " write the whole name, or choose another certificate_mode."
            )
        if bool(settings["eab_kid"]) != settings["has_eab_key"]:
            yield "certificate_acme_eab_kid and certificate_acme_eab_hmac_key come together: set both or neither."
        yield from _missing_files(settings, ["directory_authority"], "certificate_acme_")
    if mode == "provided":
        for name, what in (("chain", "the certificate and those between it and a root"), ("key", "its key")):
            if not settings[f"provided_{name}"]:
                yield f"certificate_mode provided needs certificate_provided_{name}: a file here with {what}."
        yield from _missing_files(settings, ["provided_chain", "provided_key", "provided_authority"], "certificate_")


def _missing_files(settings: Mapping[str, Any], names: Iterable[str], prefix: str) -> Iterator[str]:
    for name in names:
        path = settings[name]
        if path and not Path(path).is_file():
            yield f"{prefix}{name}: there is no file {path} on the controller."


def load_chain(text: str) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(each.encode()) for each in CERTIFICATE.findall(text)]


def public_authorities() -> list[x509.Certificate]:
    """Those whom this controller trusts."""
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, *PUBLIC_AUTHORITIES):
        if path and Path(path).is_file():
            return list(_readable(Path(path).read_text(errors="replace")))
    return []


def _readable(text: str) -> Iterator[x509.Certificate]:
    """What can be read of it: an authority in an odd form signs for nobody here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in CERTIFICATE.findall(text):
            with contextlib.suppress(ValueError):
                yield x509.load_pem_x509_certificate(each.encode())


def name_of(certificate: x509.Certificate) -> str:
    """How a person calls it."""
    return certificate.subject.rfc4514_string() or "one without a name"


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the second one has signed the first."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def covers(certificate: x509.Certificate, name: str) -> bool:
    """Whether a browser takes it for this name."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(name) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        known = {each.lower() for each in names.get_values_for_type(x509.DNSName)}
        return bool({name.lower(), "*." + name.lower().partition(".")[2]} & known)


def key_mistake(text: str, leaf: x509.Certificate) -> str | None:
    """A sentence if the key cannot be used with the certificate."""
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except TypeError:
        return "certificate_provided_key wants a passphrase, which nobody types when nginx starts; take it off."
    except Exception as error:  # noqa: BLE001 (the library has many ways to say so)
        return f"certificate_provided_key holds no key in PEM that can be read ({error})."
    public = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*public) != leaf.public_key().public_bytes(*public):
        return (
            "certificate_provided_key and certificate_provided_chain do not belong together: the key is not that of"
            f" the first certificate, {name_of(leaf)}."
        )
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < SMALLEST_RSA:
        return f"certificate_provided_key is an RSA key of {key.key_size} bits, which nginx refuses; take 2048."
    elliptic = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, CURVES)
    if not elliptic and not isinstance(key, rsa.RSAPrivateKey):
        return "certificate_provided_key is of a kind that browsers do not take; make an ECDSA key on P-256, or RSA."
    return None


def provided_mistakes(provided: Mapping[str, str], names: Sequence[str], root: str = "") -> list[str]:
    """What is wrong with the files; `root` is who vouches for them, where it is not a public authority."""
    return list(_provided_mistakes(provided, names, root, datetime.now(UTC)))


def _provided_mistakes(provided: Mapping[str, str], names: Sequence[str], root: str, moment: datetime) -> Iterator[str]:
    try:
        chain = load_chain(provided["chain"])
    except ValueError as error:
        yield f"certificate_provided_chain holds a certificate that cannot be read ({error})."
        return
    if not chain:
        yield "certificate_provided_chain holds no certificate; it is a file in PEM, with BEGIN CERTIFICATE."
        return
    if sentence := key_mistake(provided["key"], chain[0]):
        yield sentence
    yield from _dates(chain, moment)
    if missing := [name for name in names if not covers(chain[0], name)]:
        yield (
            f"certificate_provided_chain does not cover {', '.join(missing)}: get a certificate for every name in"
            " salon_domain and salon_alt_names, or leave the name out there."
        )
    try:
        usages = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        yield f"certificate_provided_chain begins with {name_of(chain[0])}, which is not for a server."
    if sentence := _chain_mistake(chain, root):
        yield sentence


def _dates(chain: Chain, moment: datetime) -> Iterator[str]:
    for certificate in chain:
        ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
        if ends <= moment:
            yield f"certificate_provided_chain: {name_of(certificate)} has ended on {ends:%Y-%m-%d}; get a new one."
        if begins > moment:
            yield f"certificate_provided_chain: {name_of(certificate)} counts only from {begins:%Y-%m-%d} on."


def _chain_mistake(chain: Chain, root: str) -> str | None:
    for number, (one, following) in enumerate(pairwise(chain), start=1):
        if not issued(one, following):
            return (
                f"certificate_provided_chain is not in order: its certificate {number + 1}, {name_of(following)}, has"
                f" not signed the one before, {name_of(one)}; first comes the host's own, then each time its issuer."
            )
    try:
        roots = load_chain(root) if root else public_authorities()
    except ValueError as error:
        return f"certificate_provided_authority cannot be read ({error})."
    last = chain[-1]
    if last in roots or any(issued(last, each) for each in roots):
        return None
    if root:
        return (
            f"certificate_provided_chain is not complete: certificate_provided_authority has not signed its last"
            f" certificate, {name_of(last)}; what was signed by {last.issuer.rfc4514_string()} is to come before."
        )
    if len(chain) == 1 and issued(last, last):
        return (
            "certificate_provided_chain holds a certificate that is signed by itself, which no browser trusts; set"
            " certificate_provided_authority to it if your users do."
        )
    return (
        "certificate_provided_chain is not complete: nobody whom the controller trusts has signed its last"
        f" certificate, {name_of(last)}; add the certificate of {last.issuer.rfc4514_string()} (your authority calls it"
        " intermediate), or set certificate_provided_authority to a root of your own."
    )


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        return {
            "salon_certificate_settings": settings_mistakes,
            "salon_certificate_provided": provided_mistakes,
        }
