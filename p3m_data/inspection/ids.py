"""What an id may be: the form of one, and plain digests that it must not be."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator

ID = re.compile(r"p_([0-9a-f]{8,})")
DIGESTS = ("md5", "sha1", "sha256", "sha512", "blake2b")


def digests_in(name: str, contents: dict[str, bytes]) -> Iterator[str]:
    """A sentence for each plain digest of `contents` (what it is -> bytes) that the id `name` begins with."""
    found = ID.fullmatch(name)
    if found is None:
        return
    digits = found[1]
    for what, data in contents.items():
        made = {algorithm: hashlib.new(algorithm, data).hexdigest() for algorithm in DIGESTS}
        made |= {"crc32": f"{zlib.crc32(data):08x}", "adler32": f"{zlib.adler32(data):08x}"}
        for algorithm, digest in made.items():
            if digest[: len(digits)] == digits[: len(digest)]:
                yield f"The id is the {algorithm} of {what}, so anybody who has that can recognise it."
