"""The images within the limits that are known to be the most expensive to decode, for scripts that measure decoding.

Each has a small encoder of its own, because no program writes such files. The caller chooses the sizes.
"""
import base64, random, struct, zlib

NOISE = random.Random(2026)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def segment(code, body):
    return b"\xff" + bytes([code]) + struct.pack(">H", len(body) + 2) + body


def riff_chunk(kind, body):
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


class Bits:
    """Writes bits, the least significant first, as in DEFLATE and lossless WebP."""

    def __init__(self):
        self.value, self.count = 0, 0

    def add(self, value, count):
        self.value |= value << self.count
        self.count += count
        return self

    def code(self, code):
        """Writes a prefix code, given as text, the first bit first."""
        for bit in code:
            self.add(int(bit), 1)
        return self

    def bytes(self):
        return self.value.to_bytes((self.count + 7) // 8, "little")


# ---- PNG ----

def canonical(lengths):
    """The codes of symbols, as text, from their lengths."""
    codes, code, before = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        code <<= length - before
        before = length
        codes[symbol] = format(code, f"0{length}b")
        code += 1
    return codes


def deflate(total, distance):
    """A raw DEFLATE stream of at least `total` bytes of zeros and ones: matches of 258 bytes, each copied from
    `distance` back. It has no end, which viewers accept behind the last row."""
    # Literals 0 and 1, the end, and the match of 258 bytes; a distance of 1 to 4, which has a symbol of its own.
    literals, distances = [0] * 286, [0] * 4
    literals[0], literals[1], literals[256], literals[285] = 3, 3, 2, 1
    distances[distance - 1] = 1
    bits = Bits().add(0, 1).add(2, 2).add(286 - 257, 5).add(len(distances) - 1, 5).add(19 - 4, 4)
    for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15):
        bits.add(4 if symbol < 16 else 0, 3)
    for length in literals + distances:
        bits.code(format(length, "04b"))
    codes = canonical(literals)
    for at in range(distance):
        bits.code(codes[int(at > 0)])
    # A match takes two bits, both zero.
    return bits.bytes() + bytes(total // (258 * 4) + 1)


def png(side, frames, distance=2):
    """A PNG in RGBA of 16 bits. A distance of 2 is the most expensive to copy from: every byte waits for one just written."""
    data = b"\x78\x01" + deflate(side * (side * 8 + 1), distance)
    out = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0))]
    if frames > 1:
        out.append(chunk(b"acTL", struct.pack(">II", frames, 0)))
    control = lambda number: chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, side, side, 0, 0, 1, 10, 0, 0))
    if frames > 1:
        out.append(control(0))
    out.append(chunk(b"IDAT", data))
    for number in range(1, frames * 2 - 2, 2):
        out += [control(number), chunk(b"fdAT", struct.pack(">I", number + 1) + data)]
    return b"".join(out) + chunk(b"IEND", b"")


# ---- JPEG ----

def repeated(bits, times):
    """A pattern of bits, repeated, with FF bytes escaped."""
    unit = int(bits * 8, 2).to_bytes(len(bits), "big")
    return (unit * (times // 8 + 1)).replace(b"\xff", b"\xff\0")


def scan(components, first, last, bits, data):
    names = b"".join(bytes([component, 0]) for component in components)
    return segment(0xda, bytes([len(components)]) + names + bytes([first, last, bits])) + data


def jpeg(side, scans, components=3):
    """A progressive JPEG of full sampling. The prefix codes are, for DC, 0: zero, 10: one bit; for AC, 0: the block
    ends, 10: a run of 16,384 to 32,767 empty blocks, 110: a coefficient of one bit."""
    names = b"".join(bytes([number + 1, 0x11, 0]) for number in range(components))
    frame = struct.pack(">BHHB", 8, side, side, components) + names
    return b"".join([
        b"\xff\xd8", segment(0xdb, b"\0" + bytes([1] * 64)), segment(0xc2, frame),
        segment(0xc4, b"\x00" + bytes([1, 1] + [0] * 14) + b"\0\1"),
        segment(0xc4, b"\x10" + bytes([1, 1, 1] + [0] * 13) + b"\x00\xe0\x01"), *scans, b"\xff\xd9"])


def runs(blocks):
    """Codes of runs for `blocks` empty blocks."""
    bits = ""
    while blocks >= 16_384:
        run = min(blocks, 32_767)
        bits, blocks = bits + "10" + format(run - 16_384, "014b"), blocks - run
    bits += "0" * blocks
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def jpegs(side, budget):
    """Names and files: progressive JPEGs with as many scans as fit into `budget` bytes."""
    blocks = (side // 8) ** 2
    means = scan([1, 2, 3], 0, 0, 0, repeated("0", 3 * blocks))
    yield "runs refined", jpeg(side, [means, scan([1], 1, 63, 1, runs(blocks))] + [scan([1], 1, 63, 0x10, runs(blocks))] * 97)
    ended = [scan([1 + at % 3], 1, 63, 0, repeated("0", blocks)) for at in range(3)]
    yield "blocks that end", jpeg(side, [means] + (ended * 33)[:min(98, (budget - len(means)) // len(ended[0]))])
    first, bits = scan([1], 1, 63, 1, repeated("11010", blocks)), scan([1], 1, 63, 0x10, repeated("00", blocks))
    count = min(97, (budget - len(means) - len(first)) // len(bits))
    yield "coefficients refined", jpeg(side, [means, first] + [bits] * count)
    yield "all coefficients", jpeg(side, [means, scan([1], 1, 63, 1, repeated("1101" * 20 + "0", blocks))])
    # The masks of 512 blocks fill a page of memory, which is allocated when one of them is written.
    every = scan([1, 2, 3, 4], 0, 0, 0, repeated("0", 4 * blocks))
    touched = [scan([at], 1, 63, 0, repeated("0" * 511 + "11010", blocks // 512)) for at in (2, 3, 4)]
    slow = [scan([1], 1, 63, 1, runs(blocks))] + [scan([1], 1, 63, 0x10, runs(blocks))] * 80
    yield "four components in memory", jpeg(side, [every, *touched, *slow], 4)


# ---- GIF ----

def gif(side, frames):
    """Frames of literals: the table is hardly used, and cleared when codes would grow."""
    value = count = 0
    data = bytearray()
    for at in range(side * side + side * side // 254 + 2):
        value |= (256 if at % 255 == 0 else NOISE.randrange(256)) << count
        count += 9
        while count >= 8:
            data.append(value & 255)
            value, count = value >> 8, count - 8
    data.append(value)
    blocks = b"".join(bytes([len(data[at:at + 255])]) + data[at:at + 255] for at in range(0, len(data), 255))
    frame = b"!\xf9\x04\0\x05\0\0\0," + struct.pack("<HHHH", 0, 0, side, side) + b"\0\x08" + blocks + b"\0"
    return b"GIF89a" + struct.pack("<HH", side, side) + b"\xf7\0\0" + bytes(range(256)) * 3 + frame * frames + b";"


# ---- WebP ----

def webp(side, frames, image):
    """An animation of equal frames; `image` is the chunk of each."""
    three = lambda value: struct.pack("<I", value)[:3]
    frame = riff_chunk(b"ANMF", bytes(6) + three(side - 1) * 2 + three(10) + b"\0" + image)
    body = (b"WEBP" + riff_chunk(b"VP8X", b"\x02\0\0\0" + three(side - 1) * 2)
            + riff_chunk(b"ANIM", bytes(6)) + frame * frames)
    return b"RIFF" + struct.pack("<I", len(body)) + body


class Bools:
    """The boolean entropy encoder of VP8, RFC 6386 section 7.3."""

    def __init__(self):
        self.out, self.low, self.range, self.left = bytearray(), 0, 255, 24

    def add(self, bit, probability=128):
        split = 1 + ((self.range - 1) * probability >> 8)
        if bit:
            self.low, self.range = self.low + split, self.range - split
        else:
            self.range = split
        while self.range < 128:
            self.range <<= 1
            if self.low >> 31:
                self.carry()
            self.low = self.low << 1 & 0xffffffff
            self.left -= 1
            if self.left == 0:
                self.out.append(self.low >> 24)
                self.low, self.left = self.low & 0xffffff, 8

    def carry(self):
        at = len(self.out) - 1
        while self.out[at] == 255:
            self.out[at] = 0
            at -= 1
        self.out[at] += 1

    def number(self, value, bits):
        for at in reversed(range(bits)):
            self.add(value >> at & 1)

    def bytes(self):
        """Ends the stream. Zeros that follow are false at every probability."""
        for _ in range(32):
            self.add(0)
        return bytes(self.out)


# The probabilities of RFC 6386, section 13.4, that the probability of a coefficient is replaced.
UPDATES = zlib.decompress(base64.b85decode(
    b'c-pO#u@1s83`GC`Z<zTLri!&fpomhMICfxY?mW0EmGJa>iXHpnwzd<e891ccF{?tJppIr8)s>i`J``vT*cPBT)dkbU!V0GSqfoc@'
    b'dt8XunsiMbODekF&T0dDxGR}c<oITK^4>TAxyD__{`v#ZixUs{a26zvGWAT6r*>P}<jp;c(g^oL7G7<^JR40OY5lLU5Q|mA6K5FA'
    b'KVT+S<APe{W-!amET9)rY3kQi)YZ@_u1WT?1v^*vCXTKC0J*Rj@&'))
# The probabilities of tokens that take seven bools, and of those that take one. Every bool but a sign costs less than
# a hundredth of a bit.
DEAR, ZERO = [1, 1, 1, 255, 1, 255, 128, 128, 128, 128, 128], [1, 255, 1, 255, 1, 255, 128, 128, 128, 128, 128]
BANDS = (0, 1, 2, 3, 6, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7)


def vp8(side, dear):
    """A lossy WebP whose blocks are all read to their last coefficient. Blocks of chroma in these bands take seven
    bools for each, one of them the sign; the others take one."""
    bools = Bools()
    bools.number(0, 2)  # Colour space, clamping.
    bools.add(0)  # No segments.
    bools.number(0, 10)  # Filter.
    bools.add(0)  # Its deltas.
    bools.number(0, 2)  # One partition.
    bools.number(0, 7 + 5)  # Quantizers.
    bools.add(0)  # Probabilities are not kept.
    for at, update in enumerate(UPDATES):
        kind, band = divmod(at // 33, 8)
        bools.add(1, update)
        bools.number((DEAR if kind == 2 and band in dear else ZERO)[at % 11], 8)
    bools.add(0)  # No macroblock is skipped.
    blocks = (-(-side // 16)) ** 2
    # The modes of subblocks, three bits of them in a macroblock.
    first = bools.bytes() + bytes(blocks * 4 // 8 + 64)
    tokens = Bools()
    add = tokens.add
    for _ in range(blocks):
        for block in range(24):
            was_zero = False
            for band in BANDS:
                if not was_zero:
                    add(1, 1)  # The data does not end here.
                was_zero = block < 16 or band not in dear
                if was_zero:
                    add(0, 255)
                    continue
                for bit, probability in ((1, 1), (1, 1), (0, 255), (1, 1), (0, 255), (NOISE.getrandbits(1), 128)):
                    add(bit, probability)
    tag = len(first) << 5 | 1 << 4
    head = struct.pack("<I", tag)[:3] + b"\x9d\x01\x2a" + struct.pack("<HH", side, side)
    return riff_chunk(b"VP8 ", head + first + tokens.bytes())


class Lossless(Bits):
    """Writes lossless WebP (RFC 9649, section 3)."""

    # The order of the lengths in the code for lengths.
    ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)

    def one(self, symbol):
        """A prefix code of one symbol, 0 or 1."""
        return self.add(1, 1).add(0, 1).add(0, 1).add(symbol, 1)

    def two(self):
        """A prefix code of the symbols 0 and 1."""
        return self.add(1, 1).add(1, 1).add(0, 1).add(0, 1).add(1, 8)

    def byte(self, symbol):
        """A prefix code of one symbol below 256."""
        return self.add(1, 1).add(0, 1).add(1, 1).add(symbol, 8)

    def lengths(self, lengths):
        """A prefix code from the lengths of its symbols, each written in four bits."""
        self.add(0, 1).add(19 - 4, 4)
        for symbol in self.ORDER:
            self.add(4 if symbol < 16 else 0, 3)
        self.add(0, 1)
        for length in lengths:
            self.code(format(length, "04b"))
        return canonical(lengths)

    def flat(self, length, symbols):
        """A prefix code whose first symbols all have this length, which is written once."""
        count = self.ORDER.index(length) + 1
        self.add(0, 1).add(count - 4, 4)
        for symbol in self.ORDER[:count]:
            self.add(int(symbol == length), 3)
        # The number of symbols that follow, less two, in 12 bits.
        return self.add(1, 1).add(5, 3).add(symbols - 2, 12)

    def only_copies(self):
        """A prefix code of symbol 256 alone, a copy of one pixel: 256 zeros, then a one."""
        self.add(0, 1).add(0, 4)
        for symbol in self.ORDER[:4]:
            self.add(int(symbol in (18, 1)), 3)
        self.add(1, 1).add(0, 3).add(1, 2)
        return self.add(1, 1).add(138 - 11, 7).add(1, 1).add(118 - 11, 7).add(0, 1)

    def text(self):
        """All bits as text, the first bit first."""
        return format(self.value, f"0{self.count}b")[::-1]


def free(group):
    """Pixels of no bits."""
    for _ in range(5):
        group.one(0)


def literals(group):
    """Pixels of one bit, each with four look-ups of codes."""
    group.one(0).two().one(0).one(0).one(0)


def copies(group):
    """Pixels of no bits, each a copy of the previous one."""
    group.only_copies().one(0).one(0).one(0).one(1)


def large(group):
    """Codes of 256 symbols, written in a few bytes."""
    for _ in range(4):
        group.flat(8, 256)
    group.one(0)


def vp8l(side, groups, write_group, noise=0):
    """Blocks of 4 by 4 pixels with `groups` groups of prefix codes, used in turn. `noise` bits follow for the pixels.
    The first group takes no bits, because nothing can be copied into the first pixel."""
    bits = Lossless().add(0x2f, 8).add(side - 1, 14).add(side - 1, 14).add(1, 1).add(0, 3)
    bits.add(0, 1).add(0, 1).add(1, 1).add(0, 3).add(0, 1)
    # The groups are named by an image of its own, whose red and green are the high and the low byte. It contains
    # every number once, then copies of 4,096 pixels, the longest possible; distances are counted from 121 on.
    blocks = (-(-side // 4)) ** 2
    lengths = [8] * 255 + [9] + [0] * 24
    lengths[256 + 23] = 9
    green, red = bits.lengths(lengths), bits.lengths([8] * 256)
    bits.one(0).one(0).byte(32)
    order = list(range(1, min(groups, blocks)))
    NOISE.shuffle(order)
    order.insert(0, 0)
    parts = [green[number & 255] + red[number >> 8] for number in order]
    done = len(parts)
    if groups == 65_536:
        copy = green[256 + 23] + format(1023, "010b") + format(65_536 + 120 - 65_537, "015b")[::-1]
        parts += [copy] * ((blocks - done) // 4096)
        done += (blocks - done) // 4096 * 4096
    parts += [green[order[at % groups] & 255] + red[order[at % groups] >> 8] for at in range(done, blocks)]
    for number in range(groups):
        group = Lossless()
        (write_group if number else free)(group)
        parts.append(group.text())
    text = bits.text() + "".join(parts)
    text += "0" * (-len(text) % 8)
    body = int(text[::-1], 2).to_bytes(len(text) // 8, "little")
    return riff_chunk(b"VP8L", body + NOISE.randbytes(noise // 8 + 16))


# ---- All of them ----

def all_images(budget):
    """Name, file, and whether it is accepted. A refused file takes more work than is allowed for a file of its
    length. All files have at most `budget` bytes, which must be 20 million or more."""
    for name, file in jpegs(10_000, budget):
        yield f"JPEG: {name}", file, True
    yield "PNG: 200 megapixels", png(10_000, 2), True
    yield "PNG: 300 megapixels", png(10_000, 3), False
    yield "GIF: 1000 frames of literals", gif(130, 1000), True
    yield "VP8: one bool a coefficient", webp(544, 1000, vp8(544, ())), True
    yield "VP8: 10 MB", webp(544, 1000, vp8(544, range(6))), False
    yield "VP8: 20 MB", webp(544, 1000, vp8(544, range(1, 7))), False
    yield "VP8L: free pixels", webp(7_071, 2, vp8l(7_071, 65_536, free)), True
    yield "VP8L: copies", webp(7_071, 6, vp8l(7_071, 65_536, copies)), False
    yield "VP8L: literals", webp(7_071, 2, vp8l(7_071, 65_536, literals, 7_071 ** 2)), False
    yield "VP8L: 1000 times 1000 codes", webp(128, 1000, vp8l(128, 1000, free)), True
    yield "VP8L: large codes", webp(508, 13, vp8l(508, 16_000, large, 508 ** 2 * 32)), False
