"""A clip that no network made, with all that a receipt tells; and certificates to sign it with."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyvid.provenance.credentials import Signer
from keyvid.provenance.digests import digest_of
from keyvid.provenance.receipt import BundleRecord, EngineRecord, Making, Reading
from keyvid.runtime.clip import Clip
from keyvid.runtime.media.sound import Sound
from keyvid.sampling import Sampling

DAY = timedelta(days=1)


def made_clip(num_frames: int = 24, prompt: str = "a bar, <b> & ü") -> Clip:
    """A bar that moves over a shaded ground, with a tone that grows louder."""
    rows, columns = np.mgrid[:64, :96]
    ground = np.stack([rows * 2, columns * 2, rows + columns], axis=-1).astype(np.uint8)
    frames = np.repeat(ground[None], num_frames, axis=0)
    for index, frame in enumerate(frames):
        frame[10:50, 2 * index : 2 * index + 20] = (240, 200, 40)
    count = num_frames * 16_000 // 24
    loudness = np.linspace(0.05, 0.8, count)
    samples = (loudness * np.sin(np.arange(count) * 0.3)).astype(np.float32)[:, None]
    making = Making(
        keyvid="0.1.0",
        picture=digest_of(ground),
        sound=digest_of(samples[:, 0]),
        track=digest_of(samples),
        end=None,
        prompt=prompt,
        seed=7,
        settings=Sampling(),
        reading=Reading("crop", (0.5, 0.5), 0.0, None),
        num_frames=num_frames,
        fps=24,
        keyframes=None,
        motion=None,
        beats=None,
        packaged_localizer=False,
        bundle=BundleRecord("made", "random", 64 * "a", (), {"unet.onnx": 16 * "b"}),
        engine=EngineRecord("onnxruntime", "fp32", {"onnxruntime": "1.30"}, {"generator": 2}),
        stages={"localizer": 16 * "c", "generator 1": 16 * "d"},
        pixels=digest_of(frames),
    )
    return Clip(
        frames=frames,
        fps=24,
        sound=Sound(samples, 16_000),
        keyframes=np.array([0, 8, 16]),
        motion=np.zeros(num_frames, np.float32),
        timings={},
        batches={"generator": 2},
        bundle="made",
        engine="onnxruntime",
        prompt=prompt,
        seed=7,
        settings=Sampling(),
        picture=ground,
        making=making,
    )


class Authority:
    """Vouches for signers."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._certificate("Authority", self.key.public_key(), True, DAY)

    def signer(self, folder: Path, valid_for: timedelta = DAY) -> Signer:
        """One whose certificate and key lie in `folder`; it has expired where the time is less
        than none.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._certificate("Signer of the tests", key.public_key(), False, valid_for)
        chain = [one.public_bytes(forms.Encoding.PEM) for one in (leaf, self.certificate)]
        made = Signer(folder / "chain.pem", folder / "key.pem")
        made.certificate.write_bytes(b"".join(chain))
        made.key.write_bytes(pem_of(key))
        return made

    def _certificate(
        self, name: str, key: ec.EllipticCurvePublicKey, is_authority: bool, valid_for: timedelta
    ) -> x509.Certificate:
        def named(text: str) -> x509.Name:
            words = {NameOID.COMMON_NAME: text, NameOID.ORGANIZATION_NAME: "Tests"}
            return x509.Name([x509.NameAttribute(oid, word) for oid, word in words.items()])

        now = datetime.now(UTC)
        usage = dict.fromkeys(
            (
                *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
                *("encipher_only", "decipher_only"),
            ),
            False,
        )
        usage |= {
            "digital_signature": not is_authority,
            "key_cert_sign": is_authority,
            "crl_sign": is_authority,
        }
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("Authority"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * DAY)
            .not_valid_after(now + valid_for)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if not is_authority:
            purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purposes, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def pem_of(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """A private key as a file has it."""
    hidden = forms.BestAvailableEncryption(password) if password else forms.NoEncryption()
    return key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, hidden)
