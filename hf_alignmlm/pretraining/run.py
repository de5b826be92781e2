"""A pre-training run: what is asked for, checked before any work, and what is made of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_alignmlm.arguments import by_language, by_pair, only, option_names, parse, peek
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.formats import check_file
from hf_alignmlm.languages.natural import Languages, NaturalLanguages
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.objectives import Objective
from hf_alignmlm.objectives.base import find as find_objective
from hf_alignmlm.pretraining.options import (
    IDLE_BESIDE,
    NEEDS,
    PARALLEL,
    SOURCES,
    DataArguments,
    ModelArguments,
)
from hf_alignmlm.runs import RESULTS_FILE, check_output_dir
from hf_alignmlm.sizes import SIZES
from hf_alignmlm.trainer import AlignMLMTrainingArguments


@dataclass
class Run:
    """What was asked for, and what has been made of it so far."""

    model: ModelArguments
    data: DataArguments
    objective: Objective
    args: AlignMLMTrainingArguments
    arguments: dict[str, Any]
    language: Languages
    max_seq_length: int
    tokenizer: Any = None
    dictionary: BilingualDictionary | None = None
    results: dict[str, Any] = field(default_factory=dict)

    def source(self, name: str) -> dict[str, Any]:
        """Where the text of a language comes from, as `sources.load_splits` takes it."""
        own = {where: self.named(where) for where in SOURCES}
        found = {where: values.get(name, values.get("", [])) for where, values in own.items()}
        return {
            where: only(where, values) if where.startswith("dataset") else values
            for where, values in found.items()
        }

    def named(self, option: str) -> dict[str, list[str]]:
        """The values of an option by the language or pair that they name."""
        return by_language(option, getattr(self.data, option))

    def pairs(self, option: str) -> dict[str, list[str]]:
        """The values of an option by pair of languages."""
        return by_pair(option, getattr(self.data, option), self.language.names)

    @property
    def dictionary_files(self) -> dict[str, str]:
        """The file of each pair of languages."""
        files = self.pairs("dictionary_file")
        return {pair: str(only("dictionary_file", paths)) for pair, paths in files.items()}

    @property
    def parallel(self) -> dict[str, dict[str, Any]]:
        """Where the parallel text of each pair comes from, as `parallel.load_parallel` takes it."""
        files, names, configs = (self.pairs(option) for option in PARALLEL)
        if both := files.keys() & names.keys():
            raise ValueError(f"{both.pop()} has a --parallel_file and a --parallel_dataset_name")
        return {
            pair: {
                "files": files.get(pair, []),
                "dataset_name": only(PARALLEL[1], names.get(pair, [])),
                "dataset_config_name": only(PARALLEL[2], configs.get(pair, [])),
            }
            for pair in files | names
        }

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(str(self.args.output_dir))

    @property
    def data_seed(self) -> int:
        """The seed of what is drawn from the text; masks have that of the run."""
        return self.args.data_seed or self.args.seed

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.args.process_index == 0

    @property
    def step_rows(self) -> int:
        """Sequences of one step, of all processes."""
        args = self.args
        return args.train_batch_size * args.world_size * args.gradient_accumulation_steps


def check(argv: Sequence[str] | None) -> Run | None:
    """The run that is asked for; None where its folder holds it, finished. Writes nothing."""
    chosen = peek(argv, size="mini", objective="align-mlm")
    if chosen["size"] not in SIZES:
        raise ValueError(f"unknown size {chosen['size']!r}: known are {', '.join(SIZES)}")
    size, objective_class = SIZES[chosen["size"]], find_objective(chosen["objective"])
    given = set(option_names(argv))
    objective_class.refuse_options_of_others(given)
    # The sizes say how many steps; who asks for epochs means epochs.
    training = size.training | ({"max_steps": -1} if "num_train_epochs" in given else {})
    (model, data, objective, args), arguments = parse(
        [ModelArguments, DataArguments, objective_class, AlignMLMTrainingArguments],
        argv,
        output_dir="runs",
        **training,
    )
    # The library would push checkpoints as they come, under a card of its own.
    args.push_to_hub = False
    if model.alignment_loss_weight is None:
        model.alignment_loss_weight = objective.alignment_loss_weight
    for name, other in NEEDS.items():
        if name in given and other not in given:
            raise ValueError(f"--{name} does nothing without --{other}: give both, or neither")
    if given.intersection(PARALLEL):  # of which that share is held out
        given.discard("validation_split_percentage")
    for other, names in IDLE_BESIDE.items():
        if other in given and (idle := sorted(given.intersection(names))):
            raise ValueError(f"--{idle[0]} does nothing beside --{other}: leave one of them out")
    length = data.max_seq_length or size.max_seq_length
    run = Run(model, data, objective, args, arguments, _languages(data, given), length)
    if "output_dir" not in given:
        args.output_dir = arguments["output_dir"] = f"runs/{objective.name}-{run.language.name}"
    _check_data(run)
    _check_tokenizer(run)
    overwrite, keep = args.overwrite_output_dir, model.model_name_or_path
    if check_output_dir(run.folder, arguments, overwrite=overwrite, keep=keep):
        if run.is_main:
            print(f"{run.folder} holds this run, finished: see {RESULTS_FILE} in it")
        return None
    return run


def _languages(data: DataArguments, given: set[str]) -> Languages:
    """The languages that files and datasets name, the source first; else a synthetic pair.

    ValueError for options of the other kind.
    """
    names = dict.fromkeys(
        name for where in SOURCES for name in by_language(where, getattr(data, where)) if name
    )
    if not names:
        if "sampling_alpha" in given:
            raise ValueError("--sampling_alpha is for natural languages: name them as NAME=FILE")
        return SyntheticLanguage.from_name(data.language, seed=data.language_seed)
    if idle := sorted(given & {"language", "language_seed"}):
        raise ValueError(
            f"--{idle[0]} does nothing beside natural languages: leave one of them out"
        )
    for where in SOURCES[:2]:  # languages may share a dataset or a configuration, but no file
        by_language(where, getattr(data, where), required=True)
    return NaturalLanguages(tuple(names))


def _check_data(run: Run) -> None:
    data, natural = run.data, isinstance(run.language, NaturalLanguages)
    owners: dict[str, str] = {}
    for name in run.language.names if natural else ("original",):
        text = run.source(name)
        if natural and not (text["train_file"] or text["dataset_name"]):
            raise ValueError(f"{name} has no text to train on: give {name}=FILE to --train_file")
        for path in (*text["train_file"], *text["validation_file"]):
            check_file(path)
            if owners.setdefault(os.path.realpath(path), name) != name:
                raise ValueError(
                    f"{path} is given for {owners[os.path.realpath(path)]} and {name}: give each "
                    "language its own text"
                )
    for path in run.dictionary_files.values():
        check_file(path)
    _check_parallel(run)
    if run.args.save_total_limit == 1:
        raise ValueError("save_total_limit must be at least 2: one checkpoint may be damaged")
    if data.streaming and run.args.max_steps <= 0:
        raise ValueError("a stream has no length: say with --max_steps how long to train")


def _check_parallel(run: Run) -> None:
    source, *others = run.language.names
    natural = isinstance(run.language, NaturalLanguages)
    if bool(run.parallel) != bool(natural and run.objective.pair_rate):
        raise ValueError(
            "--parallel_file is for --objective xlm of natural languages (NAME=FILE, a --tlm_rate "
            "above 0), and it or --parallel_dataset_name is wanted there: give both, or neither"
        )
    for pair, where in run.parallel.items():
        if source not in pair.split("-"):
            raise ValueError(
                f"parallel text is of the source and another language, not {pair}: give "
                f"{source}-{others[0]}=FILE"
            )
        for path in where["files"]:
            check_file(path)


def _check_tokenizer(run: Run) -> None:
    model, natural = run.model, isinstance(run.language, NaturalLanguages)
    if not natural and model.tokenizer_type != "wordpiece":
        raise ValueError(
            f"--tokenizer_type {model.tokenizer_type} is for natural languages: a synthetic one "
            "needs wordpiece"
        )
    if model.extend_vocab and not (natural and len(run.language.names) > 1):
        raise ValueError(
            "--extend_vocab learns tokens of natural languages after the first: name the text of "
            "each, as --train_file en=FILE fr=FILE"
        )
