"""Serialised fields of messages that no message would make."""


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field (protobuf wire format)."""
    encoded = bytearray([number << 3 | 2])
    length = len(content)
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*encoded, length]) + content
