"""Structural similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from regtool.losses.reduce import masked_mean
from regtool.spatial.smooth import gaussian_weights, separable_filter


def ssim_loss(
    fixed: Tensor,
    moving: Tensor,
    window: int = 9,
    sigma: float = 1.5,
    data_range: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """``1 - mean SSIM`` of images (B, C, *S); ``mask`` weights the mean. Returns a scalar.

    The defaults are DiffuseReg's; VTN's pre-training uses window 15, sigma 2.5 and range 2
    (METHODS 2.2). ``data_range`` is the span of the intensities.
    """
    return 1 - masked_mean(ssim_map(fixed, moving, window, sigma, data_range), mask)


def ssim_map(
    fixed: Tensor, moving: Tensor, window: int = 9, sigma: float = 1.5, data_range: float = 1.0
) -> Tensor:
    """SSIM at every voxel, (B, C, *S).

    ``(2 mf mm + C1)(2 cov + C2) / ((mf^2 + mm^2 + C1)(vf + vm + C2))`` with Gaussian window means,
    C1 = (0.01 range)^2, C2 = (0.03 range)^2, and mirrored borders. Source: Wang 2004.
    Raises ValueError for an even window or images of different shapes.
    """
    if fixed.shape != moving.shape or window < 1 or window % 2 == 0:
        raise ValueError(
            f"SSIM needs two images of one shape and an odd window, not {tuple(fixed.shape)}, "
            f"{tuple(moving.shape)}, {window}"
        )
    taps = [gaussian_weights(sigma, window // 2)] * (fixed.dim() - 2)
    dtype = torch.promote_types(torch.promote_types(fixed.dtype, moving.dtype), torch.float32)
    f, m = fixed.to(dtype), moving.to(dtype)

    def smooth(x: Tensor) -> Tensor:
        return separable_filter(x, taps, "reflect")

    mean_f, mean_m = smooth(f), smooth(m)
    # Differences of means of squares may round below zero on flat images.
    var_f = (smooth(f * f) - mean_f.square()).clamp(min=0)
    var_m = (smooth(m * m) - mean_m.square()).clamp(min=0)
    covariance = smooth(f * m) - mean_f * mean_m
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_f * mean_m + c1) / (mean_f.square() + mean_m.square() + c1)
    return luminance * (2 * covariance + c2) / (var_f + var_m + c2)
