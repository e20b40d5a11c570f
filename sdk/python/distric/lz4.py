"""Unpacks one LZ4 frame (LZ4 Frame Format 1.6) as docs/protocol.md restricts it. Checksums are not verified: the DistriC
frame around it has a CRC of its own. Slow, as pure Python is; the client therefore does not ask for compressed frames."""

import struct

MAGIC = 0x184D2204
_CONTENT_SIZE, _BLOCK_CHECKSUM, _CONTENT_CHECKSUM, _DICTIONARY = 0x08, 0x10, 0x04, 0x01
_HEADER_BYTES = 15
_BLOCK_BYTES_MIN = 64 << 10


class Broken(Exception):
    """Not one whole LZ4 frame of the restricted form."""


class TooLarge(Exception):
    """Its content is larger than allowed."""


def unpack(data, bytes_max):
    """The content of the frame. Raises Broken and TooLarge, the latter before anything is unpacked."""
    if len(data) < _HEADER_BYTES:
        raise Broken("LZ4 frame header is cut")
    magic, flags, block, size = struct.unpack_from("<IBBQ", data)
    if magic != MAGIC or flags >> 6 != 1:
        raise Broken("not an LZ4 frame")
    if not flags & _CONTENT_SIZE or flags & _DICTIONARY:
        raise Broken("LZ4 frame without content size, or with a dictionary")
    if size > bytes_max:
        raise TooLarge(f"unpacks to {size} bytes")
    code = (block >> 4) & 7
    if code < 4 or _BLOCK_BYTES_MIN << (2 * (code - 4)) > max(bytes_max, _BLOCK_BYTES_MIN):
        raise Broken("LZ4 block size is unknown or above the frame limit")
    out, at = bytearray(), _HEADER_BYTES
    while True:
        if len(data) - at < 4:
            raise Broken("LZ4 frame ends early")
        (mark,) = struct.unpack_from("<I", data, at)
        at += 4
        if mark == 0:
            break
        length = mark & 0x7FFFFFFF
        if len(data) - at < length:
            raise Broken("LZ4 frame ends early")
        chunk = data[at:at + length]
        at += length + (4 if flags & _BLOCK_CHECKSUM else 0)
        if mark >> 31:
            out += chunk
        else:
            _block(chunk, out, size)
        if len(out) > size:
            raise Broken("LZ4 frame is longer than its content size")
    if at + (4 if flags & _CONTENT_CHECKSUM else 0) != len(data) or len(out) != size:
        raise Broken("LZ4 frame does not end where it should")
    return bytes(out)


def _length(chunk, at, nibble):
    """A length that begins in a nibble and goes on in bytes while they are 255."""
    length = nibble
    if nibble == 15:
        while True:
            byte = chunk[at]
            at += 1
            length += byte
            if byte != 255:
                break
    return length, at


def _block(chunk, out, size_max):
    """Appends the content of one compressed block; matches may reach back into earlier blocks."""
    at = 0
    try:
        while True:
            token = chunk[at]
            literals, at = _length(chunk, at + 1, token >> 4)
            if literals > len(chunk) - at:
                raise Broken("LZ4 literals end early")
            out += chunk[at:at + literals]
            at += literals
            if at == len(chunk):
                return
            offset = chunk[at] | chunk[at + 1] << 8
            length, at = _length(chunk, at + 2, token & 15)
            length += 4
            if offset == 0 or offset > len(out) or len(out) + length > size_max:
                raise Broken("LZ4 match out of bounds")
            start = len(out) - offset
            if offset >= length:
                out += out[start:start + length]
            else:
                pattern = bytes(out[start:])
                out += (pattern * (length // offset + 1))[:length]
    except IndexError as error:
        raise Broken("LZ4 block ends early") from error
