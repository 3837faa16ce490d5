"""The keys that tokens are checked with: secrets of the settings, and files of those who sign elsewhere.

A file holds a public key (PEM, RFC 7468: RSA for RS256, Ed25519 for EdDSA) or a set of them (JWKS, RFC 7517: RSA,
Ed25519, and `oct` for HS256). Each key belongs to its one algorithm, whatever a token says about itself (RFC 8725,
3.1): the text of a public key is never a secret.
"""

import functools
import json
import logging
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from salon.logs import apart

logger = logging.getLogger(__name__)

HS256, RS256, EDDSA = "HS256", "RS256", "EdDSA"

LOOK_INTERVAL = 2.0
"""Seconds between two looks whether a key file has changed."""

MIN_SECRET = 32
"""Bytes of an HS256 key (RFC 7518, 3.2)."""

MIN_RSA = 2048
"""Bits of an RSA key (RFC 7518, 3.3)."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Key:
    """What one algorithm checks signatures with. `kid` is its name in a JWKS, where it has one."""

    algorithm: str
    material: bytes | RSAPublicKey | Ed25519PublicKey
    kid: str | None = None


class KeyRing:
    """The keys that are accepted at the moment. A file that changes is read again, without a restart.

    Raises `ImproperlyConfigured` when it is made with a key that cannot be used. A file that breaks later keeps its
    last good keys. `look_interval` is in seconds.
    """

    def __init__(
        self, secrets: Iterable[str], files: Iterable[Path] = (), look_interval: float = LOOK_INTERVAL
    ) -> None:
        self._secrets = [_secret(secret) for secret in secrets]
        self._stamps: dict[Path, Stamp | None] = {path: _stamp(path) for path in files}
        self._keys = {path: read(path) for path in self._stamps}
        self._look_interval = look_interval
        self._looked = time.monotonic()
        self._looking = threading.Lock()
        self._edition = object()

    def edition(self) -> object:
        """What stays the same object as long as the keys do."""
        self._look()
        return self._edition

    def find(self, algorithm: str, kid: str | None) -> list[Key]:
        """The keys that a token of this algorithm can be signed with; `kid` chooses among those that have one."""
        self._look()
        keys = [*self._secrets, *(key for found in self._keys.values() for key in found)]
        return [key for key in keys if key.algorithm == algorithm and (None in (kid, key.kid) or key.kid == kid)]

    def _look(self) -> None:
        if time.monotonic() < self._looked + self._look_interval or not self._looking.acquire(blocking=False):
            return
        try:
            for path, stamp in self._stamps.items():
                # Taken before the file is read: what is written meanwhile is seen at the next look.
                if (now := _stamp(path)) != stamp:
                    self._stamps[path] = now
                    self._read_again(path)
            self._looked = time.monotonic()
        finally:
            self._looking.release()

    def _read_again(self, path: Path) -> None:
        try:
            self._keys[path] = read(path)
            self._edition = object()
        except ImproperlyConfigured as error:
            logger.error("%s The keys that it held before stay in use.", error, extra=apart("keys.unreadable"))
        else:
            logger.info("%s has changed; keys in it: %d", path, len(self._keys[path]), extra=apart("keys.changed"))


@functools.cache
def ring() -> KeyRing:
    """The keys of the settings. Raises `ImproperlyConfigured`."""
    return KeyRing([settings.TOKEN_KEY, *settings.TOKEN_OLD_KEYS], settings.TOKEN_KEY_FILES)


def read(path: Path) -> list[Key]:
    """The keys in a file, at least one. Raises `ImproperlyConfigured` with a sentence that names the file."""
    try:
        text = path.read_text()
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _unusable(path, "is not a text; write a public key as PEM, or a JWKS") from None
    return _jwks(path, text) if text.lstrip().startswith("{") else _pem(path, text)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _secret(text: str) -> Key:
    try:
        return Key(HS256, jwt.get_algorithm_by_name(HS256).prepare_key(text))
    except jwt.InvalidKeyError:
        raise ImproperlyConfigured(
            "SALON_TOKEN_KEY or SALON_TOKEN_OLD_KEYS holds the text of a key that is no secret; "
            "write it to a file, and name that in SALON_TOKEN_KEY_FILES."
        ) from None


def _pem(path: Path, text: str) -> list[Key]:
    labels = re.findall(r"-----BEGIN ([A-Z0-9 ]+)-----", text)
    if any("PRIVATE KEY" in label for label in labels):
        raise _private(path)
    blocks = re.findall(r"-----BEGIN (?:RSA )?PUBLIC KEY-----.*?-----END (?:RSA )?PUBLIC KEY-----", text, re.DOTALL)
    if not blocks or len(blocks) != len(labels):
        raise _unusable(path, "is neither a public key (-----BEGIN PUBLIC KEY-----) nor a JWKS")
    return [_public_key(path, block) for block in blocks]


def _public_key(path: Path, block: str) -> Key:
    try:
        material = load_pem_public_key(block.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(path, "holds a public key that cannot be read; export it again") from None
    if isinstance(material, RSAPublicKey):
        return Key(RS256, _long_enough(path, material))
    if isinstance(material, Ed25519PublicKey):
        return Key(EDDSA, material)
    raise _unusable(path, "holds a public key that is neither RSA nor Ed25519")


def _jwks(path: Path, text: str) -> list[Key]:
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, RecursionError):
        raise _unusable(path, "is not valid JSON") from None
    except KeyError:
        raise _unusable(path, 'is no JWKS; it looks like {"keys": […]}') from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _unusable(path, 'is no JWKS; its "keys" is a list of objects')
    if any("d" in entry for entry in entries):
        raise _private(path)
    # "Implementations SHOULD ignore JWKs within a JWK Set that use 'kty' values that are not understood" (RFC 7517, 5),
    # and a provider publishes keys for other uses in the same set.
    keys = [_jwk(path, entry, algorithm) for entry in entries if (algorithm := _algorithm_of(entry))]
    if not keys:
        raise _unusable(path, "holds no key that checks RS256, EdDSA (Ed25519) or HS256 signatures")
    return keys


def _algorithm_of(entry: dict) -> str | None:
    """What the key of a JWKS checks, or None for what is not for us."""
    match entry:
        case {"kty": "RSA"}:
            algorithm, names = RS256, (RS256,)
        case {"kty": "OKP", "crv": "Ed25519"}:
            # EdDSA with this curve is also called by the curve's name (RFC 9864).
            algorithm, names = EDDSA, (EDDSA, "Ed25519")
        case {"kty": "oct"}:
            algorithm, names = HS256, (HS256,)
        case _:
            return None
    operations = entry.get("key_ops", ["verify"])
    for_signatures = entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    return algorithm if for_signatures and entry.get("alg", algorithm) in names else None


def _jwk(path: Path, entry: dict, algorithm: str) -> Key:
    kid = entry.get("kid")
    if not isinstance(kid, str | None):
        raise _unusable(path, "holds a key whose `kid` is not a text")
    try:
        material = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, KeyError, ValueError):
        raise _unusable(path, f"holds a key that cannot be read: {kid or 'without a kid'}") from None
    if algorithm == HS256 and len(material) < MIN_SECRET:
        raise _unusable(path, f"holds a secret of {len(material)} bytes; HS256 needs at least {MIN_SECRET}")
    return Key(algorithm, _long_enough(path, material) if algorithm == RS256 else material, kid)


def _long_enough(path: Path, material: RSAPublicKey) -> RSAPublicKey:
    if material.key_size < MIN_RSA:
        raise _unusable(path, f"holds an RSA key of {material.key_size} bits; RS256 needs at least {MIN_RSA}")
    return material


def _private(path: Path) -> ImproperlyConfigured:
    return _unusable(
        path,
        "holds a private key, which must not lie on this server; replace it by its public key "
        "(openssl pkey -in PRIVATE -pubout), and make a new pair if others could read it here",
    )


def _unusable(path: Path, why: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"SALON_TOKEN_KEY_FILES: {path} {why}.")
