"""Somebody who signs tokens: keys made for a test, as files, as JWKS, and as the tokens they sign."""

import base64
import hashlib
import hmac
import json
import time

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def encoded(value):
    """Base64url without padding (RFC 7515, 2), of bytes or of a JSON value."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Signer:
    """A pair of keys: `private` is cryptography's, or the bytes of a secret."""

    def __init__(self, algorithm, private, kid=None):
        self.algorithm = algorithm
        self.private = private
        self.kid = kid

    @classmethod
    def rsa(cls, kid=None, bits=2048):
        return cls("RS256", generate_private_key(65537, bits), kid)

    @classmethod
    def ed25519(cls, kid=None):
        return cls("EdDSA", Ed25519PrivateKey.generate(), kid)

    @classmethod
    def secret(cls, text, kid=None):
        return cls("HS256", text.encode(), kid)

    @property
    def public_pem(self):
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def private_pem(self):
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def jwk(self):
        """The public key of a pair, or the secret, as an entry of a JWKS."""
        public = self.private if isinstance(self.private, bytes) else self.private.public_key()
        entry = jwt.get_algorithm_by_name(self.algorithm).to_jwk(public, as_dict=True)
        return {**entry, "kid": self.kid} if self.kid else entry

    @property
    def private_jwk(self):
        return jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private, as_dict=True)

    def token(self, header=None, **claims):
        """A token with these claims; without `exp` it has an hour, and with `exp=None` no end."""
        claims = {"exp": int(time.time()) + 3600, **claims}
        content = {name: value for name, value in claims.items() if name != "exp" or value is not None}
        return self.sign(content, header)

    def sign(self, content, header=None):
        header = {"alg": self.algorithm, "typ": "JWT", **({"kid": self.kid} if self.kid else {}), **(header or {})}
        signed = f"{encoded(header)}.{encoded(content)}"
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        return f"{signed}.{encoded(algorithm.sign(signed.encode(), algorithm.prepare_key(self.private)))}"


def jwks(*entries):
    """The text of a JWKS file of signers, or of entries that are written as they are."""
    return json.dumps({"keys": [entry.jwk if isinstance(entry, Signer) else entry for entry in entries]})


def signed_with_text(text, **claims):
    """An HS256 token whose secret is a text that everybody may know, as PyJWT would refuse to make it."""
    signed = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded({'exp': int(time.time()) + 3600, **claims})}"
    return f"{signed}.{encoded(hmac.digest(text.encode(), signed.encode(), hashlib.sha256))}"


def unsigned(**claims):
    """A token with the algorithm `none` (RFC 7518, 3.6)."""
    return f"{encoded({'alg': 'none'})}.{encoded({'exp': int(time.time()) + 3600, **claims})}."
