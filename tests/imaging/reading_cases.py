"""What reading an image must do: as ITK does, or refuse it in one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from regtool.errors import InputError
from regtool.imaging.reading import read_image


def refused(path: Path, *words: str, error: type[InputError] = InputError) -> None:
    with pytest.raises(error) as caught:
        read_image(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert caught.value.exit_code == 3


def same_as_itk(path: Path) -> None:
    volume, image = read_image(path), sitk.ReadImage(str(path))
    assert np.array_equal(volume.array, sitk.GetArrayFromImage(image))
    assert volume.grid.size == image.GetSize()
    assert np.allclose(volume.grid.spacing, image.GetSpacing(), rtol=0, atol=1e-12)
    assert np.allclose(volume.grid.direction, image.GetDirection(), rtol=0, atol=1e-12)
    assert np.allclose(volume.grid.origin, image.GetOrigin(), rtol=0, atol=1e-12)
