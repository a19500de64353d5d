"""The changes of geometry that a pair must survive, each by itself."""

from __future__ import annotations

from regtool.data.augment import Augment

GEOMETRY = {
    "flip": Augment(flip=("x", "y", "z"), flip_probability=0.6),
    "transpose": Augment(transpose=1.0),
    "rotation": Augment(rotation=40),
    "scaling": Augment(scaling=0.2),
    "translation": Augment(translation=3.0),
}
