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
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc

from purposematch.protocol.errors import ConfigurationError
from purposematch.server.data_dir import DataDir
from purposematch.server.server_files import ServerFiles, load_server_files

__all__ = ["LOOK_SECONDS", "ServedCertificate"]

LOOK_SECONDS: Final = 10.0
"""Seconds between two looks at the files, whether or not anybody connects."""

_log = logging.getLogger("purposematch.server")


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
