"""Named sets of structures that the papers report."""

from __future__ import annotations

Structures = dict[str, tuple[int, ...]]

ACDC: Structures = {
    "LV cavity": (3,),
    "myocardium": (2,),
    "LV": (2, 3),
    "RV": (1,),
    "heart": (1, 2, 3),
}
"""The five regions of DiffuseMorph, FSDiffReg and DiffuseReg (METHODS 2.5): their "overall" Dice is
the mean over these, and the column "LV" of the latter two is the cavity."""

_FREESURFER = (
    0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28, 30, 31, 41, 42, 43, 44, 46,
    47, 49, 50, 51, 52, 53, 54, 58, 60, 62, 63, 72, 77, 80, 85, 251, 252, 253, 254, 255,
)  # fmt: skip
"""FreeSurfer's numbers in the order in which the IXI benchmark numbers them 0, 1, 2 … ."""

_IXI_NAMES = {
    2: "Left-Cerebral-White-Matter", 3: "Left-Cerebral-Cortex", 4: "Left-Lateral-Ventricle",
    7: "Left-Cerebellum-White-Matter", 8: "Left-Cerebellum-Cortex", 10: "Left-Thalamus",
    11: "Left-Caudate", 12: "Left-Putamen", 13: "Left-Pallidum", 14: "3rd-Ventricle",
    15: "4th-Ventricle", 16: "Brain-Stem", 17: "Left-Hippocampus", 18: "Left-Amygdala", 24: "CSF",
    28: "Left-VentralDC", 31: "Left-choroid-plexus", 41: "Right-Cerebral-White-Matter",
    42: "Right-Cerebral-Cortex", 43: "Right-Lateral-Ventricle", 46: "Right-Cerebellum-White-Matter",
    47: "Right-Cerebellum-Cortex", 49: "Right-Thalamus", 50: "Right-Caudate", 51: "Right-Putamen",
    52: "Right-Pallidum", 53: "Right-Hippocampus", 54: "Right-Amygdala", 60: "Right-VentralDC",
    63: "Right-choroid-plexus",
}  # fmt: skip

IXI: Structures = {name: (_FREESURFER.index(number),) for number, name in _IXI_NAMES.items()}
"""The 30 structures of the IXI benchmark, in the benchmark's own numbering 1 … 36 (METHODS 2.5),
with FreeSurfer's names."""

IXI_FREESURFER: Structures = {name: (number,) for number, name in _IXI_NAMES.items()}
"""The same structures in FreeSurfer's numbering, for label maps that were not renumbered."""

REGIONS: dict[str, Structures] = {"acdc": ACDC, "ixi": IXI, "ixi-freesurfer": IXI_FREESURFER}
"""What ``regtool evaluate --regions`` knows."""
