"""One vocabulary: what may be asked of a clip has the same names wherever it is asked."""

from dataclasses import MISSING, fields

import click
import pytest

from keyvid.runtime.jobs.cli import _infer
from keyvid.runtime.jobs.job_file import _KEYS
from keyvid.runtime.outputs import asked_for
from keyvid.runtime.request import Request
from keyvid.sampling import Settings
from keyvid.serve.order import FIELDS
from keyvid.vocabulary import ClipChoices, Outputs, options

OF_THE_JOB_FILE = {"jobs", "ray", "workers", "outputs_anywhere"}
OF_ALL_CLIPS = {"has_no_receipt", "sign", "key"}  # whose fields are receipt and signer
NOT_OF_A_CLIP = {
    *(*OF_THE_JOB_FILE, *OF_ALL_CLIPS),
    *("resume", "max_memory", "bundle", "engine", "threads"),
}
OF_EVERY_COMMAND = {"verbose", "version"}


def test_every_field_is_an_option_and_has_a_default() -> None:
    names = [option.name for option in options()]
    assert len(names) == len(set(names))
    chosen = {field.name for field in (*fields(ClipChoices), *fields(Outputs))}
    assert chosen - {"settings", "receipt", "signer"} <= set(names)
    assert all(f.default is not MISSING for f in (*fields(ClipChoices), *fields(Outputs)))


def test_command_jobs_and_server_take_the_same() -> None:
    names = {option.name for option in options()}
    of_command = {str(p.name) for p in _infer.params if isinstance(p, click.Option)}
    assert of_command - NOT_OF_A_CLIP - OF_EVERY_COMMAND == names
    assert set(_KEYS) == names | {"image", "audio"}
    assert {field.name for field in FIELDS} == names - {"output", "report", "plot"}


def test_what_is_left_out_has_its_default() -> None:
    names = [option.name for option in options()]
    request, outputs = asked_for({**dict.fromkeys(names), "image": "a.png", "audio": "b.wav"})
    assert request == Request("a.png", "b.wav")
    assert outputs == Outputs(output="a.mp4")


@pytest.mark.parametrize("option", list(options()), ids=lambda option: option.name)
def test_each_option_arrives(option: "object") -> None:
    name, kind = option.name, option.kind  # type: ignore[attr-defined]
    value = {int: 3, float: 0.5, str: "x"}[kind]
    request, outputs = asked_for({"image": "a.png", "audio": "b.wav", name: value})
    changed = [request != Request("a.png", "b.wav"), outputs != Outputs(output="a.mp4")]
    assert sum(changed) == 1
    is_setting = name not in {f.name for f in (*fields(ClipChoices), *fields(Outputs))}
    assert (request.settings != Settings()) == is_setting
