"""A match in memory: both sides of one session, with every message turned into bytes and back."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from samples import AGREEMENT, IDENTITY, SCOPE, private_inputs

from purposematch.protocol.advertiser import AdvertiserSession, check_grant
from purposematch.protocol.canary import CANARY_COUNT, canary_inputs
from purposematch.protocol.ciphersuite import POPRF
from purposematch.protocol.group import Bytes, Group, SecretScalar
from purposematch.protocol.index import Index, Segment, cut, order_by_tag
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import CommitEntries, EvaluateReply, EvaluateRequest, SessionGrant
from purposematch.protocol.platform import PlatformSession
from purposematch.protocol.poprf import EvaluationKey, SessionSeed, evaluate, public_key
from purposematch.protocol.secret import SecretArray, reveal_array
from purposematch.protocol.signing import SignedDocument, identity_public_key
from purposematch.protocol.transcript import split_output

KEY = SecretScalar(b"\5" * 31 + b"\0")
GENERATION = b"g" * 16
CERTIFICATE = hashlib.sha256(b"the certificate of acme").digest()


def random_bytes(n: int) -> bytes:
    return b"\x37" * n


@dataclass
class Published:
    """A generation as the platform keeps it."""

    key: EvaluationKey
    identifiers: list[int]
    tags: Bytes
    tokens: SecretArray
    document: SignedDocument
    index: Index


def publish(
    group: Group,
    enrolled: Collection[int],
    *,
    bits: int = 0,
    key: SecretScalar = KEY,
    scope: Any = SCOPE,
    generation: bytes = GENERATION,
) -> Published:
    """Evaluates what is enrolled and the canaries, and signs it all."""
    own = EvaluationKey(group, POPRF, key, scope.info())
    inputs = np.concatenate([private_inputs(sorted(enrolled)), canary_inputs(generation)])
    tags, tokens = split_output(evaluate(group, POPRF, own, inputs, scope.info()))
    order = order_by_tag(tags)
    segments = cut(np.ascontiguousarray(tags[order]), bits)
    manifest = Manifest(
        generation=generation,
        scope=scope,
        public_key=public_key(group, key),
        count=len(enrolled),
        watermark=bytes(32),
        published_at=0,
        valid_until=1,
        policy=bytes(32),
        taxonomy=bytes(32),
        segments=tuple(map(Segment.of, segments)),
        additions=(),
    )
    numbers = [*sorted(enrolled), *[-1] * CANARY_COUNT]
    return Published(
        key=own,
        identifiers=[numbers[i] for i in order],
        tags=np.ascontiguousarray(tags[order]),
        tokens=SecretArray(reveal_array(tokens)[order]),
        document=manifest.sign(IDENTITY),
        index=Index(
            [
                segment.check(content.tobytes())
                for segment, content in zip(manifest.segments, segments, strict=True)
            ]
        ),
    )


@dataclass
class Match:
    """One session, both sides, over messages that are turned into bytes and back."""

    group: Group
    published: Published
    listed: list[int]
    batch: int = 16
    manifest: Manifest = field(init=False)
    grant: SessionGrant = field(init=False)
    advertiser: AdvertiserSession = field(init=False)
    platform: PlatformSession = field(init=False)
    inputs: Bytes = field(init=False)

    def __post_init__(self) -> None:
        public = identity_public_key(IDENTITY)
        grant = SessionGrant(
            session=b"s" * 16,
            agreement=AGREEMENT.digest,
            manifest=Manifest.digest(self.published.document),
            client_certificate=CERTIFICATE,
            server_certificate=b"p" * 32,
            list_size=len(self.listed),
            max_batch_elements=self.batch,
            window=4,
        ).sign(IDENTITY)
        self.manifest = Manifest.open(self.published.document, public)
        self.grant = SessionGrant.open(grant, public)
        check_grant(
            self.grant,
            self.manifest,
            Manifest.digest(self.published.document),
            AGREEMENT,
            CERTIFICATE,
            len(self.listed),
            self.manifest.published_at,
        )
        seed = SessionSeed(hashlib.sha256(b"seed").digest())
        self.advertiser = AdvertiserSession(self.group, self.grant, self.manifest, seed, len(self.listed))
        self.platform = PlatformSession(self.group, self.published.key, self.grant)
        self.inputs = np.concatenate([private_inputs(self.listed), self.advertiser.canaries])

    def request(self, number: int) -> EvaluateRequest:
        first, stop = self.advertiser.bounds(number)
        request = self.advertiser.request(number, self.inputs[first:stop])
        return EvaluateRequest.decode(request.number, request.blinded.tobytes())

    def answer(self, request: EvaluateRequest, platform: PlatformSession | None = None) -> EvaluateReply:
        platform = platform or self.platform
        reply = platform.evaluate(request.number, platform.group.decode(request.blinded), random_bytes)
        return EvaluateReply.decode(reply.number, reply.evaluated.tobytes(), reply.proof.encode())

    def run(self, order: list[int] | None = None) -> tuple[list[int], CommitEntries]:
        """The whole exchange: which identifiers of the list match, and the commit."""
        before, found, tags, tokens = 0, [], [], []
        for number in order or range(self.advertiser.batches):
            request = self.request(number)
            assert self.platform.admit(request, before, None)
            before += len(request.blinded)
            evaluation = self.advertiser.reply(self.answer(request))
            hits = self.advertiser.matches(evaluation, self.published.index)
            places = np.flatnonzero(hits)
            found += [self.listed[evaluation.first + int(place)] for place in places]
            tags.append(evaluation.tags[places])
            tokens.append(reveal_array(evaluation.tokens)[places])
        assert before == self.platform.max_elements
        self.advertiser.close_list()
        every_tag, every_token = np.concatenate(tags), np.concatenate(tokens)
        rows = order_by_tag(every_tag)
        entries = self.advertiser.commit(every_tag[rows], SecretArray(every_token[rows]))
        return found, CommitEntries.decode(entries.encode())

    def open_commit(self, entries: CommitEntries, evaluated: int | None = None) -> list[int]:
        """The identifiers that the platform finds behind a commit."""
        evaluated = self.platform.max_elements if evaluated is None else evaluated
        places = self.platform.open_commit(entries, self.published.tags, self.published.tokens, evaluated)
        return [self.published.identifiers[place] for place in places]
