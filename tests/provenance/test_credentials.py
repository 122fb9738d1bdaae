"""Content credentials: written, read again, and refused before the work where they cannot be."""

import json
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from keyvid.errors import ProvenanceError
from keyvid.provenance.credentials import Signer, read_credentials
from keyvid.runtime.jobs.cli import main
from keyvid.runtime.outputs import check_outputs
from keyvid.vocabulary import Outputs
from tests.verify.changes import CHANGES, Change, apply, found
from tests.verify.made import DAY, Authority, made_clip, pem_of


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Vouches for the signers of these tests."""
    return Authority()


@pytest.mark.parametrize("suffix", [".mp4", ".webp"])
def test_a_signed_clip(suffix: str, authority: Authority, tmp_path: Path) -> None:
    signer, clip = authority.signer(tmp_path), made_clip()
    plain, signed = tmp_path / f"plain{suffix}", tmp_path / f"signed{suffix}"
    clip.save(plain)
    clip.save(signed, signer=signer)
    assert signed.stat().st_size - plain.stat().st_size < 30_000
    findings = found(signed)
    assert {one.verdict for one in findings.values()} == {"good"}
    valid = "valid, signed by Signer of the tests, who is in no list of trust"
    assert findings["credentials"].text == valid
    assert findings["pictures"].text == "as they were encoded"
    assert "every byte" in findings["file"].text


def test_what_the_manifest_says(authority: Authority, tmp_path: Path) -> None:
    c2pa = pytest.importorskip("c2pa")
    receipt = made_clip().save(tmp_path / "a.mp4", signer=authority.signer(tmp_path))
    store = json.loads(c2pa.Reader(tmp_path / "a.mp4").json())
    manifest = store["manifests"][store["active_manifest"]]
    assertions = {one["label"]: one["data"] for one in manifest["assertions"]}
    (action,) = assertions["c2pa.actions.v2"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert assertions["org.keyvid.receipt"]["text"] == receipt
    (ingredient,) = manifest["ingredients"]
    assert ingredient["relationship"] == "inputTo"
    assert (ingredient["title"], ingredient["format"]) == ("picture", "image/png")
    said = json.dumps(store)
    assert str(tmp_path) not in said


def test_a_signed_clip_without_a_receipt(authority: Authority, tmp_path: Path) -> None:
    made_clip().save(tmp_path / "a.mp4", signer=authority.signer(tmp_path), receipt=False)
    findings = found(tmp_path / "a.mp4")
    assert findings["receipt"].text == "there is none"
    assert findings["credentials"].verdict == "good"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_each_change_breaks_the_signature(
    change: Change, authority: Authority, tmp_path: Path
) -> None:
    made_clip().save(tmp_path / "a.mp4", signer=authority.signer(tmp_path))
    random = np.random.default_rng(0)
    apply(change, tmp_path / "a.mp4", tmp_path / "b.mp4", random)
    findings = found(tmp_path / "b.mp4")
    assert findings["credentials"].verdict == "bad"
    assert findings["credentials"].text.startswith("not valid: ")


def test_a_clip_that_does_not_know_how_it_was_made(authority: Authority, tmp_path: Path) -> None:
    """It would be written without a signature that was asked for."""
    with pytest.raises(ProvenanceError, match="does not know how it was made"):
        replace(made_clip(), making=None).save(
            tmp_path / "a.mp4", signer=authority.signer(tmp_path)
        )
    assert not (tmp_path / "a.mp4").exists()


def bad_signers(folder: Path, authority: Authority) -> dict[str, tuple[Signer, str]]:
    """Signers that cannot sign, and why."""
    good = authority.signer(folder)
    (folder / "old").mkdir()
    old = authority.signer(folder / "old", valid_for=-DAY)
    (folder / "locked.pem").write_bytes(pem_of(authority.key, b"secret"))
    (folder / "other.pem").write_bytes(pem_of(authority.key))
    parts = good.certificate.read_bytes().split(b"-----BEGIN")
    (folder / "reversed.pem").write_bytes(b"-----BEGIN".join([b"", parts[2], parts[1]]))
    return {
        "expired": (old, "the certificate expired on "),
        "of another key": (Signer(good.certificate, folder / "other.pem"), "is not the key of"),
        "an encrypted key": (Signer(good.certificate, folder / "locked.pem"), "is encrypted"),
        "an authority": (
            Signer(folder / "reversed.pem", folder / "other.pem"),
            "the first certificate is an authority's",
        ),
        "no certificate": (Signer(good.key, good.key), "holds no certificates in PEM"),
        "no key": (Signer(good.certificate, good.certificate), "holds no private key"),
        "no file": (Signer(folder / "none.pem", good.key), "none.pem: No such file"),
    }


NAMES = (
    *("expired", "of another key", "an encrypted key", "an authority"),
    *("no certificate", "no key", "no file"),
)


@pytest.mark.parametrize("name", NAMES)
def test_bad_signers_are_a_line_before_the_work(
    name: str,
    authority: Authority,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signer, why = bad_signers(tmp_path, authority)[name]
    monkeypatch.setattr("keyvid.runtime.pipeline.Pipeline.load", lambda **_: pytest.fail("works"))
    options = ["--sign", str(signer.certificate), "--key", str(signer.key)]
    assert main(["a.png", "a.wav", "-o", str(tmp_path / "a.mp4"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line


def test_not_yet_valid(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = authority.signer(tmp_path)

    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def]
            return super().now(tz) - timedelta(days=30)

    monkeypatch.setattr("keyvid.provenance.credentials.datetime", Earlier)
    with pytest.raises(ProvenanceError, match=r"valid from .* on"):
        signer.check()


def test_what_cannot_be_signed_is_refused_before_the_work(
    authority: Authority, tmp_path: Path
) -> None:
    signer = authority.signer(tmp_path)
    check_outputs(Outputs(output=str(tmp_path / "a.mp4"), signer=signer), [])
    for name in ("a.webm", "frames/"):
        with pytest.raises(ProvenanceError, match=r"ends in .mp4, .webp, .gif"):
            check_outputs(Outputs(output=f"{tmp_path}/{name}", signer=signer), [])


def test_sign_and_key_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a.png", "a.wav", "--sign", "a.pem"]) == 2
    assert "--sign and --key go together" in capsys.readouterr().err


def test_without_the_library_only_a_signed_clip_asks_for_it(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_clip().save(tmp_path / "a.mp4")
    made_clip().save(tmp_path / "b.mp4", signer=authority.signer(tmp_path))
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with (tmp_path / "a.mp4").open("rb") as file:
        assert read_credentials(file, "video/mp4") is None
    with (
        (tmp_path / "b.mp4").open("rb") as file,
        pytest.raises(ProvenanceError, match=r"need c2pa-python; pip install 'keyvid\[sign\]'"),
    ):
        read_credentials(file, "video/mp4")
