"""Pre-training as verbs: check, load, tokenize and pack stand beside; build, train, write here."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from transformers import AutoConfig, TrainingArguments, set_seed

from hf_alignmlm.arguments import one_line_errors, versions
from hf_alignmlm.data import packing, sources
from hf_alignmlm.files import exclusive, write_json
from hf_alignmlm.models.configuration import AlignedBertConfig
from hf_alignmlm.models.modeling import BertForAlignedMaskedLM
from hf_alignmlm.objectives import ObjectiveCollator
from hf_alignmlm.pretraining.inputs import load, pack, tokenize
from hf_alignmlm.pretraining.options import Run, check
from hf_alignmlm.runs import RESULTS_FILE, claim_output_dir, last_whole_checkpoint
from hf_alignmlm.sizes import SIZES, expectation
from hf_alignmlm.trainer import AlignMLMTrainer

# Null in the results where there is no dictionary.
ALIGNMENT_MEASURES = ("p1", "p1_seen", "p1_heldout", "csls_p1")
# The least that a configuration has; two types of tokens, to tell the languages apart.
LEAST = dict.fromkeys(("hidden_size", "num_hidden_layers", "num_attention_heads"), 1)
LEAST |= {"intermediate_size": 1, "type_vocab_size": 2}


def build_model(run: Run) -> BertForAlignedMaskedLM:
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
        model = BertForAlignedMaskedLM.from_pretrained(name, **ours)
        if model.config.vocab_size != tokens:
            model.resize_token_embeddings(tokens, mean_resizing=False)
    else:
        ours |= {"vocab_size": tokens, "pad_token_id": run.tokenizer.pad_token_id}
        model = _new_model(run, ours)
    positions = model.config.max_position_embeddings
    if positions < run.max_seq_length:
        raise ValueError(
            f"max_seq_length {run.max_seq_length} is more than the model's {positions} positions"
        )
    model.set_dictionary(run.dictionary)
    return model


def _new_model(run: Run, ours: dict[str, Any]) -> BertForAlignedMaskedLM:
    name, overrides, size = run.model.config_name, run.model.config_overrides, run.model.size
    shape = SIZES[size].model | {"max_position_embeddings": run.max_seq_length}
    shape["type_vocab_size"] = len(run.language.names)
    if name:
        try:
            shape = AutoConfig.from_pretrained(name).to_dict()
        except Exception as error:  # whatever a damaged or missing file leads to
            raise ValueError(f"--config_name {name} is no configuration: {error}") from None
        if shape["model_type"] != "bert":
            raise ValueError(
                f"{name} is a configuration of {shape['model_type']}: name one of BERT's as "
                "--config_name, or a --size"
            )
    try:
        config = AlignedBertConfig(**(shape | ours))
        if overrides:
            config.update_from_string(overrides)
        for option, number in config.to_dict().items():
            least = LEAST.get(option, len(run.tokenizer) if option == "vocab_size" else 0)
            if isinstance(number, int | float) and not least <= number < math.inf:
                raise ValueError(f"{option} must be finite and at least {least}, not {number}")
        return BertForAlignedMaskedLM(config)
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        what = f"--config_overrides {overrides}" if overrides else name or size
        raise ValueError(f"{what} gives no model: {error}") from None


def claim(run: Run) -> None:
    """Make the folder the run's own: the first write, after the last check."""
    claim_output_dir(run.folder, run.arguments, overwrite=run.args.overwrite_output_dir)
    run.tokenizer.save_pretrained(run.folder)
    run.language.save_pretrained(run.folder)


def build(
    run: Run,
    model: BertForAlignedMaskedLM,
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
        "languages": list(run.language.names),
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
    perplexities = (f"{results[f'eval_{n}_perplexity']:.1f} {n}" for n in run.language.names)
    print(
        f"alignment P@1 {'–' if alignment is None else f'{alignment:.1f}'}, perplexity "
        f"{', '.join(perplexities)}; checkpoint and {RESULTS_FILE} in {run.folder}"
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
