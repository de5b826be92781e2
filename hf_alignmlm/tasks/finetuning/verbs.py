"""Transfer of one checkpoint: fine-tuned on one language, tested on the others.

Source: fine-tuned and tested on the source, the original or the first natural language. BZ
(bilingual zero-shot): fine-tuned on the source, tested on another language. BS (bilingual
supervised): fine-tuned and tested on that one. Gap = BZ − BS (ALIGN-MLM, section 4). Percent
throughout. Natural languages have scores each, and their means beside.
"""

import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import transformers
from transformers import Trainer, TrainingArguments

from hf_alignmlm.arguments import one_line_errors, versions
from hf_alignmlm.files import exclusive, read_json, write_json
from hf_alignmlm.models.loading import load_whole
from hf_alignmlm.runs import RESULTS_FILE, claim_output_dir, without_token
from hf_alignmlm.tasks.finetuning.inputs import encode, load_rows, load_vocabulary
from hf_alignmlm.tasks.finetuning.options import Run, check
from hf_alignmlm.tasks.finetuning.results import SCORES, Tests, summary, test_name

# Options with which the library would return all predictions, in the order of the rows.
PREDICTION = {"train_sampling_strategy": "sequential", "dataloader_drop_last": False}
PREDICTION |= {"prediction_loss_only": False, "eval_do_concat_batches": True}
# Of a model's files, the library writes this one after the weights.
LAST_OF_MODEL = "tokenizer.json"


def new_model(run: Run) -> Any:
    """The checkpoint with a new classifier, and copied embeddings for a vocabulary doubled here."""
    model = load_whole(
        getattr(transformers, run.task.auto_class),
        run.options.model_name_or_path,
        num_labels=len(run.label_ids),
        id2label={i: label for label, i in run.label_ids.items()},
        label2id=run.label_ids,
    )
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
    """A trainer whose model was fine-tuned on the training set of this language."""
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


def tests_of(run: Run, name: str) -> dict[str, tuple[str, str]]:
    """The tests of a model that was fine-tuned on this language: the rows of each, by its name.

    Of the source these are source and BZ, of another language BS. The name of a natural language
    comes before, as in fr_bz.
    """
    places: dict[str, tuple[str, str]] = {}
    source = run.names[0]
    for language in run.names if name == source else [name]:
        test = "bs" if name != source else "source" if language == source else "bz"
        key = test_name(run, language, test)
        places |= {key: (language, "test"), f"{key}_validation": (language, "validation")}
        if test == "bz":
            places[f"{key}_mixed"] = language, "mixed"
    return {key: place for key, place in places.items() if place in run.encoded}


def scores_of(run: Run, name: str, trainer: Trainer) -> dict[str, dict[str, float]]:
    """All scores of a fine-tuned model, by test."""
    for option, value in PREDICTION.items():
        setattr(trainer.args, option, value)
    scores = {}
    for test, place in tests_of(run, name).items():
        encoded = run.encoded[place]
        logits: Any = trainer.predict(encoded.dataset).predictions
        predictions = run.task.decode(encoded, logits.argmax(-1), list(run.label_ids))
        scores[test] = run.task.score(predictions, encoded.tags)
    return scores


def run_seeds(run: Run) -> Tests:
    """The scores of all seeds, by test; each fine-tuning's are written as they come."""
    by_seed: Tests = {}
    for seed in run.options.seeds:
        for name in run.tuned:
            path = run.folder / f"scores-{name}-{seed}.json"
            is_kept = (name, seed) == (run.tuned[0], run.options.seeds[0])
            if not path.exists() or (is_kept and not (run.folder / LAST_OF_MODEL).exists()):
                trainer = fine_tune(run, name, seed)
                write_json(path, scores_of(run, name, trainer))
                if is_kept:
                    with without_token(trainer.args):
                        trainer.save_model(str(run.folder))
            for test, scores in read_json(path).items():
                by_seed.setdefault(test, []).append(scores)
    return by_seed


def write(run: Run, results: dict[str, Any]) -> None:
    """Write the results file, with what is known of the pre-training, and print the headline."""
    more = {"versions": versions(), "arguments": run.arguments}
    write_json(run.folder / RESULTS_FILE, results | more)

    def shown(scores: dict[str, Any], names: Iterable[str] = SCORES) -> str:
        found = ((SCORES[name], scores.get(name)) for name in names)
        return ", ".join(f"{label} {score:.1f}" for label, score in found if score is not None)

    transfer = results.get("transfer", {})
    headline = shown(results, ["source"]) if transfer else shown(results)
    print(
        f"{run.task.name} on {results['language']}, {results['metric']}: {headline}; "
        f"{RESULTS_FILE} in {run.folder}"
    )
    for language, scores in transfer.items():
        print(f"  {language}: {shown(scores)}")


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
