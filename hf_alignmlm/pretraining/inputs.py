"""From text to packed sequences: load, tokenize, pack."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from datasets import Dataset

from hf_alignmlm.data import formats, packing, sources, tokenizer
from hf_alignmlm.data.coverage import coverage_line
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.encoding import WordEncoder, tokenize_corpus
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.pretraining.options import Run
from hf_alignmlm.sizes import SIZES

# Rows of a stream that a tokenizer is trained on.
TOKENIZER_SAMPLE = 200_000

# A language's training and validation corpus; of the derived one where it has text of its own.
Corpora = dict[str, tuple[sources.Corpus, sources.Corpus]]


def load(run: Run) -> Corpora:
    """The text of the run."""
    data = run.data
    names = ("streaming", "validation_split_percentage", "max_train_samples", "max_eval_samples")
    options: dict[str, Any] = {name: getattr(data, name) for name in names}
    original = sources.load_splits(
        data.train_file,
        data.validation_file,
        dataset_name=data.dataset_name,
        dataset_config_name=data.dataset_config_name,
        **options,
    )
    if not data.derived_train_file:
        return {"original": original}
    derived = sources.load_splits(data.derived_train_file, data.derived_validation_file, **options)
    return {"original": original, "derived": derived}


def _check_stream(train: sources.Corpus) -> None:
    if not isinstance(train, Dataset) and next(iter(train), None) is None:
        raise ValueError(
            "the stream has no text to train on: all of it went to validation (give "
            "--validation_file), or it uses the derived script"
        )


def tokenize(run: Run, corpora: Corpora) -> Corpora:
    """Give the run its tokenizer and dictionary, and each corpus as token ids."""
    for train, _ in corpora.values():
        _check_stream(train)
    run.tokenizer, run.language = _tokenizer(run, [train for train, _ in corpora.values()])
    for name in ("is_local", "local_files_only"):
        run.tokenizer.init_kwargs.pop(name, None)  # where it was read is no part of what it is
    run.dictionary = _dictionary(run)
    # Wanting a dictionary and having none is an error before the work begins.
    run.objective.prepare(run.dictionary, len(run.tokenizer))
    if run.model.alignment_loss_weight and run.dictionary is None:
        raise ValueError(
            f"{run.data.language} has no word of its own to align: take a language with trans in "
            "its name, or give --dictionary_file"
        )
    if run.model.alignment_loss_weight and run.dictionary and not run.dictionary.seen:
        raise ValueError(
            f"dictionary_fraction {run.data.dictionary_fraction} leaves no pair to learn from: "
            "raise it, or take --objective mlm"
        )

    def encoded(language: str, split: str, corpus: sources.Corpus) -> sources.Corpus:
        name = f"the {split} corpus" if len(corpora) == 1 else f"the {language} {split} corpus"
        workers = run.data.preprocessing_num_workers
        return tokenize_corpus(corpus, run.tokenizer, run.language, num_proc=workers, name=name)

    return {
        language: (encoded(language, "training", train), encoded(language, "validation", held_out))
        for language, (train, held_out) in corpora.items()
    }


def _tokenizer(run: Run, texts: Sequence[sources.Corpus]) -> tuple[Any, SyntheticLanguage]:
    """The tokenizer of the run's own folder, a given one, or one trained; doubled where needed."""
    model = run.model
    # With --overwrite_output_dir, what lies there is another run's; the other processes come after
    # the main one, which has replaced it.
    ours = not (run.args.overwrite_output_dir and run.is_main)
    if ours:
        with suppress(Exception):
            # The language is written last: where it is, there is a tokenizer. What does not read,
            # or is not there, was being written when the run was killed: it is made again.
            language = SyntheticLanguage.from_pretrained(run.folder)
            return tokenizer.load_tokenizer(str(run.folder)), language
    language = run.language
    if name := model.tokenizer_name or model.model_name_or_path:
        made = tokenizer.load_tokenizer(name)
    else:
        sample = sources.texts(texts, limit=TOKENIZER_SAMPLE)
        size = model.vocab_size or SIZES[model.size].vocab_size
        made = tokenizer.train_tokenizer(sample, size, lowercase=model.lowercase)
    made.model_max_length = run.max_seq_length
    if language.mapped_share and not tokenizer.is_doubled(made):
        return tokenizer.double_tokenizer(made, language)
    if language.mapped_share:
        # Doubled before: the language spells the characters that it could spell then.
        tokens = made.convert_ids_to_tokens(list(range(len(made) // 2)))
        language = tokenizer.spelling_all(language, tokens)
    return made, language


def _dictionary(run: Run) -> BilingualDictionary | None:
    """The pairs of a file, or of the vocabulary and its twin; None where there are none."""
    data = run.data
    options: dict[str, Any] = {"fraction": data.dictionary_fraction, "seed": data.dictionary_seed}
    if data.dictionary_file:
        formats.check_file(data.dictionary_file)
        encode = WordEncoder(run.tokenizer, run.language).original
        dictionary = BilingualDictionary.from_file(
            data.dictionary_file, encode, unknown_id=run.tokenizer.unk_token_id, **options
        )
        derived = {piece for _, words in dictionary.seen + dictionary.heldout for piece in words}
        if run.language.mapped_share and max(derived) < len(run.tokenizer) // 2:
            raise ValueError(
                f"{data.dictionary_file} has no word of {run.language.name}: give the text of its "
                "second language as --derived_train_file, or leave --dictionary_file out"
            )
        print(coverage_line(dictionary, run.language.names))
        return dictionary
    if not run.language.mapped_share:
        return None
    pairs = tokenizer.vocabulary_pairs(run.tokenizer, run.language)
    return BilingualDictionary.from_pairs(pairs, **options)


def pack(run: Run, tokenized: Corpora) -> tuple[sources.Corpus, dict[str, sources.Corpus]]:
    """Packed sequences to train on, and those of each language to evaluate on."""

    def packed(name: str, split: int, **more: Any) -> sources.Corpus:
        return packing.pack(
            tokenized.get(name, tokenized["original"])[split],
            run.tokenizer,
            max_seq_length=run.max_seq_length,
            isolate_sentences=run.objective.isolate_sentences,
            seed=run.args.data_seed or run.args.seed,
            **more,
        )

    numbers = {name: number for number, name in enumerate(run.language.names)}
    if len(tokenized) == 1:
        train = packed("original", 0, pair_rate=run.objective.pair_rate)
    else:
        train = sources.join([packed(n, 0, languages={n: numbers[n]}) for n in tokenized])
    _check_stream(train)
    return train, {name: packed(name, 1, languages={name: n}) for name, n in numbers.items()}
