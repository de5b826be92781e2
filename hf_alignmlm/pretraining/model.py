"""The model of a run: a checkpoint's, or a new one of a configuration or a size."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from transformers import AutoConfig, set_seed

from hf_alignmlm.data.extension import initial_rows
from hf_alignmlm.data.tokenizer import load_tokenizer
from hf_alignmlm.models.backbones import AutoModelForAlignedMaskedLM, find, read_config
from hf_alignmlm.models.configuration import AlignedBertConfig, token_types
from hf_alignmlm.models.modeling import AlignedMaskedLM
from hf_alignmlm.models.vocabulary import extend_embeddings, resize_embeddings
from hf_alignmlm.pretraining.run import Run
from hf_alignmlm.sizes import SIZES

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
        "alignment_pairs_per_step": run.model.alignment_pairs_per_step,
        "alignment_word_weights": run.model.alignment_word_weights,
        "language_embeddings": run.objective.language_embeddings,
        "objective": run.objective.name,
    }
    if name := run.model.model_name_or_path:
        model = AutoModelForAlignedMaskedLM.from_pretrained(name, **ours)
        if model.config.vocab_size != tokens:
            resize_embeddings(model, tokens)
        _start_new_rows(run, model)
    else:
        ours |= {"vocab_size": tokens, "pad_token_id": run.tokenizer.pad_token_id}
        config = new_config(run, **ours)
        with _errors_that_name(run):
            model = AutoModelForAlignedMaskedLM.from_config(config)
    model.set_dictionary(run.dictionary)
    return model


def _start_new_rows(run: Run, model: AlignedMaskedLM) -> None:
    """Give the tokens that were added to a checkpoint's own the embeddings they start with."""
    start = run.model.extend_vocab_init
    if not run.model.extend_vocab or start == "random":
        return
    old = load_tokenizer(str(run.model.model_name_or_path), run.language)
    pairs = run.dictionary.seen if run.dictionary and start == "dictionary" else ()
    mixtures = initial_rows(old, run.tokenizer, pairs)
    if start == "mean":
        mixtures = [{} for _ in mixtures]
    extend_embeddings(model, mixtures, len(old))


@contextmanager
def _errors_that_name(run: Run) -> Iterator[None]:
    """Make what no model comes of a ValueError of one line, which names where it was asked for."""
    try:
        yield
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        model = run.model
        changes = model.config_overrides and f"--config_overrides {model.config_overrides}"
        source = changes or model.config_name or model.size
        raise ValueError(f"{source} gives no model: {error}") from None


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
    with _errors_that_name(run):
        config = kind(**(shape | ours))
        if overrides := run.model.config_overrides:
            config.update_from_string(overrides)
            # Made again, for fields may follow from others: ModernBERT's kinds of layers.
            names = [change.partition("=")[0] for change in overrides.split(",")]
            config = kind(**(shape | ours | {name: getattr(config, name) for name in names}))
        _check_numbers(config, ours.get("vocab_size", 0))
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
