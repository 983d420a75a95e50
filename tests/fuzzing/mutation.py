"""Change valid inputs at random: byte by byte, and along the structure of JSON, protobuf, PNG, zip and CSV files.

What follows a format's structure gets past its checksums, lengths and brackets, to the code behind them.
"""

import contextlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from tests.fuzzing.judging import Mutate

_NUMBERS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)

_ODD_JSON: Final = (
    *(b"null", b"true", b"0", b"-0", b"-1", b"1", b"2", b"0.5", b"1e-320", b"-1e308", b"1e308", b"1e400", b"-1e999"),
    *(b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"9" * 400, b"1." + b"3" * 400),
    *(b"NaN", b"-Infinity", b"[]", b"{}", b"[[]]", b'[""]', b"[null]", b'{"":{}}', b"[" * 3000 + b"]" * 3000, b"["),
    *(
        b'""',
        b'"\\u0000"',
        b'"\\ud800"',
        b'"\\u001b[31m"',
        b'"\xff\xfe"',
        b'"../../etc/passwd"',
        b'"\\u202e"',
        b'"mnist"',
    ),
    *(b'"' + b"x" * 3000 + b'"', b'"model.onnx"', b'"cnn"', b'"1"', b'"\\n"'),
)

_ODD_CELLS: Final = (
    *(
        b"",
        b"-1",
        b"256",
        b"1e400",
        b"nan",
        b"inf",
        b"0x10",
        b"1_0",
        b"9" * 400,
        b'"',
        b'""',
        b'"1"',
        b"'",
        b" 1",
        b"1.0",
    ),
    *(
        b"1.",
        b".5",
        b"1e0",
        b"\xef\xbb\xbf",
        b"\0",
        b"\xff",
        b"\r",
        b"\n",
        b"\r\n",
        b";",
        b"\t",
        b",",
        b"label",
        b"pixel0",
    ),
    *("٣".encode(), "\U0001f600".encode(), b"#", b"1x1", b"pixel" + b"9" * 30),
)

_MOST_NODES: Final = 10_000


def of_bytes(data: bytes, random: Random) -> bytes:
    """One to four edits that know nothing of the format."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(changed) + 1)
        length = min(random.choice((1, 1, 2, 4, 8, random.randint(1, 256))), len(changed) - place)
        match random.randrange(7):
            case 0 if place < len(changed):
                changed[place] ^= 1 << random.randrange(8)
            case 1 if place < len(changed):
                changed[place] = random.randrange(256)
            case 2:
                del changed[place : place + length]
            case 3:
                changed[place:place] = changed[place : place + length] * random.choice((1, 1, 2, 30))
            case 4:
                other = random.randrange(len(changed) + 1)
                changed[place : place + length] = changed[other : other + length]
            case 5:
                size = random.choice((1, 2, 4, 8))
                number = random.choice(_NUMBERS) & (256**size - 1)
                changed[place : place + size] = number.to_bytes(size, random.choice(("big", "little")))
            case _:
                del changed[place : None if random.random() < 0.2 else place + length]
    return bytes(changed)


def of_json(data: bytes, random: Random) -> bytes:
    """Another value, type, key or number of copies for one part of a JSON document."""
    try:
        document = json.loads(data)
        json.dumps(document)
    except (ValueError, RecursionError):
        return of_bytes(data, random)
    places = list(_places(document))
    if not places:
        return random.choice(_ODD_JSON)
    holder, key = random.choice(places)
    mark = "mark"
    match random.randrange(6):
        case 0:
            del holder[key]
        case 1:
            other, other_key = random.choice(places)
            holder[key] = json.loads(json.dumps(other[other_key]))  # a copy, or the document might hold itself
        case 2 if isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        case 2 | 3 if isinstance(holder, list):
            holder[key:key] = [holder[key]] * random.choice((1, 2, 1000))
        case _:
            holder[key] = mark
    text = json.dumps(document, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    return text.replace(b'"mark"', random.choice(_ODD_JSON), 1)


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or dictionary of a document with each of its keys."""
    pending, count = [document], 0
    while pending and count < _MOST_NODES:
        holder = pending.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            count += 1
            yield holder, key
            pending.append(holder[key])


def of_csv(data: bytes, random: Random) -> bytes:
    """Odd cells, or lines left out, repeated or cut."""
    lines = data.split(b"\n")
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(lines))
        cells = lines[place].split(b",")
        match random.randrange(5):
            case 0:
                lines[place:place] = [random.choice(lines)] * random.choice((1, 1, 2, 1100))
            case 1 if len(lines) > 1:
                del lines[place]
            case 2:
                lines[place] = random.choice(
                    (b"", b" ", b"\r", lines[place] + b",", b'"' + lines[place], lines[place][:-2])
                )
            case _:
                cells[random.randrange(len(cells))] = random.choice(_ODD_CELLS)
                lines[place] = b",".join(cells)
    return b"\n".join(lines)


def of_png(data: bytes, random: Random) -> bytes:
    """Change, repeat or remove one chunk, and correct its checksum; half of the changed pixels stay compressed well."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return of_bytes(data, random)
    index = random.randrange(len(chunks))
    kind, content = chunks[index]
    match random.randrange(6):
        case 0:
            chunks[index:index] = [random.choice(chunks)] * random.choice((1, 1, 300))
        case 1:
            del chunks[index]
        case 2 if kind == b"IDAT":
            with contextlib.suppress(zlib.error):
                content = zlib.compress(of_bytes(zlib.decompress(content), random))
            chunks[index] = kind, content
        case 3:
            chunks[index] = (
                random.choice((b"acTL", b"fcTL", b"fdAT", b"iTXt", b"zTXt", b"tRNS", b"eXIf", b"iCCP")),
                content,
            )
        case _:
            chunks[index] = kind, of_bytes(content, random)
    made = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return data[:8] + b"".join(made)


def of_zip(data: bytes, random: Random) -> bytes:
    """Change one entry of an archive, mostly its pickle, or the list of entries."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error):
        return of_bytes(data, random)
    if not entries:
        return of_bytes(data, random)
    pickles = [index for index, (name, _) in enumerate(entries) if name.endswith(".pkl")]
    index = random.choice(pickles) if pickles and random.random() < 0.7 else random.randrange(len(entries))
    name, content = entries[index]
    match random.randrange(8):
        case 0:
            del entries[index]
        case 1:
            entries.insert(index, (f"{name}{random.randrange(9)}", content))
        case 2:
            entries[index] = name.replace("data", random.choice(("", "..", "constants", "\0"))), content
        case _:
            entries[index] = name, of_bytes(content, random)
    buffer = io.BytesIO()
    deflated = random.random() < 0.05
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as copy:
        for name, content in dict(entries).items():
            copy.writestr(name, content)
    return buffer.getvalue()


def of_protobuf(data: bytes, random: Random) -> bytes:
    """Change, repeat, remove or empty one field of a message or of those inside it; lengths around it stay right."""
    fields = _fields(data)
    if not fields:
        return of_bytes(data, random)
    index = random.randrange(len(fields))
    number, wire, value = fields[index]
    inner = isinstance(value, bytes) and len(value) > 1 and _fields(value) and random.random() < 0.85
    match random.randrange(8):
        case _ if inner:
            assert isinstance(value, bytes)
            fields[index] = number, wire, of_protobuf(value, random)
        case 0:
            fields[index:index] = [random.choice(fields)] * random.choice((1, 1, 2, 1000))
        case 1:
            del fields[index]
        case 2:
            fields[index] = random.choice((number + 1, random.randint(1, 30), 2**29 - 1)), wire, value
        case _ if isinstance(value, int):
            fields[index] = (
                number,
                wire,
                random.choice((*_NUMBERS, value + 1, max(0, value - 1), random.getrandbits(64))),
            )
        case 3:
            fields[index] = number, wire, b""
        case 4:
            fields[index] = number, 0, random.choice(_NUMBERS)
        case 5:
            fields[index] = (
                number,
                wire,
                random.choice((b"location", b"If", b"Loop", b"ai.onnx.ml", b"\xff\xfe", b"\0")),
            )
        case _:
            assert isinstance(value, bytes)
            fields[index] = number, wire, of_bytes(value, random)
    return b"".join(_encoded(*field) for field in fields)


_SIZES: Final = {1: 8, 5: 4}


def _fields(data: bytes) -> list[tuple[int, int, int | bytes]]:
    """Number, wire type and value of each field of a message; none if the bytes are no message."""
    found: list[tuple[int, int, int | bytes]] = []
    file = io.BytesIO(data)
    try:
        while file.tell() < len(data):
            number, wire = divmod(_varint(file), 8)
            if not number or wire not in (0, 1, 2, 5):
                return []
            if wire == 0:
                found.append((number, wire, _varint(file)))
                continue
            size = _SIZES.get(wire) or _varint(file)
            content = file.read(size)
            if len(content) < size:
                return []
            found.append((number, wire, content))
    except (IndexError, OverflowError):
        return []
    return found


def _varint(file: io.BytesIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)[0]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            return value


def _encoded(number: int, wire: int, value: int | bytes) -> bytes:
    tag = _as_varint(number << 3 | wire)
    if isinstance(value, int):
        return tag + (_as_varint(value) if wire == 0 else value.to_bytes(8, "little")[: _SIZES.get(wire, 8)])
    return tag + (_as_varint(len(value)) if wire == 2 else b"") + value


def _as_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def of_names(data: bytes, random: Random) -> bytes:
    """Odd characters in a text."""
    odd = ("\0", "\x1b[31m", "\u202e", "\ud800", "\x85", "\u2028", "\n", "\r", " ", "")
    text = data.decode("utf-8", "surrogateescape")
    place = random.randrange(len(text) + 1)
    return f"{text[:place]}{random.choice(odd)}{text[place + random.randrange(2) :]}".encode("utf-8", "replace")


def mixed(structured: Mutate) -> Mutate:
    """Along the structure three times out of four, else byte by byte."""

    def mutate(data: bytes, random: Random) -> bytes:
        return (structured if random.random() < 0.75 else of_bytes)(data, random)

    return mutate
