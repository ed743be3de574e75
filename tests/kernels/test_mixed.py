"""The mixed-model kernel against dense matrices, and against its own symmetries; test_mixed_r has R's answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.dense_mixed import DenseMixed, by_differences, components, linear, participant_covariance

from sim.kernels.covariance import STRUCTURES
from sim.kernels.mixed import MixedModel, fit_mixed
from sim.trial import FAILED, OK, SINGULAR


def reml(*, y, observed, X, covariate, contrast, residual_class=None, has_participant, block, column, **more):
    structure = more.pop("participant", "intercept" if has_participant else "independent")
    model = MixedModel(X, structure, more.pop("time", None), residual_class, block, column)
    return fit_mixed(model, y, observed, covariate, contrast, **more)


# ---- the dense twin --------------------------------------------------------------------------------------------------

SHAPES = ["participant", "village", "village and visit", "nested", "partial", "crossed", "residual", "empty term"]


def problem(shape, seed, n_replicate=2, sd=(1.0, 0.9, 0.8), shift=0.0):
    """A small unbalanced trial with intermittent missingness; sd of residual, participant and random terms."""
    rng = np.random.default_rng(seed)
    N, T, K = 36, 3, 6
    arm, unit = np.arange(N) % K % 2, np.arange(N) % K
    has_participant, cls, block = True, np.zeros(N, int), unit.copy()
    column = np.zeros((N, T, 1), int)
    if shape == "participant":
        block, column = np.full(N, -1), np.zeros((N, T, 0), int)
    elif shape == "village and visit":
        column = np.stack([np.zeros((N, T), int), np.tile(1 + np.arange(T), (N, 1))], axis=2)
    elif shape == "nested":
        block = 5 * (unit // 3) + 2  # labels need not be 0, 1, ..
        column = np.stack([np.zeros((N, T), int), np.repeat(1 + unit[:, None] % 3, T, axis=1)], axis=2)
    elif shape == "partial":
        T, has_participant, cls = 1, False, arm
        block, column = np.where(arm == 1, unit, -1), np.where(arm == 1, 0, -1)[:, None, None]
    elif shape == "crossed":
        has_participant, block = False, np.zeros(N, int)
        column = np.stack([np.repeat(unit[:, None], T, 1), K + (np.arange(N)[:, None] // K + np.arange(T)) % 5], axis=2)
    elif shape == "residual":
        block, column, cls = np.full(N, -1), np.full((N, T, 0), -1), unit // 2 % 2
    elif shape == "empty term":
        cls = arm
        column = np.where((arm[:, None] == 1) & (np.arange(T) > 0), 2, -1)[:, :, None]
    X = np.stack(
        [np.ones((N, T)), np.tile(np.arange(T) > 0, (N, 1)), arm[:, None] * np.ones(T), rng.normal(size=(N, T))], 2
    )
    X = X[:, :, [0, 2, 3]] if T == 1 else X
    covariate = rng.normal(size=(n_replicate, N, 1))
    y = shift + X[..., -1] + covariate + sd[0] * rng.normal(size=(n_replicate, N, T)) * (1 + cls[:, None])
    y += sd[1] * rng.normal(size=(n_replicate, N, 1)) * has_participant
    for k in range(column.shape[2]):
        effect = sd[2] * rng.normal(size=(n_replicate, 100))
        hit = np.where((column[:, :, k] >= 0) & (block[:, None] >= 0), 10 * block[:, None] + column[:, :, k], -1)
        y += np.where(hit >= 0, effect[:, hit % 100], 0.0)
    observed = rng.random((n_replicate, N, T)) > 0.25
    contrast = np.concatenate([np.eye(X.shape[2] + 1), rng.normal(size=(1, X.shape[2] + 1))])
    return dict(  # noqa: C408
        y=y, observed=observed, X=X, covariate=covariate, contrast=contrast, residual_class=cls,
        has_participant=has_participant, block=block, column=column,
    )  # fmt: skip


def dense(args, r=0, is_reml=True):
    seen = args["observed"][r if len(args["observed"]) > 1 else 0]
    person, _ = np.nonzero(seen)
    X = np.concatenate([args["X"][seen], args["covariate"][r][person]], axis=1)
    V = components(seen, args["residual_class"], args["has_participant"], args["block"], args["column"])
    return DenseMixed(args["y"][r][seen], X, linear(V), is_reml)


def one(args, r):
    return {**args, **{k: args[k][r : r + 1] for k in ("y", "observed", "covariate")}}


def equal(a, b, **tolerance):
    for name in a._fields:
        if name != "n_iteration":
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), err_msg=name, **tolerance)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES)
def test_against_slow_version(shape, seed):
    args = problem(shape, seed, sd=(1.0, 0.9, 0.8) if seed else (1.0, 0.0, 0.0))
    fit = reml(**args)
    for r in range(2):
        twin, theta = dense(args, r), fit.variance[r]
        assert fit.status[r] == (SINGULAR if np.any(theta == 0) else OK)
        score, free = twin.score(theta), theta > 0
        spread = np.sqrt(np.diag(np.linalg.inv(twin.information(theta)[np.ix_(free, free)])))
        assert np.all(np.abs(score[free]) * spread < 1e-6)  # stationary ..
        assert np.all(score[~free] <= 1e-9)  # .. and held at zero only where the likelihood falls inwards
        best = twin.fit(args["residual_class"].max() + 1, theta.size)
        assert fit.criterion[r] <= twin.criterion(best) + 1e-7  # no worse optimum than a general optimiser's
        np.testing.assert_allclose(theta, best, rtol=2e-3, atol=2e-3 * theta[0])
        assert fit.criterion[r] == pytest.approx(twin.criterion(theta), abs=1e-8)
        inference = np.array([twin.satterthwaite(theta, c) for c in args["contrast"]]).T
        np.testing.assert_allclose([fit.estimate[r], fit.standard_error[r], fit.df[r]], inference, rtol=1e-7)
        np.testing.assert_allclose(args["contrast"] @ fit.coefficient[r], fit.estimate[r], rtol=1e-10)


def test_derivatives_of_the_slow_version_against_differences():
    twin = dense(problem("village and visit", 3))
    theta, step = np.array([1.2, 0.7, 0.4, 0.3]), 1e-4 * np.eye(4)
    slope = [-0.5 * (twin.criterion(theta + d) - twin.criterion(theta - d)) / 2e-4 for d in step]
    bend = [-(twin.score(theta + d) - twin.score(theta - d)) / 2e-4 for d in step]
    np.testing.assert_allclose(twin.score(theta), slope, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(twin.information(theta), bend, rtol=1e-6, atol=1e-6)


def test_balanced_nested_data_against_anova():
    """Balanced two-way nested data: the REML variances are those of the ANOVA table, df of the mean is villages - 1."""
    rng = np.random.default_rng(5)
    y = rng.normal(size=(1, 8, 5, 3)) + rng.normal(size=(1, 8, 5, 1)) + 2 * rng.normal(size=(1, 8, 1, 1))
    ms_village = 15 * y.mean((2, 3)).var(ddof=1)
    ms_participant = 3 * np.sum((y.mean(3) - y.mean((2, 3))[..., None]) ** 2) / 32
    ms_within = np.sum((y - y.mean(3)[..., None]) ** 2) / 80
    fit = reml(
        y=y.reshape(1, 40, 3), observed=np.ones((1, 40, 3), bool), X=np.ones((40, 3, 1)),
        covariate=np.empty((1, 40, 0)), contrast=np.ones((1, 1)), has_participant=True,
        block=np.repeat(np.arange(8), 5), column=np.zeros((40, 3, 1), int),
    )  # fmt: skip
    anova = [ms_within, (ms_participant - ms_within) / 3, (ms_village - ms_participant) / 15]
    np.testing.assert_allclose(fit.variance[0], anova, rtol=1e-9)
    np.testing.assert_allclose(fit.df[0], 7, rtol=1e-9)


# ---- its own symmetries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_equals_singles(shape):
    args = problem(shape, 11, n_replicate=4)
    batch = reml(**args)
    for r in range(4):
        for whole, single in zip(batch, reml(**one(args, r)), strict=True):
            np.testing.assert_array_equal(whole[r], single[0])


def test_order_of_visits_does_not_matter():
    """With a random intercept; ten visits, so that many patterns of visits seen agree in the first eight."""
    rng = np.random.default_rng(8)
    N, T = 60, 10
    block, column = np.arange(N) % 6, np.zeros((N, T, 1), int)
    X = np.stack([np.ones((N, T)), rng.normal(size=(N, T))], axis=2)
    y = rng.normal(size=(2, N, T)) + rng.normal(size=(2, N, 1)) + rng.normal(size=(2, 6))[:, block, None]
    observed = rng.random((2, N, T)) > 0.4
    observed[:, ::2, :8] = True
    args = dict(covariate=rng.normal(size=(2, N, 1)), contrast=np.eye(3), has_participant=True)  # noqa: C408
    fit = reml(y=y, observed=observed, X=X, block=block, column=column, **args)
    turned = reml(y=y[..., ::-1], observed=observed[..., ::-1], X=X[:, ::-1], block=block, column=column, **args)
    assert np.all(fit.status != FAILED)
    equal(fit, turned, rtol=1e-7)


@pytest.mark.parametrize("value", [np.nan, 1e9])
def test_values_under_the_mask_do_not_matter(value):
    args = problem("village and visit", 12)
    masked = {**args, "y": np.where(args["observed"], args["y"], value)}
    for a, b in zip(reml(**args), reml(**masked), strict=True):
        np.testing.assert_array_equal(a, b)


def test_observed_of_length_one_is_shared():
    args = problem("nested", 13)
    shared = {**args, "observed": args["observed"][:1]}
    full = {**args, "observed": np.repeat(args["observed"][:1], 2, axis=0)}
    for a, b in zip(reml(**shared), reml(**full), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", SHAPES)
def test_scale_and_shift_equivariance(shape):
    args = problem(shape, 14)
    a, b = reml(**args), reml(**{**args, "y": 50 + 1000 * args["y"]})
    moved = 50 * args["contrast"][:, 0]  # the first column of X is the intercept
    np.testing.assert_allclose(b.estimate, 1000 * a.estimate + moved, rtol=1e-7, atol=1e-5)
    np.testing.assert_allclose(b.standard_error, 1000 * a.standard_error, rtol=1e-7)
    np.testing.assert_allclose(b.variance, 1e6 * a.variance, rtol=1e-6)
    np.testing.assert_allclose(b.df, a.df, rtol=1e-6)
    np.testing.assert_array_equal(a.status, b.status)
    assert np.all(np.abs(a.n_iteration - b.n_iteration) <= 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_relabelled_blocks_columns_and_participants(shape):
    args = problem(shape, 15)
    order = np.random.default_rng(0).permutation(args["X"].shape[0])
    column = args["column"]
    top = column.max(initial=0)
    moved = {
        **args,
        "y": args["y"][:, order], "observed": args["observed"][:, order], "covariate": args["covariate"][:, order],
        "X": args["X"][order], "residual_class": args["residual_class"][order],
        "block": np.where(args["block"] >= 0, 91 - 3 * args["block"], -1)[order],
        "column": np.where(column >= 0, top - column + 2, -1)[order],
    }  # fmt: skip
    equal(reml(**args), reml(**moved), rtol=1e-6, atol=1e-9)


def test_start_does_not_matter():
    args = problem("village and visit", 16)
    for start in ([1.0, 0.0, 0.0, 0.0], [0.01, 5.0, 5.0, 5.0], [100.0, 1e-6, 3.0, 0.0]):
        equal(reml(**args), reml(**args, start=start), rtol=1e-6, atol=1e-9)


def test_converges_on_many_small_trials():
    """Eight-village trials whose true variances are at or near zero: nearly all at a boundary, none may fail."""
    for shape in ("village", "village and visit", "nested", "partial"):
        fit = reml(**problem(shape, 17, n_replicate=300, sd=(1.0, 0.1, 0.1)))
        assert np.all(fit.status != FAILED)
        assert np.all(fit.df > 0)
        assert fit.n_iteration.max() <= 30


# ---- failures --------------------------------------------------------------------------------------------------------


def assert_failed(fit):
    assert np.all(fit.status == FAILED)
    for name in ("estimate", "standard_error", "df", "variance", "coefficient", "criterion"):
        assert np.all(np.isnan(getattr(fit, name)))


def test_rank_deficient_fixed_effects_fail():
    args = problem("village", 18)
    assert_failed(reml(**{**args, "covariate": np.repeat(args["X"][None, :, 0, 2:3] + 1, 2, axis=0)}))


def test_nobody_observed_in_an_arm_fails():
    args = problem("village", 19)
    assert_failed(reml(**{**args, "observed": args["observed"] & (args["X"][:, :, 2] == 0)}))


def test_no_observations_constant_outcome_and_infinite_outcome_fail():
    args = problem("village", 20)
    assert_failed(reml(**{**args, "observed": np.zeros_like(args["observed"])}))
    assert_failed(reml(**{**args, "y": np.full_like(args["y"], 7.0)}))
    assert_failed(reml(**{**args, "y": np.where(args["observed"], np.inf, 0.0)}))


def test_variances_that_cannot_be_told_apart_fail():
    args = problem("partial", 21)
    assert_failed(reml(**{**args, "has_participant": True, "residual_class": None}))


def test_one_failure_does_not_touch_the_others():
    args = problem("village", 22, n_replicate=3)
    y = args["y"].copy()
    y[1] = np.nan
    fit, good = reml(**{**args, "y": y}), reml(**args)
    assert fit.status[1] == FAILED
    for a, b in zip(fit, good, strict=True):
        np.testing.assert_array_equal(a[[0, 2]], b[[0, 2]])


def test_no_iterations_allowed_fails():
    assert_failed(reml(**problem("village", 23), max_iteration=0))


def test_shape_and_column_messages():
    args = problem("village and visit", 24)
    with pytest.raises(ValueError, match="covariate has shape"):
        reml(**{**args, "covariate": args["covariate"][:1]})
    with pytest.raises(ValueError, match="random term 1 uses a column of Z"):
        reml(**{**args, "column": np.zeros_like(args["column"])})


# ---- every covariance structure against the dense twin ---------------------------------------------------------------

GENERAL = ["us", "cs", "csh", "ar1", "ar1h", "toep", "toeph", "adh", "slope"]
TIME = np.array([0.0, 1.0, 2.5])


def sigma_of(structure, T, theta):
    """Sigma (T, T) of one class written out."""
    lag = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
    if structure == "us":
        S = np.zeros((T, T))
        S[np.tril_indices(T)] = theta
        return S + np.tril(S, -1).T
    if structure == "slope":
        Z = np.stack([np.ones(T), TIME[:T]], axis=1)
        return theta[0] * np.eye(T) + Z @ np.array([[theta[1], theta[2]], [theta[2], theta[3]]]) @ Z.T
    n_scale = T if structure.endswith("h") and structure not in ("ch",) else 1
    scale = np.asarray(theta[:n_scale]) if n_scale == T else np.full(T, np.sqrt(theta[0]))
    rho = theta[n_scale:]
    kind = structure.removesuffix("h")
    if kind == "cs":
        corr = np.where(lag == 0, 1.0, rho[0])
    elif kind == "ar1":
        corr = rho[0] ** lag
    elif kind == "ad":
        corr = np.array([[np.prod(rho[min(t, s) : max(t, s)]) for t in range(T)] for s in range(T)])
    else:
        corr = np.append(1.0, rho)[lag]
    return np.outer(scale, scale) * corr


def linked(structure, T, tau):
    """Sigma in the parameters of second-order Kenward-Roger."""
    if structure == "us":
        L = np.eye(T)
        L[np.tril_indices(T, -1)] = tau[T:]
        L = np.exp(tau[:T])[:, None] * L
        return L @ L.T
    n_scale = T if structure.endswith("h") else 1
    return sigma_of(structure, T, np.append(np.exp(tau[:n_scale]), tau[n_scale:] / np.sqrt(1 + tau[n_scale:] ** 2)))


def to_linked(structure, T, theta):
    if structure == "us":
        L = np.linalg.cholesky(sigma_of(structure, T, theta))
        d = np.diag(L)
        return np.append(np.log(d), (L / d[:, None])[np.tril_indices(T, -1)])
    n_scale = T if structure.endswith("h") else 1
    rho = theta[n_scale:]
    return np.append(np.log(theta[:n_scale]), rho / np.sqrt(1 - rho**2))


def general(structure, seed, n_class=1, with_block=False, is_reml=True, T=3):
    """(arguments of reml(), function r -> dense twin)."""
    args = problem("village" if with_block else "participant", seed)
    if T == 2:
        args = {k: (v[:, :, :2] if k in ("y", "observed") else v[:, :2] if k in ("X", "column") else v)
                for k, v in args.items()}  # fmt: skip
        args["X"] = args["X"][:, :, [0, 2, 3]]
        args["contrast"] = np.eye(4)
    rng = np.random.default_rng(100 + seed)
    args["y"] = args["y"] + rng.normal(size=(2, 36, 1)) * np.arange(T) * 0.7
    args["residual_class"] = np.arange(36) // 6 % n_class
    args |= {"participant": structure, "time": TIME[:T] if structure == "slope" else None}
    n_own = {"slope": 1}.get(structure)

    def sigma(theta):
        if n_own is None:
            return np.array([sigma_of(structure, T, part) for part in np.split(theta, n_class)])
        return np.array([sigma_of(structure, T, np.append(theta[c], theta[n_class:])) for c in range(n_class)])

    def twin(r, parameters=sigma, n_sigma=None):
        seen = args["observed"][r]
        person = np.nonzero(seen)[0]
        X = np.concatenate([args["X"][seen], args["covariate"][r][person]], axis=1)
        n = n_sigma or reml(**args, max_iteration=0).variance.shape[1] - args["column"].shape[2]
        V = participant_covariance(seen, args["residual_class"], args["block"], args["column"], parameters, n)
        return DenseMixed(args["y"][r][seen], X, by_differences(V), is_reml)

    return args, twin


def assert_stationary(twin, theta, free):
    spread = np.sqrt(np.diag(np.linalg.inv(twin.information(theta)[np.ix_(free, free)])))
    assert np.all(np.abs(twin.score(theta)[free]) * spread < 2e-6)


def check_inference(twin, fit, r, args, free, **keywords):
    theta = fit.variance[r]
    inference = np.array([twin.satterthwaite(theta, c, free, **keywords) for c in args["contrast"]]).T
    np.testing.assert_allclose([fit.estimate[r], fit.standard_error[r]], inference[:2], rtol=1e-8)
    np.testing.assert_allclose(fit.df[r], inference[2], rtol=1e-5)  # the twin's derivatives are differences


@pytest.mark.parametrize("with_block", [False, True])
@pytest.mark.parametrize("structure", GENERAL)
def test_structure_against_slow_version(structure, with_block):
    for seed, n_class, is_reml in ((0, 1, True), (1, 2, True), (2, 1, False)):
        args, twin = general(structure, seed, n_class, with_block, is_reml)
        L = args["contrast"][1:4]
        fit = reml(**args, joint=[L], method="reml" if is_reml else "ml")
        usable = fit.status == OK if structure == "slope" else fit.status != FAILED
        for r in np.flatnonzero(usable):
            dense_r, theta = twin(r), fit.variance[r]
            everything = theta != 0.0  # the random term may be at zero
            assert fit.criterion[r] == pytest.approx(dense_r.criterion(theta), abs=1e-8)
            assert_stationary(dense_r, theta, everything)
            check_inference(dense_r, fit, r, args, everything)
            joint = dense_r.joint_satterthwaite(theta, L, everything)
            np.testing.assert_allclose([fit.joint_f[r, 0], fit.joint_ndf[r, 0], fit.joint_ddf[r, 0]], joint, rtol=1e-5)
        assert np.any(usable)


def test_antedependence_has_a_tridiagonal_inverse_and_lies_between_its_neighbours():
    """Given the visit before, earlier visits say nothing of a visit; 'ar1h' has equal correlations, 'us' any."""
    rng = np.random.default_rng(41)
    N, T = 80, 5
    start, step = rng.normal(size=(2, N, 1)), rng.normal(size=(2, N, T)) * [1.0, 0.4, 1.5, 0.7, 0.3]
    y = start + np.cumsum(step, axis=2) * [1.0, 1.0, -1.0, 1.0, 1.0]  # correlations of visits 2, 3 and 3, 4 below 0
    stay = np.arange(T) < np.maximum(rng.geometric(0.15, (2, N, 1)), 1)
    X = np.broadcast_to(np.eye(T), (N, T, T))
    args = {"y": y, "observed": stay & (rng.random((2, N, T)) > 0.1), "X": X, "covariate": np.empty((2, N, 0)),
            "contrast": np.eye(T), "has_participant": True, "block": None, "column": None}  # fmt: skip
    us, fit, ar1h = (reml(**args, participant=structure) for structure in ("us", "adh", "ar1h"))
    assert np.all(fit.status == OK) and np.all(us.status == OK) and np.all(ar1h.status == OK)
    assert np.all(us.criterion < fit.criterion) and np.all(fit.criterion < ar1h.criterion - 1.0)
    inverse = np.linalg.inv(fit.covariance[:, 0])
    np.testing.assert_allclose(inverse[:, np.abs(np.subtract.outer(np.arange(T), np.arange(T))) > 1], 0.0, atol=1e-10)
    assert np.all(fit.variance[:, T + 1 : T + 3] < 0) and np.all(fit.variance[:, [T, T + 3]] > 0)


@pytest.mark.parametrize("structure", ["us", "cs", "csh", "ar1", "toep", "adh", "slope"])
def test_kenward_roger_against_slow_version(structure):
    args, twin = general(structure, 0, with_block=True)
    L = args["contrast"][1:4]
    fit = reml(**args, df="kenward-roger", joint=[L])
    expected = reml(**args, df="satterthwaite-expected")
    for r in np.flatnonzero(fit.status == OK):
        theta = fit.variance[r]
        np.testing.assert_allclose(fit.coefficient_covariance[r], twin(r).kenward_roger(theta), rtol=1e-6, atol=1e-9)
        joint = twin(r).kenward_roger_test(theta, L)
        np.testing.assert_allclose([fit.joint_f[r, 0], fit.joint_ndf[r, 0], fit.joint_ddf[r, 0]], joint, rtol=1e-6)
        check_inference(twin(r), expected, r, args, np.full(theta.size, True), is_expected=True)
        np.testing.assert_allclose(fit.df[r], expected.df[r], rtol=1e-9)
    assert np.any(fit.status == OK)


@pytest.mark.parametrize("structure", ["us", "cs", "csh", "ar1", "ar1h", "toep", "adh"])
def test_second_order_kenward_roger_against_slow_version(structure):
    """In logarithms of scales and rho / sqrt(1 - rho^2), with the observed information as mmrm has it."""
    args, twin = general(structure, 0)
    fit = reml(**args, df="kenward-roger-second-order")
    for r in np.flatnonzero(fit.status == OK):
        tau = to_linked(structure, 3, fit.variance[r])
        inner = twin(r, lambda t: linked(structure, 3, t)[None], tau.size)
        phi = inner.kenward_roger(tau, is_second=True, W=np.linalg.inv(inner.information(tau)))
        np.testing.assert_allclose(fit.coefficient_covariance[r], phi, rtol=1e-5, atol=1e-8)
    assert np.any(fit.status == OK)


@pytest.mark.parametrize("shape", SHAPES)
def test_kenward_roger_of_components_against_slow_version(shape):
    """Components at zero stay in the information."""
    for sd in ((1.0, 0.9, 0.8), (1.0, 0.0, 0.0)):
        args = problem(shape, 5, sd=sd)
        L = args["contrast"][:2]
        fit = reml(**args, df="kenward-roger", joint=[L])
        for r in np.flatnonzero(fit.status != FAILED):
            twin, theta = dense(args, r), fit.variance[r]
            np.testing.assert_allclose(fit.coefficient_covariance[r], twin.kenward_roger(theta), rtol=1e-7, atol=1e-10)
            one = np.array([twin.kenward_roger_test(theta, c[None]) for c in args["contrast"]])
            np.testing.assert_allclose(fit.df[r], one[:, 2], rtol=1e-7)
            joint = twin.kenward_roger_test(theta, L)
            np.testing.assert_allclose([fit.joint_f[r, 0], fit.joint_ndf[r, 0], fit.joint_ddf[r, 0]], joint, rtol=1e-7)
        assert np.any(fit.status != FAILED)


@pytest.mark.parametrize("shape", SHAPES)
def test_ml_against_slow_version(shape):
    args = problem(shape, 6)
    fit = reml(**args, method="ml")
    for r in range(2):
        twin, theta = dense(args, r, is_reml=False), fit.variance[r]
        free = theta > 0
        assert fit.criterion[r] == pytest.approx(twin.criterion(theta), abs=1e-8)
        assert_stationary(twin, theta, free)
        inference = np.array([twin.satterthwaite(theta, c) for c in args["contrast"]]).T
        np.testing.assert_allclose([fit.estimate[r], fit.standard_error[r], fit.df[r]], inference, rtol=1e-7)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s != "residual"])
def test_negative_variances_against_slow_version(shape):
    args = problem(shape, 7, n_replicate=20, sd=(1.0, 0.0, 0.0))
    fit = reml(**args, boundary="negative")
    assert np.any(fit.variance < 0)
    # Where the likelihood rises up to the edge at which V is singular there is no maximum: such fits fail.
    assert np.mean(fit.status == OK) > 0.6
    for r in np.flatnonzero(fit.status == OK):
        twin, theta = dense(args, r), fit.variance[r]
        everything = np.full(theta.size, True)
        assert np.all(np.linalg.eigvalsh(twin.covariance[0](theta)) > 0)
        assert fit.criterion[r] == pytest.approx(twin.criterion(theta), abs=1e-7)
        assert_stationary(twin, theta, everything)
        inference = np.array([twin.satterthwaite(theta, c, everything) for c in args["contrast"]]).T
        np.testing.assert_allclose([fit.estimate[r], fit.standard_error[r], fit.df[r]], inference, rtol=1e-6)


def test_zero_components_kept_in_the_information():
    args = problem("village and visit", 8, n_replicate=6, sd=(1.0, 0.0, 0.0))
    fit = reml(**args, boundary="keep")
    assert np.any(fit.status == SINGULAR)
    for r in range(6):
        theta = fit.variance[r]
        twin, everything = dense(args, r), np.full(theta.size, True)
        if np.all(np.linalg.eigvalsh(twin.information(theta)) > 0):
            inference = np.array([twin.satterthwaite(theta, c, everything) for c in args["contrast"]]).T
            np.testing.assert_allclose([fit.estimate[r], fit.standard_error[r], fit.df[r]], inference, rtol=1e-7)


def test_known_variances_give_generalised_least_squares():
    args, theta = problem("village", 9), np.array([1.3, 0.5, 0.2])
    fit = reml(**args, known=theta)
    for r in range(2):
        beta, phi = dense(args, r).estimate(theta)
        np.testing.assert_allclose(fit.known_estimate[r], args["contrast"] @ beta, rtol=1e-9)
        np.testing.assert_allclose(
            fit.known_standard_error[r] ** 2, np.diag(args["contrast"] @ phi @ args["contrast"].T), rtol=1e-9
        )
    equal(fit._replace(known_estimate=np.nan, known_standard_error=np.nan),
          reml(**args)._replace(known_estimate=np.nan, known_standard_error=np.nan), rtol=1e-12)  # fmt: skip


@pytest.mark.parametrize("structure", ["intercept", "us", "slope"])
def test_a_mean_of_a_million_standard_deviations_costs_nothing(structure):
    args = problem("village", 25)
    args |= {"participant": structure, "time": TIME if structure == "slope" else None}
    near = reml(**args, df="kenward-roger", joint=[args["contrast"][1:3]])
    far = reml(**{**args, "y": args["y"] + 1e6, "covariate": args["covariate"] + 1e6}, df="kenward-roger",
               joint=[args["contrast"][1:3]])  # fmt: skip
    inner = slice(1, -1)  # all but the intercept and the random contrast that uses it
    np.testing.assert_allclose(far.estimate[:, inner], near.estimate[:, inner], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(far.standard_error[:, inner], near.standard_error[:, inner], rtol=1e-7)
    np.testing.assert_allclose(far.df[:, inner], near.df[:, inner], rtol=1e-6)
    np.testing.assert_allclose(far.variance, near.variance, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(far.criterion, near.criterion, atol=1e-6)
    np.testing.assert_allclose(far.joint_f, near.joint_f, rtol=1e-7)


def test_z_is_normal_theory():
    args = problem("village", 26)
    L = args["contrast"][1:3]
    z, s = reml(**args, df="z", joint=[L]), reml(**args)
    np.testing.assert_array_equal(z.standard_error, s.standard_error)
    assert np.all(np.isinf(z.df)) and np.all(np.isinf(z.joint_ddf))
    for r in range(2):
        b, V = L @ z.coefficient[r], L @ z.coefficient_covariance[r] @ L.T
        assert z.joint_f[r, 0] == pytest.approx(b @ np.linalg.solve(V, b) / 2)


def test_joint_test_of_dependent_rows_has_the_rank_of_its_rows():
    args = problem("village", 27)
    L = args["contrast"][1:3]
    for df in ("satterthwaite", "kenward-roger", "z", "between-within"):
        fit = reml(**args, df=df, joint=[L, np.concatenate([L, L.sum(axis=0, keepdims=True)])])
        np.testing.assert_allclose(fit.joint_f[:, 0], fit.joint_f[:, 1], rtol=1e-9)
        assert np.all(fit.joint_ndf == 2)
        if df != "satterthwaite":  # lmerTest's rule depends on the choice of rows
            np.testing.assert_allclose(fit.joint_ddf[:, 0], fit.joint_ddf[:, 1], rtol=1e-9)


def test_random_intercept_three_ways():
    """Strata, general basis, and compound symmetry without a boundary agree where the correlation is positive."""
    args = problem("village", 28)
    a, b = reml(**args), reml(**args, participant="cs")
    for name in ("estimate", "standard_error", "df", "criterion", "covariance"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-6, err_msg=name)


def test_compound_symmetry_may_be_negative():
    args = problem("participant", 29)
    args["y"] = args["y"] - args["y"].mean(axis=2, keepdims=True) + 0.1 * args["y"]
    fit = reml(**args, participant="cs")
    assert np.all(fit.status == OK) and np.all(fit.variance[:, 1] < 0)
    negative = reml(**args, boundary="negative")
    np.testing.assert_allclose(fit.df, negative.df, rtol=1e-6)


def test_random_slopes_without_any_variance_are_singular():
    args = problem("participant", 30, n_replicate=30, sd=(1.0, 0.0, 0.0))
    fit = reml(**args, participant="slope", time=TIME)
    assert np.all(fit.status != FAILED)
    assert np.mean(fit.status == SINGULAR) > 0.5
    G = fit.variance
    assert np.all(G[:, 1] * G[:, 3] - G[:, 2] ** 2 >= -1e-9) and np.all(G[:, [1, 3]] >= 0)
    kr = reml(**args, participant="slope", time=TIME, df="kenward-roger")
    assert np.mean(kr.status != FAILED) > 0.9


def test_start_of_slopes_does_not_matter():
    args = problem("participant", 31) | {"participant": "slope", "time": TIME}
    plain = reml(**args)
    equal(plain, reml(**args, start=[0.3, 2.0, -0.5, 0.4]), rtol=1e-6, atol=1e-6)
    equal(plain, reml(**args, start=[2.0, 0.0, 0.0, 0.01]), rtol=1e-6, atol=1e-6)


@given(shift=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3), structure=st.sampled_from(sorted(GENERAL)))
@settings(max_examples=20, deadline=None)
def test_structures_do_not_care_about_unit_and_origin(shift, scale, structure):
    args = problem("village", 32) | {"participant": structure, "time": TIME if structure == "slope" else None}
    a, b = reml(**args), reml(**{**args, "y": shift + scale * args["y"]})
    np.testing.assert_allclose(b.estimate, scale * a.estimate + shift * args["contrast"][:, 0], rtol=1e-6,
                               atol=1e-6 * scale)  # fmt: skip
    np.testing.assert_allclose(b.df, a.df, rtol=1e-5)
    np.testing.assert_allclose(b.covariance, scale**2 * a.covariance, rtol=1e-5, atol=1e-8 * scale**2)


@given(order=st.permutations(range(36)))
@settings(max_examples=10, deadline=None)
def test_order_of_participants_does_not_matter(order):
    args = problem("village", 33) | {"participant": "us"}
    order = list(order)
    moved = {**args, **{k: args[k][:, order] for k in ("y", "observed", "covariate")}}
    moved |= {k: args[k][order] for k in ("X", "residual_class", "block", "column")}
    equal(reml(**args), reml(**moved), rtol=1e-6, atol=1e-8)


def test_many_visits_and_intermittent_patterns():
    """Twelve visits, nearly every participant with a pattern of visits of its own."""
    rng = np.random.default_rng(34)
    N, T = 40, 12
    X = np.stack([np.ones((N, T)), np.tile(np.arange(T), (N, 1)), np.arange(N)[:, None] % 2 * np.ones(T)], axis=2)
    y = rng.normal(size=(2, N, T)) + rng.normal(size=(2, N, 1))
    args = {"y": y, "observed": rng.random((2, N, T)) > 0.3, "X": X, "covariate": np.empty((2, N, 0)),
            "contrast": np.eye(3), "has_participant": True, "block": None, "column": None}  # fmt: skip
    a, b = reml(**args), reml(**args, participant="cs")
    np.testing.assert_allclose(a.df, b.df, rtol=1e-6)
    for structure in ("ar1", "toep", "csh"):
        assert np.all(reml(**args, participant=structure).status == OK)


def test_messages():
    X = np.ones((4, 3, 1))
    with pytest.raises(ValueError, match="'unstructured' is not a covariance structure; known: independent"):
        MixedModel(X, "unstructured")
    with pytest.raises(ValueError, match="'slope' needs the times"):
        MixedModel(X, "slope")
    with pytest.raises(ValueError, match="'us' takes no times"):
        MixedModel(X, "us", time=[0, 1, 2])
    with pytest.raises(ValueError, match="block and column come together"):
        MixedModel(X, block=np.zeros(4))
    with pytest.raises(ValueError, match="63 visits"):
        MixedModel(np.ones((4, 63, 1)))
    args = problem("village", 35)
    with pytest.raises(ValueError, match="df: 'kr' is not one of satterthwaite"):
        reml(**args, df="kr")
    with pytest.raises(ValueError, match="Kenward-Roger is defined for method 'reml' only"):
        reml(**args, df="kenward-roger", method="ml")
    assert all(name in STRUCTURES for name in GENERAL)
