"""Files whose bytes are not those that were written."""


def damage_bytes(path, kind, place, bits):
    """Cuts a file before a byte (`"truncate"`), or flips bits of the byte (`"flip"`); places wrap around its length."""
    data = bytearray(path.read_bytes())
    if kind == "truncate":
        del data[place % len(data) :]
    else:
        data[place % len(data)] ^= bits
    path.write_bytes(data)
