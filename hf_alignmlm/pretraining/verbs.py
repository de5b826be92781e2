"""Pre-training as verbs: check, load, tokenize and pack stand beside; build, train, write here."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from transformers import AutoConfig, TrainingArguments, set_seed

from hf_alignmlm.arguments import one_line_errors, versions
from hf_alignmlm.data import packing, sources
from hf_alignmlm.files import exclusive, write_json
from hf_alignmlm.models.backbones import AutoModelForAlignedMaskedLM, find, read_config
from hf_alignmlm.models.configuration import AlignedBertConfig
from hf_alignmlm.models.modeling import AlignedMaskedLM, token_types
from hf_alignmlm.objectives import ObjectiveCollator
from hf_alignmlm.pretraining.inputs import load, pack, tokenize
from hf_alignmlm.pretraining.options import Run, check
from hf_alignmlm.runs import RESULTS_FILE, claim_output_dir, last_whole_checkpoint
from hf_alignmlm.sizes import SIZES, expectation
from hf_alignmlm.trainer import AlignMLMTrainer

# Null in the results where there is no dictionary.
ALIGNMENT_MEASURES = ("p1", "p1_seen", "p1_heldout", "csls_p1")
# The least that a configuration has; BERT's two types of tokens are for pairs of sentences.
LEAST = dict.fromkeys(("hidden_size", "num_hidden_layers", "num_attention_heads"), 1)
LEAST |= {"intermediate_size": 1}


def configure(run: Run) -> None:
    """Settle the architecture, and refuse what it cannot do before there is work to lose.

    Language embeddings are on by default where the objective has them and the model can.
    """
    name = run.model.model_name_or_path
    config = read_config(name) if name else new_config(run)
    languages = len(run.language.names)
    if run.arguments["language_embeddings"] is None and token_types(config) < languages:
        run.objective = replace(run.objective, language_embeddings=False)
    find(config).check_batches(config, run.objective, run.max_seq_length, languages)


def build_model(run: Run) -> AlignedMaskedLM:
    """The model to train, with its dictionary: a checkpoint's, or a configuration's or a size's."""
    set_seed(run.args.seed)
    tokens = len(run.tokenizer)
    ours = {
        "alignment_loss_weight": run.model.alignment_loss_weight,
        "alignment_loss_type": run.model.alignment_loss_type,
        "language_embeddings": run.objective.language_embeddings,
        "objective": run.objective.name,
    }
    if name := run.model.model_name_or_path:
        model = AutoModelForAlignedMaskedLM.from_pretrained(name, **ours)
        if model.config.vocab_size != tokens:
            model.resize_token_embeddings(tokens, mean_resizing=False)
    else:
        ours |= {"vocab_size": tokens, "pad_token_id": run.tokenizer.pad_token_id}
        config = new_config(run, **ours)
        try:
            model = AutoModelForAlignedMaskedLM.from_config(config)
        except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{_source(run)} gives no model: {error}") from None
    model.set_dictionary(run.dictionary)
    return model


def _source(run: Run) -> str:
    model = run.model
    changes = model.config_overrides and f"--config_overrides {model.config_overrides}"
    return changes or model.config_name or model.size


def new_config(run: Run, **ours: Any) -> Any:
    """The configuration of a new model: a file's or a size's, with the run's changes."""
    kind: Any = AlignedBertConfig
    shape = SIZES[run.model.size].model | {"max_position_embeddings": run.max_seq_length}
    if run.objective.language_embeddings:
        shape["type_vocab_size"] = max(2, len(run.language.names))
    if name := run.model.config_name:
        try:
            stock: Any = AutoConfig.from_pretrained(name)
            shape, _ = stock.get_config_dict(name)
        except Exception as error:  # whatever a damaged or missing file leads to
            raise ValueError(f"--config_name {name} is no configuration: {error}") from None
        kind = find(stock).config_class
        for token in ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
            if ours and getattr(kind, token, None) is not None:
                ours[token] = getattr(run.tokenizer, token)
    try:
        config = kind(**(shape | ours))
        if overrides := run.model.config_overrides:
            config.update_from_string(overrides)
            # Made again, for fields may follow from others: ModernBERT's kinds of layers.
            names = [change.partition("=")[0] for change in overrides.split(",")]
            config = kind(**(shape | ours | {name: getattr(config, name) for name in names}))
        _check_numbers(config, ours.get("vocab_size", 0))
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{_source(run)} gives no model: {error}") from None
    return config


def _check_numbers(config: Any, tokens: int) -> None:
    least = LEAST | {"vocab_size": tokens}
    if config.model_type == "bert":
        least["type_vocab_size"] = 2
    numbers = config.to_dict() | {name: getattr(config, name, 1) for name in LEAST}
    for name, number in numbers.items():
        # A default may lie below 0, where it says that there is none.
        low = least.get(name, -math.inf if number == getattr(type(config), name, 0) else 0)
        if isinstance(number, int | float) and not low <= number < math.inf:
            raise ValueError(f"{name} must be finite and at least {low}, not {number}")


def claim(run: Run) -> None:
    """Make the folder the run's own: the first write, after the last check."""
    claim_output_dir(run.folder, run.arguments, overwrite=run.args.overwrite_output_dir)
    run.tokenizer.save_pretrained(run.folder)
    run.language.save_pretrained(run.folder)


def build(
    run: Run,
    model: AlignedMaskedLM,
    train_set: sources.Corpus,
    evaluation: dict[str, sources.Corpus],
) -> AlignMLMTrainer:
    """The trainer of a model on packed sequences, whose masks change with the epoch."""
    length, seed = run.max_seq_length, run.args.seed
    epochs: Any = packing.EpochStream
    shuffled = {"shuffle_buffer": run.data.shuffle_buffer, "seed": seed}
    if isinstance(train_set, Dataset):
        run.results |= packing.packing_report(train_set, evaluation, run.tokenizer, length)
        epochs, shuffled = packing.EpochDataset, {}
    return AlignMLMTrainer(
        model=model,
        args=run.args,
        data_collator=ObjectiveCollator(run.tokenizer, run.objective, length, seed, run.dictionary),
        train_dataset=epochs(train_set, **shuffled),
        eval_dataset={name: epochs(rows) for name, rows in evaluation.items()},
        processing_class=run.tokenizer,
        language=run.language,
    )


def train(run: Run, trainer: AlignMLMTrainer) -> None:
    """Train, save the model, evaluate; the figures go to the run's results."""
    checkpoint = last_whole_checkpoint(run.folder)
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    if run.is_main:
        _announce(run, trainer, model)
        if checkpoint:
            print(f"Resuming from {checkpoint}", flush=True)
    seconds = trainer.train(resume_from_checkpoint=checkpoint).metrics["train_runtime"]
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
        "parameters": model.num_parameters(),
        "train_steps": state.global_step,
        "train_tokens": state.num_input_tokens_seen,
        "train_runtime": seconds,
        "train_tokens_per_second": tokens / seconds,
        # Of the whole process, corpus and evaluation included; of a resumed run it means nothing.
        "cpu_minutes": None if checkpoint else time.process_time() / 60,
    }
    places = run.step_rows * run.max_seq_length * state.global_step
    # A stream's padding is known only once it has been read.
    run.results.setdefault("padding_share", 100 * (1 - state.num_input_tokens_seen / places))
    measured = dict.fromkeys(ALIGNMENT_MEASURES) | trainer.alignment()
    run.results |= {f"alignment_{name}": value for name, value in measured.items()}
    shown = ("mlm_loss", "perplexity")
    run.results |= {name: value for name, value in evaluation.items() if name.endswith(shown)}


def _announce(run: Run, trainer: AlignMLMTrainer, model: Any) -> None:
    steps, rows = run.args.max_steps, trainer.train_dataset
    if steps <= 0:
        steps = int(len(rows) * run.args.num_train_epochs / run.step_rows)  # type: ignore[arg-type]
    cost = expectation(model, run.args, length=run.max_seq_length, steps=steps)
    print(f"{run.objective.name} on {run.language.name}: {cost}", flush=True)


def write(run: Run) -> None:
    """Write the results file, and print its headline."""
    results = run.results | {"versions": versions(), "arguments": run.arguments}
    write_json(run.folder / RESULTS_FILE, results)
    alignment = results["alignment_p1"]
    print(
        f"alignment P@1 {'–' if alignment is None else f'{alignment:.1f}'}, perplexity "
        f"{results['eval_original_perplexity']:.1f} original, "
        f"{results['eval_derived_perplexity']:.1f} derived; checkpoint and {RESULTS_FILE} "
        f"in {run.folder}"
    )


def main(argv: Sequence[str] | None = None) -> TrainingArguments | None:
    """Pre-train; the training arguments of a run that asks to be pushed, in its main process."""
    with ExitStack() as held:
        with one_line_errors():
            run = check(argv)
            if run is None:
                return None
            if run.is_main:
                held.enter_context(exclusive(run.folder))
            else:
                disable_progress_bar()
            configure(run)
            with run.args.main_process_first(desc="preparing the corpus"):
                sequences = pack(run, tokenize(run, load(run)))
                trainer = build(run, build_model(run), *sequences)
                if run.is_main:
                    # The first write, after the last check; the other processes read its tokenizer.
                    claim(run)
        train(run, trainer)
        if not run.is_main:
            return None
        write(run)
    return run.args if run.arguments["push_to_hub"] else None
