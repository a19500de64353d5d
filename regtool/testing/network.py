"""Checks of what a method's network answers."""

from __future__ import annotations

import safetensors.torch
import torch
from torch import Tensor, nn

from regtool.plugins.exchange import Pair, Prediction
from regtool.testing.pairs import SHIFTS, masked, shifted_pair
from regtool.testing.subject import Subject, total_displacement

KINDS = ("field", "image", "map", "trajectory", "table", "state")


def check_presets_build(subject: Subject) -> None:
    """Every preset builds, and the same seed builds the same network."""
    for name, config in subject.presets.items():
        if subject.preset not in (None, config["preset"]):
            continue
        modules = [subject.build(config) for _ in range(2)]
        subject.note_size(name, modules[0])
        first, second = (module.state_dict() for module in modules)
        assert list(first) == list(second), f"preset '{name}': parameter names differ by build"
        same = all(torch.equal(first[key], second[key]) for key in first)
        assert same, f"preset '{name}': the same seed builds other parameters"


def check_prediction(subject: Subject) -> None:
    """Shapes and types are those of the contract, for one pair and for a batch of two."""
    for config in subject.cases:
        module = subject.build(config)
        for batch in (1, 2):
            pair = shifted_pair(subject.shape(config), SHIFTS[config["ndim"]], batch)
            _check_prediction(subject.register(module, pair), pair)
        if "batches" in subject.method.capabilities:
            _check_batch(subject, module, config)
        if "masks" in subject.method.capabilities:
            pair = masked(pair)
            _check_prediction(subject.register(module, pair), pair)


def check_degenerate_pairs(subject: Subject) -> None:
    """Identical images, a constant pair and an empty one give finite fields."""
    for config in subject.cases:
        module = subject.build(config)
        pair = shifted_pair(subject.shape(config), SHIFTS[config["ndim"]])
        constant = shifted_pair(subject.shape(config), SHIFTS[config["ndim"]])
        constant.fixed.image.fill_(0.5)
        constant.moving.image.fill_(0.0)
        cases = {"identical images": Pair(pair.fixed, pair.fixed), "constant images": constant}
        for what, case in cases.items():
            field = _field(subject.register(module, case), case)
            assert torch.isfinite(field).all(), f"{config['ndim']}-D: {what}: NaN or infinity"


def check_seed(subject: Subject) -> None:
    """The seed of the context alone decides the field, and only where samples are drawn."""
    samples = "samples" in subject.method.capabilities
    for config in subject.cases:
        module, pair = subject.build(config), _pair(subject, config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            first = _field(subject.register(module, pair, seed=3), pair)
            torch.manual_seed(2)
            again = _field(subject.register(module, pair, seed=3), pair)
        assert torch.equal(first, again), (
            "two runs with one seed differ; take every random number from context.generator"
        )
        other = _field(subject.register(module, pair, seed=4), pair)
        assert samples or torch.equal(first, other), (
            "the seed changes the field; declare the capability 'samples'"
        )


def check_no_grad(subject: Subject) -> None:
    """Registration needs no gradient mode and changes neither the network nor its input."""
    for config in subject.cases:
        module, pair = subject.build(config), _pair(subject, config)
        kept = _copies(module)
        images = pair.fixed.image.clone(), pair.moving.image.clone()
        field = _field(subject.register(module, pair), pair)
        assert not field.requires_grad, "the field requires a gradient under torch.no_grad"
        after = module.state_dict()
        changed = [key for key in kept if not torch.equal(kept[key], after[key])]
        assert not changed, f"registration changed the network's {changed[0]}"
        assert torch.equal(images[0], pair.fixed.image), "the fixed image was changed in place"
        assert torch.equal(images[1], pair.moving.image), "the moving image was changed in place"


def check_default_dtype(subject: Subject) -> None:
    """The field does not depend on torch's global default dtype."""
    before = torch.get_default_dtype()
    for config in subject.cases:
        module, pair = subject.build(config), _pair(subject, config)
        expected = _field(subject.register(module, pair), pair)
        torch.set_default_dtype(torch.float64)
        try:
            field = _field(subject.register(module, pair), pair)
        except (RuntimeError, TypeError) as error:
            raise AssertionError(
                f"fails when torch's default dtype is float64 ({error}); create tensors with the "
                "dtype of the image"
            ) from error
        finally:
            torch.set_default_dtype(before)
        assert field.dtype == expected.dtype, f"the default dtype float64 gives {field.dtype}"
        assert torch.allclose(field, expected, atol=1e-4), "the default dtype changes the field"


def check_state_dict(subject: Subject) -> None:
    """The state survives safetensors with strict keys and carries the whole network."""
    for config in subject.cases:
        module, pair = subject.build(config, seed=0), _pair(subject, config)
        expected = _field(subject.register(module, pair), pair)
        state = safetensors.torch.load(safetensors.torch.save(_copies(module)))
        other = subject.build(config, seed=1)
        other.load_state_dict(state, strict=True)
        field = _field(subject.register(other, pair), pair)
        assert torch.equal(field, expected), (
            "the field differs once safetensors carried the state into another network; register "
            "every tensor that matters as a parameter or buffer"
        )


def _pair(subject: Subject, config: dict) -> Pair:
    return shifted_pair(subject.shape(config), SHIFTS[config["ndim"]])


def _copies(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone().contiguous() for k, v in module.state_dict().items()}


def _field(prediction: Prediction, pair: Pair) -> Tensor:
    return total_displacement(prediction, tuple(pair.fixed.image.shape[2:]))


def _check_batch(subject: Subject, module: nn.Module, config: dict) -> None:
    """Two different pairs are answered together as each is alone."""
    shape, shift = subject.shape(config), SHIFTS[config["ndim"]]
    pairs = [shifted_pair(shape, by) for by in (shift, tuple(-s for s in shift))]
    together = _field(subject.register(module, Pair.joined(pairs)), pairs[0])
    for pair, field in zip(pairs, together.split(1), strict=True):
        alone = _field(subject.register(module, pair), pair)
        assert torch.allclose(field, alone, atol=1e-2, rtol=1e-3), (
            "a pair is answered otherwise in a batch than alone; take the capability 'batches' back"
        )


def _check_prediction(prediction: Prediction, pair: Pair) -> None:
    image = pair.fixed.image
    batch, shape = image.shape[0], tuple(image.shape[2:])
    ndim = len(shape)
    expected = (batch, ndim, *shape)
    fields = ("displacement", "velocity", "affine", "inverse")
    given = {name: getattr(prediction, name) for name in fields}
    given = {name: tensor for name, tensor in given.items() if tensor is not None}
    assert set(given) - {"inverse"}, "neither displacement nor velocity nor affine is given"
    for name, tensor in given.items():
        wanted = (batch, ndim + 1, ndim + 1) if name == "affine" else expected
        assert isinstance(tensor, Tensor), f"{name} is {type(tensor).__name__}, not a Tensor"
        assert tuple(tensor.shape) == wanted, (
            f"{name} has shape {tuple(tensor.shape)}, not {wanted}, for images {tuple(image.shape)}"
        )
        assert tensor.dtype == torch.float32 or name == "affine", f"{name} is {tensor.dtype}"
        assert torch.isfinite(tensor).all(), f"{name} holds NaN or infinity"
    for name, extra in prediction.extras.items():
        assert extra.kind in KINDS, f"extra '{name}': {extra.kind}"
        if extra.kind == "table":
            assert extra.tensor.dim() == 2, f"extra '{name}': a table has two dimensions"
            named = len(extra.columns) in (0, extra.tensor.shape[1])
            assert named, f"extra '{name}': {len(extra.columns)} names of columns"
        if extra.kind in ("table", "state"):
            continue
        if extra.kind == "trajectory":
            wanted = (batch, extra.tensor.shape[1], ndim, *shape)
            assert extra.tensor.shape == wanted, f"extra '{name}' has shape {extra.tensor.shape}"
            continue
        assert extra.tensor.dim() == ndim + 2, f"extra '{name}' has shape {extra.tensor.shape}"
        channels = ndim if extra.kind == "field" else extra.tensor.shape[1]
        assert tuple(extra.tensor.shape[:2]) == (batch, channels), f"extra '{name}'"
