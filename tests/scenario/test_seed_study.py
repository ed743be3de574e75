"""Evidence file to planning effects: against arithmetic done elsewhere, and switch by switch."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import InvalidInput
from sim.kernels.noncentral import f_cdf, t_cdf
from sim.scenario.check import build
from sim.scenario.document import Document
from sim.scenario.evidence import PRIORS, Evidence, p_value, read_evidence
from sim.scenario.seed_study import DISCOUNTS, USED_BY, analysed_n, consistency, effect_sizes, planning_effects

PATH = Path(__file__).parents[2] / "scenarios" / "evidence" / "habimana_2026.yaml"
EVIDENCE = read_evidence(PATH)
NAMES = ["compassion", "cohesion", "forgiveness", "resilience"]

# dz, 95% interval, 80% low, 60% low at N = 146: inversion done independently in the evidence review
INVERSION = {
    "compassion": (0.949, 0.752, 1.144, 0.820, 0.864),
    "cohesion": (0.498, 0.325, 0.669, 0.384, 0.423),
    "forgiveness": (0.369, 0.201, 0.536, 0.259, 0.296),
    "resilience": (0.236, 0.071, 0.400, 0.128, 0.164),
}
# the same review, N = 152
INVERSION_ALL_RECRUITED = {
    "compassion": (0.930, 0.739, 1.120),
    "cohesion": (0.488, 0.319, 0.656),
    "forgiveness": (0.362, 0.197, 0.525),
    "resilience": (0.231, 0.069, 0.392),
}
# the same review, dz at six months if F is the omnibus test, N = 146
OMNIBUS = {
    "step_and_hold": (1.163, 0.610, 0.452, 0.288),
    "steady_rise": (1.343, 0.704, 0.522, 0.333),
    "fade": (0.762, 0.399, 0.296, 0.189),
}

MINIMAL = """
study:
  title: A study
  citation: Somebody 2020
  doi: 10.1/x
  sample: {groups: {everybody: 40}, source: p. 3, sureness: A}
  visits: {names: [before, after], follow_up: 3 months, source: p. 3, sureness: A}
outcomes:
  sleep:
    printed: {f: 9.0, source: table 2, sureness: A}
    no_controlled_effect: nobody looked
discounts:
  pre_post_correlation: {value: 0.68, low: 0.5, high: 0.8, basis: observed, source: table 1}
  retention: {value: 50%, low: 40%, high: 60%, basis: assumption, source: us}
  untreated_change: {value: 0.10 SD, low: 0 SD, high: 0.20 SD, basis: assumption, source: us}
  pilot_to_trial: {value: 0.5, low: 0.4, high: 1.0, basis: assumption, source: us}
"""


def evidence_from(text: str) -> Evidence:
    return build(Document(Path("e.yaml"), text), Evidence)


def habimana_with(old: str, new: str) -> Evidence:
    text = PATH.read_text(encoding="utf-8")
    assert old in text
    return evidence_from(text.replace(old, new))


def printed(x: float, decimals: int = 3) -> object:
    """Equal to a number given with that many decimals."""
    return pytest.approx(x, abs=0.5000001 * 10**-decimals)


def test_dz_and_intervals_against_independent_inversion():
    for size in effect_sizes(EVIDENCE):
        found = (size.dz, size.low, size.high, size.low_80, size.safeguard)
        assert (size.n, size.df1, size.df2) == (146, 1, 143)
        assert found == tuple(map(printed, INVERSION[size.outcome]))


def test_dz_and_intervals_if_all_were_analysed_against_independent_inversion():
    for size in effect_sizes(EVIDENCE, n=152):
        assert (size.dz, size.low, size.high) == tuple(map(printed, INVERSION_ALL_RECRUITED[size.outcome]))


@pytest.mark.parametrize("pattern", OMNIBUS)
def test_omnibus_dz_against_independent_arithmetic(pattern):
    sizes = effect_sizes(EVIDENCE, "b", pattern=pattern)
    assert tuple(size.dz for size in sizes) == tuple(map(printed, OMNIBUS[pattern]))
    for size in sizes:
        assert size.low < size.safeguard < size.median_unbiased < size.dz < size.high


def test_omnibus_closed_forms():
    n = 146
    for hold, rise in zip(
        effect_sizes(EVIDENCE, "b", pattern="step_and_hold"),
        effect_sizes(EVIDENCE, "b", pattern="steady_rise"),
        strict=True,
    ):
        assert hold.dz == pytest.approx(math.sqrt(3 * hold.f / (2 * n)))
        assert rise.dz == pytest.approx(math.sqrt(2 * rise.f / n))


def test_file_declares_the_fade():
    assert EVIDENCE.pattern == "fade"
    assert EVIDENCE.kept_share("cohesion") == pytest.approx((67.74 - 59) / (74.36 - 59))
    assert EVIDENCE.kept_share("cohesion") == printed(0.569)
    assert effect_sizes(EVIDENCE, "b") == effect_sizes(EVIDENCE, "b", pattern="fade")


def test_median_unbiased_dz_puts_the_printed_f_at_the_median():
    for a, b in zip(effect_sizes(EVIDENCE), effect_sizes(EVIDENCE, "b", pattern="step_and_hold"), strict=True):
        ncp = a.median_unbiased * math.sqrt(a.n)
        assert t_cdf(math.sqrt(a.f), a.df2, ncp) == pytest.approx(0.5, abs=1e-9)
        omnibus_ncp = b.median_unbiased**2 * 2 * b.n * (2 / 3)
        assert f_cdf(b.f, 2, b.df2, omnibus_ncp) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("pattern", ["fade", "step_and_hold", "steady_rise"])
def test_both_readings_against_simulated_anova(pattern):
    """Data with the dz that a reading gives return the printed F, on average, to 4 MCSE.

    Compound symmetry makes the SD of a change sqrt(2) residual SDs; E[F] = df2 (df1 + ncp) / (df1 (df2 - 2)).
    """
    rng = np.random.default_rng(2026)
    n_replicate, n = 600, 147
    size = effect_sizes(EVIDENCE, "b", n=n, pattern=pattern)[1]
    shape = {"steady_rise": [0, 0.5, 1], "step_and_hold": [0, 1, 1], "fade": [0, 1, size.kept]}[pattern]
    mean = np.array(shape) / shape[2] * size.dz * math.sqrt(2)
    y = mean + rng.standard_normal((n_replicate, 3, n // 3, 3)) + rng.standard_normal((n_replicate, 3, n // 3, 1))
    visit_mean = y.mean(axis=(1, 2))
    between_visits = n * ((visit_mean - visit_mean.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / 2
    within = y - y.mean(axis=2, keepdims=True)
    within = within - within.mean(axis=3, keepdims=True)
    f = between_visits / ((within**2).sum(axis=(1, 2, 3)) / size.df2)
    expected = size.df2 * (2 + 2 * size.f) / (2 * (size.df2 - 2))
    assert f.mean() == pytest.approx(expected, abs=4 * f.std() / math.sqrt(n_replicate))

    change = y[..., 2] - y[..., 0]
    variance = change.var(axis=2, ddof=1).mean(axis=1)
    f_linear = n * change.mean(axis=(1, 2)) ** 2 / variance
    df, ncp = n - 3, n * size.dz**2
    assert f_linear.mean() == pytest.approx(df * (1 + ncp) / (df - 2), abs=4 * f_linear.std() / math.sqrt(n_replicate))


def test_seed_01_error_df_and_numerator_df():
    """Oracle SEED-01: error df from F and partial eta squared, its rounding window, and the p value of resilience."""
    n = analysed_n(EVIDENCE)
    assert [n.error_df[name][1] for name in NAMES] == [printed(x, 1) for x in (142.6, 144.8, 145.7, 153.9)]
    windows = [(139.7, 145.5), (140.3, 149.4), (139.1, 152.9), (139.2, 171.9)]
    for name, (low, high) in zip(NAMES, windows, strict=True):
        assert (n.error_df[name][0], n.error_df[name][2]) == (printed(low, 1), printed(high, 1))
    assert (n.low, n.central, n.high, n.is_implied) == (144, 146, 148, True)
    assert p_value(8.10, 1, 149) == printed(0.0051, 4)
    assert p_value(8.10, 2, 298) == printed(0.0004, 4)
    findings = "\n".join(consistency(EVIDENCE))
    assert "printed p = 0.005: the printed p needs one numerator df" in findings
    assert "152 is not the analysed number" in findings
    assert "error df of 141 to 145: 144 to 148 people analysed of 152" in findings


def test_seed_01_two_numerator_df_refused_message():
    text = PATH.read_text(encoding="utf-8")
    head, tail = text.split("f: 8.10\n      numerator_df: 1")
    with pytest.raises(InvalidInput) as error:
        evidence_from(f"{head}f: 8.10\n      numerator_df: 2{tail}")
    (problem,) = error.value.problems
    assert problem.field == "outcomes.resilience.printed"
    assert abs(problem.line - (head.count("\n") + 1)) <= 1
    assert "not the printed 0.005; check numerator_df" in problem.message


def test_fade_is_a_finding():
    findings = "\n".join(consistency(EVIDENCE))
    assert "6.62 of the 15.36 points" in findings
    assert "43% lost, 56.9% kept" in findings
    assert "SD of change of 17.6" in findings  # 8.74 / .498 in the evidence review


def test_discounted_against_independent_waterfall():
    """s (d - c) at r = .5, c = .15, s = .75, from the evidence review."""
    effects = planning_effects(EVIDENCE, "discounted")
    assert [effects[name].value for name in NAMES] == [printed(x, 2) for x in (0.60, 0.26, 0.16, 0.06)]
    for effect in effects.values():
        assert effect.value == pytest.approx(0.75 * (dict(effect.steps)["raw SD, r = 0.5"] - 0.15))
        assert dict(effect.steps)["× retention 60%"].startswith("not applied: F is already")
        assert effect.steps[0][0] == "F as printed"
        assert effect.steps[-1] == ("planning effect", effect.value)


@pytest.mark.parametrize(
    "change, share, expected", [("0.20", "0.50", (0.37, 0.15, 0.08, 0.02)), ("0.00", "1.0", (0.95, 0.50, 0.37, 0.24))]
)
def test_other_discounts_against_independent_waterfall(change, share, expected):
    text = PATH.read_text(encoding="utf-8").replace(
        "value: 0.15 SD\n    low: -0.05", f"value: {change} SD\n    low: -0.05"
    )
    effects = planning_effects(evidence_from(text.replace("value: 0.75\n", f"value: {share}\n")), "discounted")
    assert [effects[name].value for name in NAMES] == [printed(x, 2) for x in expected]


@pytest.mark.parametrize("r, expected", [("0.3", (1.12, 0.59, 0.44, 0.28)), ("0.7", (0.74, 0.39, 0.29, 0.18))])
def test_raw_sd_against_independent_arithmetic(r, expected):
    effects = planning_effects(habimana_with("value: 0.5\n", f"value: {r}\n"), "observed")
    assert [effects[name].value for name in NAMES] == [printed(x, 2) for x in expected]


def test_observed_and_safeguard_use_the_conversion_only():
    for prior, at in (("observed", 0), ("safeguard", 4)):
        effects = planning_effects(EVIDENCE, prior)
        assert [effects[n].value for n in NAMES] == [printed(INVERSION[n][at]) for n in NAMES]
        assert all(not isinstance(value, str) for effect in effects.values() for _, value in effect.steps)


def test_literature_and_compromise_are_as_declared():
    literature, compromise = planning_effects(EVIDENCE, "literature"), planning_effects(EVIDENCE)
    assert [(e.value, e.low, e.high) for e in literature.values()] == [
        (0.55, 0.33, 0.78),
        (None, None, None),
        (0.56, 0.43, 0.68),
        (0.44, 0.23, 0.64),
    ]
    assert "no pooled effect of controlled trials" in literature["cohesion"].note
    assert [(e.value, e.low, e.high) for e in compromise.values()] == [
        (0.50, 0.20, 0.85),
        (0.25, 0.05, 0.45),
        (0.25, 0.00, 0.50),
        (0.15, 0.00, 0.35),
    ]


@given(st.sets(st.sampled_from(DISCOUNTS)), st.sampled_from(["a", "b"]))
@settings(max_examples=32, deadline=None)
def test_switches_are_independent(skip, reading):
    """Each switch removes its own factor or term and nothing else."""
    evidence = habimana_with("value: 0.5\n", "value: 0.4\n")
    effects = planning_effects(evidence, "discounted", reading, skip)
    for size in effect_sizes(evidence, reading):
        expected = size.dz / (size.kept if reading == "b" else 1.0)
        expected *= 1.0 if "pre_post_correlation" in skip else math.sqrt(1.2)
        expected *= 1.0 if "retention" in skip or reading == "a" else 0.60
        expected -= 0.0 if "untreated_change" in skip else 0.15
        expected *= 1.0 if "pilot_to_trial" in skip else 0.75
        effect = effects[size.outcome]
        assert effect.value == pytest.approx(expected)
        assert effect.low <= effect.value <= effect.high
        left_out = [v for _, v in effect.steps if v == "not applied: left out on request"]
        assert len(left_out) == len(skip)


@pytest.mark.parametrize("pattern", ["step_and_hold", "steady_rise"])
def test_retention_needs_an_immediate_gain(pattern):
    evidence = habimana_with("omnibus_pattern: fade", f"omnibus_pattern: {pattern}")
    for effect in planning_effects(evidence, "discounted", "b").values():
        assert dict(effect.steps)["× retention 60%"].startswith(f"not applied: the pattern {pattern}")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("hopeful",),
            "'hopeful' is not a known prior; known: observed, safeguard, discounted, literature, compromise",
        ),
        (("observed", "c"), "'c' is not a known reading; known: a, b"),
        (("discounted", "a", {"luck"}), "'luck' is not a known discount; known: pre_post_correlation, retention"),
        (("compromise", "a", {"retention"}), "has no effect on the prior 'compromise', which uses no discount"),
        (("observed", "a", {"retention"}), "has no effect on the prior 'observed', which uses pre_post_correlation"),
    ],
)
def test_unknown_name_message(arguments, message):
    with pytest.raises(ValueError, match=message):
        planning_effects(EVIDENCE, *arguments)


def test_effect_size_argument_messages():
    with pytest.raises(ValueError, match="only under reading 'b'"):
        effect_sizes(EVIDENCE, "a", pattern="fade")
    with pytest.raises(ValueError, match="'leap' is not a known pattern; known: fade, step_and_hold, steady_rise"):
        effect_sizes(EVIDENCE, "b", pattern="leap")
    with pytest.raises(ValueError, match="must exceed the number of comparison groups"):
        effect_sizes(EVIDENCE, n=4)


def test_another_study_with_less_in_print():
    """One group, two visits, no eta squared, no means, no p: still a planning effect, and nothing invented."""
    evidence = evidence_from(MINIMAL)
    assert analysed_n(evidence)[:3] == (40, 40, 40)
    (size,) = effect_sizes(evidence)
    assert (size.dz, size.df2) == (pytest.approx(3 / math.sqrt(40)), 39)
    raw = size.dz * math.sqrt(2 * 0.32)
    assert planning_effects(evidence, "observed")["sleep"].value == pytest.approx(raw)
    assert planning_effects(evidence, "discounted")["sleep"].value == pytest.approx(0.5 * (raw - 0.1))
    assert planning_effects(evidence)["sleep"].value is None
    assert consistency(evidence) == ["No partial eta squared is printed: the 40 recruited are taken as analysed."]
    with pytest.raises(ValueError, match="needs three visits"):
        effect_sizes(evidence, "b")


def test_contradicting_eta_squared_falls_back_to_the_recruited():
    evidence = habimana_with("partial_eta_squared: 0.12", "partial_eta_squared: 0.30")
    assert analysed_n(evidence).is_implied is False
    assert analysed_n(evidence).central == 152
    assert "No analysed number fits" in "\n".join(consistency(evidence))


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "group: mixed\n      by_visit: {baseline: 20.82",
            "group: mixd\n      by_visit: {baseline: 20.82",
            "'mixd' is not in this file; known: survivors only",
        ),
        (
            "{baseline: 20.82, six months",
            "{baseline: 20.82, six moons",
            "'six moons' is not in this file; known: baseline",
        ),
        ("fade_from: cohesion", "fade_from: compassion", "needs printed means at all three visits"),
        ("fade_from: cohesion", "fade_from: courage", "'courage' is not in this file; known: compassion"),
        ("fade_from: cohesion", "# nothing", "a fade needs fade_from"),
        ("p: 0.005", "p: very small", "write the p value as printed"),
        ("value: 60%", "value: 0.6", "write it with its unit"),
        ("value: 60%", "value: 30%", "must lie within its own range"),
        ("no_controlled_effect:", "no_effect:", "unknown key"),
        ("f: 8.10", "f: -8.10", "must be above 0"),
    ],
)
def test_mistake_in_the_file_message(old, new, message):
    with pytest.raises(InvalidInput, match=message):
        habimana_with(old, new)


@pytest.mark.parametrize(
    "text, shown", [("0.005", "0.005"), ("'.05'", "0.05"), ("< 0.001", "< 0.001"), ("'0.050'", "0.050")]
)
def test_printed_p_keeps_its_precision(text, shown):
    evidence = evidence_from(MINIMAL.replace("{f: 9.0,", f"{{f: 9.0, p: {text},"))
    assert str(evidence.outcomes["sleep"].printed.p) == shown


def test_every_prior_uses_known_discounts():
    assert set(USED_BY) == set(PRIORS)
    assert set().union(*USED_BY.values()) == set(DISCOUNTS)


def test_words_are_respectful():
    text = PATH.read_text(encoding="utf-8").lower()
    assert "genocide against the tutsi" in text
    assert "rwandan genocide" not in text
