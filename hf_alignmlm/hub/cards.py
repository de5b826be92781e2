"""Cards: a run or a built dataset tells of itself what a reader needs, from its own files."""

import argparse
import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import DatasetCard, ModelCard

from hf_alignmlm import __version__, minienglish
from hf_alignmlm.arguments import one_line_errors, split_name
from hf_alignmlm.figures import is_number, task_title
from hf_alignmlm.files import check_output, exclusive, read_record, write_text
from hf_alignmlm.languages.natural import load_languages
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.models.alignment_loss import ALIGNMENT_LOSSES
from hf_alignmlm.objectives import OBJECTIVES
from hf_alignmlm.results import read_result, read_results, tested
from hf_alignmlm.runs import RESULTS_FILE
from hf_alignmlm.tasks import TASKS

CARD_FILE = "README.md"
# What a built dataset keeps of itself, in the folder of each configuration.
BUILD_FILE = "build.json"


def printable(text: Any) -> str:
    """Text of others with a space for what is no character of a line, as a name of a file may be
    of any bytes."""
    return re.sub(r"[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]", " ", str(text))


def line(text: Any) -> str:
    """Text of others on one line; a dash where nothing is left."""
    return " ".join(printable(text).split()) or "–"


def plain(text: Any) -> str:
    """Text of others, as Markdown that shows it as it is: no link, table or block comes of it."""
    # Within a word an underscore is itself, and so is a `#` that ends no heading.
    special = r"[\\`*\[\]<>|&~]|(?<![^\W_])_|_(?![^\W_])|#$"
    return re.sub(special, r"\\\g<0>", line(text))


def code(text: Any) -> str:
    """A name as a code span, whose fence is longer than any run of backticks in the name."""
    name = line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", name)), default=0))
    return f"`{name}`" if len(fence) == 1 else f"{fence} {name} {fence}"


def number(value: Any, digits: int = 1) -> str:
    """A measure as it is printed; a dash where it was not measured."""
    return f"{value:,.{digits}f}" if is_number(value) else "–"


def without_folders(value: Any) -> Any:
    """What is published of an option: local files and folders by their names alone."""
    if isinstance(value, dict):
        return {name: without_folders(one) for name, one in value.items()}
    if isinstance(value, list):
        return [without_folders(one) for one in value]
    if not isinstance(value, str):
        return value
    name, path = split_name(value)
    is_local = os.path.isabs(path) or os.path.exists(path)
    return f"{name}{'=' * bool(name)}{Path(path).name}" if is_local else value


def corpus_name(arguments: Mapping[str, Any], quote: Callable[[str], str] = code) -> str:
    """What a run or a build was made from, without the folders of the machine that made it."""

    def listed(name: str) -> list[str]:
        value = arguments.get(name) or []
        return [value] if isinstance(value, str) else value

    if files := listed("train_file"):
        # A name before the file is that of its language.
        parts = ((name, quote(Path(path).name)) for name, path in map(split_name, files))
        return ", ".join(f"{file}{f' ({plain(name)})' * bool(name)}" for name, file in parts)
    for kind in ("dataset", "source"):
        if names := listed(f"{kind}_name"):
            configs = ", ".join(map(plain, listed(f"{kind}_config_name"))) or "default"
            return f"{', '.join(quote(without_folders(name)) for name in names)} ({configs})"
    return "the embedded corpus, a seeded grammar of English"


def citations(objective: str = "", loss: str = "") -> str:
    """BibTeX of an objective and of an alignment loss, and ALIGN-MLM's, whose protocol it is."""
    cited = (OBJECTIVES.get(objective), ALIGNMENT_LOSSES.get(loss), OBJECTIVES["align-mlm"])
    texts = "\n".join(text.strip() for one in cited if (text := getattr(one, "citation", "")))
    # By key: two of them may come from the same paper.
    return "\n".join({e.split(",")[0]: e.strip() for e in re.split(r"\n(?=@)", texts)}.values())


# Not `ModelCard.from_template`: it has no includes, and leaves a misspelled name out silently.
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("hf_alignmlm.hub"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters |= {
    **{"plain": plain, "code": code, "number": number, "task_title": task_title},
    "architecture": lambda kind: "BERT" if kind in (None, "bert") else plain(kind),
    # A text in JSON's quotes is YAML, and the class of the card writes it as YAML does.
    "yaml": lambda text: json.dumps(printable(text), ensure_ascii=False),
    "quoted": lambda text: json.dumps(text, ensure_ascii=not text.isprintable()),
}
TEMPLATES.globals |= {
    **{"version": __version__, "OBJECTIVES": OBJECTIVES, "TASKS": TASKS},
    **{"corpus_name": corpus_name, "citations": citations, "line": line},
}


@contextlib.contextmanager
def _damaged(where: str) -> Iterator[None]:
    """What no card can be made of, as one line that names where it stands."""
    try:
        yield
    except (jinja2.TemplateError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{where} is damaged: {error}") from None


def model_card(
    run: str | Path, *, repo_id: str | None = None, transfer: str | Path | None = None
) -> ModelCard:
    """The card of a run, from its own files; `transfer` is a folder of a pre-training's task runs.

    Raises `ValueError` or `FileNotFoundError` for a folder that holds no finished run.
    """
    run = Path(run)
    results, config = read_result(run / RESULTS_FILE), read_record(run / "config.json")
    task, objective = results.get("task"), results.get("objective") or "objective unknown"
    language, example = load_languages(run), {}
    if isinstance(language, SyntheticLanguage):
        sentence = minienglish.sentence(5)
        derived = language.derive(sentence.words, tree=sentence, index=5)
        example = {"original": sentence.words, "derived": derived}
    tasks, weighted = [results] if task else [], config.get("alignment_loss_weight")
    if transfer is not None:
        tasks = _task_runs(run, transfer)
    with _damaged(f"{run / RESULTS_FILE} or the config.json beside it"):
        card = TEMPLATES.get_template("task.md" if task else "model.md").render(
            name=repo_id or run.name,
            released=repo_id is not None,
            results=results,
            arguments=results["arguments"],
            config=config,
            task=task,
            objective=objective,
            loss=(config.get("alignment_loss_type") or "cosine") if weighted else "",
            tasks=[row for one in tasks for row in _task_rows(one)],
            language=language,
            example=example,
        )
        return ModelCard(card)


def _task_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A task run's scores as a row for each language that it was tested on."""
    rows = list(tested(result)) or [(result["language"], {})]
    return [
        {**result, **scores, "language": language, "first": number == 0}
        for number, (language, scores) in enumerate(rows)
    ]


def _task_runs(run: Path, transfer: str | Path) -> list[dict[str, Any]]:
    """The results of the task runs below a folder that started from this run's checkpoint."""
    try:
        tasks = [result for result in read_results(transfer) if "task" in result]
    except ValueError as error:
        raise ValueError(f"--transfer: {error}") from None
    starts = [Path(task["arguments"].get("model_name_or_path") or "").resolve() for task in tasks]
    found = [task for task, start in zip(tasks, starts, strict=True) if start == run.resolve()]
    if not found:
        raise ValueError(f"--transfer {transfer} holds no task run that started from {run}")
    return found


def read_builds(folder: str | Path) -> dict[str, Any]:
    """What lies built in a folder, by configuration."""
    paths = sorted(Path(folder).glob(f"[!.]*/{BUILD_FILE}"))
    return {path.parent.name: read_record(path) for path in paths}


def dataset_card(builds: dict[str, Any], name: str, *, released: bool = False) -> DatasetCard:
    """The card of a built dataset, whose `configs` let `load_dataset` find its files."""
    with _damaged(f"a {BUILD_FILE} of {name}"):
        first = next(iter(builds.values()))
        card = TEMPLATES.get_template("dataset.md").render(
            name=name,
            released=released,
            builds=builds,
            first=first,
            languages=[(SyntheticLanguage(**b["language"]), b["example"]) for b in builds.values()],
        )
        return DatasetCard(card)


def card_of(
    folder: str | Path, *, repo_id: str | None = None, transfer: str | Path | None = None
) -> ModelCard | DatasetCard:
    """The card of what lies in a folder: a built dataset or a finished run; else `ValueError`."""
    folder = Path(folder)
    if builds := read_builds(folder):
        if transfer is not None:
            raise ValueError(f"{folder} is a dataset: --transfer is for the card of a pre-training")
        return dataset_card(builds, repo_id or folder.name, released=repo_id is not None)
    if not (folder / RESULTS_FILE).exists():
        raise ValueError(
            f"{folder} holds neither a finished run ({RESULTS_FILE}) nor a built dataset (folders "
            f"with a {BUILD_FILE}): name the --output_dir of one"
        )
    return model_card(folder, repo_id=repo_id, transfer=transfer)


def card_main(argv: Sequence[str] | None = None) -> None:
    """`alignmlm card RUN`: writes the card of a finished run or of a built dataset."""
    parser = argparse.ArgumentParser(prog="alignmlm card", description="Write a card.")
    parser.add_argument("run", help="the folder of a finished run or of a built dataset")
    parser.add_argument("--transfer", help="a folder of task runs, for the run's transfer results")
    parser.add_argument("--output", help=f"the card's file; default: {CARD_FILE} in the folder")
    args = parser.parse_args(argv)
    with one_line_errors():
        path = Path(args.output or Path(args.run) / CARD_FILE)
        check_output(path, ())
        card = str(card_of(args.run, transfer=args.transfer))
        with exclusive(path):
            write_text(path, card)
        print(f"Card in {path}")
