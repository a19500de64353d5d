"""What the registrar makes of a method's answers: affines, tiles, slices, faults."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from regtool.api import Extra, Prediction
from regtool.engine.registrar import Registrar
from regtool.errors import PluginError
from regtool.imaging.volume import Volume
from regtool.plugins import discovery
from regtool.prepare.pair import prepare_pair
from regtool.prepare.preparation import Preparation
from regtool.spatial.grid import Grid
from regtool.weights import resolve


class Answer(torch.nn.Module):
    """A method that answers with what a function makes of the pair, and remembers the shapes."""

    def __init__(self, function):
        super().__init__()
        self.function, self.shapes = function, []

    def forward(self, pair, options, context):
        self.shapes.append(tuple(pair.fixed.image.shape))
        return self.function(pair)


def registrar(function, preparation: Preparation) -> Registrar:
    method = discovery.load("rigid")
    return Registrar(
        method, "test", preparation.ndim, Answer(function), None,
        resolve(method, None, preparation.ndim), preparation, torch.device("cpu"),
        torch.float32, 1, 0,
    )  # fmt: skip


def volume(*shape: int) -> Volume:
    n = len(shape)
    grid = Grid(shape[::-1], (1.0,) * n, tuple(np.eye(n).ravel()), (0.0,) * n)
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    return Volume(values, grid)


WHOLE = Preparation(spacing=(None, None), size=(None, None), multiple=1)


def shift(pair, amount=1.5):
    matrix = torch.eye(3).repeat(pair.fixed.image.shape[0], 1, 1)
    matrix[:, 0, 2] = amount
    return Prediction(affine=matrix)


def broken(pair):
    return {}["kernel"]


def test_a_mistake_in_a_method_is_told_with_its_line():
    image = volume(20, 30)
    prepared = prepare_pair(image, image, WHOLE)
    line = broken.__code__.co_firstlineno + 1
    told = (
        f"method 'rigid': KeyError: 'kernel' (test_registrar.py, line {line}; --debug shows more)"
    )
    with pytest.raises(PluginError) as raised:
        registrar(broken, WHOLE).predict(prepared)
    assert str(raised.value) == told and raised.value.exit_code == 5


def test_an_affine_alone_is_an_answer():
    image = volume(20, 30)
    prepared = prepare_pair(image, image, WHOLE)
    answer = registrar(shift, WHOLE).predict(prepared)
    assert answer.displacement.abs().max() == 0
    world = prepared.world_affine(answer)
    assert np.allclose(world, [[1, 0, 0], [0, 1, 1.5], [0, 0, 1]])


def test_affines_of_slices_become_displacement():
    image = volume(40, 20, 30)
    prepared = prepare_pair(image, image, WHOLE, slices=0)
    method = registrar(shift, WHOLE)
    answer = method.predict(prepared)
    assert len(method.module.shapes) == 2  # 40 slices in two goes
    assert answer.displacement.shape == (40, 2, 20, 30)
    assert torch.allclose(answer.displacement[:, 0], torch.tensor(1.5))
    field = prepared.world_field(answer.displacement)
    assert np.allclose(field, (0, 1.5, 0), atol=1e-5)


def test_extras_that_differ_between_goes_of_slices_are_left_out():
    """As of a sampling that stopped early in the second go, and so has fewer previews."""
    image = volume(40, 20, 30)
    prepared = prepare_pair(image, image, WHOLE, slices=0)

    def answer(pair):
        n = len(pair.fixed.image)
        frames = 5 if n == 32 else 3
        extras = {
            "Previews": Extra(torch.zeros(n, frames, 2, 20, 30), "trajectory"),
            "Scores": Extra(torch.zeros(frames, 4), "table"),
            "Same": Extra(torch.zeros(n, 1, 20, 30), "map"),
            "First" if n == 32 else "Last": Extra(torch.zeros(n, 1, 20, 30), "map"),
        }
        return Prediction(displacement=torch.zeros(n, 2, 20, 30), extras=extras)

    found = registrar(answer, WHOLE).predict(prepared)
    assert set(found.extras) == {"Same"} and found.extras["Same"].tensor.shape[0] == 40
    assert [w.split("'")[1] for w in found.warnings] == ["Previews", "First", "Last"]


def test_tiles_are_blended_into_one_field():
    preparation = Preparation(
        spacing=(None, None), size=(16, 16), multiple=1, outside="tiles", overlap=0.5
    )
    image = volume(40, 50)
    prepared = prepare_pair(image, image, preparation)
    method = registrar(
        lambda pair: Prediction(displacement=pair.fixed.image.repeat(1, 2, 1, 1)), preparation
    )
    answer = method.predict(prepared)
    assert set(method.module.shapes) == {(1, 1, 16, 16)}
    assert torch.allclose(answer.displacement[:, :1], prepared.pair.fixed.image, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda pair: None, "not a Prediction"),
        (lambda pair: Prediction(), "displacement none"),
        (lambda pair: Prediction(displacement=torch.zeros(1, 3, 20, 30)), "where"),
        (lambda pair: Prediction(displacement=torch.full((1, 2, 20, 30), torch.nan)), "finite"),
    ],
)
def test_a_broken_answer_is_the_plugins_fault(function, text):
    image = volume(20, 30)
    with pytest.raises(PluginError, match=text):
        registrar(function, WHOLE).predict(prepare_pair(image, image, WHOLE))


def test_a_velocity_is_integrated():
    image = volume(20, 30)
    method = registrar(lambda pair: Prediction(velocity=torch.ones(1, 2, 20, 30)), WHOLE)
    answer = method.predict(prepare_pair(image, image, WHOLE))
    assert torch.allclose(answer.displacement[..., 4:-4, 4:-4], torch.tensor(1.0), atol=1e-3)
