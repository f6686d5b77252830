"""What the suite follows. asv imports this file in each commit's environment, and ``BILEVELBENCH_ASV`` says how much of
it: nothing (at most 300 values, for a person who waits), ``nightly`` (every solver), ``all`` (and every problem).

The lists are literal and only grow at the end: asv keeps values by their parameters' place. A solver or problem that a
commit lacks is n/a there.
"""

import os

PROBLEM_NAMES = [
    "quadratic", "coreset", "minimax", "singleton", "logistic", "hyper_cleaning", "few_shot", "penalty_example",
    "bounded_sine", "chain", "darts_toy", "finite_sum_quadratic", "flat_lower", "hyper_representation", "jump",
    "min_norm", "pl_sine", "ridge", "saddle", "sine",
    "architecture", "bolib", "box_quadratic", "continual", "coupled_equality", "dictionary",
    "elastic_net", "fair", "l2_newsgroups",
    "poisoning", "policy", "reweighting", "simplex_projection", "svm",
    "coreset_kernel", "smd",
    "once", "continual_stream", "few_shot_stream",
    "augment", "data_mixture", "distill", "imbalance", "prune",
]  # fmt: skip
SOLVER_NAMES = [
    "bome", "penalty", "itd", "aid_cg", "aid_neumann", "vpbgd", "f2sa", "soba", "first_order", "bda", "darts", "es",
    "fmd", "iaptt", "k_rmd", "lower_only", "pzobo", "random_search", "t1t2", "amigo", "bic_gaffa", "bome_released",
    "bsa", "bsg1", "bvfsm", "f2sa_2", "f3sa", "fdehbo", "fsla", "g_pbgd", "lv_hba", "ma_soba", "meha", "mrbo",
    "nystrom", "pbgd_free", "saba", "sama", "sl_bamm", "spaba", "srba", "stocbio", "sustain", "ttsa", "vrbo",
    "approx_grad", "bvfsm_in_bome", "ogd", "ogd_in_bome", "penalty_in_bome", "penalty_released",
]  # fmt: skip
TARGET_NAMES = ["quadratic", "coreset", "minimax", "singleton"]
TARGET_KNOBS = {  # steps in the middle of those that the default suite was tuned over; the other knobs as they stand
    "quadratic": {"lr": 0.03, "lr_inner": 1.0}, "coreset": {"lr": 0.5, "lr_inner": 0.25},
    "minimax": {"lr": 0.05, "lr_inner": 0.05}, "singleton": {"lr": 0.1, "lr_inner": 0.5},
}  # fmt: skip
SPEED_NAMES = ["quadratic", "hyper_cleaning"]  # calls do not depend on the problem, and seconds take long to measure
# One or two of each family: unrolled, implicit, first order, stochastic, derivative free.
FEW_SOLVERS = [
    "bome", "penalty", "itd", "aid_cg", "aid_neumann", "vpbgd", "f2sa", "soba", "first_order", "pzobo", "stocbio",
    "lv_hba",
]  # fmt: skip
FEW_PROBLEMS = ["quadratic", "hyper_cleaning", "box_quadratic", "ridge", "coupled_equality", "once"]
MEMORY_SOLVERS = ["bome", "penalty", "itd", "aid_cg", "soba", "first_order", "lv_hba", "bic_gaffa"]
PROFILES = ("", "nightly", "all")
PROFILE = os.environ.get("BILEVELBENCH_ASV", "")
if PROFILE not in PROFILES:
    raise ValueError(f"BILEVELBENCH_ASV={PROFILE!r} is not valid; it takes nothing, 'nightly' or 'all'")


def chosen(few: list[str], nightly: list[str], every: list[str] | None = None) -> list[str]:
    """The list of this profile."""
    return {"": few, "nightly": nightly, "all": every or nightly}[PROFILE]
