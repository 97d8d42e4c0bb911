import hashlib

from workbench.data.hashing import text_digest, unit_hash


def test_the_digest_is_sha_256_of_the_joined_parts():
    assert text_digest(3, "a", "b") == hashlib.sha256(b"3\x1fa\x1fb").digest()
    assert text_digest(3, "a", separator=":") == hashlib.sha256(b"3:a").digest()


def test_the_unit_hash_is_the_first_48_bits():
    """Twelve hexadecimal digits are 48 bits."""
    first = int(hashlib.sha256(b"0:g").hexdigest()[:12], 16)
    assert unit_hash(0, "g", separator=":") == first / 16**12


def test_unit_hashes_are_uniform():
    """10 000 draws: the standard deviation of their mean is sqrt(1 / 12 / 10 000) = 0.0029."""
    draws = [unit_hash(0, str(number)) for number in range(10_000)]
    assert 0 <= min(draws) < max(draws) < 1
    assert abs(sum(draws) / len(draws) - 0.5) < 4 * 0.0029
