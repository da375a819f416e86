"""What the Kafka receiver and the Kafka exporter are told alike: where the brokers are and how to sign in.

Kafka's own library is no part of this: each of the two has its own door to it.
"""

import ssl
from typing import Literal, TypeAlias

import msgspec

from pipeline.errors import ConfigError
from pipeline.http import Tls
from pipeline.options import Secret

Protocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Listed: TypeAlias = tuple[str, ...] | str
"""Several names: a list, or one text with commas between them (as an environment variable holds them)."""


class Sasl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to sign in at the brokers. Source: the Collector's `auth.sasl`."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """PLAIN sends the password as it is: with `tls` only, outside of tests."""
    username: str
    """The user's name."""
    password: Secret
    """The user's password; write `${env:NAME}`."""


class Security(msgspec.Struct, frozen=True):
    """The same, as Kafka's clients take it."""

    protocol: Protocol
    context: ssl.SSLContext | None
    sasl: Sasl | None


def listed(names: Listed) -> list[str]:
    """The names, without blanks and empty ones."""
    parts = names.split(",") if isinstance(names, str) else names
    return [name.strip() for name in parts if name.strip()]


def security(tls: Tls | None, sasl: Sasl | None) -> Security:
    """What `tls` (None: no encryption; empty: the system's certificates) and `sasl` (None: no sign-in) come to.

    Raises ConfigError when a certificate or key cannot be read.
    """
    if tls is None:
        return Security("SASL_PLAINTEXT" if sasl else "PLAINTEXT", None, sasl)
    return Security("SASL_SSL" if sasl else "SSL", _context(tls), sasl)


def _context(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file or None)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(name for name in (tls.ca_file, tls.cert_file, tls.key_file) if name)
        raise ConfigError(f"tls: {files}: {error}; each must be a readable PEM file") from error
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
