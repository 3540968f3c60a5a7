"""What the server's TLS is made of, read from the data directory and checked as a client would.

Not protected against: an authority that clients do not have.
"""

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from purposematch.protocol.errors import ConfigurationError
from purposematch.server.data_dir import DataDir
from purposematch.server.pki import (
    MAX_PEM_BYTES,
    alternative_names,
    load_certified_key,
    read_certificates,
    server_name,
)
from purposematch.server.private_files import read_private

__all__ = ["ServerFiles", "load_server_files"]


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What TLS needs, checked.

    Attributes:
        fingerprint: SHA-256 of the server's certificate, 32 bytes.
        not_after: when the first of its chain ends, with a time zone.
        chain: the server's certificate and what follows it in its file, PEM.
        authorities: PEM.
        key: the server's private key, PEM.
    """

    fingerprint: bytes
    not_after: datetime
    chain: bytes = field(repr=False)
    authorities: bytes = field(repr=False)
    key: bytes = field(repr=False)


def load_server_files(data_dir: DataDir, platform_id: str, now: datetime) -> ServerFiles:
    """Reads the server's certificate, its key and the authorities.

    Raises:
        ConfigurationError: something is missing, does not belong together, is not valid at `now`, or clients
            would not take it.
    """
    certified = load_certified_key(data_dir.server_certificate, data_dir.server_key)
    chain = read_certificates(data_dir.server_certificate)
    served, path = chain[0], data_dir.server_certificate
    if served != certified.certificate:
        raise ConfigurationError(f"{path} does not begin with the server's certificate")
    if server_name(platform_id) not in alternative_names(served):
        raise ConfigurationError(
            f"the certificate in {path} lacks the DNS name {server_name(platform_id)}, which clients expect"
        )
    for each in chain:
        if not each.not_valid_before_utc <= now < each.not_valid_after_utc:
            raise ConfigurationError(f"a certificate in {path} is not valid now")
    authorities = read_certificates(data_dir.authority_certificate)
    return ServerFiles(
        certified.fingerprint,
        min(each.not_valid_after_utc for each in chain),
        _pem(chain),
        _pem(authorities),
        read_private(data_dir.server_key, MAX_PEM_BYTES),
    )


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
