"""The stage "affine", whose output is known."""

from tests.affine import affine, affine_bundle, model_at

__all__ = ["affine", "affine_bundle", "model_at"]
