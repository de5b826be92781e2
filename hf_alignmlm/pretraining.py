"""What the scripts share: options, one-line errors, and the folder that a run owns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from transformers import AutoConfig, set_seed

from hf_alignmlm.arguments import one_line_errors, option, parse, peek, versions
from hf_alignmlm.data import encoding, sources
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.packing import LANGUAGES, EpochDataset, EpochStream, pack, packing_report
from hf_alignmlm.data.tokenizer import (
    double_tokenizer,
    is_doubled,
    load_tokenizer,
    spelling_all,
    train_tokenizer,
    vocabulary_pairs,
)
from hf_alignmlm.files import write_json
from hf_alignmlm.hub.push import push_run
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.models.configuration import AlignedBertConfig
from hf_alignmlm.models.modeling import BertForAlignedMaskedLM
from hf_alignmlm.objectives.base import OBJECTIVES, Objective
from hf_alignmlm.objectives.collator import ObjectiveCollator
from hf_alignmlm.runs import RESULTS_FILE, check_output_dir, claim_output_dir, last_whole_checkpoint
from hf_alignmlm.sizes import SIZES, expectation
from hf_alignmlm.trainer import AlignMLMTrainer, AlignMLMTrainingArguments


@dataclass
class ModelArguments:
    """Which model and tokenizer to train."""

    model_name_or_path: str | None = option(None, "Checkpoint to go on from; none to start afresh.")
    size: str = option("mini", f"Model and training defaults: {', '.join(SIZES)}.")
    config_name: str | None = option(None, "Configuration to start afresh from, instead of a size.")
    config_overrides: str | None = option(
        None, "Changes to the configuration, as hidden_size=256,num_hidden_layers=6."
    )
    tokenizer_name: str | None = option(
        None, "WordPiece tokenizer to take, doubled here; none to train one on the corpus."
    )
    vocab_size: int | None = option(
        None, "Tokens of the trained tokenizer, before doubling; default: the size's."
    )
    lowercase: bool = option(False, "Train an uncased tokenizer.")
    alignment_loss_weight: float | None = option(
        None, "Weight of the alignment loss, with any objective; default: 10 for align-mlm, else 0."
    )


@dataclass
class DataArguments:
    """Which text, which language, which dictionary. With no source, the embedded corpus."""

    language: str = option("trans_inv", "The derived language, as trans, trans_inv, trans50_perm.")
    language_seed: int = option(0, "Seed of the language's permutations and shared words.")
    train_file: list[str] = option(
        [], "Text, JSON lines, parquet or CoNLL-U files, gzip or not.", nargs="+"
    )
    validation_file: list[str] = option([], "The same, to validate on.", nargs="+")
    derived_train_file: list[str] = option(
        [], "Text of a natural language, in place of the synthetic one.", nargs="+"
    )
    derived_validation_file: list[str] = option([], "The same, to validate on.", nargs="+")
    dataset_name: str | None = option(None, "Corpus on the Hub, or a folder of parquet files.")
    dataset_config_name: str | None = option(None, "Its configuration.")
    streaming: bool = option(False, "Read the corpus as it trains, without preparing it first.")
    shuffle_buffer: int = option(10_000, "Sequences to shuffle among when streaming.")
    validation_split_percentage: int = option(
        5, "Percent of the training corpus to validate on where there is no validation set."
    )
    max_train_samples: int | None = option(None, "Use only this many rows (lines, sentences).")
    max_eval_samples: int | None = option(None, "The same, of the validation set.")
    max_seq_length: int | None = option(None, "Tokens of a packed sequence; default: the size's.")
    preprocessing_num_workers: int | None = option(None, "Processes that tokenize.")
    dictionary_file: str | None = option(
        None, "Two-column file of word pairs; default: the vocabulary and its twin."
    )
    dictionary_fraction: float = option(1.0, "Share of the pairs seen in training, 0 to 1.")
    dictionary_seed: int = option(0, "Seed of that draw.")


@dataclass
class ObjectiveArguments:
    """The pre-training objective and its options."""

    objective: str = option("align-mlm", f"One of {', '.join(OBJECTIVES)}.")
    mlm_probability: float = option(0.15, "Share of the tokens to predict.")
    tlm_rate: float = option(1.0, "xlm: share of sentences that also give a pair.")
    swap_probability: float = option(
        0.5, "dict-mlm: share of the chosen positions that are cross-lingual."
    )
    dict_mlm_variant: str = option(
        "input", "dict-mlm: swap the input (as released with ALIGN-MLM) or the label (its paper)."
    )
    language_embeddings: bool | None = option(
        None, "Token types tell the languages apart; default: for xlm."
    )
    isolate_sentences: bool = option(
        False, "A packed sentence does not see its neighbours; default: so with mini and small."
    )


# Texts that a tokenizer is trained on when the corpus is a stream.
TOKENIZER_SAMPLE = 200_000


@dataclass
class Run:
    """All that training needs, checked and prepared."""

    trainer: AlignMLMTrainer
    arguments: dict[str, Any]
    checkpoint: str | None
    results: dict[str, Any]
    push: bool


def load_corpora(data: DataArguments) -> dict[str, tuple[sources.Corpus, sources.Corpus]]:
    """Training and validation corpus; of both languages, where the second is a natural one."""
    options: dict[str, Any] = {
        "streaming": data.streaming,
        "validation_split_percentage": data.validation_split_percentage,
        "max_train_samples": data.max_train_samples,
        "max_eval_samples": data.max_eval_samples,
    }
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


def load_bilingual_tokenizer(
    model: ModelArguments,
    language: SyntheticLanguage,
    texts: Sequence[sources.Corpus],
    max_seq_length: int,
    folder: str | None,
) -> tuple[Any, SyntheticLanguage]:
    """The tokenizer of the run's own folder, a given one, or one trained; doubled where needed."""
    if folder and (Path(folder) / "tokenizer.json").exists():
        return load_tokenizer(folder), SyntheticLanguage.from_pretrained(folder)
    if name := model.tokenizer_name or model.model_name_or_path:
        tokenizer = load_tokenizer(name)
    else:
        sample = sources.texts(texts, limit=TOKENIZER_SAMPLE)
        size = model.vocab_size or SIZES[model.size].vocab_size
        tokenizer = train_tokenizer(sample, size, lowercase=model.lowercase)
    tokenizer.model_max_length = max_seq_length
    if language.mapped_share and not is_doubled(tokenizer):
        tokenizer, language = double_tokenizer(tokenizer, language)
    elif language.mapped_share:
        # Doubled before: the language spells the characters that it could spell then.
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer) // 2)))
        language = spelling_all(language, tokens)
    return tokenizer, language


def load_dictionary(
    data: DataArguments, tokenizer: Any, language: SyntheticLanguage
) -> BilingualDictionary | None:
    """The pairs of a file, or of the vocabulary and its twin; None where there are none."""
    options: dict[str, Any] = {"fraction": data.dictionary_fraction, "seed": data.dictionary_seed}
    if data.dictionary_file:
        sources.check_file(data.dictionary_file)
        encode = WordEncoder(tokenizer, language).original
        dictionary = BilingualDictionary.from_file(
            data.dictionary_file, encode, unknown_id=tokenizer.unk_token_id, **options
        )
        print(f"Dictionary: {len(dictionary):,} pairs, {dictionary.skipped:,} unusable lines")
        return dictionary
    if not language.mapped_share:
        return None
    return BilingualDictionary.from_pairs(vocabulary_pairs(tokenizer, language), **options)


def load_model(
    model: ModelArguments, objective: Objective, tokenizer: Any, max_seq_length: int
) -> BertForAlignedMaskedLM:
    """The model to train: a checkpoint's, a configuration's or a size's."""
    weight = model.alignment_loss_weight
    if weight is None:
        weight = 10.0 if objective.name == "align-mlm" else 0.0
    ours: dict[str, Any] = {
        "alignment_loss_weight": weight,
        "language_embeddings": objective.language_embeddings,
        "objective": objective.name,
        "architectures": [BertForAlignedMaskedLM.__name__],
    }
    if model.model_name_or_path:
        loaded = BertForAlignedMaskedLM.from_pretrained(model.model_name_or_path, **ours)
        if loaded.config.vocab_size != len(tokenizer):
            loaded.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    else:
        if model.config_name:
            base = AutoConfig.from_pretrained(model.config_name).to_dict()
            if base["model_type"] != "bert":
                raise ValueError(
                    f"{model.config_name} is a configuration of {base['model_type']}: name one of "
                    "BERT's as --config_name, or a --size"
                )
        else:
            base = {**SIZES[model.size].model, "max_position_embeddings": max_seq_length}
        config = AlignedBertConfig(
            **{**base, **ours, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        )
        if model.config_overrides:
            config.update_from_string(model.config_overrides)
        loaded = BertForAlignedMaskedLM(config)
    if loaded.config.max_position_embeddings < max_seq_length:
        raise ValueError(
            f"max_seq_length {max_seq_length} is more than the model's "
            f"{loaded.config.max_position_embeddings} positions"
        )
    return loaded


def prepare_sequences(
    splits: dict[str, tuple[sources.Corpus, sources.Corpus]],
    data: DataArguments,
    objective: Objective,
    tokenizer: Any,
    language: SyntheticLanguage,
    seed: int,
    max_seq_length: int,
) -> tuple[sources.Corpus, dict[str, sources.Corpus]]:
    """Packed sequences to train on, and those of each language to evaluate on."""
    tokenized = {
        (name, split): encoding.tokenize_corpus(
            corpus,
            tokenizer,
            language,
            num_proc=data.preprocessing_num_workers,
            name=f"the {split} corpus" if len(splits) == 1 else f"the {name} {split} corpus",
        )
        for name, pair in splits.items()
        for split, corpus in zip(("training", "validation"), pair, strict=True)
    }
    options: dict[str, Any] = {
        "max_seq_length": max_seq_length,
        "isolate_sentences": objective.isolate_sentences,
        "seed": seed,
    }
    rate = objective.tlm_rate if objective.name == "xlm" else 0.0
    if len(splits) == 1:
        train = pack(tokenized["original", "training"], tokenizer, tlm_rate=rate, **options)
    else:
        train = sources.join(
            [pack(tokenized[n, "training"], tokenizer, languages=[n], **options) for n in splits]
        )
    evaluation = {}
    for name in LANGUAGES:
        source = tokenized[name if name in splits else "original", "validation"]
        evaluation[name] = pack(source, tokenizer, languages=[name], **options)
    return train, evaluation


def prepare(argv: Sequence[str] | None) -> Run | None:
    """Check everything and prepare the run; None where it has finished already."""
    chosen = peek(argv, size="mini", objective="align-mlm", language="trans_inv")
    if chosen["size"] not in SIZES:
        raise ValueError(f"unknown size {chosen['size']!r}: known are {', '.join(SIZES)}")
    size = SIZES[chosen["size"]]
    defaults = {**size.training, "output_dir": f"runs/{chosen['objective']}-{chosen['language']}"}
    (model_args, data, objective_args, args), arguments = parse(
        [ModelArguments, DataArguments, ObjectiveArguments, AlignMLMTrainingArguments],
        argv,
        **defaults,
    )
    main = args.process_index == 0
    # The library would push checkpoints as they come, under a card of its own.
    push, args.push_to_hub = args.push_to_hub, False
    if not main:
        disable_progress_bar()
    objective_args = vars(objective_args)
    if objective_args["language_embeddings"] is None:
        objective_args["language_embeddings"] = chosen["objective"] == "xlm"
    objective = Objective(objective_args.pop("objective"), **objective_args)
    if data.derived_train_file:
        data.language = "natural"
    language = SyntheticLanguage.from_name(data.language, seed=data.language_seed)
    if data.language == "natural" and (not data.derived_train_file or objective.name == "xlm"):
        raise ValueError(
            "a natural language needs --derived_train_file, and xlm needs parallel text: "
            "take another objective or a synthetic language"
        )
    if not 0 <= data.dictionary_fraction <= 1:
        raise ValueError(
            f"dictionary_fraction must lie between 0 and 1, not {data.dictionary_fraction}"
        )
    for path in [*data.train_file, *data.validation_file, *data.derived_train_file]:
        sources.check_file(path)
    if data.streaming and args.max_steps <= 0:
        raise ValueError("a stream has no length: say with --max_steps how long to train")
    max_seq_length = data.max_seq_length or size.max_seq_length
    overwrite = args.overwrite_output_dir
    if check_output_dir(args.output_dir, arguments, overwrite=overwrite):
        if main:
            print(f"{args.output_dir} holds this run, finished: see {RESULTS_FILE} in it")
        return None

    with args.main_process_first(desc="preparing the corpus"):
        splits = load_corpora(data)
        tokenizer, language = load_bilingual_tokenizer(
            model_args,
            language,
            [pair[0] for pair in splits.values()],
            max_seq_length,
            # What the main process finds there to overwrite, it has replaced for the others.
            None if overwrite and main else args.output_dir,
        )
        dictionary = load_dictionary(data, tokenizer, language)
        train, evaluation = prepare_sequences(
            splits,
            data,
            objective,
            tokenizer,
            language,
            args.data_seed or args.seed,
            max_seq_length,
        )
        set_seed(args.seed)
        model = load_model(model_args, objective, tokenizer, max_seq_length)
        weight = model.config.alignment_loss_weight
        if weight or objective.name == "dict-mlm":
            if dictionary is None:
                raise ValueError(
                    f"{data.language} has no word of its own to align: take a language with trans "
                    "in its name, or give --dictionary_file"
                )
            if not dictionary.seen:
                raise ValueError(
                    f"dictionary_fraction {data.dictionary_fraction} leaves no pair to learn from: "
                    "raise it, or take --objective mlm"
                )
        model.set_dictionary(dictionary)
        collator = ObjectiveCollator(tokenizer, objective, max_seq_length, args.seed, dictionary)
        if main:
            # The first thing written, after the last check.
            claim_output_dir(args.output_dir, arguments, overwrite=overwrite)
            tokenizer.save_pretrained(args.output_dir)
            language.save_pretrained(args.output_dir)
    results: dict[str, Any] = {
        "objective": objective.name,
        "language": language.name,
        "seed": args.seed,
        "parameters": model.num_parameters(),
    }
    if isinstance(train, Dataset):
        results |= packing_report(train, evaluation, tokenizer, max_seq_length)
        dataset: Any = EpochDataset(train)
    else:
        if next(iter(train), None) is None:
            raise ValueError(
                "the stream has no text to train on: all of it went to validation (give "
                "--validation_file), or it uses the derived script"
            )
        dataset = EpochStream(train, shuffle_buffer=data.shuffle_buffer, seed=args.seed)
    trainer = AlignMLMTrainer(
        model=model,
        args=args,
        data_collator=collator,
        train_dataset=dataset,
        eval_dataset={
            name: EpochDataset(rows) if isinstance(rows, Dataset) else EpochStream(rows)
            for name, rows in evaluation.items()
        },
        processing_class=tokenizer,
        language=language,
    )
    if main:
        steps = args.max_steps
        if steps <= 0:
            per_step = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
            steps = int(len(dataset) * args.num_train_epochs / per_step)
        line = expectation(
            model.config,
            model.num_parameters(),
            length=max_seq_length,
            batch_size=args.train_batch_size * args.gradient_accumulation_steps,
            steps=steps,
            device=args.device,
            dtype=torch.bfloat16 if args.bf16 else torch.float32,
            processes=args.world_size,
        )
        print(f"{objective.name} on {language.name}: {line}", flush=True)
    checkpoint = last_whole_checkpoint(args.output_dir)
    if checkpoint and main:
        print(f"Resuming from {checkpoint}", flush=True)
    return Run(trainer, arguments, checkpoint, results, push)


def finish(run: Run) -> dict[str, Any]:
    """Train, evaluate, save, and write the results file."""
    trainer, args = run.trainer, run.trainer.args
    trained = trainer.train(resume_from_checkpoint=run.checkpoint)
    trainer.save_model()
    trainer.save_state()
    evaluation = trainer.evaluate()
    state, metrics = trainer.state, trained.metrics
    # Those of this session: a resumed run has seen others before.
    tokens = state.num_input_tokens_seen - trainer._initial_num_input_tokens_seen
    run.results |= {
        "train_steps": state.global_step,
        "train_tokens": state.num_input_tokens_seen,
        "train_runtime": metrics["train_runtime"],
        "train_tokens_per_second": tokens / metrics["train_runtime"],
        # Of the whole process, corpus and evaluation included; half a run tells nothing.
        "cpu_minutes": None if run.checkpoint else time.process_time() / 60,
    }
    if "padding_share" not in run.results:
        # A stream tells only once it has been read; its sequences are of one length.
        collator: Any = trainer.data_collator
        length = collator.max_seq_length
        places = args.train_batch_size * args.world_size * args.gradient_accumulation_steps * length
        used = state.num_input_tokens_seen / (places * state.global_step)
        run.results["padding_share"] = 100 * (1 - used)
    # Null where there is no dictionary.
    names = ("alignment_p1", "alignment_p1_seen", "alignment_p1_heldout", "alignment_csls_p1")
    run.results |= dict.fromkeys(names)
    run.results |= {f"alignment_{name}": value for name, value in trainer.alignment().items()}
    wanted = ("mlm_loss", "perplexity")
    run.results |= {name: value for name, value in evaluation.items() if name.endswith(wanted)}
    if not state.is_world_process_zero:
        return run.results
    run.results |= {"versions": versions(), "arguments": run.arguments}
    write_json(Path(str(args.output_dir)) / RESULTS_FILE, run.results)
    return run.results


def main(argv: Sequence[str] | None = None) -> None:
    """The script, and the console command `alignmlm-pretrain`."""
    with one_line_errors():
        run = prepare(argv)
    if run is None:
        return
    results = finish(run)
    if run.trainer.is_world_process_zero():
        alignment = results.get("alignment_p1")
        print(
            f"alignment P@1 {'–' if alignment is None else f'{alignment:.1f}'}, perplexity "
            f"{results['eval_original_perplexity']:.1f} original, "
            f"{results['eval_derived_perplexity']:.1f} derived; checkpoint and {RESULTS_FILE} "
            f"in {run.trainer.args.output_dir}"
        )
        if run.push:
            with one_line_errors():
                push_run(run.trainer.args)


if __name__ == "__main__":
    main()
