"""Transfer of one checkpoint: fine-tuned on one language, tested on the other.

Source: fine-tuned and tested on the original. BZ (bilingual zero-shot): fine-tuned on the original,
tested on the derived language. BS (bilingual supervised): both derived. Gap = BZ − BS (ALIGN-MLM,
section 4). Percent throughout.
"""

import shutil
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import transformers
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

from hf_alignmlm.arguments import one_line_errors, versions
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.tokenizer import double_tokenizer, is_doubled, load_tokenizer
from hf_alignmlm.files import exclusive, read_json, write_json
from hf_alignmlm.models.loading import load_whole
from hf_alignmlm.runs import RESULTS_FILE, claim_output_dir
from hf_alignmlm.tasks.base import SPLITS, InputForm, TaskData, read_task
from hf_alignmlm.tasks.finetuning.options import Run, check
from hf_alignmlm.trainer import without_token

logger = logging.get_logger(__name__)

SCORES = {"source": "source", "bz": "BZ", "bs": "BS", "transfer_gap": "transfer gap"}
# Options with which the library would return all predictions, in the order of the rows.
PREDICTION = {"train_sampling_strategy": "sequential", "dataloader_drop_last": False}
PREDICTION |= {"prediction_loss_only": False, "eval_do_concat_batches": True}
# Of a model's files, the library writes this one after the weights.
LAST_OF_MODEL = "tokenizer.json"


def load_vocabulary(run: Run) -> WordEncoder:
    """Load the tokenizer; double one that knows one script, if that is asked."""
    name = run.options.model_name_or_path
    run.tokenizer = load_tokenizer(name, run.language)
    if run.language.mapped_share and not is_doubled(run.tokenizer):
        if not run.options.double_vocabulary:
            raise ValueError(
                f"{name} has no vocabulary for the derived script of {run.language.name}: take a "
                "checkpoint of `alignmlm pretrain`, or give --double_vocabulary"
            )
        run.tokenizer, run.language = double_tokenizer(run.tokenizer, run.language)
        run.doubled = True
    return WordEncoder(run.tokenizer, run.language)


def load_rows(run: Run, encoder: WordEncoder) -> TaskData:
    """Read the task's rows."""
    options = run.options
    files = {split: getattr(options, f"{split}_file") for split in SPLITS}
    limits = dict.fromkeys(SPLITS, options.max_eval_samples) | {"train": options.max_train_samples}
    return read_task(
        run.task,
        encoder.words,
        files={split: path for split, path in files.items() if path is not None},
        dataset_name=options.dataset_name,
        dataset_config_name=options.dataset_config_name,
        natural_languages=options.natural_languages,
        max_samples=limits,
    )


def encode(run: Run, data: TaskData, encoder: WordEncoder) -> None:
    """Derive the rows and encode both languages; count what does not go through whole."""
    task, train, test = run.task, data.rows["train"], data.rows["test"]
    run.label_ids, broken = {label: i for i, label in enumerate(task.labels(train))}, 0
    length = run.options.max_seq_length or min(128, run.config.max_position_embeddings)
    form = InputForm(run.tokenizer, encoder, run.label_ids, length)
    original, derived = (0, 1) if getattr(run.config, "language_embeddings", False) else (None,) * 2
    for split, rows in data.rows.items():
        run.encoded["original", split] = task.encode(rows, form, language_type=original)
        if split in SPLITS:
            twins = [task.derive(row, run.language, i) for i, row in enumerate(rows)]
            broken += sum(count for _, count in twins)
            encoded = task.encode([row for row, _ in twins], form, language_type=derived)
            run.encoded["derived", split] = encoded
    unseen = Counter(tag for row in test for tag in row.tags if tag not in run.label_ids)
    if unseen:
        logger.warning(
            "The test set has tags that training never shows; they count as wrong: %s",
            ", ".join(f"{tag} ({count})" for tag, count in unseen.items()),
        )
    if run.args.eval_strategy != "no" and "validation" not in data.rows:
        raise ValueError("--eval_strategy needs a validation set: give a --validation_file")
    inputs = run.encoded.values()
    run.results |= {
        "n_train": len(train),
        "n_test": len(test),
        "majority_baseline": task.baseline(train, test),
        "truncated_words": sum(e.truncated_words for e in inputs),
        "further_windows": sum(len(e.features) - len(set(e.row_of)) for e in inputs),
        "skipped_rows": data.empty_sentences,
        "unseen_tags": dict(unseen),
        "broken_entities": broken,
    }


def new_model(run: Run) -> Any:
    """The checkpoint with a new classifier, and copied embeddings for a vocabulary doubled here."""
    level = logging.get_verbosity()
    # That the classifier is new is the point; the library would report it as a fault.
    logging.set_verbosity_error()
    try:
        model = load_whole(
            getattr(transformers, run.task.auto_class),
            run.options.model_name_or_path,
            num_labels=len(run.label_ids),
            id2label={i: label for label, i in run.label_ids.items()},
            label2id=run.label_ids,
        )
    finally:
        logging.set_verbosity(level)
    if run.doubled:
        size = len(run.tokenizer) // 2
        model.resize_token_embeddings(2 * size, mean_resizing=False)
        weight = model.get_input_embeddings().weight.data
        weight[size:] = weight[:size]
    if model.get_input_embeddings().num_embeddings < len(run.tokenizer):
        name = run.options.model_name_or_path
        raise ValueError(f"{name} has fewer embeddings than its tokenizer has tokens")
    return model


def fine_tune(run: Run, name: str, seed: int) -> Trainer:
    """A trainer whose model was fine-tuned on the `original` or the `derived` training set."""
    folder, validation = run.folder, run.encoded.get((name, "validation"))
    if run.args.save_strategy != "no":
        # Each fine-tuning has its own checkpoints, and none of a run that was stopped.
        folder = folder / f"checkpoints-{name}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
    trainer = Trainer(
        model_init=lambda: new_model(run),
        # The library would push under a card of its own.
        args=replace(run.args, seed=seed, output_dir=str(folder), push_to_hub=False),
        data_collator=run.task.collator(run.tokenizer),
        train_dataset=run.encoded[name, "train"].dataset,
        eval_dataset=validation and validation.dataset,
        processing_class=run.tokenizer,
    )
    trainer.train()
    return trainer


def scores_of(run: Run, name: str, trainer: Trainer) -> dict[str, dict[str, float]]:
    """All scores of a fine-tuned model: of one of the original, source and BZ; of the other, BS."""
    for option, value in PREDICTION.items():
        setattr(trainer.args, option, value)
    tests = {"source": "original", "bz": "derived"} if name == "original" else {"bs": "derived"}
    places: dict[str, tuple[str, str]] = {}
    for test, language in tests.items():
        places |= {test: (language, "test"), f"{test}_validation": (language, "validation")}
    if name == "original":
        places |= {f"natural_{split}": (name, split) for split in run.options.natural_languages}
    scores = {}
    for test, place in places.items():
        if encoded := run.encoded.get(place):
            logits: Any = trainer.predict(encoded.dataset).predictions
            predictions = run.task.decode(encoded, logits.argmax(-1), list(run.label_ids))
            scores[test] = run.task.score(predictions, encoded.tags)
    return scores


def run_seeds(run: Run) -> dict[str, list[dict[str, float]]]:
    """The scores of all seeds, by test; each fine-tuning's are written as they come."""
    by_seed: dict[str, list[dict[str, float]]] = {}
    for seed in run.options.seeds:
        for name in ("original",) if run.options.skip_supervised else ("original", "derived"):
            path = run.folder / f"scores-{name}-{seed}.json"
            is_kept = (name, seed) == ("original", run.options.seeds[0])
            if not path.exists() or (is_kept and not (run.folder / LAST_OF_MODEL).exists()):
                trainer = fine_tune(run, name, seed)
                write_json(path, scores_of(run, name, trainer))
                if is_kept:
                    with without_token(trainer.args):
                        trainer.save_model(str(run.folder))
            for test, scores in read_json(path).items():
                by_seed.setdefault(test, []).append(scores)
    return by_seed


def summary(run: Run, by_seed: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """The results of all seeds: each score's mean, standard deviation and values."""
    task, name = run.task, run.language.name
    values = {test: [s[task.metric] for s in scores] for test, scores in by_seed.items()}
    if "bs" in values:
        pairs = zip(values["bz"], values["bs"], strict=True)
        values["transfer_gap"] = [bz - bs for bz, bs in pairs]
    results: dict[str, Any] = {"task": task.name, "metric": task.metric, "language": name}
    results["seeds"] = run.options.seeds
    for test in SCORES:
        seen = values.get(test)
        results[test] = statistics.fmean(seen) if seen else None
        results[f"{test}_sd"] = statistics.stdev(seen) if seen and len(seen) > 1 else None
        results[f"{test}_by_seed"] = seen
    for test, scores in by_seed.items():
        for metric in scores[0]:
            results[f"{test}_{metric}"] = statistics.fmean(s[metric] for s in scores)
    return results | run.results


def write(run: Run, results: dict[str, Any]) -> None:
    """Write the results file, with what is known of the pre-training, and print the headline."""
    more = {"versions": versions(), "arguments": run.arguments}
    write_json(run.folder / RESULTS_FILE, results | more)
    shown = [f"{label} {results[n]:.1f}" for n, label in SCORES.items() if results[n] is not None]
    print(
        f"{run.task.name} on {run.language.name}, {results['metric']}: {', '.join(shown)}; "
        f"{RESULTS_FILE} in {run.folder}"
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
            encoder = load_vocabulary(run)
            encode(run, load_rows(run, encoder), encoder)
            new_model(run)  # a damaged checkpoint shows here
            if run.args.process_index == 0:
                # The first write, after the last check.
                held.enter_context(exclusive(run.folder))
                claim_output_dir(run.folder, run.arguments, overwrite=run.args.overwrite_output_dir)
                run.language.save_pretrained(run.folder)
        start = time.perf_counter()
        resumed = any(run.folder.glob("scores-*.json"))
        results = summary(run, run_seeds(run))
        results["train_runtime"] = time.perf_counter() - start
        # Of the whole process; of a resumed run it means nothing.
        results["cpu_minutes"] = None if resumed else time.process_time() / 60
        write(run, results)
    return run.args if run.args.push_to_hub and run.args.process_index == 0 else None
