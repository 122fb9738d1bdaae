"""Counts as people write them."""

import pytest

from keyvid.counting import counted


@pytest.mark.parametrize(("number", "text"), [(0, "0 clips"), (1, "1 clip"), (21, "21 clips")])
def test_counts(number: int, text: str) -> None:
    assert counted(number, "clip") == text
