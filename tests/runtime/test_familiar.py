"""One line where a small model is asked for what it does not know."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from keyvid.bundle.specs import Familiar
from keyvid.runtime import familiar
from keyvid.runtime.networks.stages import StageRunner


@pytest.fixture
def warned(monkeypatch, caplog):
    """`warned(kept_db, prompt)`: the warnings for a picture that is kept so well."""

    def run(kept_db, prompt, knows=Familiar(("hammer", "drum"), 31.0)):  # noqa: B008
        caplog.clear()
        error = 255 / 10 ** (kept_db / 20)
        picture = np.full((4, 6, 3), 100, np.uint8)
        kept = picture[np.newaxis] + error
        monkeypatch.setattr(familiar, "decode", lambda *_: kept)
        bundle = SimpleNamespace(name="tiny", familiar=knows)
        stages = StageRunner(SimpleNamespace(bundle=bundle), {})
        familiar.say_what_is_foreign(stages, picture, np.zeros((1, 2, 1, 1)), prompt)
        return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

    return run


@pytest.mark.parametrize("prompt", ["", "hammer", "a red Drum"])
def test_what_is_known_gives_no_word(warned, prompt):
    assert warned(35.0, prompt) == []


def test_a_foreign_prompt_and_a_foreign_picture_are_named(warned):
    (line,) = warned(35.0, "violin")
    assert line == "prompt 'violin': the model tiny only knows hammer, drum"
    (line,) = warned(24.0, "drum")
    assert line.startswith("the picture is unlike those that the model tiny was trained on")


def test_a_model_that_knows_much_says_nothing(warned):
    assert warned(20.0, "violin", knows=None) == []
