"""Sizes as people write and read them."""

import pytest

from keyvid.sizes import format_size, format_sizes, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2000000000", 2 * 10**9),
        ("12G", 12 * 10**9),
        ("12GB", 12 * 10**9),
        ("800M", 8 * 10**8),
        ("1k", 1000),
        ("1.5 GiB", 3 * 2**29),
        ("512mib", 2**29),
        (" 7B ", 7),
    ],
)
def test_what_is_a_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0.1", "-3", "12Q", "G", "1e9", "1.G", "9" * 400, "٣"])
def test_what_is_none(text):
    with pytest.raises(ValueError, match=r"is no size; write it as 12G, 1\.5GiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (379_123_456, "379 MB"),
        (6_240_000_000, "6.24 GB"),
        (123 * 10**15, "123000 TB"),
    ],
)
def test_three_digits(size, text):
    assert format_size(size) == text


def test_sizes_that_differ_never_look_the_same():
    assert format_sizes(379_200_000, 379_400_000) == ["379.2 MB", "379.4 MB"]
    assert format_sizes(12 * 10**9, 12 * 10**9 + 1) == ["12 GB", "12.000000001 GB"]
    assert format_sizes(5, 5, 6000) == ["5 bytes", "5 bytes", "6 kB"]
