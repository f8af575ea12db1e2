"""Volume files for the tests of reading, good and broken ones."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np

from tests.conftest import AFFINE, blob


def save(volume, file, affine=AFFINE):
    nib.save(nib.Nifti1Image(volume, affine), file)


def broken(kind, file):
    volume = blob(99)
    if kind == "nan":
        volume[3, 3, 3] = np.nan
    elif kind == "constant":
        volume[:] = 0
    elif kind == "4-D":
        volume = np.stack([volume, volume], axis=-1)
    elif kind == "complex":
        volume = volume.astype(np.complex64)
    elif kind == "singular":
        image = nib.Nifti1Image(volume, AFFINE)
        image.header["srow_z"] = 0
        image.header["vox_offset"], image.header["scl_slope"], image.header["scl_inter"] = 352, 1, 0
        image.header["sform_code"], image.header["qform_code"] = 2, 0
        file.write_bytes(gzip.compress(image.header.binaryblock + bytes(4) + volume.tobytes()))
        return
    elif kind == "other grid":
        volume = volume[:-1]
    save(volume, file)
    if kind == "truncated":
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    elif kind == "no image":
        file.write_bytes(gzip.compress(b"not an image at all" * 40))
