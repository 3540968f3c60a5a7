"""The key files of the data directory: the identity key, and for each epoch its POPRF key and, where there
are lists for the set exchange, their secret.

Every file is sealed under the wrapping key, with the platform and the name of the key as associated
data: a file that was copied over another one, or brought from another platform, does not open. An
existing key is never overwritten. When an epoch ends its key is destroyed, and with it the possibility
to evaluate anything under that epoch again.

Not protected against: copies. Destroying overwrites and unlinks the file; a journal, a snapshot, a
backup or the spare blocks of an SSD may still hold the sealed bytes, and whoever has the root key too
can open them.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from purposematch.protocol.errors import ConfigurationError, DecodeError, IntegrityError
from purposematch.protocol.group import SecretScalar
from purposematch.protocol.secret import Secret, reveal
from purposematch.protocol.set_exchange.points import EpochSecret
from purposematch.protocol.signing import IdentitySeed
from purposematch.server.data_dir import DataDir
from purposematch.server.keys import SEAL_BYTES, WrappingKey, seal, unseal
from purposematch.server.private_files import flush_folder, read_private, write_new

__all__ = ["KeyStore"]

_DOMAIN: Final = b"purposematch key file v1"

Key = TypeVar("Key", bound=Secret)


@dataclass(frozen=True, slots=True)
class KeyStore:
    """The key files of one platform.

    Attributes:
        data_dir: where the files are.
        platform_id: the platform to which every file is bound.
        wrapping_key: the key under which every file is sealed.
    """

    data_dir: DataDir
    platform_id: str
    wrapping_key: WrappingKey

    def store_identity(self, seed: IdentitySeed) -> None:
        """Stores the identity key of a new platform.

        Raises:
            ConfigurationError: there is one already, or the file cannot be written.
        """
        self._store(self.data_dir.identity, "identity", seed)

    def load_identity(self) -> IdentitySeed:
        """The seed of the identity key.

        Raises:
            ConfigurationError: the file is missing or open to others.
            IntegrityError: the file is damaged, is another key's, or was sealed under another root key.
        """
        return self._load(self.data_dir.identity, "identity", IdentitySeed)

    def store_epoch_key(self, epoch: int, key: SecretScalar) -> None:
        """Stores the key of a new epoch.

        Raises:
            ConfigurationError: the epoch has a key already, or the file cannot be written.
        """
        self._store(self.data_dir.epoch_key(epoch), f"epoch {epoch}", key)

    def load_epoch_key(self, epoch: int) -> SecretScalar:
        """The key of an epoch.

        Raises:
            ConfigurationError: the file is missing (the key may have been destroyed) or open to others.
            IntegrityError: the file is damaged, is another key's, or was sealed under another root key.
        """
        return self._load(self.data_dir.epoch_key(epoch), f"epoch {epoch}", SecretScalar)

    def store_epoch_secret(self, epoch: int, secret: EpochSecret) -> None:
        """Stores the secret of an epoch's lists for the set exchange.

        Raises:
            ConfigurationError: the epoch has one already, or the file cannot be written.
        """
        self._store(self.data_dir.epoch_secret(epoch), f"lists of epoch {epoch}", secret)

    def load_epoch_secret(self, epoch: int) -> EpochSecret:
        """The secret of an epoch's lists.

        Raises:
            ConfigurationError: the file is missing or open to others.
            IntegrityError: the file is damaged, is another key's, or was sealed under another root key.
        """
        return self._load(self.data_dir.epoch_secret(epoch), f"lists of epoch {epoch}", EpochSecret)

    def destroy_epoch_key(self, epoch: int, destroyed: Callable[[], object]) -> None:
        """Overwrites and removes the key of an epoch and the secret of its lists; what is gone is no error.

        Args:
            epoch: its number.
            destroyed: called when both are overwritten and before the file of the key is gone, to record it:
                as long as there is a file, it is known that this may have to be done again.

        Raises:
            ConfigurationError: a file cannot be overwritten or removed.
        """
        path, secret = self.data_dir.epoch_key(epoch), self.data_dir.epoch_secret(epoch)
        try:
            for each in (secret, path):
                with suppress(FileNotFoundError), each.open("r+b", buffering=0) as file:
                    file.write(bytes(os.fstat(file.fileno()).st_size))
                    os.fsync(file.fileno())
            destroyed()
            secret.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            flush_folder(path.parent)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be destroyed: {error.strerror}") from error

    def _store(self, path: Path, name: str, key: Secret) -> None:
        write_new(path, seal(self.wrapping_key, reveal(key), self._associated_data(name)))

    def _load(self, path: Path, name: str, kind: type[Key]) -> Key:
        sealed = read_private(path, kind.LENGTH + SEAL_BYTES)
        try:
            return kind(unseal(self.wrapping_key, sealed, self._associated_data(name)))
        except (IntegrityError, DecodeError):
            raise IntegrityError(
                f"{path} does not open: it is damaged, another key's file, or sealed under another root key"
            ) from None

    def _associated_data(self, name: str) -> bytes:
        parts = [part.encode("ascii") for part in (self.platform_id, name)]
        return _DOMAIN + b"".join(len(part).to_bytes(2, "big") + part for part in parts)
