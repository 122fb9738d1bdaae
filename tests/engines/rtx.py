"""TensorRT for RTX where it is installed, and GPUs that are not there."""

from importlib.util import find_spec

import pytest

from keyvid.engines.gpu import Gpu

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="TensorRT for RTX is not installed; pip install 'keyvid[rtx]'",
)
ADA = Gpu("NVIDIA GeForce RTX 4090", "8.9", "13.0", "13.0", 24 << 30)
BLACKWELL = Gpu("NVIDIA GeForce RTX 5090", "12.0", "13.0", "13.0", 32 << 30)
HOPPER = Gpu("NVIDIA H200", "9.0", "13.0", "13.0", 141 << 30)
