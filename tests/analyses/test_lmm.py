"""Where random terms cannot be told apart or are nobody's, the mixed models are the simpler ones they then are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import NAMES, STREAMS, allocate, model, never_in_a_window

from sim.analyses.ancova import Ancova
from sim.analyses.lmm import Lmm
from sim.analyses.mixed_ancova import MixedAncova
from sim.trial import Fit, Trial


def trial_of(kind: str, visits: tuple[int, ...] = (0, 1, 2), **changes: Any) -> Trial:
    a, replicate = allocate(kind, **changes), np.arange(6, dtype=np.int32)
    outcome = model().generate(NAMES, np.array([0.3, 0.2]), a, never_in_a_window(a), STREAMS, replicate)
    y = outcome.score[0, 0][:, :, visits]
    observed = np.ones(y.shape, dtype=bool)
    observed[:, ::7, -1] = False
    return Trial(y, observed, a)


def same(one: Fit, other: Fit) -> None:
    for name in ("estimate", "standard_error", "df"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6)


@pytest.mark.parametrize("kind", ["individual", "village"])
def test_one_visit_after_the_baseline_is_the_mixed_ancova(kind: str) -> None:
    trial = trial_of(kind, (0, 2))
    same(Lmm(kind="lmm").analyse(trial), MixedAncova(kind="mixed_ancova").analyse(trial))


def test_without_clusters_the_mixed_ancova_is_the_ancova() -> None:
    trial = trial_of("individual", training_group_size=None)
    same(MixedAncova(kind="mixed_ancova").analyse(trial), Ancova(kind="ancova").analyse(trial))
    assert (Lmm(kind="lmm", baseline="constrained").analyse(trial).status == 0).all()
