"""Pre-training as verbs: check, load, tokenize and pack stand beside; build, train, write here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from transformers import AutoConfig, TrainingArguments, set_seed

from hf_alignmlm import sizes
from hf_alignmlm.arguments import one_line_errors, versions
from hf_alignmlm.data import packing, sources
from hf_alignmlm.files import write_json
from hf_alignmlm.models.configuration import AlignedBertConfig
from hf_alignmlm.models.modeling import BertForAlignedMaskedLM
from hf_alignmlm.objectives import ObjectiveCollator
from hf_alignmlm.pretraining.inputs import load, pack, tokenize
from hf_alignmlm.pretraining.options import Run, check
from hf_alignmlm.runs import RESULTS_FILE, claim_output_dir, last_whole_checkpoint
from hf_alignmlm.trainer import AlignMLMTrainer

# Null in the results where there is no dictionary.
ALIGNMENT_MEASURES = ("p1", "p1_seen", "p1_heldout", "csls_p1")


def build_model(run: Run) -> BertForAlignedMaskedLM:
    """The model to train, with its dictionary.

    That it fits is the last check: then the run's folder becomes its own, the first write.
    """
    set_seed(run.args.seed)
    model = _model(run)
    model.set_dictionary(run.dictionary)
    if run.is_main:
        folder = str(run.args.output_dir)
        claim_output_dir(folder, run.arguments, overwrite=run.args.overwrite_output_dir)
        run.tokenizer.save_pretrained(folder)
        run.language.save_pretrained(folder)
    return model


def build(
    run: Run,
    model: BertForAlignedMaskedLM,
    train_set: sources.Corpus,
    evaluation: dict[str, sources.Corpus],
) -> AlignMLMTrainer:
    """The trainer of a model on packed sequences."""
    length = run.max_seq_length
    if isinstance(train_set, Dataset):
        run.results |= packing.packing_report(train_set, evaluation, run.tokenizer, length)
    seed = run.args.seed
    return AlignMLMTrainer(
        model=model,
        args=run.args,
        data_collator=ObjectiveCollator(run.tokenizer, run.objective, length, seed, run.dictionary),
        train_dataset=_rows(run, train_set, shuffled=True),
        eval_dataset={name: _rows(run, rows) for name, rows in evaluation.items()},
        processing_class=run.tokenizer,
        language=run.language,
    )


def _rows(run: Run, packed: sources.Corpus, *, shuffled: bool = False) -> Any:
    """Packed sequences as a data set whose masks change with the epoch."""
    if isinstance(packed, Dataset):
        return packing.EpochDataset(packed)
    if not shuffled:
        return packing.EpochStream(packed)
    if next(iter(packed), None) is None:
        raise ValueError(
            "the stream has no text to train on: all of it went to validation (give "
            "--validation_file), or it uses the derived script"
        )
    buffer = run.data.shuffle_buffer
    return packing.EpochStream(packed, shuffle_buffer=buffer, seed=run.args.seed)


def _model(run: Run) -> BertForAlignedMaskedLM:
    """The model to train: a checkpoint's, or of a configuration's or a size's shape."""
    model, tokens = run.model, len(run.tokenizer)
    ours = {
        "alignment_loss_weight": run.alignment_loss_weight,
        "alignment_loss_type": model.alignment_loss_type,
        "language_embeddings": run.objective.language_embeddings,
        "objective": run.objective.name,
    }
    if model.model_name_or_path:
        loaded = BertForAlignedMaskedLM.from_pretrained(model.model_name_or_path, **ours)
        if loaded.config.vocab_size != tokens:
            loaded.resize_token_embeddings(tokens, mean_resizing=False)
    else:
        shape = _shape(run) | ours
        shape |= {"vocab_size": tokens, "pad_token_id": run.tokenizer.pad_token_id}
        config = AlignedBertConfig(**shape)
        if model.config_overrides:
            config.update_from_string(model.config_overrides)
        loaded = BertForAlignedMaskedLM(config)
    positions = loaded.config.max_position_embeddings
    if positions < run.max_seq_length:
        raise ValueError(
            f"max_seq_length {run.max_seq_length} is more than the model's {positions} positions"
        )
    return loaded


def _shape(run: Run) -> dict[str, Any]:
    if not (name := run.model.config_name):
        shape = sizes.SIZES[run.model.size].model
        return {**shape, "max_position_embeddings": run.max_seq_length}
    shape = AutoConfig.from_pretrained(name).to_dict()
    if shape["model_type"] != "bert":
        raise ValueError(
            f"{name} is a configuration of {shape['model_type']}: name one of BERT's as "
            "--config_name, or a --size"
        )
    return shape


def _unwrapped(trainer: AlignMLMTrainer) -> Any:
    return trainer.accelerator.unwrap_model(trainer.model)


def _announce(run: Run, trainer: AlignMLMTrainer) -> None:
    """Print what the run will cost, and where it goes on."""
    args, steps, model = run.args, run.args.max_steps, _unwrapped(trainer)
    if steps <= 0:
        per_step = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
        rows: Any = trainer.train_dataset
        steps = int(len(rows) * args.num_train_epochs / per_step)
    line = sizes.expectation(
        model.config,
        model.num_parameters(),
        length=run.max_seq_length,
        batch_size=args.train_batch_size * args.gradient_accumulation_steps,
        steps=steps,
        device=args.device,
        dtype=torch.bfloat16 if args.bf16 else torch.float32,
        processes=args.world_size,
    )
    print(f"{run.objective.name} on {run.language.name}: {line}", flush=True)
    if run.checkpoint:
        print(f"Resuming from {run.checkpoint}", flush=True)


def train(run: Run, trainer: AlignMLMTrainer) -> None:
    """Train, save the model, evaluate; the figures go to the run's results."""
    run.checkpoint = last_whole_checkpoint(str(run.args.output_dir))
    if run.is_main:
        _announce(run, trainer)
    seconds = trainer.train(resume_from_checkpoint=run.checkpoint).metrics["train_runtime"]
    trainer.save_model()
    trainer.save_state()
    evaluation, state = trainer.evaluate(), trainer.state
    # Of this session: a resumed run has seen others before.
    tokens = state.num_input_tokens_seen - trainer._initial_num_input_tokens_seen
    run.results |= {
        "objective": run.objective.name,
        "language": run.language.name,
        "seed": run.args.seed,
        "max_seq_length": run.max_seq_length,
        "parameters": _unwrapped(trainer).num_parameters(),
        "train_steps": state.global_step,
        "train_tokens": state.num_input_tokens_seen,
        "train_runtime": seconds,
        "train_tokens_per_second": tokens / seconds,
        # Of the whole process, corpus and evaluation included; of a resumed run it means nothing.
        "cpu_minutes": None if run.checkpoint else time.process_time() / 60,
    }
    places = run.args.train_batch_size * run.args.world_size * run.args.gradient_accumulation_steps
    places *= run.max_seq_length * state.global_step
    # A stream's padding is known only once it has been read.
    run.results.setdefault("padding_share", 100 * (1 - state.num_input_tokens_seen / places))
    measured = dict.fromkeys(ALIGNMENT_MEASURES) | trainer.alignment()
    run.results |= {f"alignment_{name}": value for name, value in measured.items()}
    shown = ("mlm_loss", "perplexity")
    run.results |= {name: value for name, value in evaluation.items() if name.endswith(shown)}


def write(run: Run) -> None:
    """Write the results file, and print its headline."""
    results = run.results | {"versions": versions(), "arguments": run.arguments}
    write_json(Path(str(run.args.output_dir)) / RESULTS_FILE, results)
    alignment = results["alignment_p1"]
    print(
        f"alignment P@1 {'–' if alignment is None else f'{alignment:.1f}'}, perplexity "
        f"{results['eval_original_perplexity']:.1f} original, "
        f"{results['eval_derived_perplexity']:.1f} derived; checkpoint and {RESULTS_FILE} "
        f"in {run.args.output_dir}"
    )


def main(argv: Sequence[str] | None = None) -> TrainingArguments | None:
    """Pre-train; the training arguments of a run that asks to be pushed, in its main process."""
    with one_line_errors():
        run = check(argv)
        if run is None:
            return None
        if not run.is_main:
            disable_progress_bar()
        with run.args.main_process_first(desc="preparing the corpus"):
            sequences = pack(run, tokenize(run, load(run)))
            model = build_model(run)
        trainer = build(run, model, *sequences)
    train(run, trainer)
    if not run.is_main:
        return None
    write(run)
    return run.args if run.push else None
