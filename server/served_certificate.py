"""The certificate that the server shows, and the authorities that it asks of its peers; both may be replaced
while it serves.

At every handshake, and now and then besides, the files are looked at. What is there is taken if all of it
holds: key and certificate belong together, the certificate is valid now and carries the name that clients
expect, and there is an authority. Else, as while somebody is still writing, the old ones go on, and the log
says why, once. Connections that are open stay open: who is on them is asked at every call, see `peer`.

Not protected against: a certificate of an authority that clients do not have. They are the ones to notice.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc
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

__all__ = ["LOOK_SECONDS", "ServedCertificate", "ServerFiles", "load_server_files"]

LOOK_SECONDS: Final = 10.0
"""Seconds between two looks at the files, whether or not anybody connects."""

_log = logging.getLogger("purposematch.server")


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


class ServedCertificate:
    """Follows the files while the server runs. May be asked from any thread.

    Args:
        data_dir: whose files.
        platform_id: the id of the platform.
        clock: the time, with a time zone.

    Raises:
        ConfigurationError: the files do not hold now, when there is nothing else to serve with.
    """

    def __init__(self, data_dir: DataDir, platform_id: str, clock: Callable[[], datetime]) -> None:
        self._data_dir, self._platform_id, self._clock = data_dir, platform_id, clock
        self._lock = threading.Lock()
        self._seen = self._signs()
        self._files = load_server_files(data_dir, platform_id, clock())
        self._given = self._files
        self._refused = ""

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate that new connections are shown, 32 bytes."""
        return self._files.fingerprint

    def credentials(self) -> grpc.ServerCredentials:
        """What gRPC serves with: it asks at every handshake."""

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            self.look()
            with self._lock:
                if self._given is self._files:
                    return None
                self._given = self._files
                return _configuration(self._given)

        # Types of gRPC do not know what its documentation says: None changes nothing.
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._files),
            fetch,  # type: ignore[arg-type]
            require_client_authentication=True,
        )

    def look(self) -> None:
        """Takes over what is in the files, if they have changed and hold."""
        with self._lock:
            signs = self._signs()
            if signs == self._seen:
                return
            try:
                files = load_server_files(self._data_dir, self._platform_id, self._clock())
            except ConfigurationError as error:
                # They are read again at the next look: what is not valid yet will be.
                if str(error) != self._refused:
                    self._refused = str(error)
                    _log.warning(
                        "the files in tls/ have changed and are not used, the old ones go on: %s", error
                    )
                return
            # Whoever writes while they are read changes the signs again, and they are read again.
            self._seen, self._refused = signs, ""
            if files != self._files:
                self._files = files
                _log.info("the files in tls/ have changed; the certificate served ends %s", files.not_after)

    def _signs(self) -> list[tuple[int, ...] | None]:
        of = self._data_dir
        return [_sign(path) for path in (of.server_certificate, of.server_key, of.authority_certificate)]


def _sign(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _configuration(files: ServerFiles) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(files.key, files.chain)], files.authorities)


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
