"""Ids that are plain digests of something."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from p3m_data.inspection.ids import digests_in


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512", "blake2b"])
@pytest.mark.parametrize("digits", [8, 16, 32])
def test_a_plain_digest_is_recognised(algorithm: str, digits: int) -> None:
    name = f"p_{hashlib.new(algorithm, b'alice.jpg').hexdigest()[:digits]}"
    (said,) = digests_in(name, {"the name": b"alice.jpg", "something": b"else"})
    assert algorithm in said
    assert list(digests_in(name, {"something": b"else"})) == []


def test_a_checksum_of_32_bits_is_recognised_with_or_without_more_digits() -> None:
    for more in ("", "00000000", "12345678"):
        assert len(list(digests_in(f"p_{zlib.crc32(b'alice'):08x}{more}", {"the name": b"alice"}))) == 1


def test_a_name_that_is_no_id_is_not_looked_up() -> None:
    assert list(digests_in("alice", {"the name": b"alice"})) == []
