"""A second implementation of a match by VOLE, slow and plain, to check the fast one against.

Written from the statements in the docstrings of `purposematch.protocol.vole`, with Python integers, hashlib
and the AES of `cryptography`; the group is that of `slow_poprf`. It shares no code with the package. For
tests only.
"""

import hashlib
from collections.abc import Callable
from functools import cache

import slow_poprf as slow
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

DOMAIN = b"purposematch vole v1"
K, DISTANCE, BAND = 5, 26, 256
Random = Callable[[int], bytes]


def number(content: bytes) -> int:
    return int.from_bytes(content, "little")


# The code: GF(2^8) with 0x11D, generator polynomial, remainder by long division.


def gf_multiply(a: int, b: int) -> int:
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for degree in range(14, 7, -1):
        if product >> degree & 1:
            product ^= 0x11D << degree - 8
    return product


def gf_power(exponent: int) -> int:
    value = 1
    for _ in range(exponent):
        value = gf_multiply(value, 2)
    return value


@cache
def generator(errors: int) -> int:
    """The polynomial of least degree that has alpha^1 .. alpha^(2t) as roots."""
    roots = {(i << turn) % 255 for i in range(1, 2 * errors + 1) for turn in range(8)}
    coefficients = [1]
    for root in roots:
        alpha = gf_power(root)
        shifted, scaled = [0, *coefficients], [gf_multiply(c, alpha) for c in coefficients] + [0]
        coefficients = [a ^ b for a, b in zip(shifted, scaled, strict=True)]
    assert set(coefficients) <= {0, 1}
    return sum(bit << degree for degree, bit in enumerate(coefficients))


def code_word(value: int, bits: int) -> int:
    """Message bits, check bits, parity bit; bit j of the result is place j."""
    polynomial = generator(DISTANCE // 2 - 1)
    degree = polynomial.bit_length() - 1
    rest = value << degree
    for at in range(bits + degree - 1, degree - 1, -1):
        if rest >> at & 1:
            rest ^= polynomial << at - degree
    word = value | rest << bits
    return word | word.bit_count() % 2 << bits + degree


def code_length(bits: int) -> int:
    return bits + generator(DISTANCE // 2 - 1).bit_length()


# AES under fixed keys.


def permute(key: bytes, block: int) -> int:
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # one block at a time is a permutation
    return number(cipher.update(block.to_bytes(16, "little")))


def mmo(key: bytes, block: int) -> int:
    return permute(key, block) ^ block


def tmmo(key: bytes, block: int, tweak: int) -> int:
    inner = permute(key, block)
    return permute(key, inner ^ tweak) ^ inner


class Session:
    """The sizes, and the keys that both sides derive."""

    def __init__(self, sizes: tuple[int, int], binding: bytes, nonces: tuple[bytes, bytes]) -> None:
        n_x, n_y = sizes
        self.n_x, self.n_y = n_x, n_y
        need = 40 + max(n_x - 1, 0).bit_length() + max(n_y - 1, 0).bit_length()
        self.length = (max(need, 80) + 7) // 8
        self.bits = 8 * self.length
        self.trees = code_length(self.bits)
        self.slots = n_x + (n_x + 9) // 10 + BAND
        self.columns = (self.slots + 511) // 512
        declared = n_x.to_bytes(8, "little") + n_y.to_bytes(8, "little")
        bound = hashlib.sha256(binding).digest()
        self.context = hashlib.sha256(
            DOMAIN + b" session" + declared + bound + nonces[0] + nonces[1]
        ).digest()
        masks = self.expand("compression", 128 * self.trees)
        self.masks = [[masks[128 * j + o] & 31 for o in range(128)] for j in range(self.trees)]

    def expand(self, name: str, length: int) -> bytes:
        label = name.encode()
        return hashlib.shake_256(DOMAIN + b" key" + bytes([len(label)]) + label + self.context).digest(length)

    def key(self, name: str) -> bytes:
        return self.expand(name, 16)

    def row(self, item: bytes) -> tuple[int, int, int, int]:
        """K, the value, the start and the band of an item."""
        digest = hashlib.sha256(self.expand("item", 64) + item).digest()
        key = number(digest[:16])
        start = ((number(digest[:8]) >> 25) * (self.slots - BAND + 1)) >> 39
        band = mmo(self.key("band low"), key) | mmo(self.key("band high"), key) << 128
        return key, number(digest[16:]) % 2**self.bits, start, band

    def planes(self, leaves: list[int], column: int) -> list[int]:
        """The streams of the leaves for a column, as integers of 512 bits: word w at bit 64 w."""
        key = self.key("stream")
        cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        streams = []
        for leaf in leaves:
            blocks = [leaf ^ (4 * column + part) for part in range(4)]
            content = cipher.update(b"".join(block.to_bytes(16, "little") for block in blocks))
            streams.append(number(content) ^ sum(block << 128 * i for i, block in enumerate(blocks)))
        return streams

    def compress(self, symbols: list[list[int]]) -> list[int]:
        """Blocks of 512 slots from the k planes of every tree; slot 8 i + w is bit i of word w."""
        outputs = []
        for o in range(128):
            plane = 0
            for j in range(self.trees):
                for bit in range(K):
                    if self.masks[j][o] >> bit & 1:
                        plane ^= symbols[j][bit]
            outputs.append(plane)
        return [
            sum((plane >> 64 * (slot % 8) + slot // 8 & 1) << o for o, plane in enumerate(outputs))
            for slot in range(512)
        ]

    def product(self, start: int, band: int, slots: list[int]) -> int:
        total = 0
        for bit in range(BAND):
            if band >> bit & 1:
                total ^= slots[start + bit]
        return total


# The steps that both sides share.


def base_key(session: Session, i: int, parts: list[bytes]) -> int:
    head = DOMAIN + b" base" + session.context + i.to_bytes(4, "little")
    return number(hashlib.sha256(head + b"".join(parts)).digest()[:16])


def prg(session: Session, i: int, key: int, length: int) -> int:
    head = DOMAIN + b" extension" + session.context + bytes([i])
    return number(hashlib.shake_256(head + key.to_bytes(16, "little")).digest(length))


def column_of(rows: list[int], j: int) -> int:
    return sum((row >> j & 1) << i for i, row in enumerate(rows))


def solve(session: Session, rows: list[tuple[int, int, int, int]]) -> list[int]:
    """Gauss: pivots at the lowest column of each row; columns without pivot are zero."""
    pivots: dict[int, tuple[int, int]] = {}
    for _, value, start, band in rows:
        equation = band << start
        while equation:
            low = (equation & -equation).bit_length() - 1
            if low not in pivots:
                pivots[low] = (equation, value)
                break
            equation ^= pivots[low][0]
            value ^= pivots[low][1]
        else:
            assert value == 0, "the encoding failed"
    slots = [0] * (session.columns * 512 + BAND)
    for low in sorted(pivots, reverse=True):
        equation, value = pivots[low]
        rest = equation >> low + 1
        place = low + 1
        while rest:
            if rest & 1:
                value ^= slots[place]
            rest >>= 1
            place += 1
        slots[low] = value
    return slots


def own_column(
    session: Session, leaves: list[list[int]], values: list[int], column: int
) -> tuple[list[int], list[int]]:
    """The corrections of a column, a plane each, and the receiver's blocks of its 512 slots."""
    words = [code_word(value, session.bits) for value in values]
    corrections, symbols = [], []
    for j, nodes in enumerate(leaves):
        correction, planes = 0, [0] * K
        for x, stream in enumerate(session.planes(nodes, column)):
            correction ^= stream
            for bit in range(K):
                if x >> bit & 1:
                    planes[bit] ^= stream
        for slot, word in enumerate(words):
            correction ^= (word >> j & 1) << 64 * (slot % 8) + slot // 8
        corrections.append(correction)
        symbols.append(planes)
    return corrections, session.compress(symbols)


def peer_column(
    session: Session, leaves: list[list[int]], secrets: list[int], corrections: list[int], column: int
) -> list[int]:
    """The sender's blocks of the 512 slots of a column; the leaf of its secret is not used."""
    symbols = []
    for nodes, secret, correction in zip(leaves, secrets, corrections, strict=True):
        planes = [correction if secret >> bit & 1 else 0 for bit in range(K)]
        for x, stream in enumerate(session.planes(nodes, column)):
            for bit in range(K):
                if (x ^ secret) >> bit & 1:
                    planes[bit] ^= stream
        symbols.append(planes)
    return session.compress(symbols)


def difference(session: Session, secrets: list[int], value: int) -> int:
    """M(value): what the blocks of both sides differ by in a slot of this value."""
    word = code_word(value, session.bits)
    total = 0
    for o in range(128):
        parity = 0
        for j, secret in enumerate(secrets):
            if word >> j & 1:
                parity ^= (session.masks[j][o] & secret).bit_count() & 1
        total |= parity << o
    return total


def run(
    sizes: tuple[int, int],
    own: list[bytes],
    others: list[bytes],
    binding: bytes,
    randoms: tuple[Random, Random],
    labels: list[bytes] | None = None,
) -> tuple[list[bytes], list[int]]:
    """The messages of a whole match, uncut, and the receiver's rows.

    Args:
        sizes: as declared, receiver and sender.
        own: the items of the receiver.
        others: those of the sender.
        binding: of both.
        randoms: of the receiver and of the sender.
        labels: of the sender's items, all of one length, if there are any.
    """
    random, peer_random = randoms
    receiver_nonce, sender_nonce = random(32), peer_random(32)
    session = Session(sizes, binding, (sender_nonce, receiver_nonce))
    trees, transfers = session.trees, K * session.trees
    extended = (transfers + 127) // 128 * 128

    # Base transfers.
    a = number(peer_random(64)) % slow.L
    big_a = slow.multiply(a, slow.GENERATOR)
    element = slow.encode(big_a)
    s = number(random(16))
    wide = random(128 * 64)
    chosen, chosen_keys, pairs = [], [], []
    minus = slow.multiply(slow.L - a, big_a)
    for i in range(128):
        b = number(wide[64 * i : 64 * i + 64]) % slow.L
        point = slow.multiply(b, slow.GENERATOR)
        if s >> i & 1:
            point = slow.add(point, big_a)
        sent = slow.encode(point)
        chosen.append(sent)
        chosen_keys.append(base_key(session, i, [element, sent, slow.encode(slow.multiply(b, big_a))]))
        shared = slow.multiply(a, point)
        pairs.append(
            [
                base_key(session, i, [element, sent, slow.encode(one)])
                for one in (shared, slow.add(shared, minus))
            ]
        )

    # Extension.
    symbols = [byte & 31 for byte in peer_random(trees)]
    bits = [1 - (symbols[j] >> K - 1 - level & 1) for j in range(trees) for level in range(K)]
    packed = sum(bit << i for i, bit in enumerate(bits))
    t_rows = [prg(session, i, pairs[i][0], extended // 8) for i in range(128)]
    u_rows = [t_rows[i] ^ prg(session, i, pairs[i][1], extended // 8) ^ packed for i in range(128)]
    q_rows = [
        prg(session, i, chosen_keys[i], extended // 8) ^ (u_rows[i] if s >> i & 1 else 0) for i in range(128)
    ]
    hot = session.key("transfer")
    sender_keys = [tmmo(hot, column_of(t_rows, j), j) for j in range(transfers)]
    receiver_keys = [
        [tmmo(hot, column_of(q_rows, j) ^ choice * s, j) for choice in (0, 1)] for j in range(transfers)
    ]

    # Trees; the sender opens the masked sums, and has every leaf but one.
    roots = random(16 * trees)
    left, right = session.key("left"), session.key("right")
    leaves, sent_sums = [], [[0] * transfers, [0] * transfers]
    for j in range(trees):
        nodes = [number(roots[16 * j : 16 * j + 16])]
        for level in range(K):
            nodes = [child for node in nodes for child in (mmo(left, node), mmo(right, node))]
            for side in (0, 1):
                total = 0
                for node in nodes[side::2]:
                    total ^= node
                sent_sums[side][K * j + level] = total ^ receiver_keys[K * j + level][side]
        leaves.append(nodes)
    for j in range(trees):
        known: list[int | None] = [None]
        for level in range(K):
            at, side = K * j + level, bits[K * j + level]
            grown: list[int | None] = []
            for node in known:
                grown += [None, None] if node is None else [mmo(left, node), mmo(right, node)]
            total = sent_sums[side][at] ^ sender_keys[at]
            for sibling in grown[side::2]:
                total ^= sibling or 0
            grown[grown.index(None) + side] = total
            known = grown
        expected: list[int | None] = list(leaves[j])
        expected[symbols[j]] = None
        assert known == expected

    # The store, the corrections, and what both have of the slots.
    rows, peer_rows = [session.row(item) for item in own], [session.row(item) for item in others]
    values = solve(session, rows)
    corrections, slots, peer_slots = [], [], []
    for column in range(session.columns):
        part = values[512 * column : 512 * column + 512]
        sent_planes, blocks = own_column(session, leaves, part, column)
        corrections += [plane.to_bytes(64, "little") for plane in sent_planes]
        slots += blocks
        peer_slots += peer_column(session, leaves, symbols, sent_planes, column)

    # Outputs.
    out = session.key("output")
    outputs, further = [], []
    for key, value, start, band in peer_rows:
        z = session.product(start, band, peer_slots) ^ difference(session, symbols, value)
        outputs.append(tmmo(out, z, key) % 2**session.bits)
        further.append(tmmo(session.key("further"), z, key))
    own_outputs = [
        tmmo(out, session.product(start, band, slots), key) % 2**session.bits for key, _, start, band in rows
    ]
    distinct = sorted(set(outputs), key=sort_key)

    def random_outputs(count: int) -> list[int]:
        drawn = peer_random(16 * count)
        return [number(drawn[16 * i : 16 * i + 16]) % 2**session.bits for i in range(count)]

    filled = distinct + random_outputs(session.n_y - len(others))
    if len(distinct) < len(others):
        filled += random_outputs(len(others) - len(distinct))
    filled.sort(key=sort_key)
    sent = b""
    for first in range(0, len(filled), 65_536):
        part = filled[first : first + 65_536]
        sent += b"".join((one % 2**64).to_bytes(8, "little") for one in part)
        sent += b"".join((one >> 64).to_bytes(session.length - 8, "little") for one in part)
    found = set(outputs)
    for (key, _, start, band), output in zip(rows, own_outputs, strict=True):
        if output in found:
            own_further = tmmo(session.key("further"), session.product(start, band, slots), key)
            assert own_further == further[outputs.index(output)]
    messages = [
        sender_nonce + element,
        receiver_nonce + b"".join(chosen),
        b"".join(row.to_bytes(extended // 8, "little") for row in u_rows),
        b"".join(one.to_bytes(16, "little") for side in sent_sums for one in side),
        b"".join(corrections),
        sent,
    ]
    if labels is not None:
        messages.append(hidden_labels(session, labels, filled, outputs, further, peer_random))
    return messages, [i for i, one in enumerate(own_outputs) if one in found]


def hidden_labels(
    session: Session,
    labels: list[bytes],
    filled: list[int],
    outputs: list[int],
    further: list[int],
    random: Random,
) -> bytes:
    """The message behind the outputs, shorter than one of its chunks."""
    keys = [session.key("label 0"), session.key("label 1")]
    owners = [outputs.index(output) if output in outputs else None for output in filled]
    width = len(labels[0])
    drawn = random(width * owners.count(None)) if None in owners else b""
    sent = b""
    for owner in owners:
        if owner is None:
            sent, drawn = sent + drawn[:width], drawn[width:]
        else:
            pad = b"".join(mmo(key, further[owner]).to_bytes(16, "little") for key in keys)
            sent += bytes(a ^ b for a, b in zip(labels[owner], pad[:width], strict=True))
    return sent


def sort_key(output: int) -> tuple[int, int]:
    return output % 2**64, output >> 64


def transcript(messages: list[bytes], chunk_lengths: list[int], binding: bytes) -> list[bytes]:
    """The digests that both sides send at the end, closing and confirmation."""
    digest = hashlib.sha256(DOMAIN + b" transcript" + hashlib.sha256(binding).digest())
    numbers = [0, 0]
    # Labels, if there are any, are the sender's, as outputs are.
    speakers = [0, 1, 0, 1, 1, 0, 0]
    position = 0

    def say(speaker: int, content: bytes) -> None:
        head = bytes([position]) + numbers[speaker].to_bytes(8, "little") + len(content).to_bytes(4, "little")
        digest.update(head + content)
        numbers[speaker] += 1

    for message, (content, length) in enumerate(zip(messages, chunk_lengths, strict=True)):
        for first in range(0, len(content), length):
            say(speakers[message], content[first : first + length])
        position += bool(content)
    closing = digest.digest()
    say(0, closing)
    return [closing, digest.digest()]
