"""Transfer of one checkpoint: fine-tuned on one language, tested on the other.

Source: fine-tuned and tested on the original. BZ (bilingual zero-shot): fine-tuned on the original,
tested on the derived language. BS (bilingual supervised): both derived. Gap = BZ − BS (ALIGN-MLM,
section 4). Percent throughout.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging

from hf_alignmlm.arguments import one_line_errors, option, parse, peek, versions
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.tokenizer import double_tokenizer, is_doubled, load_tokenizer
from hf_alignmlm.files import read_json, write_json
from hf_alignmlm.hub.push import push_run
from hf_alignmlm.languages.synthetic import LANGUAGE_FILE, SyntheticLanguage
from hf_alignmlm.runs import RESULTS_FILE, check_output_dir, claim_output_dir
from hf_alignmlm.sizes import SIZES, size_of
from hf_alignmlm.tasks.base import (
    HEADLINE,
    METRICS,
    NLI_LABELS,
    SPLITS,
    TaskData,
    derive_row,
    encode,
    majority_baseline,
    read_task,
)

logger = logging.get_logger(__name__)


@dataclass
class TaskArguments:
    """Which checkpoint, task, language and data. With no data named, the embedded corpus."""

    model_name_or_path: str = option("", "Checkpoint of run_pretraining.py, or any WordPiece BERT.")
    task_name: str = option("", "pos or ner (run_tagging.py), nli (run_xnli.py).")
    language: str | None = option(None, "The derived language; default: the checkpoint's.")
    train_file: str | None = option(
        None, "CoNLL-U, JSON lines, parquet or (tagging) columns, gzip or not."
    )
    validation_file: str | None = option(None, "The same, to look at while choosing options.")
    test_file: str | None = option(None, "The same, to score.")
    dataset_name: str | None = option(None, "Task on the Hub, as facebook/xnli.")
    dataset_config_name: str | None = option(None, "Its configuration, as en.")
    natural_languages: list[str] = option(
        [], "run_xnli.py: other configurations of the dataset to test on as well.", nargs="+"
    )
    max_train_samples: int | None = option(None, "Use only this many training rows.")
    max_eval_samples: int | None = option(None, "The same, of validation and test rows.")
    max_seq_length: int | None = option(None, "Default: the model's positions, 128 at most.")
    seeds: list[int] = option([0], "Fine-tune once for each of these seeds.", nargs="+")
    skip_supervised: bool = option(False, "Leave out BS, and the gap with it.")
    double_vocabulary: bool = option(
        False,
        "For a checkpoint that knows one script: double its tokenizer, and its word embeddings "
        "as copies.",
    )


@dataclass
class FineTuningArguments(TrainingArguments):
    """The library's training arguments; seeds are `--seeds`, models are not kept but the first."""

    overwrite_output_dir: bool = option(
        False, "Remove the run that lies in the output folder, if there is another one."
    )
    save_strategy: str = option("no", "Checkpoints within a fine-tuning run.")
    train_sampling_strategy: str = option("group_by_length", "Batches of like lengths pad less.")


@dataclass
class Experiment:
    """A checkpoint, a task and a language, ready to be fine-tuned and tested with several seeds."""

    task: str
    model_name_or_path: str
    tokenizer: PreTrainedTokenizerBase
    language: SyntheticLanguage
    data: TaskData
    args: TrainingArguments
    max_seq_length: int
    language_embeddings: bool = False
    embedding_rows: int | None = None

    def __post_init__(self) -> None:
        self.encoder = WordEncoder(self.tokenizer, self.language)
        tags = {tag for row in self.data.rows["train"] for tag in row.tags}
        self.labels = list(NLI_LABELS) if self.task == "nli" else sorted(tags)
        self.label_ids = {label: i for i, label in enumerate(self.labels)}
        if unknown := tags - set(self.labels):
            raise ValueError(f"unknown label(s) {', '.join(sorted(unknown))}")
        test_tags = Counter(tag for row in self.data.rows["test"] for tag in row.tags)
        self.unseen_tags = {t: n for t, n in test_tags.items() if t not in self.label_ids}
        if self.unseen_tags:
            logger.warning(
                "The test set has tags that training never shows; they count as wrong: %s",
                ", ".join(f"{tag} ({count})" for tag, count in self.unseen_tags.items()),
            )
        self.rows = {("original", split): rows for split, rows in self.data.rows.items()}
        self.broken_entities = 0
        for split, rows in self.data.rows.items():
            if split not in SPLITS:
                continue
            derived = [derive_row(r, self.language, i, self.task) for i, r in enumerate(rows)]
            self.rows["derived", split] = [row for row, _ in derived]
            self.broken_entities += sum(broken for _, broken in derived)
        self.encoded = {
            (name, split): encode(
                rows,
                self.task,
                self.tokenizer,
                self.encoder,
                self.label_ids,
                max_seq_length=self.max_seq_length,
                language_type=int(name == "derived") if self.language_embeddings else None,
            )
            for (name, split), rows in self.rows.items()
        }

    def fine_tune(self, name: str, seed: int) -> Trainer:
        """A trainer whose model was fine-tuned on the `original` or the `derived` training set."""
        kind = (
            AutoModelForSequenceClassification
            if self.task == "nli"
            else AutoModelForTokenClassification
        )
        args = replace(self.args, seed=seed)

        def model_init() -> Any:
            level = logging.get_verbosity()
            # That the classifier is new is the point; the library would report it as a fault.
            logging.set_verbosity_error()
            try:
                model = kind.from_pretrained(
                    self.model_name_or_path,
                    num_labels=len(self.labels),
                    id2label=dict(enumerate(self.labels)),
                    label2id=self.label_ids,
                )
            finally:
                logging.set_verbosity(level)
            if self.embedding_rows is not None:
                double_embeddings(model, self.embedding_rows)
            return model

        collator = (
            DataCollatorWithPadding(self.tokenizer)
            if self.task == "nli"
            else DataCollatorForTokenClassification(self.tokenizer)
        )
        trainer = Trainer(
            model_init=model_init,
            args=args,
            data_collator=collator,
            train_dataset=self._dataset(name, "train"),
            processing_class=self.tokenizer,
        )
        trainer.train()
        return trainer

    def _dataset(self, name: str, split: str) -> Dataset:
        return Dataset.from_list(
            [
                {key: value for key, value in feature.items() if key != "word_starts"}
                for feature in self.encoded[name, split].features
            ]
        )

    def score(self, trainer: Trainer, name: str, split: str = "test") -> dict[str, float]:
        """The task's metrics of a fine-tuned model on a split of a language, in percent."""
        encoded, rows = self.encoded[name, split], self.rows[name, split]
        # Grouped by length, the library would predict in another order than that of the rows.
        trainer.args.train_sampling_strategy = "sequential"
        logits: Any = trainer.predict(self._dataset(name, split)).predictions
        predictions: list[Any]
        if self.task == "nli":
            predictions = [self.labels[i] for i in logits.argmax(-1)]
            references: list[Any] = [row.tags[0] for row in rows]
        else:
            predictions = [[] for _ in rows]
            for row, feature, guess in zip(
                encoded.row_of, encoded.features, logits.argmax(-1), strict=True
            ):
                predictions[row] += [self.labels[guess[i]] for i in feature["word_starts"]]
            references = [row.tags for row in rows]
        return METRICS[self.task]().compute(predictions=predictions, references=references)

    def run(self, seeds: Sequence[int], *, skip_supervised: bool = False) -> dict[str, Any]:
        """All scores of all seeds; a seed's scores are kept in the output folder as they come."""
        folder = Path(str(self.args.output_dir))
        by_seed: dict[str, list[dict[str, float]]] = {}
        for seed in seeds:
            for name in ("original",) if skip_supervised else ("original", "derived"):
                path = folder / f"scores-{name}-{seed}.json"
                if not path.exists():
                    write_json(path, self._scores(name, seed, keep=seed == seeds[0]))
                for test, scores in read_json(path).items():
                    by_seed.setdefault(test, []).append(scores)
        return self._summary(by_seed, seeds)

    def _scores(self, name: str, seed: int, *, keep: bool) -> dict[str, dict[str, float]]:
        trainer = self.fine_tune(name, seed)
        if keep and name == "original":
            trainer.save_model()
        tests = {"source": "original", "bz": "derived"} if name == "original" else {"bs": "derived"}
        scores = {}
        for test, language in tests.items():
            scores[test] = self.score(trainer, language)
            if ("original", "validation") in self.rows:
                scores[f"{test}_validation"] = self.score(trainer, language, "validation")
        for split in self.data.rows.keys() - set(SPLITS) if name == "original" else ():
            scores[f"natural_{split}"] = self.score(trainer, "original", split)
        return scores

    def _summary(
        self, by_seed: dict[str, list[dict[str, float]]], seeds: Sequence[int]
    ) -> dict[str, Any]:
        headline = HEADLINE[self.task]
        values = {test: [s[headline] for s in scores] for test, scores in by_seed.items()}
        if "bs" in values:
            pairs = zip(values["bz"], values["bs"], strict=True)
            values["transfer_gap"] = [bz - bs for bz, bs in pairs]
        results: dict[str, Any] = {
            "task": self.task,
            "metric": headline,
            "language": self.language.name,
            "seeds": list(seeds),
        }
        for test in ("source", "bz", "bs", "transfer_gap"):
            found = values.get(test)
            results[test] = statistics.fmean(found) if found else None
            results[f"{test}_sd"] = statistics.stdev(found) if found and len(found) > 1 else None
            results[f"{test}_by_seed"] = found
        for test, scores in by_seed.items():
            for metric in scores[0]:
                results[f"{test}_{metric}"] = statistics.fmean(s[metric] for s in scores)
        rows, encoded = self.data.rows, self.encoded.values()
        return results | {
            "n_train": len(rows["train"]),
            "n_test": len(rows["test"]),
            "majority_baseline": majority_baseline(self.task, rows["train"], rows["test"]),
            "truncated_words": sum(e.truncated_words for e in encoded),
            "further_windows": sum(len(e.features) - len(set(e.row_of)) for e in encoded),
            "skipped_rows": self.data.empty_sentences,
            "unseen_tags": self.unseen_tags,
            "broken_entities": self.broken_entities,
        }


def double_embeddings(model: Any, rows: int) -> None:
    """Give a model `rows` input embeddings, the second half a copy of the first."""
    size = model.config.vocab_size
    model.resize_token_embeddings(rows, mean_resizing=False)
    weight = model.get_input_embeddings().weight.data
    weight[size : 2 * size] = weight[:size]


def load_language(task: TaskArguments) -> SyntheticLanguage:
    """The language that was asked for, or the one that lies beside the checkpoint."""
    beside = Path(task.model_name_or_path) / LANGUAGE_FILE
    known = SyntheticLanguage.from_pretrained(beside.parent) if beside.exists() else None
    if task.language is None:
        if known is None:
            raise ValueError(
                f"{task.model_name_or_path} has no {LANGUAGE_FILE} beside it: name the derived "
                "language with --language"
            )
        return known
    if known is None:
        return SyntheticLanguage.from_name(task.language)
    return replace(known, name=task.language)


def prepare(argv: Sequence[str] | None, tasks: Sequence[str]) -> tuple[Experiment, Any] | None:
    """Check everything and prepare the experiment; None where it has finished already."""
    name = peek(argv, model_name_or_path="")["model_name_or_path"]
    if not name:
        raise ValueError("name a checkpoint with --model_name_or_path")
    config = AutoConfig.from_pretrained(name)
    defaults = dict(SIZES[size_of(config)].finetuning)
    defaults["output_dir"] = f"{name.rstrip('/')}-{peek(argv, task_name=tasks[-1])['task_name']}"
    (task, args), arguments = parse([TaskArguments, FineTuningArguments], argv, **defaults)
    task.task_name = task.task_name or (tasks[0] if len(tasks) == 1 else "")
    if task.task_name not in tasks:
        raise ValueError(f"unknown task_name {task.task_name!r}: known are {', '.join(tasks)}")
    # The library would push under a card of its own.
    push, args.push_to_hub = args.push_to_hub, False
    overwrite = args.overwrite_output_dir
    if check_output_dir(args.output_dir, arguments, overwrite=overwrite):
        print(f"{args.output_dir} holds this run, finished: see {RESULTS_FILE} in it")
        return None
    language = load_language(task)
    tokenizer = load_tokenizer(name)
    rows = None
    if language.mapped_share and not is_doubled(tokenizer):
        if not task.double_vocabulary:
            raise ValueError(
                f"{name} has no vocabulary for the derived script of {language.name}: take a "
                "checkpoint of run_pretraining.py, or give --double_vocabulary"
            )
        tokenizer, language = double_tokenizer(tokenizer, language)
        rows = len(tokenizer)
    files = {split: getattr(task, f"{split}_file") for split in SPLITS}
    limits = dict.fromkeys(SPLITS, task.max_eval_samples) | {"train": task.max_train_samples}
    data = read_task(
        task.task_name,
        WordEncoder(tokenizer, language).words,
        files={split: path for split, path in files.items() if path},
        dataset_name=task.dataset_name,
        dataset_config_name=task.dataset_config_name,
        natural_languages=task.natural_languages,
        max_samples=limits,
    )
    experiment = Experiment(
        task=task.task_name,
        model_name_or_path=name,
        tokenizer=tokenizer,
        language=language,
        data=data,
        args=args,
        max_seq_length=task.max_seq_length or min(128, config.max_position_embeddings),
        language_embeddings=getattr(config, "language_embeddings", False),
        embedding_rows=rows,
    )
    claim_output_dir(args.output_dir, arguments, overwrite=overwrite)
    language.save_pretrained(args.output_dir)
    return experiment, (task, arguments, push)


def main(argv: Sequence[str] | None, tasks: Sequence[str]) -> None:
    """What run_tagging.py and run_xnli.py do, for the tasks they take."""
    with one_line_errors():
        prepared = prepare(argv, tasks)
    if prepared is None:
        return
    experiment, (task, arguments, push) = prepared
    start = time.perf_counter()
    resumed = any(Path(str(experiment.args.output_dir)).glob("scores-*.json"))
    results = experiment.run(task.seeds, skip_supervised=task.skip_supervised)
    beside = Path(task.model_name_or_path) / RESULTS_FILE
    pretraining = read_json(beside) if beside.exists() else {}
    for name in ("objective", "alignment_p1"):
        results[name] = pretraining.get(name)
    results["pretraining_seed"] = pretraining.get("seed")
    results["train_runtime"] = time.perf_counter() - start
    results["cpu_minutes"] = None if resumed else time.process_time() / 60
    results |= {"versions": versions(), "arguments": arguments}
    write_json(Path(str(experiment.args.output_dir)) / RESULTS_FILE, results)
    shown = ", ".join(
        f"{label} {results[name]:.1f}"
        for name, label in (
            *(("source", "source"), ("bz", "BZ"), ("bs", "BS")),
            ("transfer_gap", "transfer gap"),
        )
        if results[name] is not None
    )
    print(
        f"{experiment.task} on {experiment.language.name}, {results['metric']}: {shown}; "
        f"{RESULTS_FILE} in {experiment.args.output_dir}"
    )
    if push:
        with one_line_errors():
            push_run(experiment.args)
