"""Summaries and Wilcoxon's test against SciPy and cases worked by hand; the papers' regions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from regtool.metrics.regions import ACDC, IXI, IXI_FREESURFER
from regtool.metrics.statistics import paired_test, summarise


def test_summary():
    found = summarise([4.0, 1.0, math.nan, 3.0, math.inf, 2.0])
    assert (found.n, found.undefined) == (4, 2)
    assert (found.mean, found.median, found.min, found.max) == (2.5, 2.5, 1.0, 4.0)
    assert found.sd == pytest.approx(math.sqrt(5 / 3))
    assert (found.q1, found.q3) == (1.75, 3.25)
    assert summarise([math.nan]) is None
    assert summarise([7.0]).sd is None
    assert summarise([7.0, 7.0]).sd == 0.0
    assert found.as_dict()["n"] == 4


def test_exact_p_of_six_pairs():
    """All six differences of one sign: 2 of the 64 sign patterns are as extreme."""
    a = np.arange(6.0)
    b = a + np.array([1, 2, 3, 4, 5, 6.5])
    found = paired_test(a, b)
    assert found.p == pytest.approx(2 / 64)
    assert found.mean_difference == pytest.approx(21.5 / 6)
    assert (found.n, found.median_difference) == (6, 3.5)
    assert paired_test(b, a).mean_difference == pytest.approx(-21.5 / 6)


def test_mixed_signs_by_hand():
    """Differences 1, -2, 3, 4, 5: the sum of negative ranks is 2, 6 of 32 patterns in two tails."""
    assert paired_test(np.zeros(5), np.array([1.0, -2, 3, 4, 5])).p == pytest.approx(6 / 32)


def test_agrees_with_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.random(80), rng.random(80) + 0.1
    assert paired_test(a, b).p == pytest.approx(stats.wilcoxon(a, b).pvalue, abs=1e-12)


def test_one_pair_has_a_difference_and_no_spread():
    found = paired_test([1.0], [3.0])
    assert (found.n, found.mean_difference, found.sd_difference, found.p) == (1, 2.0, None, None)


def test_undefined_pairs_do_not_count():
    found = paired_test([1.0, math.nan, 3.0, 1.0], [2.0, 1.0, math.inf, 1.5])
    assert (found.n, found.mean_difference) == (2, 0.75)
    assert paired_test([1.0, 2.0], [1.0, 2.0]).p is None
    assert paired_test([math.nan], [1.0]) is None
    with pytest.raises(ValueError, match="lengths"):
        paired_test([1.0], [1.0, 2.0])


def test_regions_of_the_papers():
    assert sorted(ACDC.values()) == [(1,), (1, 2, 3), (2,), (2, 3), (3,)]
    benchmark = [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 21, 22, 23, 25, 26, 27,
                 28, 29, 30, 31, 32, 34, 36]  # fmt: skip
    assert sorted(label for members in IXI.values() for label in members) == benchmark
    assert list(IXI) == list(IXI_FREESURFER)
    assert IXI["Brain-Stem"] == (13,)
    assert IXI_FREESURFER["Right-Hippocampus"] == (53,)
