"""The scores of all seeds, as a results file has them."""

import statistics
from collections.abc import Sequence
from typing import Any

from hf_alignmlm.tasks.finetuning.options import Run

SCORES = {"source": "source", "bz": "BZ", "bs": "BS", "transfer_gap": "transfer gap"}
# The scores of a language that is not the source; a mixed one where it is asked for.
TRANSFER = ("bz", "bz_mixed", "bs", "transfer_gap")
TESTS = [test + suffix for test in ("source", *TRANSFER) for suffix in ("", "_validation")]
Tests = dict[str, list[dict[str, float]]]  # the scores of each seed by test, as bz


def test_name(run: Run, language: str, test: str) -> str:
    """What a test is called in a file of scores: of natural languages fr_bz, or bz alone."""
    return test if run.is_synthetic or language == run.names[0] else f"{language}_{test}"


def spread(name: str, values: list[float] | None) -> dict[str, Any]:
    """A score over the seeds: mean, standard deviation, values; null where it was not measured."""
    deviation = statistics.stdev(values) if values and len(values) > 1 else None
    mean = statistics.fmean(values) if values else None
    return {name: mean, f"{name}_sd": deviation, f"{name}_by_seed": values}


def over_seeds(metric: str, by_seed: Tests, wanted: Sequence[str]) -> dict[str, Any]:
    """The wanted scores by this metric, and every metric's mean; `by_seed` is by test."""
    values = {test: [scores[metric] for scores in all_] for test, all_ in by_seed.items()}
    if "bs" in values:
        pairs = zip(values["bz"], values["bs"], strict=True)
        values["transfer_gap"] = [bz - bs for bz, bs in pairs]
    results: dict[str, Any] = {}
    for score in wanted:
        if score in values or score in SCORES:
            results |= spread(score, values.get(score))
    for test, scores in by_seed.items():
        for name in scores[0]:
            results[f"{test}_{name}"] = statistics.fmean(s[name] for s in scores)
    return results


def summary(run: Run, by_seed: Tests) -> dict[str, Any]:
    """The results of all seeds. Natural languages have theirs by name under `transfer`."""
    task = run.task
    name = run.language.name if run.is_synthetic else "-".join(run.names)
    results: dict[str, Any] = {"task": task.name, "metric": task.metric, "language": name}
    results["seeds"] = run.options.seeds
    if run.is_synthetic:
        return results | over_seeds(task.metric, by_seed, ("source", *TRANSFER)) | run.results
    own: dict[str, Tests] = {
        name: {t: by_seed[key] for t in TESTS if (key := test_name(run, name, t)) in by_seed}
        for name in run.names
    }
    results |= {"languages": list(run.names)}
    results |= over_seeds(task.metric, own[run.names[0]], ("source",))
    transfer = {
        name: over_seeds(task.metric, own[name], TRANSFER) | about
        for name, about in run.about.items()
    }
    for score in TRANSFER:
        lists = [v for scores in transfer.values() if (v := scores.get(f"{score}_by_seed"))]
        if lists or score in SCORES:
            means = [statistics.fmean(values) for values in zip(*lists, strict=True)]
            results |= spread(score, means or None)
    return results | {"transfer": transfer} | run.results
