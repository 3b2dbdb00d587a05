"""Authentication of workers by a certificate and a secret, both created for one run.

The self-signed certificate is created in the driver's memory, and only this run's workers trust it.
Its private key never leaves the driver. Workers send the secret over TLS.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Host name in every certificate. Workers verify the key, independent of the driver's host.
_NAME = "cerebros-driver"
_SECRET = "secret"


@dataclass(frozen=True)
class Access:
    """Address and credentials that a worker needs to connect to its driver.

    Attributes:
        address: The driver's ``host:port``.
        secret: The run secret; omitted from ``repr``, and therefore from logs.
        certificate: The only certificate that the worker accepts, in PEM format.
    """

    address: str
    secret: str = field(repr=False)
    certificate: str = field(repr=False)

    def open_channel(self, options: list[tuple[str, Any]]) -> Any:
        """Open a gRPC channel to the driver, which must present the certificate."""
        credentials = grpc.ssl_channel_credentials(self.certificate.encode())
        override = ("grpc.ssl_target_name_override", _NAME)
        return grpc.secure_channel(self.address, credentials, options=[*options, override])

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every request, with the secret."""
        return ((_SECRET, self.secret),)


def create_secret() -> str:
    """Create a random secret."""
    return secrets.token_hex(32)


def create_certificate() -> tuple[str, Any]:
    """Create a certificate; return it in PEM format, and the gRPC server credentials for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # The workers' clocks may be behind.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode(), grpc.ssl_server_credentials([(private, pem)])


class SecretInterceptor(grpc.ServerInterceptor):
    """Interceptor that rejects calls without the run secret before their messages are read."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        # A stream handler reads no message until it asks for one; this one never does.
        self._rejecting = grpc.stream_unary_rpc_method_handler(_reject)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Continue a call that has the run secret; reject all others."""
        secret = dict(details.invocation_metadata).get(_SECRET, "")
        if hmac.compare_digest(secret.encode(), self._secret):
            return continuation(details)
        return self._rejecting


def _reject(_: Any, context: Any) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "missing or wrong run secret")
