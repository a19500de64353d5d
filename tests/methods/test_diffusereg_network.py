"""DiffuseReg's denoiser: sizes, attention against brute force, any shape, its switches."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from regtool.nn.precision import protect_convolutions
from regtool_diffusereg.attention import StreamAttention, Windowing
from regtool_diffusereg.denoiser import Denoiser
from regtool_diffusereg.encoder import LEGACY, Block

F = 4
TINY = {"width": F, "heads": (1, 2, 2, 4)}
SHAPE = (4, 16, 12)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def tiny(**switches) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(**{**TINY, **switches}).eval()


def draws(batch: int = 1, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> list[Tensor]:
    """A noisy field, a moving and a fixed image."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, c, *shape, generator=random) for c in (3, 1, 1)]


def answer(model: Denoiser, drawn: list[Tensor], t: Tensor | None = None) -> Tensor:
    state, moving, fixed = drawn
    with torch.no_grad():
        t = torch.tensor([700]) if t is None else t
        return model(state, t, model.see(moving, fixed))


# -- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "parameters"),
    [(12, 4_414_731), (24, 17_544_951), (48, 70_031_247), (120, 437_296_983)],
)
def test_published_parameter_counts(width, parameters):
    with torch.device("meta"):
        model = Denoiser(width)
    assert count(model) == parameters
    deepest = count(model.decoder.deepest)
    assert deepest == 2 * 27 * (16 * width) ** 2 + 16 * width**2 + 16 * width
    if width == 120:
        assert round(deepest / 1e6) == 199


def test_what_the_switches_cost():
    """Counted by hand: each of ten blocks has a linear layer from F to its own width."""
    whole = count(tiny())
    widths = [1, 1, 2, 4, 16, 8, 4, 2, 1, 1]
    times = sum(F * F * w + F * w for w in widths)
    assert count(tiny(time_in_blocks=False)) == whole - times
    assert count(tiny(streams=True)) == whole + 2 * F * (1 + 2 + 4 + 8)
    # Two more channels in the patch embedding, and in one residual block with its shortcut.
    assert count(tiny(images=True)) == whole + 2 * F * (8 + 27 + 1)
    # And four more: a guess of the field, the moving image as it warps it.
    assert count(tiny(images=True, guess=True)) == whole + 6 * F * (8 + 27 + 1)
    assert count(tiny(mask=False)) == count(tiny(legacy_merging=True)) == whole


# -- attention ---------------------------------------------------------------------------------


def brute_force(block: Block, x: Tensor, streams: list[Tensor], time: Tensor) -> Tensor:
    """The attention of ``block`` place by place, the whole sequence of all streams in view.

    ``x`` and the ``streams`` are maps (*S, C) as attention sees them, ``time`` (C,). Two places of
    a window see each other if the roll brought neither of them around an end. Every token asks, as
    in the published code, and the answers of the last stream are kept.
    """
    attention, shape = block.attention, x.shape[:-1]
    windowing = Windowing(tuple(shape), block.window, block.shifted)
    window, shift, heads = windowing.window, windowing.shift, attention.heads
    width = x.shape[-1] // heads
    table = torch.zeros(*(2 * w - 1 for w in block.window), heads)
    table[:] = attention.bias.detach().reshape(table.shape)
    out = torch.zeros_like(x)
    starts = itertools.product(*(range(0, s, w) for s, w in zip(shape, window, strict=True)))
    for start in starts:
        offsets = list(itertools.product(*(range(w) for w in window)))
        rolled = [tuple(a + b for a, b in zip(start, o, strict=True)) for o in offsets]
        places = [
            tuple((a + b) % s for a, b, s in zip(p, shift, shape, strict=True)) for p in rolled
        ]
        around = [
            tuple(a + b >= s for a, b, s in zip(p, shift, shape, strict=True)) for p in rolled
        ]
        rows = [time, *(m[p] for m in (*streams, x) for p in places)]
        q, k, v = attention.qkv(torch.stack(rows)).chunk(3, -1)
        n = len(places)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = q[:, part] @ k[:, part].T / width**0.5
            for i, j in itertools.product(range(1, len(rows)), repeat=2):
                a, b = (i - 1) % n, (j - 1) % n
                apart = [p - r + w - 1 for p, r, w in
                         zip(offsets[a], offsets[b], block.window, strict=True)]  # fmt: skip
                scores[i, j] += table[(*apart, head)]
                scores[i, j] -= 100.0 * (around[a] != around[b])
            mixed = scores.softmax(-1) @ v[:, part]
            for place, value in zip(places, mixed[-n:], strict=True):
                out[(*place, part)] = value
    return attention.proj(out)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("shape", [(4, 4, 4), (2, 4, 6), (1, 2, 2)])
def test_attention_is_that_of_the_whole_tiled_sequence(shape, shifted):
    """Bias and mask of one stream tiled over three, none for time; only the field asks."""
    torch.manual_seed(0)
    block = Block(8, 2, (2, 2, 2), shifted)
    torch.nn.init.normal_(block.attention.bias)
    with torch.no_grad():
        maps, time = torch.randn(3, 1, *shape, 8), torch.randn(1, 1, 1, 8)
        keys = block.attention.keys
        windowing = block.windowing(maps[0])
        moving, fixed, own = (windowing.cut(m) for m in maps)
        found = windowing.join(
            block.attention(
                own, windowing.window, windowing.forbidden(own.device),
                [keys(moving), keys(fixed)], keys(time),
            )
        )  # fmt: skip
        wanted = brute_force(block, maps[2, 0], [maps[0, 0], maps[1, 0]], time[0, 0, 0])
    assert torch.allclose(found[0], wanted, atol=1e-5)


def test_the_sequence_has_97_tokens_and_only_shifted_blocks_a_mask():
    attention = StreamAttention(12, 3, (2, 4, 4))
    plain, shifted = (Windowing((4, 8, 8), (2, 4, 4), s) for s in (False, True))
    assert plain.forbidden(torch.device("cpu")) is None
    assert (
        Windowing((4, 8, 8), (2, 4, 4), True, masked=False).forbidden(torch.device("cpu")) is None
    )
    mask = shifted.forbidden(torch.device("cpu"))
    score = attention.score((2, 4, 4), mask, 3, True)
    assert score.shape == (8, 3, 32, 97)
    assert not score[..., 0].any()
    first, second, third = score[..., 1:].chunk(3, -1)
    assert torch.equal(first, second) and torch.equal(second, third)
    assert (score < -50).any() and attention.score((2, 4, 4), None, 3, True).shape[0] == 1


@pytest.mark.parametrize("shifted", [False, True])
def test_nobody_sees_what_completes_a_window(shifted):
    """Tokens of ones have equal values; zeros among them would draw every answer down."""
    torch.manual_seed(0)
    block = Block(8, 2, (2, 4, 4), shifted)
    with torch.no_grad():
        block.norm1.weight.zero_()
        block.norm1.bias.fill_(1.0)
        x = torch.randn(1, 3, 5, 6, 8)
        windowing = block.windowing(x)
        assert windowing.padded == (4, 8, 8)
        own = block.tokens(x)
        found = windowing.join(
            block.attention(own, windowing.window, windowing.forbidden(x.device))
        )
        one = block.attention(torch.ones(1, 1, 1, 8), (1, 1, 1))
    assert found.shape == x.shape
    assert torch.allclose(found, one.expand_as(found), atol=1e-5)


# -- the whole ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SHAPE, (5, 9, 34), (2, 2, 2), (32, 8, 8)])
def test_sizes_smaller_than_the_windows_and_odd_ones(shape):
    """The denoiser takes any even size; the model completes odd ones."""
    even = tuple(n + n % 2 for n in shape)
    model, drawn = tiny(), draws(2, even)
    assert answer(model, drawn).shape == (2, 3, *even)
    model.train()
    model(drawn[0], torch.tensor([3, 9]), model.see(*drawn[1:])).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("switches", [{}, {"streams": True, "images": True, "scale": (1, 2, 2)}])
def test_a_batch_is_answered_as_its_elements_are(switches):
    model, drawn = tiny(**switches), draws(3, (4, 16, 24))
    drawn[0] = drawn[0][..., :: model.scale[1], :: model.scale[2]]
    t = torch.tensor([5, 900, 1999])
    together = answer(model, drawn, t)
    for n in range(3):
        alone = answer(model, [x[n : n + 1] for x in drawn], t[n : n + 1])
        assert torch.allclose(together[n], alone[0], atol=1e-5)
    same = answer(model, drawn, torch.tensor([900]))
    assert torch.allclose(same[1], together[1], atol=1e-5)
    assert not torch.allclose(same[0], together[0], atol=1e-3)


def test_the_published_network_cannot_tell_moving_from_fixed():
    """One encoder, one projection, one bias for both: exchanged images change nothing."""
    state, moving, fixed = draws()
    for switches, blind in (({}, True), ({"streams": True}, False), ({"images": True}, False)):
        model = tiny(**switches)
        one, other = answer(model, [state, moving, fixed]), answer(model, [state, fixed, moving])
        assert torch.allclose(one, other, atol=1e-5) == blind
        assert not torch.allclose(one, answer(model, [state, moving, moving]), atol=1e-4)


@pytest.mark.parametrize("switches", [
    {"mask": False}, {"legacy_merging": True}, {"time_in_blocks": False}, {"zero_output": True},
])  # fmt: skip
def test_switches_change_the_answer(switches):
    drawn = draws()
    model, other = tiny(), tiny(**switches)
    shared = {k: v for k, v in model.state_dict().items() if k in other.state_dict()}
    if "zero_output" in switches:
        assert not answer(other, drawn).any()
        return
    other.load_state_dict(shared)
    assert not torch.allclose(answer(model, drawn), answer(other, drawn), atol=1e-4)


def test_without_time_in_blocks_time_still_reaches_the_windows():
    model, drawn = tiny(time_in_blocks=False), draws()
    early, late = (answer(model, drawn, torch.tensor([t])) for t in (10, 1990))
    assert not torch.allclose(early, late, atol=1e-5)


def test_legacy_merging_repeats_two_neighbours_and_omits_two():
    assert len(LEGACY) == 8 and len(set(LEGACY)) == 6
    model = tiny(legacy_merging=True)
    for encoder in (model.images, model.field):
        assert all(merging.corners == list(LEGACY) for merging in encoder.merging)
    assert all(len(set(m.corners)) == 8 for m in tiny().field.merging)


def test_checkpointing_changes_no_gradient():
    gradients = []
    for again in (False, True):
        model, drawn = tiny(checkpointing=again, streams=True), draws(2)
        model.train()
        out = model(drawn[0], torch.tensor([4, 800]), model.see(*drawn[1:]))
        out.square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


def test_only_what_nobody_sees_has_no_gradient():
    """The images' last block after its tokens, and their last merging."""
    model, drawn = tiny(streams=True), draws()
    model.train()
    model(drawn[0], torch.tensor([4]), model.see(*drawn[1:])).square().mean().backward()
    without = {n for n, p in model.named_parameters() if p.grad is None}
    unseen = ("images.merging.3.", "images.levels.3.1.")
    assert without and all(n.startswith(unseen) for n in without)
    assert not any("norm1" in n for n in without)


def test_half_precision_has_nearly_the_same_gradient():
    """As training on the CPU has it, where some convolutions have to be guarded."""
    gradients = []
    for half in (False, True):
        model, drawn = tiny(), draws(2, (8, 32, 32))
        protect_convolutions(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = model(drawn[0], torch.tensor([4, 800]), model.see(*drawn[1:]))
        assert out.dtype == torch.float32
        (out * drawn[0]).mean().backward()
        found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat(found))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.98


def test_coarse_fields_see_all_voxels_of_their_cells():
    model = tiny(scale=(1, 2, 2), images=True)
    assert model.multiple == (2, 4, 4)
    _, moving, fixed = draws(shape=(4, 8, 12))
    beside = model.see(moving, fixed).beside
    assert beside.shape == (1, 8, 4, 4, 6)
    cell = moving[0, 0, 3, 2:4, 10:12].flatten()
    assert torch.equal(beside[0, :4, 3, 1, 5], cell)
    assert torch.equal(beside[0, 4:, 0, 0, 0], fixed[0, 0, 0, :2, :2].flatten())
