"""Signs checkpoints of the log, each of them an extension of the last one that was signed.

The last one is kept beside the registry, in `log.checkpoint`, and is there since `init`: a registry that was
replaced by an older copy, or rewritten, is noticed before anything contradicting is signed.

Not protected against: somebody who puts back an older registry together with its older checkpoint. Readers
that kept a later one find it.
"""

from purposematch.protocol.errors import (
    ConfigurationError,
    DecodeError,
    IntegrityError,
    VerificationError,
)
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.server.platform import Platform
from purposematch.server.private_files import locked_folder, read_private, replace_file
from purposematch.server.registry import log

__all__ = ["check_log", "last_checkpoint", "sign_checkpoint"]

_MAX_NOTE_BYTES = 65_536


def last_checkpoint(platform: Platform) -> Checkpoint:
    """The last checkpoint that was signed.

    Raises:
        ConfigurationError: its file is missing, or open to others.
        IntegrityError: the file is damaged, or another platform's.
    """
    path = platform.data_dir.checkpoint
    origin = log_origin(platform.config.platform_id)
    if not path.exists():
        raise ConfigurationError(
            f"{path} is missing: put back the note that was signed last, from a backup, from a bundle, or "
            "from an advertiser that kept it"
        )
    try:
        return Checkpoint.open(read_private(path, _MAX_NOTE_BYTES), origin, platform.identity_key)
    except (DecodeError, VerificationError):
        raise IntegrityError(f"file {path.name} is damaged: put back the one that was signed last") from None


def check_log(platform: Platform) -> None:
    """Checks that the log extends the last checkpoint that was signed, before anything is added to it.

    Raises:
        ConfigurationError: the last one is missing.
        IntegrityError: the log does not extend it, or it is damaged.
    """
    # Read first: another process may sign a longer log than the snapshot has.
    last = last_checkpoint(platform)
    with platform.registry.reading() as connection:
        log.check_extends(connection, last)


def sign_checkpoint(platform: Platform) -> bytes:
    """Signs the state of the log now and keeps it as the last one; the signed note.

    Raises:
        ConfigurationError: the last one is missing, or can not be replaced.
        IntegrityError: the log does not extend it, or it is damaged; nothing was signed.
    """
    # The lock is taken before the log is looked at: of two signers the later one sees the longer log.
    with locked_folder(platform.data_dir.root):
        last = last_checkpoint(platform)
        with platform.registry.reading() as connection:
            log.check_extends(connection, last)
            now = log.checkpoint(connection, platform.config.platform_id)
        note = now.sign(platform.identity)
        if now != last:
            replace_file(platform.data_dir.checkpoint, note)
        return note
