"""Unusual, broken and hostile images, made in code: those that cameras, tools and attackers produce.

`cases()` yields each image as a `Case`. The kinds:

A  orientation and density: second Exif blocks, damaged blocks, types, byte orders, chunk positions
B  the size that viewers show
C  gain maps and colour profiles
D  damage that viewers ignore: stray bytes, missing ends, wrong lengths, checksums, names and counts
E  sizes just under and just over the limits
F  damage to pixels

`expect` is "viewers" if the viewers decide, "limit" if the server must name a limit, and "either" if viewers disagree
and both answers are accepted.
"""
import dataclasses, functools, io, random, struct, zlib

from PIL import Image

SIZE = (64, 48)


@dataclasses.dataclass
class Case:
    kind: str
    name: str
    data: bytes
    expect: str = "viewers"
    gain_map: bytes | None = None
    # Viewers that read the original differently from Chromium, so that no well-formed file suits all of them.
    apart: tuple = ()


# ---- Parts ----

@functools.cache
def picture(mode="RGB", seed=0, size=SIZE):
    """A picture that every rotation and reflection changes."""
    width, height = size
    noise, channels = random.Random(seed), len(mode)
    data = bytearray()
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                value = (x * 5 + y * 2 + channel * 60 + seed * 40 + (90 if x > y * 1.3 else 0)) % 256
                data.append((value + noise.randrange(8)) % 256)
    return Image.frombytes(mode, size, bytes(data))


def save(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@functools.cache
def jpeg(**options):
    return save(picture(options.pop("mode", "RGB")), "JPEG", **{"quality": 85} | options)


@functools.cache
def png(mode="RGB"):
    return save(picture(mode), "PNG")


@functools.cache
def webp(**options):
    return save(picture(options.pop("mode", "RGB")), "WEBP", **options)


def frames(count=3, mode="RGB", size=SIZE):
    return [picture(mode, seed, size) for seed in range(count)]


@functools.cache
def gif(count=3):
    first, *rest = [frame.quantize(64) for frame in frames(count)]
    return save(first, "GIF", save_all=True, append_images=rest, duration=[100, 50, 70][:count], loop=2)


@functools.cache
def apng(count=3):
    first, *rest = frames(count)
    return save(first, "PNG", save_all=True, append_images=rest, duration=100, loop=0)


@functools.cache
def animated_webp():
    first, *rest = frames()
    return save(first, "WEBP", save_all=True, append_images=rest, duration=80, lossless=True)


def segment(code, body):
    return b"\xff" + bytes([code]) + struct.pack(">H", len(body) + 2) + body


def segments(data):
    """The parts of a JPEG: (marker, bytes), where a scan holds its entropy-coded data."""
    parts, at = [], 0
    while at < len(data):
        code = data[at + 1]
        if code in (0xd8, 0xd9):
            end = at + 2
        else:
            end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
            if code == 0xda:
                while not (data[end] == 0xff and data[end + 1] not in (0, *range(0xd0, 0xd8))):
                    end += 1
        parts.append((code, data[at:end]))
        at = end
    return parts


def join(parts):
    return b"".join(part for _, part in parts)


def insert(data, place, addition):
    """The JPEG with `addition` before the first marker `place`."""
    parts = segments(data)
    at = next(index for index, (code, _) in enumerate(parts) if code == place)
    return join(parts[:at]) + addition + join(parts[at:])


def replace(data, place, change):
    """The JPEG with the bodies of the markers `place` changed by `change`, a function of the bytes of a part."""
    return b"".join(change(part) if code == place else part for code, part in segments(data))


def after_soi(data, addition):
    return data[:2] + addition + data[2:]


TYPES = {"BYTE": (1, "B"), "ASCII": (2, "B"), "SHORT": (3, "H"), "LONG": (4, "I"), "SBYTE": (6, "b"),
         "UNDEFINED": (7, "B"), "SSHORT": (8, "h"), "SLONG": (9, "i"), "FLOAT": (11, "f")}


def tiff(entries, order="<", following=0, tail=b""):
    """A TIFF block of one IFD. An entry is (tag, type, value), (tag, type, value, count) or 12 bytes."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    packed, extra, base = b"", b"", 8 + 2 + 12 * len(entries) + 4
    for entry in entries:
        if isinstance(entry, bytes):
            packed += entry
            continue
        tag, kind, value, *count = entry
        if kind == "RATIONAL":
            packed += struct.pack(order + "HHII", tag, 5, 1, base + len(extra))
            extra += struct.pack(order + "II", *value)
            continue
        if kind == "TEXT":
            packed += struct.pack(order + "HHII", tag, 2, len(value), base + len(extra))
            extra += value
            continue
        number, code = TYPES[kind]
        field = struct.pack(order + code, value)
        packed += struct.pack(order + "HHI", tag, number, count[0] if count else 1) + field.ljust(4, b"\0")
    return mark + struct.pack(order + "IH", 8, len(entries)) + packed + struct.pack(order + "I", following) + extra + tail


def turn(orientation, order="<", kind="SHORT", count=1):
    return tiff([(0x010F, "TEXT", b"ACM\0"), (0x0112, kind, orientation, count)], order)


def exif(block, pad=b"\0\0"):
    return segment(0xe1, b"Exif" + pad + block)


def xmp(orientation):
    return (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
            % orientation)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bad_crc(name, body):
    return chunk(name, body)[:-4] + b"\xba\xad\xba\xad"


def chunks(data):
    """The chunks of a PNG: (name, body)."""
    parts, at = [], 8
    while at < len(data):
        length = struct.unpack_from(">I", data, at)[0]
        parts.append((data[at + 4:at + 8], data[at + 8:at + 8 + length]))
        at += 12 + length
    return parts


def rebuild(parts):
    """A PNG of chunks: (name, body), or bytes that are written unchanged."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(part if isinstance(part, bytes) else chunk(*part) for part in parts)


def with_chunk(data, addition, before=b"IDAT"):
    """The PNG with the bytes `addition` before the first chunk `before`."""
    at = data.index(before) - 4
    return data[:at] + addition + data[at:]


def ihdr(width, height, depth=8, colour=2, interlaced=0):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


def riff(name, body, pad=b"\0"):
    return name + struct.pack("<I", len(body)) + body + pad * (len(body) % 2)


def riff_chunks(data):
    parts, at = [], 12
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 4)[0]
        parts.append((data[at:at + 4], data[at + 8:at + 8 + length]))
        at += 8 + length + length % 2
    return parts


def container(*parts):
    """A WebP of chunks: (name, body), or bytes that are written unchanged."""
    body = b"WEBP" + b"".join(part if isinstance(part, bytes) else riff(*part) for part in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def three(value):
    return struct.pack("<I", value)[:3]


def vp8x(flags, size=SIZE):
    return b"VP8X", bytes([flags, 0, 0, 0]) + three(size[0] - 1) + three(size[1] - 1)


def webp_image(**options):
    """The chunk that holds the pixels of a still WebP."""
    return next(part for part in riff_chunks(webp(**options)) if part[0] in (b"VP8 ", b"VP8L"))


# ---- A: orientation and density ----

BROKEN_BLOCKS = {
    "without-orientation": tiff([(0x0131, "TEXT", b"GIM\0")]), "empty-ifd": tiff([]), "orientation-0": turn(0),
    "no-tiff": b"garbage!", "empty": b"", "cut": turn(6)[:12], "orientation-9": turn(9), "offset-beyond": b"II*\0\xff\xff\0\0",
    "header-only": b"II*\0\x08\0\0\0", "count-0": turn(6, count=0), "count-2": turn(6, count=2),
    "other-magic": turn(6).replace(b"II*\0", b"II+\0", 1), "orientation-as-text": turn(ord("6"), kind="ASCII"),
}


def orientation_jpeg():
    plain, bare = jpeg(), jpeg()[:2] + jpeg()[20:]
    for base, label in ((plain, ""), (bare, "-no-jfif")):
        for orientation in range(1, 9):
            order = "<>"[orientation % 2]
            yield f"jpeg{label}-exif-{orientation}", after_soi(base, exif(turn(orientation, order)))
    for name, block in BROKEN_BLOCKS.items():
        for orientation in (6, 8, 3):
            order = "<>"[orientation // 4 % 2]
            yield f"jpeg-first-{name}-then-{orientation}", after_soi(plain, exif(block) + exif(turn(orientation, order)))
        yield f"jpeg-only-{name}", after_soi(plain, exif(block))
        yield f"jpeg-6-then-{name}", after_soi(plain, exif(turn(6)) + exif(block))
    for first, second in ((6, 8), (1, 6), (8, 1), (3, 5)):
        yield f"jpeg-exif-{first}-then-{second}", after_soi(plain, exif(turn(first)) + exif(turn(second, ">")))
    for kind in TYPES:
        for order, label in (("<", "le"), (">", "be")):
            yield f"jpeg-orientation-{kind}-{label}", after_soi(plain, exif(turn(6, order, kind)))
    for value in (0, 9, 255, 256 + 6, 65535):
        yield f"jpeg-orientation-value-{value}", after_soi(plain, exif(turn(value, ">")))
    for value in (0x60000, 0x10006, 6 << 24):
        for order in "<>":
            yield f"jpeg-orientation-long-{value:x}-{'le' if order == '<' else 'be'}", after_soi(plain, exif(turn(value, order, "LONG")))
    for pad in (b"\0\x01", b"\0\xff", b"\0 ", b"\0", b"", b"\xff\0", b"  "):
        for orientation in (6, 3):
            yield f"jpeg-exif-pad-{pad.hex() or 'none'}-{orientation}", after_soi(plain, exif(turn(orientation), pad))
    for name in (b"EXIF\0\0", b"exif\0\0", b"Exif:\0", b"XXXX\0\0"):
        yield f"jpeg-exif-named-{name.hex()}", after_soi(plain, segment(0xe1, name + turn(6)))
    for code in (0xe0, 0xe2, 0xed, 0xfe):
        yield f"jpeg-exif-in-{code:x}", after_soi(plain, segment(code, b"Exif\0\0" + turn(6)))
    adobe = lambda number: segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(number))
    yield "jpeg-xmp-alone-6", after_soi(plain, adobe(6))
    yield "jpeg-xmp-alone-8", after_soi(plain, adobe(8))
    yield "jpeg-xmp-8-exif-6", after_soi(plain, adobe(8) + exif(turn(6)))
    yield "jpeg-exif-1-xmp-6", after_soi(plain, exif(turn(1)) + adobe(6))
    yield "jpeg-exif-without-xmp-3", after_soi(plain, exif(tiff([])) + adobe(3))
    first = tiff([(0x010F, "TEXT", b"ACM\0")])
    second = lambda at: struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    yield "jpeg-exif-second-ifd", after_soi(plain, exif(tiff([(0x0131, "SHORT", 1)], following=26, tail=second(26))))
    yield "jpeg-exif-both-ifds", after_soi(plain, exif(tiff([(0x0112, "SHORT", 8)], following=26, tail=second(26))))
    yield "jpeg-exif-sub-ifd", after_soi(plain, exif(tiff([(0x8769, "LONG", 26)], tail=second(26))))
    yield "jpeg-exif-ifd-loop", after_soi(plain, exif(tiff([(0x0131, "SHORT", 1), (0x0112, "SHORT", 6)], following=8)))
    yield "jpeg-exif-twice-in-ifd", after_soi(plain, exif(tiff([(0x0112, "SHORT", 6), (0x0112, "SHORT", 3)])))
    yield "jpeg-exif-twice-first-bad", after_soi(plain, exif(tiff([(0x0112, "SHORT", 0), (0x0112, "SHORT", 6)])))
    yield "jpeg-exif-unsorted", after_soi(plain, exif(tiff([(0x8298, "SHORT", 1), (0x0112, "SHORT", 6), (0x0100, "SHORT", 1)])))
    cut = exif(turn(6)[:-4])
    yield "jpeg-exif-cut-behind", after_soi(plain, cut)
    many = tiff([(0x0112, "SHORT", 6)])
    yield "jpeg-exif-count-too-large", after_soi(plain, exif(many[:8] + b"\xff\xff" + many[10:]))
    moved = b"II*\0\x09\0\0\0\0" + tiff([(0x0112, "SHORT", 6)])[8:]
    yield "jpeg-exif-odd-offset", after_soi(plain, exif(moved))
    for place, label in ((0xdb, "dqt"), (0xc0, "sof"), (0xc4, "dht"), (0xda, "sos"), (0xd9, "eoi")):
        yield f"jpeg-exif-before-{label}", insert(plain, place, exif(turn(6)))
    slow = jpeg(progressive=True)
    parts = segments(slow)
    scans = [index for index, (code, _) in enumerate(parts) if code == 0xda]
    yield "jpeg-exif-between-scans", join(parts[:scans[1]]) + exif(turn(6)) + join(parts[scans[1]:])
    yield "jpeg-exif-behind-eoi", plain + exif(turn(6))
    yield "jpeg-exif-after-comment", after_soi(plain, segment(0xfe, b"hello") + exif(turn(6)))
    yield "jpeg-exif-after-unknown-app", after_soi(plain, segment(0xef, b"hello") + exif(turn(6)))


def density(unit, across, down, wide, high, kind="LONG", orientation=None, order="<"):
    entries = [(0x0112, "SHORT", orientation)] if orientation else []
    entries += [(0x011A, "RATIONAL", across), (0x011B, "RATIONAL", down)]
    entries += [(0x0128, "SHORT", unit)] if unit is not None else []
    at = 8 + 2 + 12 * (len(entries) + 1) + 4 + 16
    entries.append((0x8769, "LONG", at))
    sub = [(tag, value) for tag, value in ((0xA002, wide), (0xA003, high)) if value is not None]
    number, code = TYPES[kind]
    tail = struct.pack(order + "H", len(sub)) + b"".join(
        struct.pack(order + "HHI", tag, number, 1) + struct.pack(order + code, value).ljust(4, b"\0") for tag, value in sub)
    return tiff(entries, order, tail=tail + bytes(4))


def density_jpeg():
    plain, bare = jpeg(), jpeg()[:2] + jpeg()[20:]
    double = (2, (144, 1), (144, 1), 32, 24)
    for base, label in ((plain, "-jfif"), (bare, "")):
        for order in "<>":
            yield f"jpeg-density-144{label}-{'le' if order == '<' else 'be'}", after_soi(base, exif(density(*double, order=order)))
    put = lambda *values, **more: after_soi(bare, exif(density(*values, **more)))
    yield "jpeg-density-short", put(*double, kind="SHORT")
    yield "jpeg-density-turned", put(2, (144, 1), (144, 1), 32, 24, orientation=6)
    yield "jpeg-density-turned-swapped", put(2, (144, 1), (144, 1), 24, 32, orientation=6)
    yield "jpeg-density-turned-3", put(*double, orientation=3)
    yield "jpeg-density-36", put(2, (36, 1), (36, 1), 128, 96)
    yield "jpeg-density-rational", put(2, (288, 2), (1440, 10), 32, 24)
    yield "jpeg-density-wrong-size", put(2, (144, 1), (144, 1), 64, 48)
    yield "jpeg-density-almost", put(2, (144, 1), (144, 1), 33, 24)
    yield "jpeg-density-no-size", put(2, (144, 1), (144, 1), None, None)
    yield "jpeg-density-only-width", put(2, (144, 1), (144, 1), 32, None)
    yield "jpeg-density-centimetres", put(3, (57, 1), (57, 1), 32, 24)
    yield "jpeg-density-no-unit", put(1, (144, 1), (144, 1), 32, 24)
    yield "jpeg-density-unit-missing", put(None, (144, 1), (144, 1), 32, 24)
    yield "jpeg-density-uneven", put(2, (144, 1), (288, 1), 32, 12)
    yield "jpeg-density-uneven-turned", put(2, (144, 1), (288, 1), 32, 12, orientation=8)
    yield "jpeg-density-zero", put(2, (144, 0), (144, 0), 32, 24)
    yield "jpeg-density-72", put(2, (72, 1), (72, 1), 64, 48)
    both = exif(tiff([])) + exif(density(*double))
    yield "jpeg-density-in-second-exif", after_soi(bare, both)
    yield "jpeg-density-jfif-144", save(picture(), "JPEG", dpi=(144, 144))
    plain_png = png()
    yield "png-density-exif", with_chunk(plain_png, chunk(b"eXIf", density(*double)))
    yield "png-density-phys", save(picture(), "PNG", dpi=(144, 144))
    image = webp_image()
    yield "webp-density-exif", container(vp8x(8), image, (b"EXIF", density(*double)))
    yield "webp-density-exif-turned", container(vp8x(8), image, (b"EXIF", density(*double, orientation=6)))


def orientation_png():
    plain = png()
    for orientation in (2, 3, 5, 6, 8):
        order = "<>"[orientation % 2]
        yield f"png-exif-{orientation}", with_chunk(plain, chunk(b"eXIf", turn(orientation, order)))
    yield "png-exif-after-idat", with_chunk(plain, chunk(b"eXIf", turn(6)), b"IEND")
    yield "png-exif-before-and-after", with_chunk(with_chunk(plain, chunk(b"eXIf", turn(6))), chunk(b"eXIf", turn(3)), b"IEND")
    yield "png-exif-twice", with_chunk(plain, chunk(b"eXIf", turn(6)) + chunk(b"eXIf", turn(8)))
    yield "png-exif-twice-first-empty", with_chunk(plain, chunk(b"eXIf", tiff([])) + chunk(b"eXIf", turn(8)))
    yield "png-exif-bad-crc", with_chunk(plain, bad_crc(b"eXIf", turn(6)))
    yield "png-exif-bad-crc-after-idat", with_chunk(plain, bad_crc(b"eXIf", turn(6)), b"IEND")
    yield "png-exif-bad-crc-then-good", with_chunk(plain, bad_crc(b"eXIf", turn(6)) + chunk(b"eXIf", turn(8)))
    yield "png-exif-prefixed", with_chunk(plain, chunk(b"eXIf", b"Exif\0\0" + turn(6)))
    yield "png-exif-empty", with_chunk(plain, chunk(b"eXIf", b""))
    for kind in ("LONG", "SLONG", "BYTE", "SSHORT"):
        yield f"png-exif-{kind}", with_chunk(plain, chunk(b"eXIf", turn(6, ">", kind)))
    yield "png-exif-old-name", with_chunk(plain, chunk(b"exIf", turn(6)))
    raw = b"\nexif\n      %d\n" % (len(turn(6)) + 6) + (b"Exif\0\0" + turn(6)).hex().encode() + b"\n"
    yield "png-exif-raw-profile", with_chunk(plain, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw)))
    yield "png-exif-raw-profile-text", with_chunk(plain, chunk(b"tEXt", b"Raw profile type exif\0" + raw))
    yield "png-exif-1-raw-profile-6", with_chunk(plain, chunk(b"eXIf", turn(1)) + chunk(b"tEXt", b"Raw profile type exif\0" + raw))
    yield "png-xmp-6", with_chunk(plain, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)))
    yield "apng-exif-6", with_chunk(apng(), chunk(b"eXIf", turn(6)))
    yield "apng-exif-6-behind", with_chunk(apng(), chunk(b"eXIf", turn(6)), b"IEND")


def orientation_webp():
    image = webp_image()
    for label, flags in (("flag", 8), ("no-flag", 0), ("xmp-flag", 4)):
        for prefix in (b"", b"Exif\0\0"):
            for orientation in (6, 8):
                name = f"webp-exif-{orientation}-{label}{'-prefixed' if prefix else ''}"
                yield name, container(vp8x(flags), image, (b"EXIF", prefix + turn(orientation)))
    for flags in (0, 8):
        yield f"webp-two-exif-{flags}", container(vp8x(flags), image, (b"EXIF", tiff([(0x010F, "TEXT", b"ACM\0")])), (b"EXIF", turn(6)))
        yield f"webp-two-exif-6-8-{flags}", container(vp8x(flags), image, (b"EXIF", turn(6)), (b"EXIF", turn(8)))
        yield f"webp-exif-before-image-{flags}", container(vp8x(flags), (b"EXIF", turn(6)), image)
        yield f"webp-exif-lower-{flags}", container(vp8x(flags), image, (b"exif", turn(6)))
        yield f"webp-exif-mixed-{flags}", container(vp8x(flags), image, (b"Exif", turn(6)))
        yield f"webp-xmp-6-{flags}", container(vp8x(flags | 4), image, (b"XMP ", xmp(6)))
        yield f"webp-exif-broken-{flags}", container(vp8x(flags), image, (b"EXIF", b"garbage!"))
        yield f"webp-exif-LONG-{flags}", container(vp8x(flags), image, (b"EXIF", turn(6, ">", "LONG")))
    yield "webp-flag-without-exif", container(vp8x(8), image)
    yield "webp-exif-without-vp8x", container(image, (b"EXIF", turn(6)))
    animation = riff_chunks(animated_webp())
    yield "webp-animated-exif-6", container(vp8x(0x0a), *animation[1:], (b"EXIF", turn(6)))
    yield "webp-animated-exif-no-flag", container(vp8x(0x02), *animation[1:], (b"EXIF", turn(6)))


# ---- B: the size that viewers show ----

def gif_file(screen, *images, header=b"GIF89a", flags=0x80, palette=b"\0\0\0\xff\x80\x20", end=b";"):
    """A GIF of two colours; an image is (left, top, width, height)."""
    out = header + struct.pack("<HHBBB", *screen, flags, 0, 0) + (palette if flags & 0x80 else b"")
    for number, (left, top, width, height) in enumerate(images):
        out += b"!\xf9\x04\x04" + struct.pack("<H", 10) + b"\0\0" + b"," + struct.pack("<HHHHB", left, top, width, height, 0)
        out += lzw([(x * 3 + y * 5 + number) % 7 < 3 for y in range(height) for x in range(width)])
    return out + end


def lzw(bits, minimum=2):
    """Image data of a GIF. A clear code precedes each growth of the table, so codes keep their first length."""
    clear, stop = 1 << minimum, (1 << minimum) + 1
    codes = []
    for index, bit in enumerate(bits):
        if index % 2 == 0:
            codes.append(clear)
        codes.append(int(bit))
    codes.append(stop)
    value = at = 0
    for code in codes:
        value |= code << at
        at += minimum + 1
    data = value.to_bytes((at + 7) // 8, "little")
    return bytes([minimum]) + b"".join(bytes([len(data[i:i + 255])]) + data[i:i + 255] for i in range(0, len(data), 255)) + b"\0"


def sizes():
    for orientation in (5, 6, 7, 8):
        block = turn(orientation)
        yield f"size-jpeg-{orientation}", after_soi(jpeg(progressive=True), exif(block))
        yield f"size-png-{orientation}", with_chunk(png("RGBA"), chunk(b"eXIf", block))
        yield f"size-webp-{orientation}", container(vp8x(8), webp_image(lossless=True), (b"EXIF", block))
    for name, screen, *images in (
            ("wider", (40, 30), (0, 0, 64, 20)), ("taller", (40, 30), (0, 0, 20, 48)), ("both", (40, 30), (0, 0, 64, 48)),
            ("moved-right", (40, 30), (30, 0, 20, 20)), ("moved-down", (40, 30), (0, 25, 20, 20)),
            ("outside", (40, 30), (50, 40, 8, 8)), ("second-larger", (40, 30), (0, 0, 40, 30), (0, 0, 64, 48)),
            ("second-moved", (40, 30), (0, 0, 40, 30), (30, 20, 20, 20)), ("first-larger", (40, 30), (0, 0, 64, 48), (0, 0, 40, 30)),
            ("all-larger", (10, 10), (0, 0, 20, 20), (0, 0, 30, 10), (5, 5, 30, 30)), ("screen-zero", (0, 0), (0, 0, 20, 16)),
            ("screen-zero-wide", (0, 10), (0, 0, 20, 16)), ("screen-zero-two", (0, 0), (0, 0, 20, 16), (4, 4, 30, 30)),
            ("smaller", (40, 30), (3, 4, 10, 10)), ("screen-huge", (3000, 2000), (0, 0, 8, 8)),
            ("frame-zero", (40, 30), (0, 0, 0, 0)), ("second-zero", (40, 30), (0, 0, 40, 30), (0, 0, 0, 0)),
            ("frame-zero-wide", (40, 30), (0, 0, 0, 10))):
        for header in (b"GIF89a", b"GIF87a"):
            # Chromium shows a screen without pixels as a picture.
            expect = "either" if name.startswith("frame-zero") else "viewers"
            yield f"size-gif-{name}-{header[3:].decode()}", gif_file(screen, *images, header=header), expect


# ---- C: gain maps and profiles ----

def entropy(data):
    """The JPEG without its APP segments and comments."""
    return b"".join(part for code, part in segments(data) if not 0xe0 <= code <= 0xef and code != 0xfe)


def mpf(primary, second, order=">", complete=True):
    """The body of an MPF segment. Offsets count from its byte order mark."""
    mark = b"MM\0*" if order == ">" else b"II*\0"
    if not complete:
        return b"MPF\0" + mark + struct.pack(order + "IHHHIII", 8, 1, 0xB001, 4, 1, 2, 0)
    entries = struct.pack(order + "IHHHI", 8, 3, 0xB000, 7, 4) + b"0100"
    entries += struct.pack(order + "HHII", 0xB001, 4, 1, 2) + struct.pack(order + "HHII", 0xB002, 7, 32, 50)
    table = struct.pack(order + "IIIHH", 0x20030000, primary[1], 0, 0, 0)
    table += struct.pack(order + "IIIHH", 0, second[1], second[0], 0, 0)
    return b"MPF\0" + mark + entries + struct.pack(order + "I", 0) + table


def jpeg_end(data):
    """The offset behind the first picture of a file."""
    return data.index(b"\xff\xd9\xff\xd8") + 2


def gain_xmp(length=None, private=b""):
    """XMP of Ultra HDR: with the `length` of the gain map that of the primary image, else that of the gain map."""
    head = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"' + private)
    if length is None:
        body = (b' hdrgm:GainMapMin="0.1" hdrgm:GainMapMax="2.5" hdrgm:Gamma="1.0" hdrgm:OffsetSDR="0.015625"'
                b' hdrgm:OffsetHDR="0.015625" hdrgm:HDRCapacityMin="0" hdrgm:HDRCapacityMax="2.5" hdrgm:BaseRenditionIsHDR="False"/>')
    else:
        body = (b' xmlns:Container="http://ns.google.com/photos/1.0/container/" xmlns:Item="http://ns.google.com/photos/1.0/container/item/">'
                b'<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary"'
                b' Item:Mime="image/jpeg"/></rdf:li><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap"'
                b' Item:Mime="image/jpeg" Item:Length="%d"/></rdf:li></rdf:Seq></Container:Directory></rdf:Description>' % length)
    return segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0" + head + body + b"</rdf:RDF></x:xmpmeta>")


ISO_GAIN_MAP = (b"urn:iso:std:iso:ts:21496:-1\0" + struct.pack(">HHB", 0, 0, 0x40)
                + struct.pack(">IIIIiIiIIIiIiI", 0, 1, 5, 2, 0, 1, 5, 2, 1, 1, 1, 64, 1, 64))


def gain_maps():
    small = save(picture("L", 3, (32, 24)), "JPEG", quality=80)
    colour = save(picture("RGB", 3, (32, 24)), "JPEG", quality=80)
    secret = exif(tiff([(0x010F, "TEXT", b"S3CRET camera\0")]))
    versions = segment(0xe2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4))

    def build(name, base=None, gain=small, with_xmp=True, with_iso=False, order=">", complete=True, apple=False, lead=b"", tail=b""):
        extra = (gain_xmp() if with_xmp else b"") + (segment(0xe2, ISO_GAIN_MAP) if with_iso else b"")
        if apple:
            extra = exif(tiff([(0x010F, "TEXT", b"S3CRET camera\0")])) + segment(0xe1, (
                b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF"
                b" xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description"
                b" xmlns:apdi='http://ns.apple.com/pixeldatainfo/1.0/' xmlns:HDRGainMap='http://ns.apple.com/HDRGainMap/1.0/'"
                b" apdi:AuxiliaryImageType='urn:com:apple:photo:2020:aux:hdrgainmap' HDRGainMap:HDRGainMapVersion='65536'"
                b" HDRGainMap:HDRGainMapHeadroom='3.5'/></rdf:RDF></x:xmpmeta>"))
        second = after_soi(gain, extra)
        base = base or jpeg()
        head = lead + (gain_xmp(len(second)) if with_xmp else b"") + (versions if with_iso else b"")
        length = 2 + len(head) + 4 + len(mpf((0, 0), (0, 0), order, complete)) + len(base) - 2
        mark = 2 + len(head) + 4 + 4
        directory = segment(0xe2, mpf((0, length), (length - mark, len(second)), order, complete))
        return name, after_soi(base, head + directory) + second + tail, entropy(gain)

    yield build("ultra-hdr")
    yield build("ultra-hdr-little-endian", order="<")
    yield build("ultra-hdr-iso", with_iso=True)
    yield build("ultra-hdr-iso-alone", with_xmp=False, with_iso=True)
    yield build("ultra-hdr-colour-map", gain=colour)
    yield build("ultra-hdr-progressive", base=jpeg(progressive=True), gain=save(picture("L", 3, (32, 24)), "JPEG", progressive=True))
    yield build("ultra-hdr-exif-6", lead=exif(turn(6, ">")))
    yield build("ultra-hdr-secret", lead=secret)
    yield build("ultra-hdr-private-map", gain=after_soi(small, secret + segment(0xfe, b"S3CRET")))
    yield build("ultra-hdr-junk-behind", tail=b"junk" * 20)
    yield build("ultra-hdr-map-restarts", gain=save(picture("L", 3, (32, 24)), "JPEG", restart_marker_blocks=2))
    yield build("apple-gain-map", with_xmp=False, apple=True)
    yield build("apple-gain-map-exif-6", with_xmp=False, apple=True, lead=exif(turn(6, ">")))
    yield build("ultra-hdr-mpf-without-entries", complete=False)
    # Editors add segments without updating MPF, whose offsets and lengths are wrong then.
    for label, options in (("", {}), ("-iso-alone", {"with_xmp": False, "with_iso": True})):
        name, whole, expected = build(f"ultra-hdr{label}", **options)
        table, end = whole.index(b"\xff\xdb"), jpeg_end(whole)
        yield f"{name}-comment-added", whole[:table] + segment(0xfe, b"S3CRET") + whole[table:], expected
        yield f"{name}-zero-before-table", whole[:table] + b"\0" + whole[table:], expected
        yield f"{name}-zero-before-eoi", whole[:end - 2] + b"\0" + whole[end - 2:], expected
        yield f"{name}-zero-behind-eoi", whole[:end] + b"\0" + whole[end:], expected
    # The minimum that announces a gain map: a version in the XMP of the primary image, and a directory that only
    # counts.
    head = exif(turn(6, ">")) + segment(0xe1, (
        b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
        b' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
        b' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/></rdf:RDF></x:xmpmeta>'))
    yield "ultra-hdr-bare", after_soi(jpeg(), head + segment(0xe2, mpf((0, 0), (0, 0), complete=False))) + small, entropy(small)
    # The second picture of a stereo camera is not a gain map, and may be removed.
    first, other = frames(2)
    yield "mpo-stereo", save(first, "MPO", save_all=True, append_images=[other]), None


def profile(extra):
    """An sRGB profile with additional tags: (name, body)."""
    from PIL import ImageCms
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Its creation time would make the files of each run different.
    icc = icc[:24] + struct.pack(">6H", 2024, 1, 2, 3, 4, 5) + icc[36:]
    count = struct.unpack_from(">I", icc, 128)[0]
    added = sum(len(body) + -len(body) % 4 for _, body in extra)
    shift = 12 * len(extra)
    table = b""
    for index in range(count):
        name, offset, length = struct.unpack_from(">4sII", icc, 132 + 12 * index)
        table += struct.pack(">4sII", name, offset + shift, length)
    data = icc[132 + 12 * count:]
    at = 132 + 12 * (count + len(extra)) + len(data)
    tail = b""
    for name, body in extra:
        table += struct.pack(">4sII", name, at + len(tail), len(body))
        tail += body + bytes(-len(body) % 4)
    icc = icc[:128] + struct.pack(">I", count + len(extra)) + table + data + tail
    return struct.pack(">I", len(icc)) + icc[4:]


def profiles():
    maker = b"mmod" + bytes(4) + b"\0\0\x06\x10" + b"\0\0\x9c\xf3" + b"S3CRETserial" + bytes(8)
    text = b"text" + bytes(4) + b"S3CRET serial number\0"
    for name, extra in (("plain", []), ("mmod", [(b"mmod", maker)]), ("mmod-vcgt", [(b"mmod", maker), (b"vcgt", b"vcgt" + bytes(8) + bytes(64))]),
                        ("private-text", [(b"xSER", text)]), ("many", [(b"zz%02d" % n, text) for n in range(8)])):
        icc = profile(extra)
        yield f"icc-{name}-png", save(picture(), "PNG", icc_profile=icc)
        yield f"icc-{name}-jpeg", save(picture(), "JPEG", icc_profile=icc)
        yield f"icc-{name}-webp", save(picture(), "WEBP", icc_profile=icc)
    icc = profile([(b"mmod", maker)])
    image = webp_image()
    yield "icc-webp-no-flag", container(vp8x(0), (b"ICCP", icc), image)
    yield "icc-webp-behind-image", container(vp8x(0x20), image, (b"ICCP", icc))
    yield "icc-png-twice", with_chunk(save(picture(), "PNG", icc_profile=icc), chunk(b"iCCP", b"a\0\0" + zlib.compress(profile([]))))
    yield "icc-png-broken", with_chunk(png(), chunk(b"iCCP", b"a\0\0" + zlib.compress(icc[:200])))
    yield "icc-png-bad-stream", with_chunk(png(), chunk(b"iCCP", b"a\0\0" + zlib.compress(icc)[:100]))
    yield "icc-png-with-srgb", with_chunk(save(picture(), "PNG", icc_profile=icc), chunk(b"sRGB", b"\0"))
    yield "icc-jpeg-broken", save(picture(), "JPEG", icc_profile=icc[:150])
    # Tables of printers are large; one of 1.6 MB was seen. Red and green are exchanged, so that a lost profile is
    # noticed.
    noise = random.Random(5)
    cube = struct.pack(">4sIBBBB9iHH", b"mft2", 0, 3, 3, 51, 0, *(65536 if cell % 4 == 0 else 0 for cell in range(9)), 2, 2)
    cube += b"\0\0\xff\xff" * 3 + noise.randbytes(51 ** 3 * 6) + b"\0\0\xff\xff" * 3
    large = profile([(b"B2A0", cube), (b"B2A1", cube[:100] + noise.randbytes(len(cube) - 112) + cube[-12:])])
    large = large.replace(b"rXYZ", b"swap", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"swap", b"gXYZ", 1)
    for kind in ("PNG", "JPEG", "WEBP"):
        yield f"icc-large-{kind.lower()}", save(picture(), kind, icc_profile=large)
    parts = [segment(0xe2, b"ICC_PROFILE\0" + bytes([number, 2]) + piece) for number, piece in ((1, icc[:300]), (2, icc[300:]))]
    yield "icc-jpeg-two-parts", after_soi(jpeg(), b"".join(parts))
    yield "icc-jpeg-parts-swapped", after_soi(jpeg(), b"".join(reversed(parts)))
    yield "icc-jpeg-part-missing", after_soi(jpeg(), parts[0])


# ---- D: damage that viewers ignore ----

STRAY = {"newlines": b"\n" * 7, "ff00": b"\xff\0", "fill": b"\xff" * 5, "zero": b"\0", "zeros": bytes(16), "one-newline": b"\n",
         "00e1": b"\0\xe1\0\x1e" + bytes(28), "00e1-text": b"\0\xe1\0\x0aS3CRET..", "rst0": b"\xff\xd0", "rst7": b"\xff\xd7", "tem": b"\xff\x01",
         "text": b"S3CRET text", "reserved": b"\xff\x02\0\x04ab", "jpg0": b"\xff\xf0\0\x04ab", "soi": b"\xff\xd8",
         "eoi": b"\xff\xd9", "ff00-block": b"\xff\0\xff\0\xff\0"}


def stray_jpeg():
    plain = jpeg()
    parts = segments(plain)
    for name, stray in STRAY.items():
        yield f"jpeg-stray-{name}-after-soi", after_soi(plain, stray)
        yield f"jpeg-stray-{name}-after-jfif", plain[:20] + stray + plain[20:]
        for code, label in ((0xc0, "sof"), (0xda, "sos"), (0xd9, "eoi")):
            yield f"jpeg-stray-{name}-before-{label}", insert(plain, code, stray)
    yield "jpeg-stray-everywhere", b"".join(part + b"\n\0" for _, part in parts[:-2]) + join(parts[-2:])
    slow = segments(jpeg(progressive=True))
    scans = [index for index, (code, _) in enumerate(slow) if code == 0xda]
    for name in ("newlines", "ff00", "fill", "zeros", "rst0", "text"):
        yield f"jpeg-stray-{name}-between-scans", join(slow[:scans[2]]) + STRAY[name] + join(slow[scans[2]:])
    for name, tail in {"nothing": b"", "zeros": bytes(512), "ffs": b"\xff" * 300, "zero": b"\0", "newline": b"\r\n", "ff": b"\xff",
                       "text": b"S3CRET" * 30, "random": random.Random(1).randbytes(300), "soi": b"\xff\xd8\xff",
                       "second": plain, "ff00": b"\xff\0" * 40, "zip": b"PK\x03\x04" + bytes(40)}.items():
        yield f"jpeg-no-eoi-{name}", plain[:-2] + tail
        # Decoders omit the last pixels of some scans without an end, so no viewer is strict about these.
        yield f"jpeg-no-eoi-progressive-{name}", jpeg(progressive=True)[:-2] + tail, "either"
        yield f"jpeg-behind-eoi-{name}", plain + tail
    for restart in (1, 4):
        base = jpeg(restart_marker_blocks=restart)
        yield f"jpeg-no-eoi-restart-{restart}", base[:-2], "either"
    # Behind a reserved marker, decoders search for the next restart marker; at any other marker, the data ends. If
    # that begins a segment that is longer than the file, Chromium waits for the rest of it, and the others show the
    # image.
    for label, base in (("scan", plain), ("restarts", jpeg(restart_marker_blocks=4))):
        start = base.index(b"\xff\xda")
        for code in (0x02, 0xbf, 0xc4, 0xe5, 0xfe):
            marked = base[:start + 90] + bytes([0xff, code]) + base[start + 92:]
            yield f"jpeg-marker-{code:02x}-in-{label}", marked, "viewers" if code < 0xc0 else "either"
        for code in (0xe5, 0xfe):
            yield f"jpeg-segment-{code:02x}-in-{label}", base[:start + 90] + segment(code, b"S3CRET") + base[start + 92:]
    for label, ids in (("equal", (1, 1, 1)), ("zero", (0, 0, 0)), ("from-0", (0, 1, 2)), ("rgb", (82, 71, 66)), ("two-equal", (1, 2, 2)), ("odd", (9, 200, 33))):
        yield f"jpeg-component-ids-{label}", component_ids(plain, ids)
        yield f"jpeg-component-ids-{label}-bare", component_ids(plain[:2] + plain[20:], ids)
    for code in (0xe0, 0xe1, 0xe2, 0xed, 0xee, 0xfe):
        yield f"jpeg-empty-segment-{code:x}", after_soi(plain, segment(code, b""))
    for length in (0, 1):
        yield f"jpeg-segment-length-{length}", after_soi(plain, b"\xff\xfe" + struct.pack(">H", length))
    yield "jpeg-segment-too-long", after_soi(plain, b"\xff\xfe\xff\xff" + b"a" * 10), "either"
    yield "jpeg-dnl-behind-scan", insert(plain, 0xd9, segment(0xdc, struct.pack(">H", 48)))
    yield "jpeg-tables-behind-scan", insert(plain, 0xd9, join([part for part in parts if part[0] == 0xdb]))


def component_ids(data, ids):
    def frame(part):
        body = bytearray(part)
        for index, number in enumerate(ids):
            body[10 + 3 * index] = number
        return bytes(body)

    def scan(part):
        body = bytearray(part)
        for index, number in enumerate(ids):
            body[5 + 2 * index] = number
        return bytes(body)

    return replace(replace(data, 0xc0, frame), 0xda, scan)


def loose_webp():
    image = webp_image()
    packet = b"<?xpacket begin=''?>" + xmp(1) + b"<?xpacket end='w'?>"
    for name in (b"XMP\0", b"XMP ", b"xmp ", b"Xmp ", b"XMPx", b"META", b"EXIF", b"EXI\0", b"\0\0\0\0", b"JUNK", b"LIST"):
        for flags in (0, 4):
            for body in (packet, packet + b"x"):
                yield f"webp-chunk-{name.hex()}-{flags}-{len(body) % 2}", container(vp8x(flags), image, (name, body))
        yield f"webp-chunk-{name.hex()}-before", container(vp8x(0), (name, packet), image)
        yield f"webp-chunk-{name.hex()}-no-vp8x", container(image, (name, packet))
    plain, lossless = webp(), webp(lossless=True)
    for label, base in (("lossy", plain), ("lossless", lossless), ("extended", container(vp8x(0), image)), ("animated", animated_webp())):
        length = len(base) - 8
        for name, said in (("zero", 0), ("less-2", length - 2), ("less-100", length - 100), ("more-2", length + 2), ("more-1", length + 1),
                           ("more-1000", length + 1000), ("largest", 0xffffffff), ("half", length // 2)):
            yield f"webp-riff-{name}-{label}", base[:4] + struct.pack("<I", said) + base[8:]
        for name, tail in (("zero", b"\0"), ("zeros", bytes(40)), ("text", b"S3CRET"), ("chunk", riff(b"JUNK", b"abcd"))):
            yield f"webp-behind-{name}-{label}", base + tail
    odd = image if len(image[1]) % 2 else (image[0], image[1] + b"\0")
    yield "webp-pad-missing", container(odd[0] + struct.pack("<I", len(odd[1])) + odd[1])
    yield "webp-pad-ff", container(riff(*odd, pad=b"\xff"))
    yield "webp-pad-missing-inside", container(vp8x(8), odd[0] + struct.pack("<I", len(odd[1])) + odd[1], (b"EXIF", turn(1)))
    yield "webp-pad-ff-inside", container(vp8x(8), riff(*odd, pad=b"\xff"), (b"EXIF", turn(1)))
    yield "webp-pad-twice-inside", container(vp8x(8), riff(*odd) + b"\0", (b"EXIF", turn(1)))
    for flags in (0x01, 0x02, 0x10, 0x20, 0x3c, 0x3e, 0xff, 0x40, 0x80):
        yield f"webp-flags-{flags:02x}", container(vp8x(flags), image)
    yield "webp-reserved-bytes", container((b"VP8X", b"\0abc" + vp8x(0)[1][4:]), image)
    for canvas in ((64, 49), (65, 48), (32, 24), (128, 96), (1, 1)):
        yield f"webp-canvas-{canvas[0]}x{canvas[1]}", container(vp8x(0, canvas), image)
    yield "webp-vp8x-twice", container(vp8x(0), vp8x(0), image)
    yield "webp-image-twice", container(vp8x(0), image, webp_image(lossless=True))
    yield "webp-vp8x-behind", container(image, vp8x(0))
    yield "webp-chunk-behind-cut", container(image, (b"abcd", bytes(40)))[:-1]
    yield "webp-vp8x-long", container((b"VP8X", vp8x(0)[1] + b"\0\0"), image)
    alpha = riff_chunks(webp(mode="RGBA"))
    for flags in (0, 0x10):
        yield f"webp-alpha-flags-{flags:x}", container(vp8x(flags), *alpha[1:])
    yield "webp-alpha-without-vp8x", container(*alpha[1:])


def loose_gif():
    moving = gif()
    still = gif(1)
    for label, base in (("moving", moving), ("still", still), ("made", gif_file((20, 16), (0, 0, 20, 16)))):
        body = base[:-1]
        for name, tail in {"no-trailer": b"", "zero-before-trailer": b"\0;", "zeros-before-trailer": bytes(5) + b";", "zeros": bytes(64),
                           "ff": b"\xff", "text": b"S3CRET", "two-trailers": b";;", "comma": b",", "extension-cut": b"!\xfe",
                           "control-cut": b"!\xf9\x04\0\0", "control-long-cut": b"!\xf9\x7f" + bytes(60), "comment-open": b"!\xfe\x06S3CRET", "junk-behind": b";" + b"S3CRET" * 9,
                           "image-cut": b"," + struct.pack("<HHHHB", 0, 0, 4, 4, 0), "zip": b";PK\x03\x04" + bytes(30)}.items():
            yield f"gif-{name}-{label}", body + tail
    at = moving.index(b"!\xf9", moving.index(b"!\xf9") + 2)
    for name, stray in (("zero", b"\0"), ("zeros", bytes(4)), ("text", b"abc")):
        yield f"gif-{name}-between-frames", moving[:at] + stray + moving[at:], "either"
    yield "gif-87-with-extensions", b"GIF87a" + moving[6:]
    bare = b"GIF87a\x01\0\x01\0\0\0\0"
    pixel = b",\0\0\0\0\x01\0\x01\0\0" + lzw([1])
    yield "gif-no-palette", bare + pixel + pixel + b";"
    yield "gif-no-palette-still", bare + pixel + b";"
    yield "gif-no-palette-wide-codes", bare + b",\0\0\0\0\x01\0\x01\0\0\x08\x04\0\x01\x04\x04\0" * 2 + b";"
    yield "gif-no-palette-larger", gif_file((20, 16), (0, 0, 20, 16), flags=0)
    yield "gif-no-palette-two", gif_file((20, 16), (0, 0, 20, 16), (2, 2, 8, 8), flags=0)
    yield "gif-no-images", b"GIF89a" + struct.pack("<HHBBB", 20, 16, 0x80, 0, 0) + bytes(6) + b";"
    yield "gif-header-only", b"GIF89a" + struct.pack("<HHBBB", 20, 16, 0x80, 0, 0)
    yield "gif-no-blocks", b"GIF89a" + struct.pack("<HHBBB", 20, 16, 0x80, 0, 0) + bytes(6) + b"," + struct.pack("<HHHHB", 0, 0, 20, 16, 0) + b"\x02\0;"
    for name, extension in {"netscape-short": b"!\xff\x0bNETSCAPE2.0\x01\x01\0", "netscape-empty": b"!\xff\x0bNETSCAPE2.0\0",
                            "netscape-lower": b"!\xff\x0bnetscape2.0\x03\x01\x02\0\0", "animexts": b"!\xff\x0bANIMEXTS1.0\x03\x01\x02\0\0",
                            "app-short": b"!\xff\x03abc\0", "unknown": b"!\x99\x03abc\0", "plain-text": b"!\x01\x0c" + bytes(12) + b"\x02hi\0",
                            "control-long": b"!\xf9\x06\0\0\0\0\0\0\0", "control-short": b"!\xf9\x02\0\0\0", "control-twice": b"!\xf9\x04\x01\x05\0\0\0" * 2,
                            "xmp": b"!\xff\x0bXMP DataXMP" + b"<x>S3CRET</x>" + b"\x01" + bytes(range(255, -1, -1)) + b"\0"}.items():
        made = gif_file((20, 16), (0, 0, 20, 16), (1, 1, 9, 9))
        yield f"gif-extension-{name}", made[:19] + extension + made[19:]
    for value in (3, 4, 5, 6, 7):
        made = gif_file((20, 16), (0, 0, 20, 16), (1, 1, 9, 9))
        yield f"gif-disposal-{value}", made.replace(b"!\xf9\x04\x04", b"!\xf9\x04" + bytes([value << 2]))
    for delay in (0, 1, 65535):
        made = gif_file((20, 16), (0, 0, 20, 16), (1, 1, 9, 9))
        yield f"gif-delay-{delay}", made.replace(b"!\xf9\x04\x04\x0a\0", b"!\xf9\x04\x04" + struct.pack("<H", delay))
    block = gif_file((20, 16), (0, 0, 20, 16))
    yield "gif-extra-blocks", block[:-2] + b"\x04abcd\0;"
    yield "gif-terminator-missing", block[:-2] + b";"
    yield "gif-last-bytes-missing", block[:-4]
    yield "gif-background-outside", block[:11] + b"\x7f" + block[12:]


ANCILLARY = {
    b"tEXt": b"Author\0S3CRET", b"zTXt": b"Author\0\0" + zlib.compress(b"S3CRET"), b"iTXt": b"Author\0\0\0\0\0S3CRET", b"pHYs": struct.pack(">IIB", 2835, 2835, 1),
    b"gAMA": struct.pack(">I", 45455), b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000), b"sRGB": b"\0",
    b"sBIT": b"\x08\x08\x08", b"tIME": b"\x07\xe8\x01\x02\x03\x04\x05", b"bKGD": b"\0\x01\0\x02\0\x03", b"tRNS": b"\0\x01\0\x02\0\x03", b"oFFs": struct.pack(">iiB", 1, 1, 0),
    b"sPLT": b"a\0\x08" + bytes(6), b"cICP": b"\x01\x0d\0\x01", b"eXIf": turn(1), b"prIv": b"S3CRET", b"sTER": b"\0", b"mDCV": bytes(24),
}


def loose_png():
    plain = png()
    parts = chunks(plain)
    end = chunk(b"IEND", b"")
    headless = plain[:-12]
    for name, tail in {"missing": b"", "length-only": end[:4], "length-and-name": end[:8], "crc-cut": end[:10], "crc-wrong": end[:8] + b"abcd",
                       "with-body": chunk(b"IEND", b"hello"), "zeros": bytes(12), "text": b"S3CRET", "newline": end + b"\n", "twice": end + end,
                       "zip": end + b"PK\x03\x04" + bytes(40), "lower": chunk(b"iEND", b""), "chunk-behind": end + chunk(b"tEXt", b"a\0S3CRET"),
                       "text-then-nothing": chunk(b"tEXt", b"a\0S3CRET"), "text-cut": chunk(b"tEXt", b"a\0S3CRET")[:-6], "length-huge": b"\x7f\xff\xff\xffIEND"}.items():
        yield f"png-iend-{name}", headless + tail
    for label, cut in (("crc", 4), ("crc-and-byte", 5)):
        idat = rebuild(parts[:-1])
        yield f"png-idat-{label}-missing", idat[:-cut]
    for name, body in ANCILLARY.items():
        word = name.decode()
        yield f"png-{word}", with_chunk(plain, chunk(name, body))
        yield f"png-{word}-after-idat", with_chunk(plain, chunk(name, body), b"IEND")
        yield f"png-{word}-crc", with_chunk(plain, bad_crc(name, body))
        yield f"png-{word}-crc-after-idat", with_chunk(plain, bad_crc(name, body), b"IEND")
        yield f"png-{word}-twice", with_chunk(plain, chunk(name, body) * 2)
        yield f"png-{word}-empty", with_chunk(plain, chunk(name, b""))
        # Chromium and Pillow apply transparency that is too long; libvips does not.
        yield f"png-{word}-long", with_chunk(plain, chunk(name, body + b"\0")), "viewers", None, ("libvips",) if word == "tRNS" else ()
    yield "png-text-crc-before-ihdr", plain[:8] + chunk(b"tEXt", b"a\0b") + plain[8:]
    for name in (b"TEXT", b"Text", b"teXt", b"tExt", b"abcd", b"ABCD", b"AbCd", b"aBcD", b"ab1d", b"\0\0\0\0", b"a\xffcd", b"IDOT", b"iDOT", b"CgBI", b"vpAg", b"IHDr"):
        yield f"png-name-{name.hex()}", with_chunk(plain, chunk(name, b"S3CRET"))
        yield f"png-name-{name.hex()}-after-idat", with_chunk(plain, chunk(name, b"S3CRET"), b"IEND")
    pixels = parts[1][1]
    for name, pieces in {"one-byte": [pixels[i:i + 1] for i in range(60)] + [pixels[60:]], "empty-first": [b"", pixels], "empty-last": [pixels, b""],
                         # Bytes behind the end of the zlib stream are kept, as docs/images.md says. They contain no
                         # secret here.
                         "extra-byte": [pixels + b"\0"], "extra-text": [pixels + b"EXTRAS" * 20], "extra-chunk": [pixels, b"EXTRAS" * 20]}.items():
        yield f"png-idat-{name}", rebuild([parts[0], *((b"IDAT", piece) for piece in pieces), parts[-1]])
    half = len(pixels) // 2
    yield "png-idat-apart", rebuild([parts[0], (b"IDAT", pixels[:half]), (b"tEXt", b"a\0b"), (b"IDAT", pixels[half:]), parts[-1]])
    yield "png-idat-crc", rebuild([parts[0], bad_crc(*parts[1]), parts[-1]])
    yield "png-idat-second-crc", rebuild([parts[0], (b"IDAT", pixels[:half]), bad_crc(b"IDAT", pixels[half:]), parts[-1]])
    # Chromium's decoder uses such a chunk and then stops, which is too early only if pixels follow it.
    yield "png-idat-first-crc", rebuild([parts[0], bad_crc(b"IDAT", pixels[:half]), (b"IDAT", pixels[half:]), parts[-1]])
    yield "png-idat-crc-then-empty", rebuild([parts[0], bad_crc(*parts[1]), (b"IDAT", b""), parts[-1]])
    yield "png-idat-crc-then-adler", rebuild([parts[0], bad_crc(b"IDAT", pixels[:-4]), (b"IDAT", pixels[-4:]), parts[-1]])
    yield "png-ihdr-crc", rebuild([bad_crc(*parts[0]), *parts[1:]])
    yield "png-ihdr-twice", rebuild([parts[0], *parts])
    yield "png-ihdr-long", rebuild([(b"IHDR", parts[0][1] + b"\0"), *parts[1:]])
    high = with_chunk(plain, chunk(b"tEXt", b"Software\0www.example.org"))
    at = high.index(b"IDAT") - 4
    yield "png-length-high-byte-ff", high[:at] + b"\xff" + high[at + 1:], "either"
    yield "png-length-too-long", high[:at] + b"\0\1" + high[at + 2:], "either"
    indexed = chunks(save(picture().quantize(16), "PNG"))
    yield "png-plte-crc", rebuild([bad_crc(*part) if part[0] == b"PLTE" else part for part in indexed])
    yield "png-plte-short", rebuild([(name, body[:9]) if name == b"PLTE" else (name, body) for name, body in indexed])
    yield "png-plte-missing", rebuild([part for part in indexed if part[0] != b"PLTE"])
    yield "png-plte-odd", rebuild([(name, body + b"\0") if name == b"PLTE" else (name, body) for name, body in indexed])
    yield "png-plte-twice", rebuild([part for part in indexed for _ in range(2 if part[0] == b"PLTE" else 1)])
    yield "png-plte-in-grey", with_chunk(save(picture("L"), "PNG"), chunk(b"PLTE", bytes(9)))
    yield "png-plte-in-rgb", with_chunk(plain, chunk(b"PLTE", bytes(9)))
    yield "png-trns-too-long", rebuild([piece for part in indexed for piece in ([part, (b"tRNS", bytes(40))] if part[0] == b"PLTE" else [part])])
    # Only Pillow applies such a tRNS chunk. Without it, the file is what Chromium and libvips show.
    yield "png-trns-before-plte", rebuild([piece for part in indexed for piece in ([(b"tRNS", b"\0\x80"), part] if part[0] == b"PLTE" else [part])]), "viewers", None, ("pillow",)
    yield "png-trns-in-rgba", with_chunk(png("RGBA"), chunk(b"tRNS", bytes(6)))


def bombs():
    plain = png()
    raw8bim = b"\n8bim\n %d\n" % 650_000 + b"00" * 650_000 + b"\n"
    yield "png-bomb-8bim-1.3MB", with_chunk(plain, chunk(b"zTXt", b"Raw profile type 8bim\0\0" + zlib.compress(raw8bim, 9)))
    for megabytes in (0.9, 1.1, 8, 40):
        packed = zlib.compress(b"a" * int(megabytes * 1_000_000), 9)
        yield f"png-bomb-zTXt-{megabytes}MB", with_chunk(plain, chunk(b"zTXt", b"a\0\0" + packed))
        yield f"png-bomb-iTXt-{megabytes}MB", with_chunk(plain, chunk(b"iTXt", b"a\0\1\0\0\0" + packed))
        yield f"png-bomb-zTXt-{megabytes}MB-after", with_chunk(plain, chunk(b"zTXt", b"a\0\0" + packed), b"IEND")
    small = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000), 9))
    yield "png-bomb-100-texts", with_chunk(plain, small * 100)
    yield "png-bomb-text-not-zlib", with_chunk(plain, chunk(b"zTXt", b"a\0\0garbage"))
    yield "png-bomb-text-method", with_chunk(plain, chunk(b"zTXt", b"a\0\7" + zlib.compress(b"a")))
    yield "png-1000-texts", with_chunk(plain, chunk(b"tEXt", b"a\0S3CRET") * 1200)


def counts():
    base = apng()
    parts = chunks(base)
    at = next(index for index, (name, _) in enumerate(parts) if name == b"acTL")

    def change(frames_said, plays=0, only=lambda parts: parts):
        changed = list(parts)
        changed[at] = (b"acTL", struct.pack(">II", frames_said, plays))
        return rebuild(only(changed))

    for said in (0, 1, 2, 4, 5, 1000, 1001, 2**31 - 1, 2**31, 2**32 - 1):
        yield f"apng-actl-{said}", change(said)
        yield f"apng-actl-{said}-still", with_chunk(png(), chunk(b"acTL", struct.pack(">II", said, 0)))
    for plays in (1, 2**31 - 1, 2**31, 2**32 - 1):
        yield f"apng-plays-{plays}", change(3, plays)
    still = chunks(png())
    # Only the checksum is wrong. Viewers do not show the picture only if the chunk announces an animation without
    # frames.
    yield "apng-actl-2-still-idat-crc", rebuild([still[0], (b"acTL", struct.pack(">II", 2, 0)), bad_crc(*still[1]), *still[2:]]), "either"
    yield "apng-idat-crc", rebuild([bad_crc(*part) if part[0] == b"IDAT" else part for part in parts])
    of = lambda name: [index for index, part in enumerate(parts) if part[0] == name]

    def edit(index, changed):
        return rebuild([changed if number == index else part for number, part in enumerate(parts)])

    controls, data = of(b"fcTL"), of(b"fdAT")
    yield "apng-no-first-control", rebuild([part for index, part in enumerate(parts) if index != controls[0]])
    yield "apng-no-last-data", rebuild([part for index, part in enumerate(parts) if index != data[-1]])
    yield "apng-no-last-control", rebuild([part for index, part in enumerate(parts) if index != controls[-1]])
    yield "apng-no-last-frame", rebuild([part for index, part in enumerate(parts) if index not in (controls[-1], data[-1])])
    yield "apng-actl-twice", rebuild([parts[at], *parts]) if parts[0][0] != b"IHDR" else rebuild([parts[0], parts[at], *parts[1:]])
    yield "apng-actl-behind-idat", rebuild([*parts[:at], *parts[at + 1:-1], parts[at], parts[-1]])
    yield "apng-actl-crc", edit(at, bad_crc(*parts[at]))
    yield "apng-actl-short", edit(at, (b"acTL", b"\0\0\0\3"))
    yield "apng-control-crc", edit(controls[1], bad_crc(*parts[controls[1]]))
    yield "apng-data-crc", edit(data[0], bad_crc(*parts[data[0]]))
    yield "apng-control-cut", edit(controls[1], (b"fcTL", parts[controls[1]][1][:-1]))
    for index, name in ((controls[1], "control"), (data[0], "data"), (data[1], "last-data")):
        for gap in (1, 5, 2**31):
            sequence = struct.unpack_from(">I", parts[index][1])[0] + gap & 0xffffffff
            yield f"apng-gap-{name}-{gap}", edit(index, (parts[index][0], struct.pack(">I", sequence) + parts[index][1][4:]))

    def control(index, **values):
        names = ["sequence", "width", "height", "x", "y", "num", "den", "dispose", "blend"]
        fields = dict(zip(names, struct.unpack(">IIIIIHHBB", parts[index][1]))) | values
        return edit(index, (b"fcTL", struct.pack(">IIIIIHHBB", *fields.values())))

    yield "apng-frame-outside", control(controls[1], x=60)
    yield "apng-frame-too-wide", control(controls[1], width=65)
    yield "apng-frame-zero", control(controls[1], width=0)
    yield "apng-frame-smaller", control(controls[1], width=10)
    yield "apng-first-frame-smaller", control(controls[0], width=10, height=10)
    yield "apng-dispose-3", control(controls[1], dispose=3)
    yield "apng-blend-2", control(controls[1], blend=2)
    yield "apng-delay-0", control(controls[1], num=0, den=0)
    yield "apng-last-data-cut", edit(data[1], (b"fdAT", parts[data[1]][1][:60]))
    yield "apng-last-data-random", edit(data[1], (b"fdAT", parts[data[1]][1][:4] + random.Random(2).randbytes(200)))
    yield "apng-cut-in-last-frame", base[:-200]
    yield "apng-no-iend", base[:-12]
    yield "apng-first-control-before-actl", rebuild([parts[0], parts[controls[0]], *parts[1:controls[0]], *parts[controls[0] + 1:]])
    yield "apng-control-twice", rebuild([*parts[:controls[1]], parts[controls[1]], *parts[controls[1]:]])
    yield "apng-no-second-data", rebuild([part for index, part in enumerate(parts) if index != data[0]])
    # Browsers see no animation at all, so its frames do not matter.
    for plays in (2**31, 2**32 - 1):
        unsound = [(name, body[:4] + bytes(200)) if index == data[0] else (name, body) for index, (name, body) in enumerate(parts)]
        unsound[at] = (b"acTL", struct.pack(">II", 3, plays))
        yield f"apng-plays-{plays}-bad-frame", rebuild(unsound)
    yield "apng-text-between-frames", rebuild([*parts[:controls[1]], (b"tEXt", b"a\0S3CRET"), *parts[controls[1]:]])
    yield "apng-text-crc-between-frames", rebuild([*parts[:controls[1]], bad_crc(b"tEXt", b"a\0S3CRET"), *parts[controls[1]:]])
    hidden = save(picture(), "PNG", save_all=True, append_images=frames(3), default_image=True, duration=50)
    yield "apng-hidden-default", hidden
    broken = chunks(hidden)
    where = next(index for index, part in enumerate(broken) if part[0] == b"acTL")
    for said in (0, 2, 4, 2**32 - 1):
        yield f"apng-hidden-default-{said}", rebuild([(b"acTL", struct.pack(">II", said, 0)) if index == where else part for index, part in enumerate(broken)])


# ---- E: limits ----

def blank_png(width, height):
    """A PNG of one bit a pixel, in one colour but for the first row."""
    row = (width + 7) // 8
    packer = zlib.compressobj(9)
    data = packer.compress(b"\0" + b"\xa5" * row)
    for _ in range(0, height - 1, 4096):
        data += packer.compress(bytes((row + 1) * min(4096, height - 1)))
        height -= 4096
    return data + packer.flush()


def large_png(width, height):
    return rebuild([ihdr(width, height, 1, 0), (b"IDAT", blank_png(width, height)), (b"IEND", b"")])


def blank_webp(width, height):
    """A VP8L image whose codes all have one symbol, so pixels take no bits."""
    return b"VP8L", b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + b"\x88\x88\x08\0\0"


def large_jpeg(width, height):
    return save(Image.new("L", (width, height), 99), "JPEG", quality=30)


def large_gif(screen, count):
    """An animation whose frames all have the size of the screen."""
    whole = save(Image.new("P", screen, 1), "GIF", optimize=False)
    at = 13 + (3 << (whole[10] & 7) + 1)
    while whole[at] == 0x21:
        at += 2
        while whole[at]:
            at += 1 + whole[at]
        at += 1
    control = b"!\xf9\x04\x04\x05\0\0\0"
    frames = (control + whole[at:-1]) * (count - 1)
    other = gif_file(screen, (0, 0, 8, 8), end=b"")
    return other + frames + b";"


def large_apng(screen, count):
    """An animation whose frames all have the size of the screen."""
    data = blank_png(*screen)
    control = lambda number: (b"fcTL", struct.pack(">IIIIIHHBB", number, *screen, 0, 0, 1, 10, 0, 0))
    more = [part for index in range(count - 1)
            for part in (control(1 + 2 * index), (b"fdAT", struct.pack(">I", 2 + 2 * index) + data))]
    return rebuild([ihdr(*screen, 1, 0), (b"acTL", struct.pack(">II", count, 0)), control(0), (b"IDAT", data), *more, (b"IEND", b"")])


def large_webp(screen, count):
    """An animation whose frames all have the size of the screen."""
    frame = riff(b"ANMF", bytes(6) + three(screen[0] - 1) + three(screen[1] - 1) + three(50) + b"\0" + riff(*blank_webp(*screen)))
    return container(vp8x(2, screen), (b"ANIM", bytes(6)), frame * count)


def limits():
    fine, over = "viewers", "limit"
    yield "limit-png-8192x6144", large_png(8192, 6144), fine
    yield "limit-png-1080x20000", large_png(1080, 20000), fine
    yield "limit-png-10000x10000", large_png(10000, 10000), fine
    yield "limit-png-10001x10000", large_png(10001, 10000), over
    yield "limit-png-32768x100", large_png(32768, 100), fine
    yield "limit-png-100x32768", large_png(100, 32768), fine
    yield "limit-png-32769x100", large_png(32769, 100), over
    yield "limit-png-100x32769", large_png(100, 32769), over
    yield "limit-png-65535x65535", rebuild([ihdr(65535, 65535), (b"IDAT", zlib.compress(b"a")), (b"IEND", b"")]), over
    yield "limit-jpeg-32768x16", large_jpeg(32768, 16), fine
    yield "limit-jpeg-32769x16", large_jpeg(32769, 16), over
    yield "limit-jpeg-9000x9000", large_jpeg(9000, 9000), fine
    yield "limit-jpeg-10008x10000", large_jpeg(10008, 10000), over
    yield "limit-webp-16383x16", container(blank_webp(16383, 16)), fine
    yield "limit-webp-16384x16", container(blank_webp(16384, 16)), over
    yield "limit-webp-7071x7071", container(blank_webp(7071, 7071)), fine
    yield "limit-webp-7072x7072", container(blank_webp(7072, 7072)), over
    yield "limit-gif-32768x4", gif_file((32768, 4), (0, 0, 9, 4)), fine
    yield "limit-gif-32769x4", gif_file((32769, 4), (0, 0, 9, 4)), over
    yield "limit-gif-frame-32769", gif_file((4, 4), (0, 0, 32769, 1)), over
    yield "limit-gif-1917x1533x34", large_gif((1917, 1533), 34), fine
    yield "limit-gif-4096x4096x3", large_gif((4096, 4096), 3), fine
    yield "limit-gif-3000x2000x50", large_gif((3000, 2000), 50), fine
    yield "limit-gif-3000x2000x51", large_gif((3000, 2000), 51), over
    yield "limit-gif-1000-frames", large_gif((8, 8), 1000), fine
    yield "limit-gif-1001-frames", large_gif((8, 8), 1001), over
    yield "limit-apng-3000x2000x50", large_apng((3000, 2000), 50), fine
    yield "limit-apng-3000x2000x51", large_apng((3000, 2000), 51), over
    yield "limit-webp-5000x5000x12", large_webp((5000, 5000), 12), fine
    yield "limit-webp-5000x5000x13", large_webp((5000, 5000), 13), over
    pixel = lambda number: [(b"fcTL", struct.pack(">IIIIIHHBB", number, 1, 1, 0, 0, 1, 10, 0, 0)),
                            (b"fdAT", struct.pack(">I", number + 1) + zlib.compress(b"\0abc"))]
    for count, expect in ((1000, fine), (1001, over)):
        more = [part for index in range(count - 1) for part in pixel(1 + 2 * index)]
        first = [ihdr(2, 2), (b"acTL", struct.pack(">II", count, 0)), (b"fcTL", struct.pack(">IIIIIHHBB", 0, 2, 2, 0, 0, 1, 10, 0, 0)),
                 (b"IDAT", zlib.compress(b"\0abcdef" * 2))]
        yield f"limit-apng-{count}-frames", rebuild([*first, *more, (b"IEND", b"")]), expect
        image = riff(*blank_webp(2, 2))
        frame = riff(b"ANMF", bytes(6) + three(1) + three(1) + three(50) + b"\0" + image)
        yield f"limit-webp-{count}-frames", container(vp8x(2, (2, 2)), (b"ANIM", bytes(6)), frame * count), expect


# ---- F: damage to pixels ----

def broken_jpeg():
    plain, slow = jpeg(), jpeg(progressive=True)
    parts = segments(plain)

    def scan(change, base=plain, only=None):
        seen = -1

        def apply(part):
            nonlocal seen
            seen += 1
            return change(bytearray(part)) if only in (None, seen) else part
        return replace(base, 0xda, apply)

    def put(at, value):
        def change(part):
            part[at] = value
            return bytes(part)
        return change

    def swap(part):
        part[5:7], part[7:9] = part[7:9], part[5:7]
        return bytes(part)

    yield "broken-jpeg-scan-order", scan(swap)
    yield "broken-jpeg-scan-same-component", scan(put(7, 1))
    yield "broken-jpeg-scan-unknown-component", scan(put(5, 9))
    yield "broken-jpeg-scan-table-3", scan(put(6, 0x33))
    yield "broken-jpeg-scan-count-0", scan(lambda part: bytes(part[:2]) + b"\0\6\0\0\x3f\0" + bytes(part[14:]))
    yield "broken-jpeg-scan-one-component", scan(lambda part: b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + bytes(part[14:]))
    yield "broken-jpeg-spectral", scan(put(11, 5))
    header, scans, end = scans_apart(slow)
    for number, body in enumerate(part for code, part in segments(slow) if code == 0xda):
        last = struct.unpack_from(">H", body, 2)[0] + 1
        for value in (0x11, 0x32, 0x0e, 0x10, 0x21, 0x02):
            yield f"broken-jpeg-progressive-{number}-approximation-{value:02x}", scan(put(last, value), slow, number)
        others = [part for index, part in enumerate(scans) if index != number]
        yield f"broken-jpeg-progressive-without-scan-{number}", header + b"".join(others) + end
    for code, label in ((0xc4, "dht"), (0xdb, "dqt"), (0xc0, "sof"), (0xda, "sos")):
        yield f"broken-jpeg-no-{label}", join([part for part in parts if part[0] != code])
        first = next(index for index, part in enumerate(parts) if part[0] == code)
        yield f"broken-jpeg-no-first-{label}", join([part for index, part in enumerate(parts) if index != first])
        yield f"broken-jpeg-first-{label}-twice", join(parts[:first + 1] + parts[first:])
    tables = [index for index, part in enumerate(parts) if part[0] == 0xc4]
    for position, index in enumerate(tables):
        yield f"broken-jpeg-no-table-{position}", join([part for number, part in enumerate(parts) if number != index])
        full = bytearray(parts[index][1])
        full[5] = 9
        yield f"broken-jpeg-table-overfull-{position}", join([(0xc4, bytes(full)) if number == index else part for number, part in enumerate(parts)])
    frame = next(part for code, part in parts if code == 0xc0)
    for at, value, label in ((4, 12, "precision-12"), (4, 16, "precision-16"), (4, 0, "precision-0"), (11, 0x02, "sampling-0"), (11, 0x52, "sampling-5"),
                             (11, 0x44, "sampling-4"), (11, 0x31, "sampling-3"), (12, 7, "table-7"), (9, 2, "components-2"), (9, 0, "components-0")):
        changed = bytearray(frame)
        changed[at] = value
        yield f"broken-jpeg-{label}", replace(plain, 0xc0, lambda _: bytes(changed))
    for value, label in ((0, "height-0"), (49, "height-49"), (96, "height-96"), (24, "height-24"), (4000, "height-4000")):
        yield f"broken-jpeg-{label}", replace(plain, 0xc0, lambda part: part[:5] + struct.pack(">H", value) + part[7:])
    yield "broken-jpeg-width-0", replace(plain, 0xc0, lambda part: part[:7] + b"\0\0" + part[9:])
    for code in (0xc1, 0xc2, 0xc3, 0xc5, 0xc9, 0xca, 0xcb, 0xf7):
        # Read as arithmetic coding, Huffman codes are noise, which a viewer may show.
        expect = "either" if code in (0xc9, 0xca) else "viewers"
        yield f"broken-jpeg-sof-{code:x}", replace(plain, 0xc0, lambda part: b"\xff" + bytes([code]) + part[2:]), expect
    noise = random.Random(7)
    for label, base in (("baseline", plain), ("progressive", slow), ("restart", jpeg(restart_marker_blocks=2))):
        body = base.index(b"\xff\xda")
        for percent in (0, 1, 10, 50, 90, 99):
            cut = base[:body + 14 + (len(base) - body - 16) * percent // 100]
            yield f"broken-jpeg-cut-{percent}-{label}", cut
            # All viewers show a scan without data, as grey.
            yield f"broken-jpeg-cut-{percent}-eoi-{label}", cut + b"\xff\xd9", "viewers" if percent else "either"
        for number in range(4):
            damaged = bytearray(base)
            for _ in range(1 + number * 4):
                damaged[noise.randrange(body + 14, len(base) - 2)] = noise.randrange(255)
            yield f"broken-jpeg-flipped-{number}-{label}", bytes(damaged)
        yield f"broken-jpeg-random-scan-{label}", base[:body + 14] + noise.randbytes(900).replace(b"\xff", b"\xff\0") + b"\xff\xd9"
        yield f"broken-jpeg-random-markers-{label}", base[:body + 14] + noise.randbytes(900) + b"\xff\xd9"
        yield f"broken-jpeg-zero-scan-{label}", base[:body + 14] + bytes(900) + b"\xff\xd9"
    yield "broken-jpeg-soi-only", b"\xff\xd8\xff\xd9"
    yield "broken-jpeg-random", b"\xff\xd8\xff\xe0" + noise.randbytes(500)
    for mode in ("L", "CMYK"):
        base = jpeg(mode=mode)
        yield f"jpeg-{mode}", base
        yield f"broken-jpeg-cut-{mode}", base[:len(base) // 2] + b"\xff\xd9"
        yield f"jpeg-no-eoi-{mode}", base[:-2], "either"
    yield "broken-jpeg-arithmetic-markers", plain.replace(b"\xff\xc4", b"\xff\xcc", 1)


def scans_apart(data):
    """The header of a JPEG, its scans, each with the tables before it, and its end."""
    parts = segments(data)
    first = next(index for index, (code, _) in enumerate(parts) if code == 0xc4)
    scans, tables = [], b""
    for code, part in parts[first:]:
        tables += part
        if code == 0xda:
            scans.append(tables)
            tables = b""
    return join(parts[:first]), scans, tables


def broken_png():
    noise = random.Random(11)
    for mode, colour in (("RGB", 2), ("RGBA", 6), ("L", 0)):
        base = png(mode)
        parts = chunks(base)
        pixels = parts[1][1]
        raw = zlib.decompress(pixels)
        stride = len(raw) // SIZE[1]
        build = lambda body: rebuild([parts[0], (b"IDAT", body), parts[-1]])
        yield f"broken-png-random-{mode}", build(noise.randbytes(50_000))
        yield f"broken-png-zeros-{mode}", build(bytes(500))
        yield f"broken-png-empty-{mode}", build(b"")
        yield f"broken-png-no-idat-{mode}", rebuild([parts[0], parts[-1]])
        yield f"broken-png-random-stream-{mode}", build(zlib.compress(noise.randbytes(len(raw))))
        for row in (0, 1, 20, SIZE[1] - 1):
            for value in (5, 255):
                changed = bytearray(raw)
                changed[row * stride] = value
                yield f"broken-png-filter-{value}-row-{row}-{mode}", build(zlib.compress(bytes(changed)))
        for percent in (0, 1, 10, 50, 90, 99):
            yield f"broken-png-cut-{percent}-{mode}", build(pixels[:len(pixels) * percent // 100])
            yield f"broken-png-file-cut-{percent}-{mode}", base[:41 + len(pixels) * percent // 100]
        yield f"broken-png-adler-{mode}", build(pixels[:-4] + b"abcd")
        yield f"broken-png-adler-missing-{mode}", build(pixels[:-4])
        yield f"broken-png-adler-cut-{mode}", build(pixels[:-2])
        # Chromium leaves missing rows transparent, which looks like an image with alpha that is transparent there.
        yield f"broken-png-row-missing-{mode}", build(zlib.compress(raw[:-stride])), "either" if mode == "RGBA" else "viewers"
        yield f"broken-png-byte-missing-{mode}", build(zlib.compress(raw[:-1]))
        yield f"broken-png-row-more-{mode}", build(zlib.compress(raw + raw[:stride]))
        yield f"broken-png-window-{mode}", build(b"\x18\x19" + pixels[2:])
        yield f"broken-png-window-too-large-{mode}", build(b"\x88\x1c" + pixels[2:])
        yield f"broken-png-header-check-{mode}", build(b"\x78\x9d" + pixels[2:])
        yield f"broken-png-dictionary-{mode}", build(b"\x78\xbb" + pixels[2:])
        yield f"broken-png-raw-deflate-{mode}", build(pixels[2:-4])
        for number in range(4):
            damaged = bytearray(pixels)
            for _ in range(1 + 3 * number):
                damaged[noise.randrange(2, len(damaged))] = noise.randrange(256)
            yield f"broken-png-flipped-{number}-{mode}", build(bytes(damaged))
    for depth, colour in ((3, 0), (16, 3), (1, 2), (8, 5), (8, 1), (0, 0), (4, 6), (2, 4), (8, 7)):
        yield f"broken-png-depth-{depth}-colour-{colour}", rebuild([ihdr(*SIZE, depth, colour), (b"IDAT", zlib.compress(bytes(9000))), (b"IEND", b"")])
    for label, header in (("method", struct.pack(">IIBBBBB", 64, 48, 8, 2, 1, 0, 0)), ("filter-method", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 1, 0)),
                          ("interlace-2", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 2)), ("width-0", struct.pack(">IIBBBBB", 0, 48, 8, 2, 0, 0, 0)),
                          ("height-0", struct.pack(">IIBBBBB", 64, 0, 8, 2, 0, 0, 0)), ("width-negative", struct.pack(">IIBBBBB", 2**31 + 64, 48, 8, 2, 0, 0, 0))):
        yield f"broken-png-{label}", rebuild([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(193 * 48))), (b"IEND", b"")])
    passes = b"".join(bytes([0]) + noise.randbytes(3 * wide) for wide, high in ((8, 6), (8, 6), (16, 6), (16, 12), (32, 12), (32, 24), (64, 24)) for _ in range(high))
    woven = lambda body: rebuild([ihdr(*SIZE, interlaced=1), (b"IDAT", body), (b"IEND", b"")])
    yield "png-interlaced", woven(zlib.compress(passes))
    yield "broken-png-interlaced-short", woven(zlib.compress(passes[:-1]))
    yield "broken-png-interlaced-half", woven(zlib.compress(passes[:len(passes) // 2]))
    yield "broken-png-interlaced-cut", woven(zlib.compress(passes)[:-300])
    yield "broken-png-interlaced-filter", woven(zlib.compress(passes[:-193] + b"\x09" + passes[-192:]))
    yield "broken-png-index-outside", rebuild([ihdr(*SIZE, 8, 3), (b"PLTE", bytes(range(12))), (b"IDAT", zlib.compress((b"\0" + bytes([200]) * 64) * 48)), (b"IEND", b"")])


def broken_gif():
    noise = random.Random(13)
    make = lambda body, after=b";": b"GIF89a" + struct.pack("<HHBBB", 20, 16, 0x80, 0, 0) + b"\0\0\0\xff\x80\x20," + struct.pack("<HHHHB", 0, 0, 20, 16, 0) + body + after
    good = lzw([(n * 7) % 3 == 0 for n in range(320)])
    yield "gif-made", make(good)
    blocks = lambda data: b"".join(bytes([len(data[i:i + 255])]) + data[i:i + 255] for i in range(0, len(data), 255)) + b"\0"
    for minimum in (0, 1, 3, 8, 9, 11, 12, 13, 255):
        yield f"broken-gif-code-size-{minimum}", make(bytes([minimum]) + good[1:])
    yield "broken-gif-random", make(b"\x02" + blocks(noise.randbytes(200)))
    yield "broken-gif-random-8", make(b"\x08" + blocks(noise.randbytes(700)))
    yield "broken-gif-zeros", make(b"\x02" + blocks(bytes(100)))
    yield "broken-gif-ones", make(b"\x02" + blocks(b"\xff" * 100))
    yield "broken-gif-stop-at-once", make(b"\x02\x01\x05\0")
    yield "broken-gif-stop-early", make(lzw([True] * 50))
    yield "broken-gif-stop-missing", make(lzw([True] * 320)[:-2] + b"\0")
    yield "broken-gif-one-pixel-short", make(lzw([True] * 319))
    yield "broken-gif-pixels-more", make(lzw([True] * 500))
    for percent in (10, 50, 90):
        yield f"broken-gif-cut-{percent}", make(good[:len(good) * percent // 100], b"")
        inner = good[2:-1]
        yield f"broken-gif-data-cut-{percent}", make(b"\x02" + blocks(inner[:len(inner) * percent // 100]))
    moving = gif()
    last = moving.rindex(b"!\xf9")
    for percent in (0, 3, 10, 50, 90, 99):
        yield f"broken-gif-last-frame-cut-{percent}", moving[:last + (len(moving) - last) * percent // 100]
        yield f"broken-gif-last-frame-cut-{percent}-ended", moving[:last + (len(moving) - last) * percent // 100] + b"\0;"
    for number in range(6):
        damaged = bytearray(moving)
        for _ in range(1 + number * 2):
            damaged[noise.randrange(300, len(damaged) - 2)] = noise.randrange(256)
        yield f"broken-gif-flipped-{number}", bytes(damaged)


def broken_webp():
    noise = random.Random(17)
    for label, base in (("lossy", webp()), ("lossless", webp(lossless=True))):
        name, body = riff_chunks(base)[0]
        head = 10 if label == "lossy" else 5
        build = lambda data: container((name, data))
        yield f"broken-webp-random-{label}", build(body[:head] + noise.randbytes(900))
        yield f"broken-webp-zeros-{label}", build(body[:head] + bytes(900))
        yield f"broken-webp-head-only-{label}", build(body[:head])
        for percent in (5, 20, 50, 90, 99):
            yield f"broken-webp-cut-{percent}-{label}", build(body[:len(body) * percent // 100])
            yield f"broken-webp-file-cut-{percent}-{label}", base[:20 + len(body) * percent // 100]
        for number in range(6):
            damaged = bytearray(body)
            for _ in range(1 + 2 * number):
                damaged[noise.randrange(head, len(body))] = noise.randrange(256)
            yield f"broken-webp-flipped-{number}-{label}", build(bytes(damaged))
        for at, value in ((0, 0xff), (3, 0), (0, body[0] | 1), (4, 0xff)):
            changed = bytearray(body)
            changed[at] = value
            yield f"broken-webp-head-{at}-{value:x}-{label}", build(bytes(changed))
    alpha = riff_chunks(webp(mode="RGBA"))
    planes = {name: body for name, body in alpha}
    for label, body in (("random", planes[b"ALPH"][:1] + noise.randbytes(200)), ("empty", b""), ("cut", planes[b"ALPH"][:20]), ("method-3", b"\x03" + planes[b"ALPH"][1:]),
                        ("raw-short", b"\0" + bytes(100))):
        yield f"broken-webp-alpha-{label}", container(vp8x(0x10), (b"ALPH", body), (b"VP8 ", planes[b"VP8 "]))
    parts = riff_chunks(animated_webp())
    where = [index for index, part in enumerate(parts) if part[0] == b"ANMF"]
    for index in (where[0], where[-1]):
        body = parts[index][1]
        for label, changed in (("empty", body[:16]), ("cut", body[:len(body) // 2]), ("random", body[:40] + noise.randbytes(300)), ("outside", b"\x40" + body[1:]),
                               ("no-image", body[:16] + riff(b"JUNK", b"abcd")), ("short", body[:8])):
            yield f"broken-webp-frame-{where.index(index)}-{label}", container(*[(b"ANMF", changed) if number == index else part for number, part in enumerate(parts)])
    yield "broken-webp-no-frames", container(*[part for part in parts if part[0] != b"ANMF"])
    yield "broken-webp-no-anim", container(*[part for part in parts if part[0] != b"ANIM"])
    yield "broken-webp-no-image", container(vp8x(0))
    yield "broken-webp-file-cut-animated", animated_webp()[:-500]


KINDS = {
    "A": (orientation_jpeg, density_jpeg, orientation_png, orientation_webp), "B": (sizes,), "C": (gain_maps, profiles),
    "D": (stray_jpeg, loose_webp, loose_gif, loose_png, bombs, counts), "E": (limits,),
    "F": (broken_jpeg, broken_png, broken_gif, broken_webp),
}


def cases(kinds="ABCDEF"):
    """All images of these kinds. Names are unique, and the bytes are the same in each run."""
    names = set()
    for kind in kinds:
        for make in KINDS[kind]:
            for name, data, *rest in make():
                if name in names:
                    raise ValueError(f"two images are named {name}")
                names.add(name)
                if make is gain_maps:
                    yield Case(kind, name, data, gain_map=rest[0])
                else:
                    yield Case(kind, name, data, *rest)


def mutations(count, seed):
    """`count` random changes of the small images: names and bytes. The same seed gives the same changes."""
    chance = random.Random(seed)
    sources = [case for case in cases("ABCDF") if len(case.data) < 20_000]
    for number in range(count):
        case, other = chance.choice(sources), chance.choice(sources)
        data = bytearray(case.data)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
            at = chance.randrange(3, max(4, len(data)))
            match chance.randrange(8):
                case 0:
                    data[at:at + 1] = bytes([chance.choice((0, 1, 0x7f, 0x80, 0xff, chance.randrange(256)))])
                case 1:
                    if at < len(data):
                        data[at] ^= 1 << chance.randrange(8)
                case 2:
                    del data[at:at + chance.choice((1, 2, 4, 12, 40))]
                case 3:
                    data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 12)))
                case 4:
                    del data[at:]
                case 5:
                    start = chance.randrange(len(other.data))
                    data[at:at] = other.data[start:start + chance.randrange(1, 60)]
                case 6:
                    start = chance.randrange(len(data))
                    data[at:at] = data[start:start + chance.randrange(1, 60)]
                case 7:
                    data[at:at + 4] = struct.pack(chance.choice("<>") + "I", chance.choice((0, 1, 255, 65535, 2**31, 2**32 - 1)))
        yield f"{case.name}+{number}", bytes(data)
