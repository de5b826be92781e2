"""`alignmlm corpus`: a folder with a corpus or a task beside its twins, a configuration each."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
from datasets.exceptions import DatasetGenerationError

from hf_alignmlm.arguments import one_line_errors, option, option_names, parse, versions
from hf_alignmlm.data.formats import check_file
from hf_alignmlm.files import exclusive, write_json, write_text
from hf_alignmlm.hub.builders import ParallelCorpus, ParallelTask, SourceConfig
from hf_alignmlm.hub.cards import BUILD_FILE, CARD_FILE, dataset_card, read_builds, without_folders
from hf_alignmlm.languages.synthetic import LANGUAGE_FILE, SyntheticLanguage
from hf_alignmlm.tasks import TASKS
from hf_alignmlm.tasks.base import SPLITS

# A build's own place until it is whole, in the folder of the dataset.
SCRATCH = ".alignmlm-corpus"


@dataclass
class BuildArguments:
    """What to build, from what, and where to. With no source, the embedded corpus."""

    output_dir: str = option("", "Folder of the dataset; each language is a configuration of it.")
    language: list[str] = option(["trans_inv"], "Derived languages, as trans trans_inv.", nargs="+")
    task_name: str | None = option(
        None, "A task instead of a corpus, as pos; an unknown name lists them all."
    )
    train_file: list[str] = option([], "Text, JSON lines, CSV, parquet or CoNLL-U.", nargs="+")
    validation_file: list[str] = option([], "The same, of the validation set.", nargs="+")
    test_file: list[str] = option([], "The same, of a task's test set.", nargs="+")
    dataset_name: str | None = option(None, "Corpus or task on the Hub, or a folder of parquet.")
    dataset_config_name: str | None = option(None, "Its configuration.")
    language_seed: int = option(0, "Seed of the language's permutations and shared words.")
    model_name_or_path: str | None = option(
        None, "Checkpoint whose words and characters to follow, so that its ids fit exactly."
    )
    max_samples: int | None = option(None, "Use only this many rows of each split.")
    preprocessing_num_workers: int | None = option(None, "Processes that derive.")
    license: str = option("unknown", "The text's licence, for the card, as cc-by-sa-4.0.")
    overwrite_output_dir: bool = option(
        False, "Build again what lies there of other options, files or code."
    )


def build(arguments: BuildArguments) -> list[Path]:
    """Write each language as a configuration of the folder, and the folder's card.

    A configuration that lies there is kept where code, options and files are the same, and refused
    where they are not, unless told to overwrite. `ValueError` in one line for what cannot be built.
    """
    folder = Path(arguments.output_dir)
    builders = _builders(arguments)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder as --output_dir")
    first = next(iter(builders.values()))
    record = {"kind": first.kind, **without_folders(first.config.record())}
    record["license"] = arguments.license
    with exclusive(folder):
        _settle(folder)
        done = _check_folder(folder, builders, record, overwrite=arguments.overwrite_output_dir)
        for name, builder in builders.items():
            if name in done:
                print(f"{folder / name} holds this build already", flush=True)
            else:
                _build_one(builder, folder, record, arguments.preprocessing_num_workers)
            card = str(dataset_card(read_builds(folder), folder.name))
            write_text(folder / SCRATCH / CARD_FILE, card)
            (folder / SCRATCH / CARD_FILE).replace(folder / CARD_FILE)
            _settle(folder)
    return [folder / name for name in builders]


def _builders(arguments: BuildArguments) -> dict[str, ParallelCorpus]:
    """A builder for each language; ValueError or OSError for what cannot be built."""
    task, model = arguments.task_name, arguments.model_name_or_path
    dataset, config = arguments.dataset_name, arguments.dataset_config_name
    files = [*arguments.train_file, *arguments.validation_file, *arguments.test_file]
    names = [SyntheticLanguage(name).name for name in arguments.language]
    for wrong, message in (
        (not arguments.output_dir, "name a folder with --output_dir"),
        (task and task not in TASKS, f"unknown task_name {task!r}: known are {', '.join(TASKS)}"),
        (arguments.test_file and not task, "a corpus has no test set: leave out --test_file"),
        (files and not arguments.train_file, "files of other splits need a --train_file"),
        (files and dataset, "give files or --dataset_name, not both"),
        (config and not dataset, "--dataset_config_name needs a --dataset_name"),
        (len({*names}) < len(names), f"--language names one twice: {', '.join(names)}"),
        (not arguments.license.isprintable(), "--license is not one line of text"),
        (
            model and not Path(model, LANGUAGE_FILE).is_file(),
            f"--model_name_or_path {model} has no {LANGUAGE_FILE}",
        ),
    ):
        if wrong:
            raise ValueError(message)
    for path in files:
        check_file(path)
    given = asdict(arguments) | {"source_name": dataset, "source_config_name": config}
    source = {f.name: given[f.name] for f in fields(SourceConfig) if f.name in given}
    make = ParallelCorpus if task is None else partial(ParallelTask, task)
    return {name: make(config_name=name, **source) for name in names}


def _check_folder(
    folder: Path, builders: dict[str, ParallelCorpus], record: dict[str, Any], *, overwrite: bool
) -> set[str]:
    """The languages that lie in the folder, built as `record` says; ValueError for other files."""
    before, card = read_builds(folder), folder / CARD_FILE
    done = {name for name, built in before.items() if built.items() >= record.items()}
    # A build that was killed may have put a language in its place, and not yet the card.
    known = [{n: before[n] for n in before if n != added} for added in (None, *before)]
    cards = (str(dataset_card(builds, folder.name)) for builds in known if builds)
    if card.exists() and not overwrite and card.read_text() not in cards:
        raise ValueError(
            f"{card} is not as it was built: give --overwrite_output_dir to replace it"
        )
    if other := {built["kind"] for built in before.values()} - {record["kind"]}:
        raise ValueError(f"{folder} holds {other.pop()}, not {record['kind']}: name another folder")
    for name in builders:
        if name not in before and (folder / name).exists():
            raise ValueError(f"{folder / name} exists and is no build of ours: name another folder")
        if name in before and name not in done and not overwrite:
            raise ValueError(
                f"{folder / name} was built from other options, files or code: name another "
                "--output_dir, or give --overwrite_output_dir"
            )
    return done


def _build_one(
    builder: ParallelCorpus, folder: Path, record: dict[str, Any], processes: int | None
) -> None:
    """Write one language beside its place, then move it there whole."""
    name, old = builder.config.name, folder / SCRATCH / "old"
    old.mkdir(parents=True)
    try:
        # A place that no process of a dead build can write to.
        new = Path(tempfile.mkdtemp(dir=folder / SCRATCH)) / name
        builder.download_and_prepare(
            str(new), file_format="parquet", num_proc=processes, max_shard_size="200MB"
        )
        counts = {s: info.num_examples for s, info in (builder.info.splits or {}).items()}
        if empty := [split for split, count in counts.items() if not count]:
            raise ValueError(f"the {empty[0]} set has no row that can be derived")
        first = parquet.ParquetFile(next(new.glob(f"{builder.kind}-train*.parquet")))
        about = {
            "language": asdict(builder.config.language()),
            "splits": counts,
            "example": next(first.iter_batches(batch_size=1)).to_pylist()[0],
            "versions": versions(),
        }
        write_json(new / BUILD_FILE, record | about)
        if (folder / name).exists():
            (folder / name).rename(old / name)
        new.rename(folder / name)
    except (DatasetGenerationError, RuntimeError) as error:
        raise ValueError(f"{folder / name} cannot be built: {error.__cause__ or error}") from None
    finally:
        _settle(folder)
    rows = (f"{split} {count:,} rows" for split, count in counts.items())
    print(f"{folder / name}: {', '.join(rows)}", flush=True)


def _settle(folder: Path) -> None:
    """End what a build began, dead or done: its scratch goes, and what others put there comes back.

    An old build whose place is still empty returns to it.
    """
    for old in (folder / SCRATCH / "old").glob("*"):
        if not (folder / old.name).exists():
            old.rename(folder / old.name)
            continue
        kind = re.escape(read_builds(folder)[old.name]["kind"])
        shards = rf"{kind}-({'|'.join(SPLITS)})(-\d+-of-\d+)?\.parquet"
        for path in old.iterdir():
            if not re.fullmatch(rf"{BUILD_FILE}|dataset_info\.json|{shards}", path.name):
                path.rename(folder / old.name / path.name)
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> None:
    """`alignmlm corpus`."""
    with one_line_errors():
        given = option_names(argv)
        if twice := [name for name in given if given.count(name) > 1]:
            raise ValueError(f"--{twice[0]} is given twice: name all of its values behind one")
        (arguments,), _ = parse([BuildArguments], argv)
        build(arguments)
