"""Folds of subjects with landmarks: what a landmark loss has seen is never measured."""

from __future__ import annotations

import hashlib
import logging

from regtool.data.cases import PairCase
from regtool.engine.training.settings import LoopSettings
from regtool.errors import UsageError

log = logging.getLogger("regtool.train")

Splits = tuple[list[PairCase], list[PairCase]]


def has_points(case: PairCase) -> bool:
    """Whether both images of a pair have landmarks."""
    return case.fixed.points is not None and case.moving.points is not None


def fold_of(subjects: list[str], folds: int) -> dict[str, int]:
    """The fold, 1 to ``folds``, of each subject: by the SHA-256 of their names, of equal size."""
    ranked = sorted(set(subjects), key=lambda s: hashlib.sha256(s.encode()).hexdigest())
    return {subject: rank % folds + 1 for rank, subject in enumerate(ranked)}


def hold_out(splits: Splits, settings: LoopSettings) -> Splits:
    """Training and validation cases of a run with ``landmark_folds``; without, as they were.

    Subjects with landmarks are divided into folds, whatever their split was. Those of the fold
    ``landmark_fold`` validate, with all their pairs; those of the other folds train. Subjects
    without landmarks stay where they were. With as many folds as subjects this is leave-one-out.
    Raises UsageError where the folds cannot be made.
    """
    folds, held = settings.landmark_folds, settings.landmark_fold
    if not folds:
        return splits
    cases = [*splits[0], *splits[1]]
    subjects = sorted({case.subject for case in cases if has_points(case)})
    if folds == 1 or held > folds:
        raise UsageError(
            f"landmark_folds={folds}, landmark_fold={held}: give at least 2 folds, and the number "
            "of the fold that is held out"
        )
    if len(subjects) < folds:
        raise UsageError(
            f"landmark_folds={folds}: {len(subjects)} subjects have landmarks in both images"
        )
    if settings.select == "tre":
        raise UsageError(
            "landmark_folds: weights must not be chosen by the landmarks they are judged on; "
            "leave out select=tre"
        )
    fold = fold_of(subjects, folds)
    train: list[PairCase] = []
    val: list[PairCase] = []
    for group, number in ((splits[0], 0), (splits[1], 1)):
        for case in group:
            own = fold.get(case.subject)
            trains = number == 0 if own is None else own != held
            (train if trains else val).append(case)
    log.info(
        "landmarks train, but those of fold %d of %d (%s) are only measured",
        held,
        folds,
        ", ".join(s for s in subjects if fold[s] == held),
    )
    return train, val
