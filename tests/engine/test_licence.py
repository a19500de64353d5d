"""The licence that exported weights claim."""

from __future__ import annotations

import pytest

from regtool.engine.training.export import make_config
from regtool.plugins import discovery


@pytest.mark.parametrize(
    ("data", "licence"),
    [
        (["acdc:folder"], "CC-BY-NC-SA-4.0"),
        (["acdc:one", "acdc:two"], "CC-BY-NC-SA-4.0"),
        (["acdc:folder", "pairs.csv"], "see the licences of the data"),
        (["acdc:folder", "phantom"], "see the licences of the data"),
        (["phantom"], "Apache-2.0"),
    ],
)
def test_one_source_of_unknown_terms_leaves_the_licence_open(data, licence):
    method = discovery.load("voxelmorph")
    config = make_config(method, "name", "acdc-2d", method.presets["acdc-2d"], {}, data)
    assert config["licence"] == licence
