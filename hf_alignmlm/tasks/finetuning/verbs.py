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
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from datasets import Dataset
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

from hf_alignmlm.arguments import one_line_errors, versions
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.tokenizer import double_tokenizer, is_doubled, load_tokenizer
from hf_alignmlm.files import exclusive, read_json, write_json
from hf_alignmlm.runs import RESULTS_FILE, claim_output_dir
from hf_alignmlm.tasks.base import SPLITS, Encoded, InputForm, TaskData, read_task
from hf_alignmlm.tasks.finetuning.options import Run, check
from hf_alignmlm.trainer import without_token

logger = logging.get_logger(__name__)

SCORES = {"source": "source", "bz": "BZ", "bs": "BS", "transfer_gap": "transfer gap"}


def load_vocabulary(run: Run) -> None:
    """Load the tokenizer; double one that knows one script, if that is asked."""
    name = run.options.model_name_or_path
    run.tokenizer = load_tokenizer(name)
    if run.language.mapped_share and not is_doubled(run.tokenizer):
        if not run.options.double_vocabulary:
            raise ValueError(
                f"{name} has no vocabulary for the derived script of {run.language.name}: take a "
                "checkpoint of `alignmlm pretrain`, or give --double_vocabulary"
            )
        run.tokenizer, run.language = double_tokenizer(run.tokenizer, run.language)
        run.embedding_rows = len(run.tokenizer)


def load_rows(run: Run, encoder: WordEncoder) -> TaskData:
    """Read the task's rows."""
    options = run.options
    files = {split: getattr(options, f"{split}_file") for split in SPLITS}
    limits = dict.fromkeys(SPLITS, options.max_eval_samples) | {"train": options.max_train_samples}
    return read_task(
        run.task,
        encoder.words,
        files={split: path for split, path in files.items() if path},
        dataset_name=options.dataset_name,
        dataset_config_name=options.dataset_config_name,
        natural_languages=options.natural_languages,
        max_samples=limits,
    )


def encode(run: Run, data: TaskData, encoder: WordEncoder) -> None:
    """Derive the rows and encode both languages; count what does not go through whole."""
    task, train, test = run.task, data.rows["train"], data.rows["test"]
    run.labels, broken = task.labels(train), 0
    for split, rows in data.rows.items():
        run.rows["original", split] = rows
        if split in SPLITS:
            derived = [task.derive(row, run.language, i) for i, row in enumerate(rows)]
            run.rows["derived", split] = [row for row, _ in derived]
            broken += sum(count for _, count in derived)
    length = run.options.max_seq_length or min(128, run.config.max_position_embeddings)
    label_ids = run.label_ids
    form = InputForm(run.tokenizer, encoder, label_ids, length)
    typed = getattr(run.config, "language_embeddings", False)
    for (name, split), rows in run.rows.items():
        language_type = int(name == "derived") if typed else None
        run.encoded[name, split] = task.encode(rows, form, language_type=language_type)
    tags = Counter(tag for row in test for tag in row.tags if tag not in label_ids)
    if tags:
        logger.warning(
            "The test set has tags that training never shows; they count as wrong: %s",
            ", ".join(f"{tag} ({count})" for tag, count in tags.items()),
        )
    encoded = run.encoded.values()
    run.counts = {
        "n_train": len(train),
        "n_test": len(test),
        "majority_baseline": task.baseline(train, test),
        "truncated_words": sum(e.truncated_words for e in encoded),
        "further_windows": sum(len(e.features) - len(set(e.row_of)) for e in encoded),
        "skipped_rows": data.empty_sentences,
        "unseen_tags": dict(tags),
        "broken_entities": broken,
    }


def new_model(run: Run) -> Any:
    """The checkpoint with a new classifier."""
    level = logging.get_verbosity()
    # That the classifier is new is the point; the library would report it as a fault.
    logging.set_verbosity_error()
    try:
        model = getattr(transformers, run.task.auto_class).from_pretrained(
            run.options.model_name_or_path,
            num_labels=len(run.labels),
            id2label=dict(enumerate(run.labels)),
            label2id=run.label_ids,
        )
    finally:
        logging.set_verbosity(level)
    if run.embedding_rows is not None:
        double_embeddings(model, run.embedding_rows)
    return model


def double_embeddings(model: Any, rows: int) -> None:
    """Give a model `rows` input embeddings, the second half a copy of the first."""
    size = model.config.vocab_size
    model.resize_token_embeddings(rows, mean_resizing=False)
    weight = model.get_input_embeddings().weight.data
    weight[size : 2 * size] = weight[:size]


def _dataset(encoded: Encoded) -> Dataset:
    names = ("input_ids", "token_type_ids", "labels")
    return Dataset.from_list([{name: f[name] for name in names} for f in encoded.features])


def fine_tune(run: Run, name: str, seed: int) -> Trainer:
    """A trainer whose model was fine-tuned on the `original` or the `derived` training set."""
    trainer = Trainer(
        model_init=lambda: new_model(run),
        args=replace(run.args, seed=seed),
        data_collator=run.task.collator(run.tokenizer),
        train_dataset=_dataset(run.encoded[name, "train"]),
        processing_class=run.tokenizer,
    )
    trainer.train()
    return trainer


def score(run: Run, trainer: Trainer, name: str, split: str = "test") -> dict[str, float]:
    """The task's metrics of a fine-tuned model on a split of a language, in percent."""
    encoded = run.encoded[name, split]
    # Grouped by length, the library would predict in another order than that of the rows.
    trainer.args.train_sampling_strategy = "sequential"
    logits: Any = trainer.predict(_dataset(encoded)).predictions
    predictions = run.task.decode(encoded, logits.argmax(-1), run.labels)
    return run.task.score(predictions, [row.tags for row in run.rows[name, split]])


def seed_scores(run: Run, name: str, seed: int) -> dict[str, dict[str, float]]:
    """All scores of one fine-tuning: on the original, source and BZ; on the derived, BS."""
    trainer = fine_tune(run, name, seed)
    if name == "original" and seed == run.options.seeds[0]:
        with without_token(trainer.args):
            trainer.save_model()
    tests = {"source": "original", "bz": "derived"} if name == "original" else {"bs": "derived"}
    scores = {}
    for test, language in tests.items():
        scores[test] = score(run, trainer, language)
        if (language, "validation") in run.rows:
            scores[f"{test}_validation"] = score(run, trainer, language, "validation")
    for split in run.options.natural_languages if name == "original" else ():
        scores[f"natural_{split}"] = score(run, trainer, "original", split)
    return scores


def run_seeds(run: Run) -> dict[str, list[dict[str, float]]]:
    """The scores of all seeds, by test; each fine-tuning's are written as they come."""
    by_seed: dict[str, list[dict[str, float]]] = {}
    for seed in run.options.seeds:
        for name in ("original",) if run.options.skip_supervised else ("original", "derived"):
            path = run.folder / f"scores-{name}-{seed}.json"
            if not path.exists():
                write_json(path, seed_scores(run, name, seed))
            for test, scores in read_json(path).items():
                by_seed.setdefault(test, []).append(scores)
    return by_seed


def summary(run: Run, by_seed: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """The results of all seeds: each score's mean, standard deviation and values."""
    headline = run.task.metric
    values = {test: [s[headline] for s in scores] for test, scores in by_seed.items()}
    if "bs" in values:
        pairs = zip(values["bz"], values["bs"], strict=True)
        values["transfer_gap"] = [bz - bs for bz, bs in pairs]
    results: dict[str, Any] = {
        "task": run.task.name,
        "metric": headline,
        "language": run.language.name,
        "seeds": run.options.seeds,
    }
    for test in SCORES:
        seen = values.get(test)
        results[test] = statistics.fmean(seen) if seen else None
        results[f"{test}_sd"] = statistics.stdev(seen) if seen and len(seen) > 1 else None
        results[f"{test}_by_seed"] = seen
    for test, scores in by_seed.items():
        for metric in scores[0]:
            results[f"{test}_{metric}"] = statistics.fmean(s[metric] for s in scores)
    return results | run.counts


def write(run: Run, results: dict[str, Any]) -> None:
    """Write the results file, with what is known of the pre-training, and print the headline."""
    path = Path(run.options.model_name_or_path) / RESULTS_FILE
    pretraining = read_json(path) if path.exists() else {}
    known = {name: pretraining.get(name) for name in ("objective", "alignment_p1")}
    results |= known | {"pretraining_seed": pretraining.get("seed")}
    write_json(
        run.folder / RESULTS_FILE, results | {"versions": versions(), "arguments": run.arguments}
    )
    shown = [f"{label} {results[n]:.1f}" for n, label in SCORES.items() if results[n] is not None]
    print(
        f"{run.task.name} on {run.language.name}, {results['metric']}: {', '.join(shown)}; "
        f"{RESULTS_FILE} in {run.args.output_dir}"
    )


def main(argv: Sequence[str] | None, command: str) -> TrainingArguments | None:
    """Fine-tune and test; the training arguments of a run that asks to be pushed.

    `command` is `tag` or `nli`; it takes the tasks that name it.
    """
    with ExitStack() as held:
        with one_line_errors():
            run = check(argv, command)
            if run is None:
                return None
            load_vocabulary(run)
            encoder = WordEncoder(run.tokenizer, run.language)
            encode(run, load_rows(run, encoder), encoder)
            # The first write, after the last check.
            if run.args.process_index == 0:
                held.enter_context(exclusive(run.folder))
            overwrite = run.args.overwrite_output_dir
            claim_output_dir(run.folder, run.arguments, overwrite=overwrite)
            run.language.save_pretrained(run.folder)
        start = time.perf_counter()
        resumed = any(run.folder.glob("scores-*.json"))
        results = summary(run, run_seeds(run))
        results["train_runtime"] = time.perf_counter() - start
        # Of the whole process; of a resumed run it means nothing.
        results["cpu_minutes"] = None if resumed else time.process_time() / 60
        write(run, results)
    return run.args if run.push and run.args.process_index == 0 else None
