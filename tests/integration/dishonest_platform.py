"""The real server with one lie in it, as a process of its own.

    python dishonest_platform.py DATA_DIR MODE_FILE

Which lie is read from MODE_FILE before every answer, so that one process serves all tests of a file. It
prints `serving on HOST:PORT` and runs until it is killed.
"""

import asyncio
import hashlib
import json
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from purposematch.protocol.canary import CANARY_COUNT, canary_inputs
from purposematch.protocol.ciphersuite import (
    MANIFEST_DOMAIN,
    POPRF,
    RECEIPT_DOMAIN,
    REMOVALS_DOMAIN,
    SESSION_DOMAIN,
)
from purposematch.protocol.errors import NotFoundError
from purposematch.protocol.index import Segment
from purposematch.protocol.log.checkpoint import Checkpoint, log_origin
from purposematch.protocol.log.events import Event, EventKind
from purposematch.protocol.log.session_proof import manifest_fields
from purposematch.protocol.manifest import Manifest
from purposematch.protocol.messages import EvaluateRequest
from purposematch.protocol.poprf import EvaluationKey, evaluate, evaluate_blinded, public_key
from purposematch.protocol.scalars import random_scalar
from purposematch.protocol.signing import IdentitySeed, SignedDocument, identity_public_key, sign_document
from purposematch.protocol.transcript import split_output
from purposematch.server.checkpoints import sign_checkpoint
from purposematch.server.log_service import LogService
from purposematch.server.matching import Matching
from purposematch.server.matching_service import MatchingService
from purposematch.server.metrics import Metrics
from purposematch.server.pki import load_certified_key
from purposematch.server.platform import Platform, open_platform
from purposematch.server.processor import Processor
from purposematch.server.publisher import Publisher
from purposematch.server.registry import log
from purposematch.server.removals import Removals
from purposematch.v1 import log_pb2_grpc, matching_pb2_grpc
from purposematch.v1 import matching_pb2 as pb

PLATFORM_ID = "birdsite"
STRANGER = IdentitySeed(b"\x07" * 32)
"""An identity that no client has pinned."""


def pb_copy(message: Any) -> Any:
    """Another message of the same content."""
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _flip(content: bytes, at: int = 0) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


class Liar(MatchingService):
    """Answers as the real service does, and then changes the answer."""

    def __init__(self, platform: Platform, mode_file: Path, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._platform = platform
        self._mode_file = mode_file
        self._segments: dict[bytes, bytes] = {}

    @property
    def mode(self) -> str:
        return self._mode_file.read_text()

    # Signed documents

    def _signed_again(
        self, document: Any, domain: bytes, change: Callable[[dict[str, Any]], None], seed: IdentitySeed
    ) -> Any:
        value = json.loads(document.content)
        change(value)
        signed: SignedDocument = sign_document(seed, domain, value)
        return pb.SignedDocument(content=signed.content, signature=signed.signature)

    async def OpenSession(self, request: Any, context: Any) -> Any:
        answer = await super().OpenSession(request, context)
        mode, own, told = self.mode, self._platform.identity, answer.manifest.content

        def manifest(change: Callable[[dict[str, Any]], None], seed: IdentitySeed = own) -> None:
            answer.manifest.CopyFrom(self._signed_again(answer.manifest, MANIFEST_DOMAIN, change, seed))
            # The grant names the manifest, and the liar sees to that.
            document = SignedDocument(answer.manifest.content, answer.manifest.signature)
            grant(lambda value: value.update(manifest=Manifest.digest(document).hex()))

        def grant(change: Callable[[dict[str, Any]], None], seed: IdentitySeed = own) -> None:
            answer.grant.CopyFrom(self._signed_again(answer.grant, SESSION_DOMAIN, change, seed))

        if mode == "grant bit":
            answer.grant.content = _flip(answer.grant.content, 20)
        elif mode == "grant signature bit":
            answer.grant.signature = _flip(answer.grant.signature)
        elif mode == "grant of a stranger":
            grant(lambda value: None, STRANGER)
        elif mode == "grant is a manifest":
            answer.grant.CopyFrom(answer.manifest)
        elif mode == "grant is empty":
            answer.grant.Clear()
        elif mode == "another agreement":
            grant(lambda value: value.update(agreement="11" * 32))
        elif mode == "another client certificate":
            grant(lambda value: value.update(client_certificate="11" * 32))
        elif mode == "another list size":
            grant(lambda value: value.update(list_size=value["list_size"] + 1))
        elif mode == "a window of nothing":
            grant(lambda value: value.update(window=0))
        elif mode == "an unknown field":
            grant(lambda value: value.update(more=1))
        elif mode == "manifest bit":
            answer.manifest.content = _flip(answer.manifest.content, 30)
        elif mode == "manifest signature bit":
            answer.manifest.signature = _flip(answer.manifest.signature)
        elif mode == "manifest of another time":
            # Signed by the platform, and not the one that the grant names.
            answer.manifest.CopyFrom(
                self._signed_again(
                    answer.manifest, MANIFEST_DOMAIN, lambda value: value.update(watermark="00" * 32), own
                )
            )
        elif mode == "another key for one client, another identity":
            other = public_key(self._platform.group, random_scalar(secrets.token_bytes)).hex()
            manifest(lambda value: value.update(public_key=other), STRANGER)
        elif mode == "another key in the manifest":
            other = public_key(self._platform.group, random_scalar(secrets.token_bytes)).hex()
            manifest(lambda value: value.update(public_key=other))
        elif mode == "no key in the manifest":
            manifest(lambda value: value.update(public_key="00" * 32))
        elif mode == "another purpose":
            manifest(lambda value: value["scope"].update(purpose="marketing.advertising.profiling"))
        elif mode == "another epoch":
            manifest(lambda value: value["scope"].update(epoch=2))
        elif mode == "another platform":
            manifest(lambda value: value["scope"].update(platform_id="otherbirds"))
        elif mode == "another profile":
            manifest(lambda value: value["scope"].update(profile="uid2-v1"))
        elif mode == "another count":
            manifest(lambda value: value.update(count=value["count"] - 1))
        elif mode == "a segment less":
            manifest(lambda value: value.update(segments=[]))
        elif mode == "an old manifest":
            manifest(lambda value: value.update(valid_until=1))
        elif mode == "another generation":
            manifest(lambda value: value.update(generation="11" * 16))
        elif mode == "no canaries":
            content = await self._without_canaries(json.loads(answer.manifest.content))
            self._replace_segment(manifest, content)
        elif mode == "segment out of order":
            content = self._content(json.loads(answer.manifest.content))
            self._replace_segment(manifest, content[16:32] + content[:16] + content[32:])
        elif mode == "segment with a tag twice":
            content = self._content(json.loads(answer.manifest.content))
            self._replace_segment(manifest, content[:16] + content[:-16])
        elif mode == "segments of each other's ranges":
            content = self._content(json.loads(answer.manifest.content))
            half = len(content) // 32 * 16
            self._replace_segment(manifest, content[half:], content[:half])
        elif mode.startswith("log: "):
            self._lie_about_the_log(mode.removeprefix("log: "), answer.proof)
        if answer.manifest.content != told and not mode.endswith(" bit"):
            self._log(answer)
        return answer

    async def CloseSession(self, request: Any, context: Any) -> Any:
        answer = await super().CloseSession(request, context)
        if self.mode.startswith("log at the end: "):
            self._lie_about_the_log(self.mode.removeprefix("log at the end: "), answer.proof)
        return answer

    # The log

    def _log(self, answer: Any) -> None:
        """Sees to it that the false manifest and its session are in the log, as they were told."""
        named = json.loads(answer.manifest.content)["generation"]
        session = json.loads(answer.proof.session.event)
        session |= {"generation": named, "grant": hashlib.sha256(answer.grant.content).hexdigest()}
        with self._platform.registry.writing() as connection:
            size = log.size(connection)
            del session["kind"], session["at"]
            events = [
                Event(EventKind.MANIFEST, 1, manifest_fields(named, answer.manifest.content)),
                Event(EventKind.SESSION, 1, session | {"log_size": size + 1}),
            ]
            log.append(connection, events, secrets.token_bytes)
        answer.proof.checkpoint = sign_checkpoint(self._platform)
        with self._platform.registry.reading() as connection:
            for leaf in log.leaves(connection, size, size + 2):
                shown = answer.proof.manifest if leaf.index == size else answer.proof.session
                shown.index, shown.salt = leaf.index, leaf.opening.salt
                shown.event = leaf.opening.content
                shown.hashes[:] = log.inclusion_proof(connection, leaf.index, size + 2)

    def _lie_about_the_log(self, lie: str, proof: Any) -> None:
        leaf = proof.manifest if "manifest" in lie else proof.session
        if lie == "nothing":
            proof.Clear()
        elif lie == "checkpoint bit":
            proof.checkpoint = _flip(proof.checkpoint, 30)
        elif lie == "checkpoint of a stranger":
            opened = Checkpoint.open(
                proof.checkpoint, log_origin(PLATFORM_ID), identity_public_key(self._platform.identity)
            )
            proof.checkpoint = opened.sign(STRANGER)
        elif lie == "another root":
            # Signed by the platform, of as many leaves.
            opened = Checkpoint.open(
                proof.checkpoint, log_origin(PLATFORM_ID), identity_public_key(self._platform.identity)
            )
            proof.checkpoint = replace(opened, root=bytes(32)).sign(self._platform.identity)
        elif lie.endswith("leaf elsewhere"):
            leaf.index -= 1
        elif lie.endswith("leaf outside"):
            leaf.index = 2**63 - 1
        elif lie.endswith("salt"):
            leaf.salt = _flip(leaf.salt)
        elif lie.endswith("event"):
            leaf.event = leaf.event.replace(b'"at":1', b'"at":2')
        elif lie.endswith("proof"):
            leaf.hashes[0] = _flip(leaf.hashes[0])
        elif lie.endswith("proof cut"):
            del leaf.hashes[-1]
        elif lie == "leaves swapped":
            first, second = pb_copy(proof.session), pb_copy(proof.manifest)
            proof.session.CopyFrom(second)
            proof.manifest.CopyFrom(first)
        else:
            raise AssertionError(lie)

    def _content(self, manifest: dict[str, Any]) -> bytes:
        (named,) = manifest["segments"]
        segment = Segment.from_mapping(named)
        return bytes(self._platform.store.segment(segment).tobytes())

    def _replace_segment(self, manifest: Callable[..., None], *contents: bytes) -> None:
        for content in contents:
            self._segments[hashlib.sha256(content).digest()] = content
        named = [
            {"count": len(content) // 16, "sha256": hashlib.sha256(content).hexdigest()}
            for content in contents
        ]
        manifest(lambda value: value.update(segments=named))

    async def _without_canaries(self, manifest: dict[str, Any]) -> bytes:
        """The segment with other tags in the places of one canary, as many as before."""
        platform, stored = self._platform, self._platform.store.load(manifest["generation"])
        scope = stored.manifest.scope
        key = EvaluationKey(
            platform.group, POPRF, platform.key_store.load_epoch_key(scope.epoch), scope.info()
        )
        inputs = canary_inputs(stored.manifest.generation)
        tags, _ = split_output(evaluate(platform.group, POPRF, key, inputs, scope.info()))
        gone = {tags[CANARY_COUNT // 2].tobytes()}
        content = self._content(manifest)
        rows = [content[i : i + 16] for i in range(0, len(content), 16)]
        return b"".join(sorted({row for row in rows if row not in gone} | {secrets.token_bytes(16)}))

    # Evaluation

    async def _evaluated(self, peer: Any, requests: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        held: list[Any] = []
        messages: dict[int, Any] = {}

        async def noted() -> AsyncIterator[Any]:
            async for message in requests:
                messages[message.batch_number] = message
                yield message

        async for answer in super()._evaluated(peer, noted()):
            mode, number = self.mode, answer.batch_number
            if number == 1:
                elements = answer.evaluated_elements
                if mode == "element bit":
                    answer.evaluated_elements = _flip(elements, 64)
                elif mode == "elements swapped":
                    answer.evaluated_elements = elements[32:64] + elements[:32] + elements[64:]
                elif mode == "the identity":
                    answer.evaluated_elements = bytes(32) + elements[32:]
                elif mode == "the request itself":
                    answer.evaluated_elements = messages[1].blinded_elements
                elif mode == "too few elements":
                    answer.evaluated_elements = elements[:-32]
                elif mode == "too many elements":
                    answer.evaluated_elements = elements + elements[:32]
                elif mode == "half an element":
                    answer.evaluated_elements = elements[:-1]
                elif mode == "proof bit":
                    answer.proof = _flip(answer.proof, 40)
                elif mode == "no proof":
                    answer.proof = b""
                elif mode == "proof of zeros":
                    answer.proof = bytes(64)
                elif mode == "proof not canonical":
                    answer.proof = b"\xff" * 64
                elif mode == "another key for one batch":
                    answer = self._with_another_key(messages[1])
                elif mode == "a wrong batch number":
                    answer.batch_number = 999
                elif mode == "another batch's number":
                    answer.batch_number = 0
                elif mode == "twice":
                    yield answer
                elif mode == "another batch's answer":
                    first = held[0]
                    answer.evaluated_elements, answer.proof = first.evaluated_elements, first.proof
                elif mode == "the stream ends":
                    return
            held.append(answer)
            yield answer

    def _with_another_key(self, message: Any) -> Any:
        """Evaluated and proved as it should be, under a key that is not the manifest's."""
        platform = self._platform
        request = EvaluateRequest.decode(message.batch_number, message.blinded_elements)
        key = EvaluationKey(platform.group, POPRF, random_scalar(secrets.token_bytes), b"any")
        blinded = platform.group.decode(request.blinded)
        evaluated, proof = evaluate_blinded(platform.group, POPRF, key, blinded, secrets.token_bytes)
        return pb.EvaluateResponse(
            batch_number=request.number,
            evaluated_elements=np.asarray(platform.group.encode(evaluated)).tobytes(),
            proof=proof.encode(),
        )

    # Segments

    async def _segment_parts(self, peer: Any, session_id: bytes, sha256: bytes) -> AsyncGenerator[Any, None]:
        mode, own = self.mode, self._segments.get(sha256)
        if own is not None:
            yield pb.FetchSegmentResponse(content=own)
            return
        if mode == "segment missing":
            raise NotFoundError("gone")
        if mode == "segment empty":
            return
        parts = [part async for part in super()._segment_parts(peer, session_id, sha256)]
        if mode == "segment bit":
            parts[-1].content = _flip(parts[-1].content, 100)
        elif mode == "segment too short":
            parts[-1].content = parts[-1].content[:-16]
        elif mode == "segment too long":
            parts[-1].content += bytes(16)
        elif mode == "segment without end":
            parts = parts * 1_000
        for part in parts:
            yield part

    # Removals

    async def _removal_parts(self, found: Any) -> AsyncGenerator[Any, None]:
        parts = [part async for part in super()._removal_parts(found)]
        mode, own, listed = self.mode, self._platform.identity, parts[0].list

        def signed(change: Callable[[dict[str, Any]], None], seed: IdentitySeed = own) -> None:
            listed.CopyFrom(self._signed_again(listed, REMOVALS_DOMAIN, change, seed))

        def replaced(tags: bytes) -> None:
            parts[1].tags = tags
            named = {"count": len(tags) // 16, "sha256": hashlib.sha256(tags).hexdigest()}
            signed(lambda value: value.update(named))

        if mode == "removals bit":
            parts[-1].tags = _flip(parts[-1].tags, 5)
        elif mode == "removals list bit":
            listed.content = _flip(listed.content, 10)
        elif mode == "removals signature bit":
            listed.signature = _flip(listed.signature)
        elif mode == "removals of a stranger":
            signed(lambda value: None, STRANGER)
        elif mode == "removals cut":
            parts[-1].tags = parts[-1].tags[:-16]
        elif mode == "removals without tags":
            parts = parts[:1]
        elif mode == "removals without end":
            parts += parts[1:] * 1_000
        elif mode == "removals without list":
            parts = parts[1:]
        elif mode == "no removals":
            parts = []
        elif mode == "removals out of order":
            replaced(parts[1].tags[16:] + parts[1].tags[:16])
        elif mode == "removals with a tag twice":
            replaced(parts[1].tags[:16] * 2)
        elif mode == "removals of another epoch":
            signed(lambda value: value["scope"].update(epoch=2))
        elif mode == "removals of another purpose":
            signed(lambda value: value["scope"].update(purpose="marketing.advertising.profiling"))
        elif mode == "removals final in words":
            signed(lambda value: value.update(final=0))
        elif mode == "removals with a receipt's domain":
            listed.CopyFrom(self._signed_again(listed, RECEIPT_DOMAIN, lambda value: None, own))
        for part in parts:
            yield part

    # Commit

    async def Commit(self, requests: AsyncIterator[Any], context: Any) -> Any:
        answer = await super().Commit(requests, context)
        mode, own = self.mode, self._platform.identity

        def receipt(change: Callable[[dict[str, Any]], None], seed: IdentitySeed = own) -> None:
            answer.receipt.CopyFrom(self._signed_again(answer.receipt, RECEIPT_DOMAIN, change, seed))

        if mode == "receipt bit":
            answer.receipt.content = _flip(answer.receipt.content, 25)
        elif mode == "receipt signature bit":
            answer.receipt.signature = _flip(answer.receipt.signature)
        elif mode == "receipt of a stranger":
            receipt(lambda value: None, STRANGER)
        elif mode == "no receipt":
            answer.Clear()
        elif mode == "receipt with another count":
            receipt(lambda value: value.update(received=value["received"] - 1))
        elif mode in ("session", "commit", "generation"):
            receipt(lambda value: value.update({mode: "22" * 16}))
        elif mode in ("agreement", "transcript"):
            receipt(lambda value: value.update({mode: "22" * 32}))
        return answer


async def main(data_dir: Path, mode_file: Path) -> None:
    """Serves for ever."""
    with open_platform(data_dir) as platform, ThreadPoolExecutor(2) as pool:
        server = grpc.aio.server()
        certified = load_certified_key(platform.data_dir.server_certificate, platform.data_dir.server_key)
        matching = Matching(platform, lambda: certified.fingerprint)
        # One batch at a time, so that answers come in order and every lie has its place.
        options = {"batches_per_stream": 1, "silence_seconds": 300}
        publisher, removals, metrics = Publisher(platform, pool), Removals(platform), Metrics(platform)
        processor = Processor(pool, 1, platform.config.limits.least_rate, metrics)
        parts = (matching, publisher, removals, pool, metrics, processor)
        liar = Liar(replace(platform), mode_file, *parts, **options)
        matching_pb2_grpc.add_MatchingServiceServicer_to_server(liar, server)
        log_pb2_grpc.add_LogServiceServicer_to_server(LogService(platform, pool), server)
        credentials = grpc.ssl_server_credentials(
            [
                (
                    platform.data_dir.server_key.read_bytes(),
                    platform.data_dir.server_certificate.read_bytes(),
                )
            ],
            root_certificates=platform.data_dir.authority_certificate.read_bytes(),
            require_client_auth=True,
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        print(f"serving on 127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
