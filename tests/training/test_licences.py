"""The licence that trained weights inherit from their data."""

from __future__ import annotations

import pytest

from regtool.engine.training.export import licence_of


@pytest.mark.parametrize(
    ("spec", "licence"),
    [
        ("acdc:/data", "CC-BY-NC-SA-4.0"),
        ("oasis:/data?n=78", "CC-BY-NC-3.0"),
        ("phantom:heart3d?n=8", "Apache-2.0"),
        ("breathing:phantom?n=8", "Apache-2.0"),
        ("breathing:/data/ct.nii.gz?n=8", None),
        ("pairs.csv", None),
    ],
)
def test_it_is_that_of_the_data(spec, licence):
    assert licence_of(spec) == licence
