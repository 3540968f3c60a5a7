"""Both halves of a set exchange without anything between them, for tests of the protocol."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from samples import grant, manifest, private_inputs

from purposematch.protocol.canary import canary_inputs
from purposematch.protocol.group import Bytes, Elements, Group
from purposematch.protocol.hashing import one_row
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import SessionGrant
from purposematch.protocol.point_segments import PointSegment, cut_points
from purposematch.protocol.poprf import SessionSeed
from purposematch.protocol.set_exchange.advertiser import AdvertiserExchange
from purposematch.protocol.set_exchange.meeting import Meeting, check_planted, meet
from purposematch.protocol.set_exchange.messages import OwnBatch, ReturnedBatch
from purposematch.protocol.set_exchange.platform import PlatformExchange
from purposematch.protocol.set_exchange.points import (
    EpochSecret,
    canary_mask_inputs,
    list_points,
    list_secret,
    order_of_encodings,
    planted_points,
    planted_scalars,
)
from purposematch.protocol.set_exchange.shape import Shape

SECRET = EpochSecret(hashlib.sha256(b"purposematch test epoch").digest())
SEED = hashlib.sha256(b"purposematch test seed").digest()


@dataclass
class Rehearsal:
    """One set exchange: `enrolled` and `listed` are numbers of invented identifiers (`samples`)."""

    group: Group
    name: str
    enrolled: Sequence[int]
    listed: Sequence[int]
    batch: int = 100
    segment: int = 100
    seed: bytes = SEED
    canaries: bytes | None = None
    points: Bytes = field(init=False)
    mask_inputs: Bytes = field(init=False)
    rows: list[int] = field(init=False)
    grant: SessionGrant = field(init=False)
    manifest: Manifest = field(init=False)
    advertiser: AdvertiserExchange = field(init=False)
    platform: PlatformExchange = field(init=False)

    def __post_init__(self) -> None:
        base, group = manifest(), self.group
        info, secret, generation = base.scope.info(), list_secret(SECRET, self.name), self.canaries
        generation = generation or base.generation
        own = private_inputs(self.enrolled)
        inputs = np.concatenate([own, canary_inputs(generation)])
        # What stands for an identifier is a keyed digest in the registry; here a part of its digest does.
        self.mask_inputs = np.concatenate([own[:, 7:23], canary_mask_inputs(generation)])
        points = group.encode(list_points(group, self.name, info, secret, inputs, self.mask_inputs))
        if not self.in_order:
            planted = planted_points(group, planted_scalars(group, SECRET, self.name))
            points = np.concatenate([points, group.encode(planted)])
        order = order_of_encodings(points)
        self.points, self.rows = points[order], order.tolist()
        if self.in_order:
            self.mask_inputs = self.mask_inputs[order]
        segments = tuple(map(PointSegment.of, cut_points(self.points, self.segment)))
        self.manifest = replace(base, point_lists={self.name: segments})
        self.grant = replace(grant(), list_size=len(self.listed), max_batch_elements=self.batch)
        self.advertiser = AdvertiserExchange(
            group,
            self.name,
            self.grant,
            self.manifest,
            SessionSeed(self.seed),
            in_order=self.in_order,
        )
        shape = Shape.of(self.grant, self.manifest, self.name)
        self.platform = PlatformExchange(group, secret, self.grant, shape)

    @property
    def in_order(self) -> bool:
        return self.name == "platform"

    @property
    def shape(self) -> Shape:
        return self.platform.shape

    def own(self) -> list[OwnBatch]:
        """What the advertiser sends of its own."""
        inputs, batches = private_inputs(self.listed), []
        for number in range(self.shape.own_batches):
            numbers = self.advertiser.own_numbers(number)
            rows = np.concatenate([inputs[numbers], self.advertiser.own_canaries(number)])
            batches.append(self.advertiser.own(number, rows))
        return batches

    def returned(self) -> list[ReturnedBatch]:
        """What it gives back."""
        return [
            self.advertiser.give_back(number, self.points[self.advertiser.returned_places(number)])
            for number in range(len(self.shape.segments))
        ]

    def take(self, own: Sequence[OwnBatch], returned: Sequence[ReturnedBatch]) -> Meeting:
        """What the platform makes of it."""
        platform, exponent = self.platform, own[0].exponent
        public: Elements | None = None
        known: dict[int, bytes] = {}
        own_marks: dict[int, Bytes] = {}
        for batch in own:
            if platform.admit_own(batch, known.get(batch.number), exponent if known else None):
                own_marks[batch.number] = platform.own_marks(batch)
            known[batch.number] = batch.digest
        known, returned_marks = {}, {}
        for back in returned:
            if platform.admit_returned(back, known.get(back.number)):
                first, stop = self.shape.returned_bounds(back.number)
                public = public or self.group.decode(one_row(exponent))
                inputs = self.mask_inputs[first:stop] if self.in_order else None
                points = self.points[first:stop]
                returned_marks[back.number] = platform.returned_marks(back, public, points, inputs)
            known[back.number] = back.digest
        assert len(own_marks) == self.shape.own_batches
        assert len(returned_marks) == len(self.shape.segments)
        blocks = [returned_marks[number] for number in sorted(returned_marks)]
        if not self.in_order:
            scalars = planted_scalars(self.group, SECRET, self.name)
            check_planted(platform.planted_marks(exponent, scalars), lambda: blocks, self.shape.points)
        return meet(np.concatenate([own_marks[number] for number in sorted(own_marks)]), blocks)

    def matched(self, meeting: Meeting) -> set[int]:
        """The enrolled identifiers at the places where the lists meet, without canaries; for `platform`."""
        rows = [self.rows[place] for place in meeting.places.tolist()]
        return {self.enrolled[row] for row in rows if row < len(self.enrolled)}
