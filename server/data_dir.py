"""The layout of a platform's data directory: every path, in one place.

::

    platform.toml             settings, written by init, edited by people
    policy.toml               the gate's policy
    registry.sqlite           the registry
    keys/root.key             the root key, unless platform.toml says it is elsewhere
    keys/identity.sealed      the Ed25519 identity key
    keys/epoch-<n>.sealed     the POPRF key of epoch n
    keys/epoch-<n>-lists.sealed  the secret of its lists for the set exchange, if it has any
    tls/ca.pem, ca.key        the development authority
    tls/server.pem, .key      the server certificate
    generations/              published generations
    log.checkpoint            the last checkpoint of the log that was signed
    publish.lock              held while a generation is being published
    policy.lock               held while the policy is being changed

This is names only; nothing here touches the disk.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["DataDir"]


@dataclass(frozen=True, slots=True)
class DataDir:
    """The paths of the data directory at `root`."""

    root: Path

    @property
    def config(self) -> Path:
        """`platform.toml`."""
        return self.root / "platform.toml"

    @property
    def policy(self) -> Path:
        """`policy.toml`."""
        return self.root / "policy.toml"

    @property
    def registry(self) -> Path:
        """The registry's database file."""
        return self.root / "registry.sqlite"

    @property
    def keys(self) -> Path:
        """The folder of the key files."""
        return self.root / "keys"

    @property
    def root_key(self) -> Path:
        """Where `init` puts the root key."""
        return self.keys / "root.key"

    @property
    def identity(self) -> Path:
        """The sealed identity key."""
        return self.keys / "identity.sealed"

    def epoch_key(self, epoch: int) -> Path:
        """The sealed key of an epoch."""
        return self.keys / f"epoch-{epoch}.sealed"

    def epoch_secret(self, epoch: int) -> Path:
        """The sealed secret of an epoch's lists for the set exchange."""
        return self.keys / f"epoch-{epoch}-lists.sealed"

    @property
    def tls(self) -> Path:
        """The folder of the certificates and their keys."""
        return self.root / "tls"

    @property
    def authority_certificate(self) -> Path:
        """The certificate of the development authority."""
        return self.tls / "ca.pem"

    @property
    def authority_key(self) -> Path:
        """The private key of the development authority."""
        return self.tls / "ca.key"

    @property
    def server_certificate(self) -> Path:
        """The server certificate."""
        return self.tls / "server.pem"

    @property
    def server_key(self) -> Path:
        """The private key of the server certificate."""
        return self.tls / "server.key"

    @property
    def generations(self) -> Path:
        """The folder of the published generations."""
        return self.root / "generations"

    @property
    def publish_lock(self) -> Path:
        """The file that is locked while a generation is being published."""
        return self.root / "publish.lock"

    @property
    def policy_lock(self) -> Path:
        """The file that is locked while the policy is being changed."""
        return self.root / "policy.lock"

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint of the log that was signed."""
        return self.root / "log.checkpoint"
