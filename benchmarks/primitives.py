"""The inner loops of registration, each in our form and in others: milliseconds, memory, bound.

    python benchmarks/primitives.py [--threads 2] [--device cpu] [--size 128 128] [--json FILE]

Without ``--size`` it runs at 128 x 128 and 160 x 192 x 160. Every form of a primitive is checked
against ours first: the column "off" is the largest difference, inside the border (in units of the
result). Gradients of a warp differ by more than rounding: at voxels, between them, and of the image
as warped (times the Jacobian matrix) are three things. Milliseconds are the least of several runs,
memory is what the peak adds to what was there before (resident set on the CPU; Linux only), and the
bound is the time in which the inputs could be read and the result written once, at the bandwidth of
a plain copy measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor

from regtool.losses.ncc import local_ncc_gradient, local_ncc_map
from regtool.spatial.compose import compose
from regtool.spatial.derivative import central_difference
from regtool.spatial.integrate import integrate
from regtool.spatial.invert import invert
from regtool.spatial.jacobian import jacobian_determinant
from regtool.spatial.smooth import gaussian, gaussian_weights
from regtool.spatial.warp import identity, pull_displaced, warp

Form = Callable[[], Tensor]
WINDOW, SIGMA, SQUARINGS = 7, 2.0, 6


class Case:
    """Images and fields of one size, and all forms of all primitives on them."""

    def __init__(self, shape: tuple[int, ...], device: str) -> None:
        draw = torch.Generator().manual_seed(0)
        noise = torch.randn(2, 1, *shape, generator=draw)
        self.fixed, self.moving = (gaussian(n[None], 1.5).to(device) for n in noise)
        rough = torch.randn(2, len(shape), *shape, generator=draw)
        smooth = gaussian(rough, 4.0)
        self.u, self.v = ((4 * f / f.abs().max())[None].to(device) for f in smooth)
        self.shape, self.ndim = shape, len(shape)

    def forms(self) -> dict[str, dict[str, Form]]:
        """By primitive and form; the first form is regtool's."""
        u, v, f, m = self.u, self.v, self.fixed, self.moving
        return {
            "warp": {
                "regtool": lambda: warp(m, u),
                "grid_sample on interleaved coordinates": lambda: self._interleaved(m, u),
                "gather of the corners": lambda: gathered(m, u),
                **({"scipy": lambda: by_scipy(m, u)} if not m.is_cuda else {}),
            },
            "gradient of a warp": {
                "regtool: differences of the warped image": lambda: self._differences(f, m, u),
                "autograd of grid_sample": lambda: self._autograd(f, m, u),
                "warp of the image's gradient": lambda: self._pulled(f, m, u),
            },
            "composition": {
                "regtool": lambda: compose(u, v),
                "sampling at coordinates": lambda: v + self._interleaved(u, v),
                "component by component": lambda: v + torch.cat(
                    [pull_displaced(u[:, i : i + 1], v) for i in range(self.ndim)], 1),
            },
            "scaling and squaring": {
                "regtool": lambda: integrate(v, SQUARINGS),
                "plain loop": lambda: self._squared(v),
                "Euler, as many steps as it stands for": lambda: self._euler(v),
            },
            "inversion": {
                "regtool: Anderson, open voxels only": lambda: invert(u)[0],
                "fixed point on all voxels": lambda: self._fixed_point(u),
            },
            "local correlation and gradient": {
                "regtool: analytic": lambda: local_ncc_gradient(f, m, WINDOW)[1],
                "autograd over box sums": lambda: self._ncc_autograd(f, m),
                "autograd over convolutions": lambda: self._ncc_convolved(f, m),
            },
            "Gaussian": {
                "regtool: banded products": lambda: gaussian(u, SIGMA),
                "1-D convolutions": lambda: self._convolved(u),
                **({"scipy": lambda: self._scipy_gaussian(u)} if not u.is_cuda else {}),
            },
            "Jacobian determinant": {
                "regtool": lambda: jacobian_determinant(u),
                "torch.gradient and linalg.det": lambda: self._by_det(u),
            },
        }  # fmt: skip

    def touched(self, name: str) -> int:
        """Values that the primitive has to read and write at the least, for each voxel."""
        n = self.ndim
        return {
            "warp": n + 2, "gradient of a warp": 2 * n + 2, "composition": 3 * n,
            "scaling and squaring": 2 * n, "inversion": 2 * n,
            "local correlation and gradient": 3, "Gaussian": 2 * n, "Jacobian determinant": n + 1,
        }[name]  # fmt: skip

    # -- other forms ------------------------------------------------------------------------------

    def _interleaved(self, image: Tensor, u: Tensor) -> Tensor:
        at = identity(self.shape, u.device) + u[0]
        scale = torch.tensor([2 / (n - 1) for n in self.shape], device=u.device)
        grid = (at.movedim(0, -1) * scale - 1).flip(-1)[None].contiguous()
        return F.grid_sample(image, grid, padding_mode="border", align_corners=True)

    def _differences(self, f: Tensor, m: Tensor, u: Tensor) -> Tensor:
        warped = pull_displaced(m, u)
        slope = warped - f
        return torch.cat([slope * central_difference(warped, a + 2) for a in range(self.ndim)], 1)

    def _autograd(self, f: Tensor, m: Tensor, u: Tensor) -> Tensor:
        free = u.clone().requires_grad_()
        (grad,) = torch.autograd.grad(0.5 * (pull_displaced(m, free) - f).square().sum(), free)
        return grad

    def _pulled(self, f: Tensor, m: Tensor, u: Tensor) -> Tensor:
        gradient = torch.cat([central_difference(m, a + 2) for a in range(self.ndim)], 1)
        return (pull_displaced(m, u) - f) * pull_displaced(gradient, u)

    def _squared(self, v: Tensor) -> Tensor:
        u = v / 2**SQUARINGS
        for _ in range(SQUARINGS):
            u = u + self._interleaved(u, u)
        return u

    def _euler(self, v: Tensor) -> Tensor:
        u = torch.zeros_like(v)
        for _ in range(2**SQUARINGS):
            u = u + pull_displaced(v, u) / 2**SQUARINGS
        return u

    def _fixed_point(self, u: Tensor) -> Tensor:
        v = -u
        for _ in range(100):
            new = -pull_displaced(u, v)
            if (new - v).square().sum(1).max() < 1e-6:
                break
            v = new
        return v

    def _ncc_autograd(self, f: Tensor, m: Tensor) -> Tensor:
        free = m.clone().requires_grad_()
        (grad,) = torch.autograd.grad(-local_ncc_map(f, free, WINDOW).mean(), free)
        return grad

    def _ncc_convolved(self, f: Tensor, m: Tensor) -> Tensor:
        free, n = m.clone().requires_grad_(), WINDOW**self.ndim
        box = torch.ones(1, 1, *[WINDOW] * self.ndim, device=m.device)
        convolve = F.conv2d if self.ndim == 2 else F.conv3d

        def total(x: Tensor) -> Tensor:
            return convolve(x, box, padding=WINDOW // 2)

        sf, sm, sff, smm, sfm = (total(x) for x in (f, free, f * f, free * free, f * free))
        cross, vf, vm = sfm - sf * sm / n, sff - sf * sf / n, smm - sm * sm / n
        (grad,) = torch.autograd.grad(-(cross * cross / (vf * vm + 1e-5)).mean(), free)
        return grad

    def _convolved(self, u: Tensor) -> Tensor:
        radius = int(4 * SIGMA + 0.5)
        taps = torch.tensor(gaussian_weights(SIGMA, radius), device=u.device)
        convolve = F.conv2d if self.ndim == 2 else F.conv3d
        x = u.transpose(0, 1)
        for axis in range(self.ndim):
            shape, sides = [1] * self.ndim, [0] * (2 * self.ndim)
            shape[axis] = len(taps)
            sides[2 * (self.ndim - 1 - axis)] = sides[2 * (self.ndim - 1 - axis) + 1] = radius
            x = convolve(F.pad(x, sides, mode="replicate"), taps.view(1, 1, *shape))
        return x.transpose(0, 1)

    def _scipy_gaussian(self, u: Tensor) -> Tensor:
        parts = [scipy.ndimage.gaussian_filter(c, SIGMA, mode="nearest") for c in u[0].numpy()]
        return torch.from_numpy(np.stack(parts))[None]

    def _by_det(self, u: Tensor) -> Tensor:
        rows = [torch.stack(torch.gradient(c), -1) for c in u[0]]
        eye = torch.eye(self.ndim, device=u.device)
        return torch.linalg.det(torch.stack(rows, -2) + eye)[None, None]


def gathered(image: Tensor, u: Tensor) -> Tensor:
    """Linear interpolation from the corners of each cell, by index."""
    shape = image.shape[2:]
    at = identity(tuple(shape), u.device) + u[0]
    base = [c.floor().clamp(0, n - 1) for c, n in zip(at, shape, strict=True)]
    flat, out = image.flatten(), torch.zeros_like(image[0, 0])
    for corner in np.ndindex(*[2] * len(shape)):
        weight, index = torch.ones_like(out), torch.zeros_like(out, dtype=torch.long)
        for b, c, n, one in zip(base, at, shape, corner, strict=True):
            part = (c.clamp(0, n - 1) - b).clamp(0, 1)
            weight = weight * (part if one else 1 - part)
            index = index * n + (b.long() + one).clamp(max=n - 1)
        out = out + weight * flat[index]
    return out[None, None]


def by_scipy(image: Tensor, u: Tensor) -> Tensor:
    """``scipy.ndimage.map_coordinates`` of order 1."""
    at = (identity(tuple(image.shape[2:])) + u[0]).numpy()
    found = scipy.ndimage.map_coordinates(image[0, 0].numpy(), at, order=1, mode="nearest")
    return torch.from_numpy(found)[None, None]


def milliseconds(form: Form, seconds: float, cuda: bool) -> float:
    """The least time of several runs."""
    best, until = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < until:
        start = time.perf_counter()
        form()
        if cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def added_memory(form: Form, cuda: bool) -> float:
    """MiB by which the peak rises while a form runs."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        form()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak so far
    before = resident("VmRSS")
    form()
    return (resident("VmHWM") - before) / 1024


def resident(key: str) -> int:
    """A line of the process's status, KiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise RuntimeError(f"no {key} in /proc/self/status")


def main() -> None:
    """Print a Markdown table for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", help="tensor shape, 2 or 3 axes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="primitives whose name holds this")
    parser.add_argument("--seconds", type=float, default=2.0, help="repeat each form so long")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    cuda = given.device.startswith("cuda")
    large = torch.empty(2**26, device=given.device).normal_()
    other = torch.empty_like(large)
    bandwidth = 8 * large.numel() / milliseconds(lambda: other.copy_(large), 1.0, cuda)
    print(f"copy: {bandwidth / 1e6:.1f} GB/s, {given.threads} threads, {given.device}")
    rows = []
    for shape in [tuple(given.size)] if given.size else [(128, 128), (160, 192, 160)]:
        case = Case(shape, given.device)
        inside = (..., *[slice(12, -12)] * len(shape))
        print(f"\n### {' x '.join(map(str, shape))}\n\n| primitive | form | ms | to ours | MiB | "
              "bound, ms | off |\n" + "|---" * 7 + "|")  # fmt: skip
        for name, forms in case.forms().items():
            if given.only not in name:
                continue
            bound = case.touched(name) * 4 * case.fixed.numel() / bandwidth
            ours, expected = None, None
            for form, call in forms.items():
                found = call()
                expected = found if expected is None else expected
                off = float((found - expected)[inside].abs().max() / expected[inside].abs().max())
                ms = milliseconds(call, given.seconds, cuda)
                ours = ours or ms
                row = {"shape": shape, "primitive": name, "form": form, "ms": ms,
                       "mib": added_memory(call, cuda), "bound_ms": bound, "off": off}  # fmt: skip
                rows.append(row)
                print(f"| {name} | {form} | {ms:.2f} | {ms / ours:.1f} | {row['mib']:.0f} "
                      f"| {bound:.2f} | {off:.1e} |", flush=True)  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
