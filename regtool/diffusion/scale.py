"""Between the normalised field that is diffused and the displacement in voxels it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FieldScale:
    """``u = mean + std z`` for each channel, ``u`` in voxels, channel i along tensor axis i.

    ``mean`` and ``std`` are those of the fields of training. A subclass may keep the normalised
    field on a coarser grid; ``pitch`` says so.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> FieldScale:
        """From any sequences or 1-D tensors. Raises ValueError unless they go together."""
        found = cls(tuple(float(v) for v in mean), tuple(float(v) for v in std))
        if len(found.mean) != len(found.std) or min(found.std, default=0.0) <= 0:
            raise ValueError(f"mean {found.mean} and positive std {found.std} of each channel")
        return found

    @property
    def pitch(self) -> tuple[float, ...]:
        """Voxels of the displacement for one of the normalised field, along each axis; empty: 1."""
        return ()

    def voxels(self, z: Tensor) -> Tensor:
        """The displacement (B, ndim, *S) of a normalised field, float32."""
        return z.float() * self.column(z, self.std) + self.column(z, self.mean)

    def normalised(self, u: Tensor) -> Tensor:
        """The normalised field (B, ndim, *S) of a displacement in voxels, float32."""
        return (u.float() - self.column(u, self.mean)) / self.column(u, self.std)

    def column(self, like: Tensor, values: Sequence[float]) -> Tensor:
        """One value a channel, (1, ndim, 1, ...), float32, on the device of ``like``."""
        column = like.new_tensor(values, dtype=like.float().dtype)
        return column.reshape(1, -1, *[1] * (like.dim() - 2))
