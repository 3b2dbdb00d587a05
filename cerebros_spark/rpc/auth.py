"""Who may speak to the driver: a certificate and a secret that live as long as the run.

The certificate is made in the driver's memory, signs itself and is trusted by this run's workers
alone. Its private key goes nowhere. Inside TLS a worker shows the secret.
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

# The name in every run's certificate: what counts is the key, not where the driver runs.
_NAME = "cerebros-driver"
_SECRET = "secret"


@dataclass(frozen=True)
class Access:
    """All that a worker needs to reach its driver.

    Attributes:
        address: The driver's ``host:port``.
        secret: What a worker shows. It stays out of ``repr``, and so of logs.
        certificate: The one certificate that the worker accepts, as PEM.
    """

    address: str
    secret: str = field(repr=False)
    certificate: str = field(repr=False)

    def channel(self, options: list[tuple[str, Any]]) -> Any:
        """A channel to the driver; whoever lacks the certificate's key can't answer on it."""
        credentials = grpc.ssl_channel_credentials(self.certificate.encode())
        named = ("grpc.ssl_target_name_override", _NAME)
        return grpc.secure_channel(self.address, credentials, options=[*options, named])

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with every request."""
        return ((_SECRET, self.secret),)


def new_secret() -> str:
    """A secret that nobody can guess."""
    return secrets.token_hex(32)


def new_certificate() -> tuple[str, Any]:
    """A fresh certificate as PEM, and the server credentials that hold its key."""
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
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem.decode(), grpc.ssl_server_credentials([(private, pem)])


class Doorkeeper(grpc.ServerInterceptor):
    """Turns away who does not show the secret, before anything of the message is read.

    Args:
        secret: The run's secret.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        # A handler of streams reads no message until it is asked for one; this one never asks.
        self._closed = grpc.stream_unary_rpc_method_handler(_turn_away)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Lets a call pass, or not."""
        shown = dict(details.invocation_metadata).get(_SECRET, "")
        if hmac.compare_digest(shown.encode(), self._secret):
            return continuation(details)
        return self._closed


def _turn_away(_: Any, context: Any) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "this run's secret was not shown")
