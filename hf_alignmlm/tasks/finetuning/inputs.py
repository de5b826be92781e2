"""The rows of a fine-tuning run: read in each language or derived, and encoded."""

from collections import Counter
from typing import Any

from transformers.utils import logging

from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.tokenizer import double_tokenizer, is_doubled, load_tokenizer
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.models.configuration import positions, token_types
from hf_alignmlm.tasks.base import InputForm, Row, read_task
from hf_alignmlm.tasks.finetuning.options import Run
from hf_alignmlm.tasks.reading import REQUIRED, SPLITS

logger = logging.get_logger(__name__)

Rows = dict[tuple[str, str], list[Row]]  # by language and split


def load_vocabulary(run: Run) -> WordEncoder:
    """Load the tokenizer; double one that knows one script, if that is asked."""
    name, language = run.options.model_name_or_path, run.language
    run.tokenizer = load_tokenizer(name, run.language)
    if (
        isinstance(language, SyntheticLanguage)
        and language.mapped_share
        and not is_doubled(run.tokenizer)
    ):
        if not run.options.double_vocabulary:
            raise ValueError(
                f"{name} has no vocabulary for the derived script of {language.name}: take a "
                "checkpoint of `alignmlm pretrain`, or give --double_vocabulary"
            )
        run.tokenizer, run.language = double_tokenizer(run.tokenizer, language)
        run.doubled = True
    return WordEncoder(run.tokenizer, run.language)


def load_rows(run: Run, encoder: WordEncoder) -> Rows:
    """Read the rows of each language, or derive the second's from the first's."""
    options, task, rows = run.options, run.task, Rows()
    limits = dict.fromkeys(SPLITS, options.max_eval_samples) | {"train": options.max_train_samples}
    run.results["skipped_rows"] = run.results["broken_entities"] = 0
    for number, (language, source) in enumerate(run.sources.items()):
        files = {split: source.get(f"{split}_file", "") for split in SPLITS}
        # Without BS, no training set but the source's is read: they can be large.
        more = {} if options.skip_supervised else {"train": False}
        data = read_task(
            task,
            encoder.words,
            files={split: path for split, path in files.items() if path},
            dataset_name=options.dataset_name,
            dataset_config_name=source.get("dataset_config_name"),
            max_samples=limits,
            splits=more | {"validation": False, "test": True} if number else REQUIRED,
        )
        rows |= {(language, split): found for split, found in data.rows.items()}
        run.results["skipped_rows"] += data.empty_sentences
    for (language, split), originals in [*rows.items()]:
        if isinstance(run.language, SyntheticLanguage):
            twins = [task.derive(row, run.language, i) for i, row in enumerate(originals)]
            run.results["broken_entities"] += sum(count for _, count in twins)
            rows[run.names[1], split] = [row for row, _ in twins]
        elif split in SPLITS:
            _check_different(rows, language, split)
    return rows | (_mixed_rows(run, rows) if options.xnli_mixed else {})


def _check_different(rows: Rows, language: str, split: str) -> None:
    """Raise ValueError where another language has the same rows: one score would stand for two."""
    own = [(row.words, row.tags) for row in rows[language, split]]
    for other, _ in (place for place in rows if place[1] == split and place[0] != language):
        if own == [(row.words, row.tags) for row in rows[other, split]]:
            raise ValueError(
                f"the {split} sets of {other} and {language} have the same rows: give each "
                "language its own"
            )


def _mixed_rows(run: Run, rows: Rows) -> Rows:
    """Pairs of the source's first sentence and each language's second, of the test sets."""
    source, *others = run.names
    mixed, first = Rows(), rows[source, "test"]
    for language in others:
        second = rows[language, "test"]
        if [row.tags for row in first] != [row.tags for row in second]:
            raise ValueError(
                f"--xnli_mixed needs parallel test sets, but those of {source} and {language} "
                f"differ in labels or length ({len(first)} and {len(second)} rows)"
            )
        pairs = zip(first, second, strict=True)
        mixed[language, "mixed"] = [run.task.mix(row, other) for row, other in pairs]
    return mixed


def encode(run: Run, rows: Rows, encoder: WordEncoder) -> None:
    """Encode the rows of all languages; count what does not go through whole."""
    source = run.names[0]
    train, tuned = rows[source, "train"], [n for n in run.names if (n, "train") in rows]
    run.tuned = tuned[:1] if run.options.skip_supervised else tuned
    # A derived language has the labels of the original.
    shown = [train] if run.is_synthetic else [rows[name, "train"] for name in run.tuned]
    labels = run.task.labels([row for part in shown for row in part])
    run.label_ids = {label: i for i, label in enumerate(labels)}
    form = InputForm(
        *(run.tokenizer, encoder, run.label_ids),
        run.options.max_seq_length or min(128, positions(run.config)),
        token_types=token_types(run.config) > 1,
    )
    types = dict.fromkeys(run.names, 0)
    types |= {name: number for number, name in enumerate(run.language.names)}
    for (language, split), found in rows.items():
        first = source if split == "mixed" else language
        tells = getattr(run.config, "language_embeddings", False)
        language_types = (types[first], types[language]) if tells else ()
        encoded = run.task.encode(found, form, language_types=language_types)
        run.encoded[language, split] = encoded
    if run.args.eval_strategy != "no":
        for name in run.tuned:
            if (name, "validation") not in rows:
                raise ValueError(
                    "--eval_strategy needs a validation set: give a --validation_file"
                    + ("" if run.is_synthetic else f" of {name}")
                )
    inputs = run.encoded.values()
    run.results |= {
        **({"n_train": len(train)} | _about(run, rows, source)),
        "truncated_words": sum(e.truncated_words for e in inputs),
        "further_windows": sum(len(e.features) - len(set(e.row_of)) for e in inputs),
    }
    for name in run.about:
        run.about[name] |= _about(run, rows, name)


def _about(run: Run, rows: Rows, name: str) -> dict[str, Any]:
    """What is known of a language's test set beside the training set of the source."""
    train, test = rows[run.names[0], "train"], rows[name, "test"]
    known = run.task.labels(train)
    unseen = Counter(tag for row in test for tag in row.tags if tag not in known)
    if unseen:
        logger.warning(
            "The test set%s has tags that training never shows; they count as wrong: %s",
            "" if run.is_synthetic else f" of {name}",
            ", ".join(f"{tag} ({count})" for tag, count in unseen.items()),
        )
    return {
        "n_test": len(test),
        "majority_baseline": run.task.baseline(train, test),
        "unseen_tags": dict(unseen),
    }
