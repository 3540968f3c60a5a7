"""A second implementation of the set exchange, slow and plain, to check the fast one against.

Written from docs/protocol.md, RFC 5869 (HKDF-Expand), RFC 8439, RFC 9380 and RFC 9497 with Python integers;
the group is that of `slow_poprf`. It shares no code with the package. For tests only.
"""

import hashlib
import hmac

import slow_poprf as slow

DOMAIN = b"purposematch set exchange v1"
CONTEXT = b"purposematch-set-exchange-v1-ristretto255-SHA512"


def expand(secret: bytes, use: str, length: int) -> bytes:
    """RFC 5869 section 2.3 with SHA-512."""
    info, block, out = DOMAIN + b" " + use.encode(), b"", b""
    for i in range(1, -(-length // 64) + 1):
        block = hmac.new(secret, block + info + bytes([i]), hashlib.sha512).digest()
        out += block
    return out[:length]


def scalar(wide: bytes) -> int:
    return int.from_bytes(wide, "little") % slow.L


def hash_to_point(name: str, info: bytes, content: bytes) -> slow.Point:
    prefix = hashlib.sha256(DOMAIN + slow.prefixed(name.encode()) + info).digest()
    return slow.one_way_map(slow.expand_message_xmd(prefix + content, b"HashToGroup-" + CONTEXT, 64))


def list_exponent(epoch: bytes, name: str) -> int:
    return scalar(expand(epoch, f"exponent of {name}", 64))


def planted(epoch: bytes, name: str) -> list[int]:
    wide = expand(epoch, f"planted in {name}", 128 * 64)
    return [scalar(wide[64 * j : 64 * j + 64]) for j in range(128)]


def mask(epoch: bytes, name: str, mask_input: bytes) -> int:
    return scalar(hashlib.sha512(expand(epoch, f"masks of {name}", 32) + mask_input).digest())


def point(epoch: bytes, name: str, info: bytes, content: bytes, mask_input: bytes) -> bytes:
    """The point of one private input; `mask_input` is what stands for it in its mask."""
    hashed = hash_to_point(name, info, content)
    if name == "platform":
        r = mask(epoch, name, mask_input)
        return slow.encode(slow.add(hashed, slow.multiply(r, slow.GENERATOR)))
    return slow.encode(slow.multiply(list_exponent(epoch, name), hashed))


def point_list(
    epoch: bytes, name: str, info: bytes, contents: list[bytes], mask_inputs: list[bytes]
) -> list[bytes]:
    """The encodings of a list, ascending; `contents` are private inputs, canaries among them."""
    pairs = zip(contents, mask_inputs, strict=True)
    points = [point(epoch, name, info, content, mask_input) for content, mask_input in pairs]
    if name != "platform":
        points += [slow.encode(slow.multiply(r, slow.GENERATOR)) for r in planted(epoch, name)]
    return sorted(points)


def advertiser_exponent(seed: bytes) -> int:
    return scalar(expand(seed, "exponent of the advertiser", 64))


def secret_order(seed: bytes, use: str, count: int) -> list[int]:
    key, words = expand(seed, use, 32), []
    for i in range(count):
        block = slow.chacha20_block(key, i // 8, bytes(12))
        words.append((block[8 * (i % 8) : 8 * (i % 8) + 8], i))
    return [i for _, i in sorted(words)]


def own_elements(
    seed: bytes, name: str, info: bytes, listed: list[bytes], canaries: list[bytes]
) -> list[bytes]:
    """Everything that the advertiser sends of its own, in order."""
    a = advertiser_exponent(seed)
    ordered = [listed[i] for i in secret_order(seed, "order of the list", len(listed))]
    contents = ordered + canaries
    return [slow.encode(slow.multiply(a, hash_to_point(name, info, content))) for content in contents]


def returned_points(seed: bytes, name: str, points: list[bytes]) -> list[bytes]:
    """Everything that it gives back, in order."""
    a = advertiser_exponent(seed)
    order = list(range(len(points)))
    if name != "platform":
        order = secret_order(seed, "order of the points", len(points))
    return [slow.encode(slow.multiply(a, slow.decode(points[i]))) for i in order]


def meet(
    epoch: bytes,
    name: str,
    exponent: bytes,
    own: list[bytes],
    returned: list[bytes],
    mask_inputs: list[bytes],
) -> set[bytes]:
    """The points that both lists come to; `mask_inputs`, for `platform`, in the order of what came back."""
    if name == "platform":
        public, freed = slow.decode(exponent), set()
        for element, mask_input in zip(returned, mask_inputs, strict=True):
            r = -mask(epoch, name, mask_input) % slow.L
            freed.add(slow.encode(slow.add(slow.decode(element), slow.multiply(r, public))))
        return set(own) & freed
    b = list_exponent(epoch, name)
    return {slow.encode(slow.multiply(b, slow.decode(element))) for element in own} & set(returned)


# --- the proof of RFC 9497 section 2.2 under a suite and with weights of its own ---


def hash_to_scalar(transcript: bytes, message: bytes) -> int:
    dst = b"HashToScalar-" + CONTEXT + b"-" + transcript
    return scalar(slow.expand_message_xmd(message, dst, 64))


def weights(transcript: bytes, public: bytes, points: list[bytes], returned: list[bytes]) -> list[int]:
    """126 bits for each pair."""
    name = b"Seed-" + CONTEXT + b"-" + transcript
    framed = slow.prefixed(name) + slow.prefixed(public)
    key = hashlib.sha256(framed + b"".join(points) + b"".join(returned)).digest()
    drawn = []
    for i in range(len(points)):
        block = slow.chacha20_block(key, i // 4, bytes(12))
        drawn.append(int.from_bytes(block[16 * (i % 4) : 16 * (i % 4) + 16], "little") % 2**126)
    return drawn


def prove(transcript: bytes, seed: bytes, number: int, points: list[bytes], returned: list[bytes]) -> bytes:
    """The proof of one batch; its nonce follows from the seed and from what is proved."""
    a, key = advertiser_exponent(seed), expand(seed, f"proof of batch {number}", 64)
    r = scalar(hmac.new(key, b"".join(points) + b"".join(returned), hashlib.sha512).digest())
    public = slow.encode(slow.multiply(a, slow.GENERATOR))
    m = slow.IDENTITY
    for weight, point in zip(weights(transcript, public, points, returned), points, strict=True):
        m = slow.add(slow.multiply(weight, slow.decode(point)), m)
    shown = [
        public,
        *(
            slow.encode(point)
            for point in (
                m,
                slow.multiply(a, m),
                slow.multiply(r, slow.GENERATOR),
                slow.multiply(r, m),
            )
        ),
    ]
    e = hash_to_scalar(transcript, b"".join(map(slow.prefixed, shown)) + b"Challenge")
    return slow.scalar_bytes(e) + slow.scalar_bytes(r - e * a)
