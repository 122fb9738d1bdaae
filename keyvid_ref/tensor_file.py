"""Safetensors files, written tensor by tensor so that no network has to fit in memory."""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from keyvid.sizes import format_sizes

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, half: bool = False) -> None:
    """Write `tensors`, which may be mapped from other files, to `path`, all of it or nothing.

    Args:
        half: store floating numbers as float16.
    Raises:
        ValueError: a finite number is too large for float16.
        OSError: the disk has no room for all of them.
    """
    entries, end = {}, 0
    order = sorted(tensors, key=lambda name: -_stored_type(tensors[name], half).itemsize)
    for name in order:  # the widest type first keeps each tensor aligned
        tensor, dtype = tensors[name], _stored_type(tensors[name], half)
        start, end = end, end + tensor.numel() * dtype.itemsize
        shape = list(tensor.shape)
        entries[name] = {"dtype": _TYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    needed, free = 8 + len(header) + end, shutil.disk_usage(path.parent).free
    if needed > free:  # found before the work, not after it
        takes, has = format_sizes(needed, free)
        raise OSError(errno.ENOSPC, f"{path.name} takes {takes}, {has} are free")
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for name in order:
                stored = _convert(name, tensors[name], _stored_type(tensors[name], half))
                stored.reshape(-1).view(torch.uint8).numpy().tofile(file)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _stored_type(tensor: Tensor, half: bool) -> torch.dtype:
    return torch.float16 if half and tensor.is_floating_point() else tensor.dtype


def _convert(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    converted = tensor.detach().to(dtype).contiguous().cpu()
    if dtype != tensor.dtype and not converted.isfinite().all() and tensor.isfinite().all():
        raise ValueError(f"{name} reaches {tensor.abs().max():.3g}, too much for float16")
    return converted
