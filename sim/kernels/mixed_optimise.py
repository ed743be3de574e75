"""The climb of a likelihood over covariance parameters, one step at a time, whoever evaluates the likelihood.

A caller owns the likelihood and alternates:

    climb, room = new_climb(m), climbing_room(m);  d = zeros(m);  trial = theta.copy()
    begin(climb)
    loop:  evaluate the criterion (-2 log likelihood; NaN = not defined there) at trial
           accept(..) = REJECTED: trial is now nearer to theta, evaluate again;  FAILED: stop
           accept(..) = ACCEPTED: theta is now trial; find score and information there
           propose(..) = MOVED: trial is the next point;  DONE: theta is the maximum;  FAILED: stop

Steps: expected information (exact in one step for balanced data) until the squared Newton decrement is below 1, then
observed information, see _inform; a step is halved until the criterion falls (Armijo's rule), forty times at most.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.kernels.mixed_algebra import copy, sweep
from sim.lanes import compact, lane_kernel

# What accept and propose answer.
REJECTED, ACCEPTED, MOVED, DONE, FAILED_CLIMB = 0, 1, 2, 3, 4

# What a parameter may be: any value (the criterion is NaN where it is not defined), above 0, at least 0, or a factor of
# either sign, whose expected information vanishes at 0, where only the observed one holds the step back; or HELD where
# the climb starts.
FREE, POSITIVE, NONNEGATIVE, FACTOR, HELD = 0, 1, 2, 3, 4

# Places in the state `climb` of one replicate: criterion at theta, share of the step d tried, squared Newton decrement
# of that step and of the one before, points accepted, halvings of this step.
VALUE, SCALE, DECREMENT, LAST, ACCEPTED_POINTS, HALVINGS, CLIMB_SIZE = 0, 1, 2, 3, 4, 5, 6

# Attempts at a step: 0 is by the observed information, those up to EXPECTED by a share of the expected one added, from
# 2^-20 to 1, then by the expected one alone, the average one, and from RAISED on with a diagonal that is raised.
EXPECTED = 22
RAISED = EXPECTED + 2

CONVERGED = 1e-20  # squared Newton decrement: the step left to take, in standard errors, squared


class Room(NamedTuple):
    """Workspace of propose; shared by all replicates."""

    information: npt.NDArray[np.float64]  # (m, m)
    equation: npt.NDArray[np.float64]  # (m + 1, m + 1)
    scale: npt.NDArray[np.float64]  # (m,)
    target: npt.NDArray[np.float64]  # (m,)
    order: npt.NDArray[np.int64]  # (m,)
    free: npt.NDArray[np.bool_]  # (m,)


def climbing_room(m: int) -> Room:
    """Arrays that one climb over m parameters works in; see Room for their shapes."""
    return Room(
        np.zeros((m, m)),
        np.zeros((m + 1, m + 1)),
        np.zeros(m),
        np.zeros(m),
        np.zeros(m, np.int64),
        np.ones(m, np.bool_),
    )


@lane_kernel
def begin(climb):  # type: ignore[no-untyped-def]
    """The state of a climb before its first point."""
    for k in range(CLIMB_SIZE):
        climb[k] = 0.0
    climb[VALUE] = climb[LAST] = np.inf
    climb[SCALE] = 1.0


@lane_kernel
def accept(climb, theta, trial, d, value):  # type: ignore[no-untyped-def]
    """Judge the criterion `value` at trial.  ACCEPTED: theta becomes trial; REJECTED: trial moves towards theta."""
    first = climb[ACCEPTED_POINTS] == 0.0
    slack = 1e-8 + 1e-11 * abs(climb[VALUE])  # rounding of the criterion
    if np.isfinite(value) and (first or value <= climb[VALUE] - 1e-4 * climb[SCALE] * climb[DECREMENT] + slack):
        copy(trial, theta)
        climb[VALUE] = value
        climb[ACCEPTED_POINTS] += 1.0
        climb[HALVINGS] = 0.0
        return ACCEPTED
    climb[HALVINGS] += 1.0
    if first or climb[SCALE] == 0.0 or climb[HALVINGS] >= 40.0:
        return FAILED_CLIMB
    climb[SCALE] = 0.5 * climb[SCALE] if climb[SCALE] > 1e-9 else 0.0  # at last back to theta: no progress is possible
    for k in range(theta.size):
        trial[k] = theta[k] + climb[SCALE] * d[k]
    return REJECTED


@lane_kernel
def propose(climb, theta, trial, d, score, average, observed, bound, room):  # type: ignore[no-untyped-def]
    """Next trial point from score (m,), average and observed information (m, m) at theta; bound (m,) says what each is.

    expected information = 2 average - observed.  _inform says which of them the step is by.
    """
    compact()
    attempt, ready = 0 if climb[LAST] < 1.0 else EXPECTED, False
    while not ready and attempt <= RAISED + 2:
        _inform(attempt, average, observed, bound, room.information)
        ready = _step(theta, score, bound, d, room)
        attempt += 1
    decrement = 0.0
    for k in range(theta.size):
        decrement += score[k] * d[k]
    # Rounding is all that is left; but on the way down from a saddle steps grow, however short the first.
    stuck = climb[SCALE] == 0.0 or (decrement >= climb[LAST] and not 1 < attempt <= EXPECTED)
    if ready and (decrement < CONVERGED or (decrement < 1e-10 and stuck)):
        return DONE
    if not ready or climb[SCALE] == 0.0:
        return FAILED_CLIMB
    climb[LAST] = climb[DECREMENT] = decrement
    climb[SCALE] = 1.0
    for k in range(theta.size):
        trial[k] = theta[k] + d[k] if bound[k] != NONNEGATIVE or d[k] != -theta[k] else 0.0
    return MOVED


@lane_kernel
def _inform(attempt, average, observed, bound, information):  # type: ignore[no-untyped-def]
    """The information that an attempt at a step is by; the next one is made where it is not positive definite.

    First the observed one, then with a share of the expected one added, as little as will do: where the likelihood is
    not concave, as on the ridge along which two components that are hard to tell apart make up for each other, a step
    is then as long as its curvature says (Levenberg 1944), while the expected one, which knows only the curvature of
    other data, would creep. Then expected, average, and average with its diagonal raised.
    """
    m = bound.size
    share = 2.0 ** (attempt - EXPECTED + 1.0) if attempt > 0 else 0.0  # the last but one is 1: twice the average
    for k in range(m):
        for l in range(m):  # noqa: E741
            expected = 2.0 * average[k, l] - observed[k, l]
            if attempt < EXPECTED:
                information[k, l] = observed[k, l] + share * expected
            else:
                information[k, l] = expected if attempt == EXPECTED else average[k, l]
        if bound[k] == FACTOR and attempt > 0:
            information[k, k] = max(information[k, k], observed[k, k])
        if attempt >= RAISED:
            raised = 1e-3 if attempt == RAISED else 1e-1 if attempt == RAISED + 1 else 10.0
            information[k, k] = abs(average[k, k]) + raised * abs(observed[k, k])


@lane_kernel
def _step(theta, score, bound, d, room):  # type: ignore[no-untyped-def]
    """Step d with theta + d feasible: a component that would pass 0 is put at 0 and the others solved again."""
    m = theta.size
    target, free = room.target, room.free
    for k in range(m):
        d[k] = 0.0
        free[k] = bound[k] != HELD and (bound[k] != NONNEGATIVE or theta[k] > 0.0 or score[k] > 0.0)
    for _ in range(m + 1):
        if not solve_free(room.information, score, free, d, target, room):
            return False
        worst = -1
        for k in range(m):
            below = bound[k] == NONNEGATIVE and free[k] and theta[k] + target[k] < 0.0
            if below and (worst < 0 or theta[k] + target[k] < theta[worst] + target[worst]):
                worst = k
        if worst < 0:
            break
        free[worst] = False
        d[worst] = -theta[worst]
    shrink = 1.0
    for k in range(m):
        if bound[k] == POSITIVE and target[k] < -0.9 * theta[k]:
            shrink = min(shrink, -0.9 * theta[k] / target[k])
    for k in range(m):
        d[k] = shrink * target[k]
    return True


@lane_kernel
def solve_free(information, score, free, d, target, room):  # type: ignore[no-untyped-def]
    """Solve information d = score over the free components, others held at their d; False if not positive definite."""
    compact()
    m = score.size
    index, A, scale = room.order, room.equation, room.scale
    n = np.int64(0)  # a literal 0 would have sweep compiled a second time
    for k in range(m):
        if free[k]:
            index[n] = k
            n += 1
    for i in range(n):
        if not information[index[i], index[i]] > 0.0:
            return False
        scale[i] = 1.0 / np.sqrt(information[index[i], index[i]])
    for i in range(n):
        s = score[index[i]]
        for k in range(m):
            if not free[k]:
                s -= information[index[i], k] * d[k]
        for j in range(n):
            A[i, j] = information[index[i], index[j]] * scale[i] * scale[j]
        A[i, n] = A[n, i] = s * scale[i]
    A[n, n] = 0.0
    if np.isnan(sweep(A, n, n + 1, 1e-12, target)):
        return False
    copy(d, target)
    for i in range(n):
        target[index[i]] = A[i, n] * scale[i]
    return True
