"""Results files: of which run they are, which languages they have, and that nothing is damaged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging

from hf_alignmlm.figures import is_number
from hf_alignmlm.files import read_record
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.runs import RESULTS_FILE

logger = logging.get_logger(__name__)

NUMBERS = (
    *("seed", "dictionary_fraction", "train_steps", "alignment_p1", "alignment_p1_heldout"),
    *("source", "bz", "bs", "transfer_gap"),
)
LISTS = ("seeds", "bz_by_seed", "bs_by_seed", "transfer_gap_by_seed")
NAMES = ("objective", "language", "task", "metric", "model_name_or_path", "pretraining_languages")
Fits = Callable[[Any], bool]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


# The entries of a results file, its arguments among them, that reports and cards use.
ENTRIES: dict[str, Fits] = {
    **dict.fromkeys(NUMBERS, is_number),
    **dict.fromkeys(LISTS, lambda value: isinstance(value, list) and all(map(is_number, value))),
    **dict.fromkeys(NAMES, _is_name),
    "languages": lambda value: (
        isinstance(value, list) and value != [] and all(map(_is_name, value))
    ),
    "transfer": lambda value: (
        isinstance(value, dict)
        and all(_is_name(name) and isinstance(scores, dict) for name, scores in value.items())
    ),
    "arguments": lambda value: isinstance(value, dict),
    "history": lambda value: (
        isinstance(value, list)
        and all(isinstance(entry, dict) and is_number(entry.get("step")) for entry in value)
    ),
}


def _check(
    path: Path, entries: Mapping[str, Any], checks: Mapping[str, Fits], *needed: str
) -> None:
    """Raise ValueError for an entry of another kind, or one of `needed` that is null."""
    for name, fits in checks.items():
        value = entries.get(name)
        if name in needed if value is None else not fits(value):
            raise ValueError(f"{path} is damaged: its {name} is {value!r:.60}")


def read_result(path: Path) -> dict[str, Any]:
    """The results of a run, with what it logged as `history`; `ValueError` for another file."""
    result, state = read_record(path), path.with_name("trainer_state.json")
    if not result.keys() & {"task", "train_steps"}:
        raise ValueError(f"{path} is of no run of ours")
    if "train_steps" in result and "history" not in result and state.exists():
        result["history"] = read_record(state).get("log_history")
    arguments = result["arguments"] = result.get("arguments") or {}
    entries = {**arguments, **result} if isinstance(arguments, dict) else result
    scores = "languages" if "transfer" in result else "bz_by_seed"
    _check(path, entries, ENTRIES, "language", scores if "task" in result else "train_steps")
    perplexities = (f"eval_{name}_perplexity" for name in names_of(result))
    _check(path, entries, dict.fromkeys(perplexities, is_number))
    for tested in (result.get("transfer") or {}).values():
        _check(path, tested, ENTRIES, "bz_by_seed")
    return result


def names_of(result: Mapping[str, Any]) -> Sequence[str]:
    """What the languages of a run are called: en, fr, …, or original and derived."""
    return result.get("languages") or SyntheticLanguage.names


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """The results of all runs below a folder, or in a study's `results`; `ValueError` for none."""
    root = Path(folder)
    paths = sorted(root.rglob(RESULTS_FILE)) or sorted(root.rglob("results/*.json"))
    results = {}
    for path in paths:
        try:
            results[path] = read_result(path)
        except (ValueError, OSError) as error:
            logger.warning("Left out: %s", error)
    if not results:
        raise ValueError(f"{folder} has no {RESULTS_FILE} of a run below it: name a folder of runs")
    for path, result in results.items():
        # A task run used the dictionary of its checkpoint, whose results may lie here too.
        model = result["arguments"].get("model_name_or_path")
        checkpoint = path.parent.parent / Path(model).name / path.name if model else path
        entries = results.get(checkpoint, result)["arguments"] | result
        share = entries.get("dictionary_fraction")
        result["dictionary_fraction"] = 1.0 if share is None else share
    return list(results.values())


def objective_of(result: Mapping[str, Any]) -> str:
    """The objective; with part of the dictionary it is another one, not another seed.

    A checkpoint of others has none, and is called by its own name.
    """
    model = result.get("arguments", {}).get("model_name_or_path")
    objective = result.get("objective") or Path(model or "other").name
    share = result.get("dictionary_fraction", 1)
    return objective if share == 1 else f"{objective}, {share:.0%} of the pairs"


def tested(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The scores of a task run on each language that is not its source, by what it is called.

    Of natural languages that is the pair, as en-fr, and where more of them were pre-trained on,
    these too: another checkpoint is another cell, not another seed.
    """
    if result.get("transfer") is None:
        yield result["language"], result
        return
    trained = result.get("pretraining_languages")
    for name, scores in result["transfer"].items():
        pair = f"{result['languages'][0]}-{name}"
        yield pair if trained in (None, pair) else f"{pair} of {trained}", scores
