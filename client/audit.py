"""Checks a bundle of a platform's log and receipts of sessions against each other, without the platform.

::

    from purposematch.client import audit_bundle

    audit_bundle("bundle", identity_key, receipts=["acme.csv.receipt", "globex.csv.receipt"])

A receipt holds a checkpoint that its advertiser was shown. If it is not a beginning of the bundle's tree, the
platform showed two logs: a split view. Two receipts that contradict each other are both named.

Not protected against: an advertiser that was shown another log and gives no receipt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from purposematch.client.bundle import Bundle, open_bundle
from purposematch.client.receipt import OpenedReceipt, SessionReceipt
from purposematch.protocol.errors import DecodeError, ForkError, VerificationError
from purposematch.protocol.log.checkpoint import log_origin
from purposematch.protocol.log.proofs import inclusion_ranges
from purposematch.protocol.log.session_proof import SessionProof, manifest_fields
from purposematch.protocol.manifest import Manifest

__all__ = ["BundleAudit", "CheckedReceipt", "audit_bundle"]


@dataclass(frozen=True, slots=True)
class CheckedReceipt:
    """A receipt in which everything holds.

    Attributes:
        path: its file.
        receipt: what it says.
        proof: what it shows of the log.
    """

    path: Path
    receipt: OpenedReceipt
    proof: SessionProof

    @property
    def name(self) -> str:
        """What it is called in an error: its file, its advertiser and how many leaves it was shown."""
        size = self.receipt.checkpoint.size
        return f"{self.path} (advertiser {self.receipt.advertiser}, {size:,} leaves)"

    def subtrees(self) -> Iterator[tuple[int, int, bytes]]:
        """Subtrees of the tree that it was shown: the first leaf, the one after the last, and the hash."""
        checkpoint = self.receipt.checkpoint
        yield 0, checkpoint.size, checkpoint.root
        for leaf in (self.proof.session, self.proof.manifest):
            yield leaf.index, leaf.index + 1, leaf.opening.leaf_hash()
            for (begin, end), found in zip(
                inclusion_ranges(leaf.index, checkpoint.size), leaf.hashes, strict=True
            ):
                yield begin, end, found


@dataclass(frozen=True, slots=True)
class BundleAudit:
    """What was checked and holds.

    Attributes:
        bundle: the bundle.
        receipts: the receipts, all of them shown beginnings of the bundle's tree.
    """

    bundle: Bundle
    receipts: tuple[CheckedReceipt, ...]

    def to_mapping(self) -> dict[str, object]:
        """The document that `purposematch audit --json` prints."""
        return {
            "platform_id": self.bundle.head.platform_id,
            "leaves": self.bundle.checkpoint.size,
            "root": self.bundle.checkpoint.root.hex(),
            "policies": len(self.bundle.policies),
            "epochs": len(self.bundle.epochs),
            "manifests": len(self.bundle.manifests),
            "receipts": [
                {
                    "file": str(each.path),
                    "advertiser": each.receipt.advertiser,
                    "session": each.receipt.grant.session.hex(),
                    "leaves": each.receipt.checkpoint.size,
                }
                for each in self.receipts
            ],
        }


def audit_bundle(
    folder: Path | str,
    identity_key: bytes,
    *,
    platform_id: str | None = None,
    receipts: Sequence[Path | str] = (),
) -> BundleAudit:
    """Checks a bundle, and receipts against it.

    Args:
        folder: the bundle.
        identity_key: the platform's pinned identity key, 32 bytes.
        platform_id: the platform that it must be of; any if None.
        receipts: files that `match` wrote, of any advertisers.

    Raises:
        InputError: the folder or a receipt cannot be read.
        ForkError: a receipt shows another log than the bundle, or than another receipt; the text names both.
        VerificationError, DecodeError: something else does not hold; the text begins with the file.
    """
    bundle = open_bundle(Path(folder), identity_key, platform_id)
    checked = [_checked(bundle, Path(path)) for path in receipts]
    for each in checked:
        if not _is_shown(bundle, each.receipt):
            _name_split(bundle, checked, each)
    for each in checked:
        _check_manifest(bundle, each)
    return BundleAudit(bundle, tuple(checked))


def _checked(bundle: Bundle, path: Path) -> CheckedReceipt:
    """A receipt in itself."""
    head = bundle.head
    try:
        receipt = SessionReceipt.load(path)
        opened = receipt.open(log_origin(head.platform_id), head.identity_key)
        if opened.checkpoint.size > bundle.checkpoint.size:
            raise VerificationError(
                f"the receipt was shown {opened.checkpoint.size:,} leaves and the bundle has "
                f"{bundle.checkpoint.size:,}: ask the platform for a bundle of today"
            )
    except (VerificationError, DecodeError) as error:
        raise type(error)(f"{path}: {error}") from None
    return CheckedReceipt(path, opened, receipt.proof)


def _is_shown(bundle: Bundle, receipt: OpenedReceipt) -> bool:
    """Whether the tree of a receipt is a beginning of the bundle's."""
    return bundle.subtree(0, receipt.checkpoint.size) == receipt.checkpoint.root


def _name_split(bundle: Bundle, checked: Sequence[CheckedReceipt], wrong: CheckedReceipt) -> NoReturn:
    """Says which two contradict each other: two receipts where that is proven, or one and the bundle."""
    for other in checked:
        if _contradict(bundle, wrong, other):
            raise ForkError(
                f"split view: {wrong.name} and {other.name} were shown two logs that contradict each other, "
                "both signed by the platform's identity key"
            )
    raise ForkError(
        f"split view: {wrong.name} was shown another log than the bundle's checkpoint of "
        f"{bundle.checkpoint.size:,} leaves, both signed by the platform's identity key"
    )


def _contradict(bundle: Bundle, wrong: CheckedReceipt, other: CheckedReceipt) -> bool:
    """Whether two receipts show trees of which neither is the beginning of the other, as far as can be seen.

    Args:
        bundle: the bundle.
        wrong: its tree is no beginning of the bundle's.
        other: any.
    """
    shown = other.receipt.checkpoint
    if _is_shown(bundle, other.receipt):
        # The bundle then knows all of the other tree.
        return any(
            end <= shown.size and bundle.subtree(begin, end) != found
            for begin, end, found in wrong.subtrees()
        )
    known = {(begin, end): found for begin, end, found in other.subtrees()}
    sizes = (shown.size, wrong.receipt.checkpoint.size)
    return any(
        # A complete subtree is in every later tree, another one in trees of its own size alone.
        (_is_complete(begin, end) or sizes[0] == sizes[1]) and known.get((begin, end), found) != found
        for begin, end, found in wrong.subtrees()
    )


def _is_complete(begin: int, end: int) -> bool:
    """Whether a subtree has as many leaves as its height allows, so that it never changes."""
    return (end - begin) & (end - begin - 1) == 0


def _check_manifest(bundle: Bundle, each: CheckedReceipt) -> None:
    """Checks that the bundle opens the manifest of a receipt, and that its grant names the same one."""
    index = each.proof.manifest.index
    document = bundle.manifests.get(index)
    if document is None:
        raise VerificationError(f"{each.path}: the bundle leaves out the manifest at leaf {index}")
    named = str(each.receipt.manifest.fields.get("generation"))
    if each.receipt.manifest.fields != manifest_fields(named, document.content):
        raise VerificationError(f"{each.path}: its leaf names another manifest than the bundle")
    if each.receipt.grant.manifest != Manifest.digest(document):
        raise VerificationError(f"{each.path}: its grant names another manifest than the log")
