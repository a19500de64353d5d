"""How much memory a registration takes, held against what there is before it starts."""

from __future__ import annotations

from math import prod

import torch

from regtool.api import DeviceError, free_memory
from regtool_ad_regnet.network import ADRegNet
from regtool_ad_regnet.options import ADRegNetOptions
from regtool_ad_regnet.slabs import SLAB

GIB = 2**30

_ALWAYS = 0.5 * GIB
"""Libraries and the convolutions' own room."""

_SMALLEST = 32


def needed(
    network: ADRegNet, shape: tuple[int, ...], options: ADRegNetOptions, batch: int = 1
) -> float:
    """Peak memory in bytes of a registration without gradients, beyond the images themselves.

    Counted in maps of the finest level (C channels; those of all coarser levels are a third of
    it). Either the second image is on its way up, with the first one's features, skip, the map
    from below and the result in memory, or the finest level is being answered, with both images'
    features, attention, comparison and gate. ``benchmarks/ad_regnet_memory.py`` measures it.
    """
    padded = [-(-n // network.multiple) * network.multiple for n in shape]
    voxels = prod(padded) / network.stem**3
    width = torch.finfo(_dtype()).bits // 8
    asked = network.settings
    ascent = (4 / 3 + 1 / 3 + 3) * network.widths[0]
    matches = 4 * (2 * asked["correlate"] + 1) ** 3 if asked["correlate"] else 0
    hidden = max(asked["gate"] + 4, 2 * asked["compare"] + matches)
    answer = (3 + bool(asked["compare"]) + asked["guided"]) * network.widths[0] + hidden
    fields = 4 * (20 * voxels + 15 * prod(padded))
    maps = float(max(ascent, answer))
    if options.uncertainty:
        maps += 8 / 3 * network.widths[0]
    shown = 3 * options.levels + options.jacobian + options.entropy + 2 * options.attention
    shown += 5 * options.uncertainty
    extra = 4 * shown * len(network.levels) * prod(padded)
    rooms = 4 * min(6 * SLAB, 2 * network.widths[0] * voxels)
    return batch * (width * maps * voxels + fields + extra) + rooms + _ALWAYS


def check(
    network: ADRegNet,
    shape: tuple[int, ...],
    options: ADRegNetOptions,
    device: torch.device,
    batch: int = 1,
) -> None:
    """Refuse a volume that the free memory cannot take. Raises DeviceError naming what would fit.

    Does nothing where the system does not tell.
    """
    limit = options.memory * GIB if options.memory else free_memory(device)
    if limit is None:
        return
    tile = options.tile
    whole = tuple(min(tile, n) for n in shape) if tile else shape
    # Tiles add up in a whole field and a share.
    around = 4 * 4 * prod(shape) * batch if tile else 0
    need = needed(network, whole, options, batch) + around
    if need <= limit:
        return
    raise DeviceError(
        f"{_size(shape)} voxels{f' in tiles of {tile}' if tile else ''} need about "
        f"{need / GIB:.1f} GiB of memory, {limit / GIB:.1f} GiB are "
        f"{'allowed' if options.memory else 'free'}; {_fits(network, shape, options, limit, batch)}"
    )


def _fits(
    network: ADRegNet,
    shape: tuple[int, ...],
    options: ADRegNetOptions,
    limit: float,
    batch: int,
) -> str:
    """What would fit, in words."""
    plain = options.model_copy(update={"tile": None})
    text = ""
    for step in range(1, 40):
        smaller = tuple(int(n * (1 - step / 40)) // 16 * 16 for n in shape)
        if min(smaller) < 16:
            break
        if needed(network, smaller, plain, batch) <= limit:
            text = f"{_size(smaller)} would fit (a {max(shape) / max(smaller):.1f} times coarser "
            text += "spacing)"
            break
    around = 4 * 4 * prod(shape) * batch
    bare = ADRegNetOptions.model_validate({"passes": options.passes})
    sides = range(max(shape) // network.multiple * network.multiple, 0, -network.multiple)
    for side in sides:
        tile = tuple(min(side, n) for n in shape)
        if side < _SMALLEST or tile == shape:
            continue
        if needed(network, tile, bare, batch) + around <= limit:
            whole = f"the whole fits in tiles of {side} (--set tile={side})"
            return f"{text}, or {whole}" if text else whole
    return text or "nothing useful would fit: free some memory or use another machine"


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _dtype() -> torch.dtype:
    """What maps are stored in at present."""
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            return torch.get_autocast_dtype(kind)
    return torch.float32
