"""Content credentials: a C2PA manifest that a certificate signs, written and read with c2pa-python.

It says that a model made the clip, holds the receipt and the digest of the picture, and covers each
byte of the file. Nothing here asks the network: no time stamp, no revocation, no remote manifest.
"""

import io
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from keyvid.errors import ProvenanceError
from keyvid.provenance.mark import MADE_BY_A_MODEL

MEDIA_TYPES = {".mp4": "video/mp4", ".webp": "image/webp", ".gif": "image/gif"}  # by suffix

_LABEL = b"c2pa"
_RECEIPT = "org.keyvid.receipt"
_UNTRUSTED = "signingCredential.untrusted"  # a certificate that is in no list of trust
_ALGORITHMS = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_LEAST_RSA_BITS = 2048
# What the certificate of a signer may be for: e-mail, documents, content credentials.
_PURPOSES = ("1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.36", "1.3.6.1.4.1.62558.2.1")
_SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Signer:
    """Who signs clips.

    Attributes:
        certificate: PEM file of the signer's certificate and those that vouch for it, in this
            order, without the root.
        key: PEM file of its private key, not encrypted.
    """

    certificate: Path
    key: Path

    def check(self) -> None:
        """Sign a small picture, and see that this gives valid credentials.

        Raises:
            ProvenanceError: what is wrong with certificate or key; or c2pa-python is missing.
        """
        info = self._info()
        probe = io.BytesIO()
        Image.new("RGB", (8, 8)).save(probe, "PNG")
        signed = io.BytesIO()
        self._write(info, {"assertions": [_made()]}, None, "image/png", probe, signed)
        found = read_credentials(signed, "image/png")
        if found is None or found.problems:
            problems = ", ".join(found.problems) if found else "nothing is read of it"
            raise ProvenanceError(f"{self.certificate}: what it signs is not valid: {problems}")

    def sign(
        self,
        source: Path,
        target: Path,
        kind: str,
        receipt: str | None,
        picture: npt.NDArray[np.uint8],
    ) -> None:
        """Write a signed copy of a clip's file.

        Args:
            kind: a key of `MEDIA_TYPES`.
            receipt: None for none.
            picture: (H, W, 3) that the clip was made of.
        Raises:
            ProvenanceError: it cannot be signed.
        """
        assertions = [_made()]
        if receipt is not None:
            # As a text: the library turns short lists of numbers into something else.
            content = {"label": _RECEIPT, "kind": "Json", "data": {"text": receipt}}
            assertions.append(content)
        with source.open("rb") as file, target.open("w+b") as signed:
            manifest = {"assertions": assertions}
            self._write(self._info(), manifest, picture, MEDIA_TYPES[kind], file, signed)

    def _write(
        self,
        info: Any,
        content: dict[str, Any],
        picture: npt.NDArray[np.uint8] | None,
        media_type: str,
        source: IO[bytes],
        target: IO[bytes],
    ) -> None:
        c2pa = _library()
        generator = {"name": "keyvid", "version": version("keyvid")}
        manifest = {"claim_generator_info": [generator], **content}
        source.seek(0)
        try:
            with (
                _context(c2pa) as context,
                c2pa.Builder(json.dumps(manifest), context) as builder,
                c2pa.Signer.from_info(info) as signer,
            ):
                if picture is not None:
                    about = {"title": "picture", "relationship": "inputTo"}
                    builder.add_ingredient(json.dumps(about), "image/png", _as_png(picture))
                builder.sign(signer, media_type, source, target)
        except c2pa.C2paError as error:
            raise ProvenanceError(f"{self.certificate}: cannot sign: {_line(error)}") from error

    def _info(self) -> Any:
        """What the library signs with.

        Raises:
            ProvenanceError: as `check`.
        """
        c2pa = _library()
        from cryptography.hazmat.primitives import serialization as forms

        certificates = self._certificates()
        key = self._private_key()
        _check_leaf(self.certificate, certificates[0])
        if key.public_key() != certificates[0].public_key():
            raise ProvenanceError(
                f"{self.key}: is not the key of the first certificate in {self.certificate}; "
                "give the key that belongs to it, and put the signer's certificate first"
            )
        chain = b"".join(one.public_bytes(forms.Encoding.PEM) for one in certificates)
        pem = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
        algorithm = _algorithm(self.key, key)
        return c2pa.C2paSignerInfo(algorithm, chain, pem, None)

    def _certificates(self) -> list[Any]:
        from cryptography import x509

        try:
            return x509.load_pem_x509_certificates(_content(self.certificate))
        except ValueError as error:
            raise ProvenanceError(
                f"{self.certificate}: holds no certificates in PEM ({_line(error)}); give the "
                "signer's, followed by those that vouch for it"
            ) from error

    def _private_key(self) -> Any:
        from cryptography.hazmat.primitives import serialization as forms

        try:
            return forms.load_pem_private_key(_content(self.key), None)
        except TypeError as error:
            raise ProvenanceError(
                f"{self.key}: is encrypted; give a key without a password, in a file that only "
                "you can read"
            ) from error
        except ValueError as error:
            raise ProvenanceError(f"{self.key}: holds no private key in PEM") from error


@dataclass(frozen=True)
class Credentials:
    """What a file's content credentials say.

    Attributes:
        signer: the name in the certificate.
        is_known: whether the certificate is in a list of trust.
        problems: what is not valid, in the standard's words; () for valid ones.
        receipt: the receipt that was signed, None for none.
    """

    signer: str
    is_known: bool
    problems: tuple[str, ...]
    receipt: str | None


def read_credentials(file: IO[bytes], media_type: str) -> Credentials | None:
    """The content credentials of an open file, None where it has none.

    Raises:
        ProvenanceError: they cannot be read; or c2pa-python is missing.
    """
    try:
        c2pa = _library()
    except ProvenanceError:
        if _mentions_some(file):
            raise
        return None
    file.seek(0)
    try:
        with _context(c2pa) as context:
            reader = c2pa.Reader.try_create(media_type, file, context=context)
            if reader is None:
                return None
            with reader:
                return _credentials(json.loads(reader.json()))
    except c2pa.C2paError as error:
        raise ProvenanceError(f"content credentials cannot be read: {_line(error)}") from error


def _mentions_some(file: IO[bytes]) -> bool:
    """Whether a file holds the word that each manifest does, for where the library is missing."""
    file.seek(0)
    last = b""
    while piece := file.read(1 << 20):
        if _LABEL in last + piece:
            return True
        last = piece[-len(_LABEL) :]
    return False


def _credentials(store: dict[str, Any]) -> Credentials:
    active = store.get("manifests", {}).get(store.get("active_manifest"), {})
    statuses = store.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    codes = [str(status.get("code")) for status in statuses]
    found = active.get("assertions", [])
    receipts = [str(one["data"].get("text", "")) for one in found if one["label"] == _RECEIPT]
    signature = active.get("signature_info", {})
    return Credentials(
        signer=str(signature.get("common_name") or signature.get("issuer") or "unknown"),
        is_known=_UNTRUSTED not in codes,
        problems=tuple(dict.fromkeys(code for code in codes if code != _UNTRUSTED)),
        receipt=receipts[0] if receipts else None,
    )


def _check_leaf(path: Path, leaf: Any) -> None:
    """Refuse a certificate that readers would not accept as a signer's."""
    from cryptography import x509

    now = datetime.now(UTC)
    if now > leaf.not_valid_after_utc:
        raise ProvenanceError(
            f"{path}: the certificate expired on {leaf.not_valid_after_utc:%d %B %Y}; renew it"
        )
    if now < leaf.not_valid_before_utc:
        raise ProvenanceError(
            f"{path}: the certificate is valid from {leaf.not_valid_before_utc:%d %B %Y} on; "
            "look at the clock, or wait"
        )
    extensions = {one.oid: one.value for one in leaf.extensions}
    basic = extensions.get(x509.BasicConstraints.oid)
    if basic is not None and basic.ca:
        raise ProvenanceError(
            f"{path}: the first certificate is an authority's, as a self-signed one is, too; put "
            "the signer's first, see docs/provenance.md"
        )
    usage = extensions.get(x509.KeyUsage.oid)
    if usage is None or not usage.digital_signature:
        raise ProvenanceError(
            f"{path}: the certificate is not for digital signatures (key usage); ask for one"
        )
    purposes = [one.dotted_string for one in extensions.get(x509.ExtendedKeyUsage.oid, ())]
    if not set(purposes) & set(_PURPOSES):
        raise ProvenanceError(
            f"{path}: the certificate is for {', '.join(purposes) or 'no purpose'}; want an "
            f"extended key usage of {', '.join(_PURPOSES)}"
        )


def _algorithm(path: Path, key: Any) -> str:
    """The standard's name of the algorithm for a key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _ALGORITHMS:
        return _ALGORITHMS[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return "ps256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise ProvenanceError(
        f"{path}: no key of this kind signs content credentials; want P-256, P-384, P-521, Ed25519 "
        f"or RSA of {_LEAST_RSA_BITS} bits"
    )


def _made() -> dict[str, Any]:
    """The assertion that a model made it."""
    action = {"action": "c2pa.created", "digitalSourceType": MADE_BY_A_MODEL}
    return {"label": "c2pa.actions", "data": {"actions": [action]}}


def _as_png(picture: npt.NDArray[np.uint8]) -> IO[bytes]:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    file.seek(0)
    return file


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProvenanceError(f"{path}: {error.strerror or error}; check the name") from error


def _context(c2pa: Any) -> Any:
    return c2pa.Context(settings=c2pa.Settings.from_dict(_SETTINGS))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _library() -> Any:
    try:
        import c2pa
    except ImportError as error:
        raise ProvenanceError(
            "content credentials need c2pa-python; pip install 'keyvid[sign]'"
        ) from error
    return c2pa
