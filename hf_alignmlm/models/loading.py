"""Checkpoints that load whole, or not at all."""

from typing import Any

from safetensors import SafetensorError
from transformers.utils import logging


def load_whole(cls: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
    """`cls.from_pretrained(name, ...)` of a checkpoint that fills the model; safetensors alone.

    A pooler is new where it is missing, and so is a head of which the checkpoint has nothing. Any
    other tensor that is missing would be random: a ValueError, as for a damaged file. All that a
    masked LM has beside its encoder is one head.
    """
    info_wanted = kwargs.pop("output_loading_info", False)
    may_mismatch = kwargs.pop("ignore_mismatched_sizes", False)
    kwargs |= {"use_safetensors": True, "ignore_mismatched_sizes": True}
    level = logging.get_verbosity()
    # The library's table of new and unused tensors says nothing that the checks below do not.
    logging.set_verbosity_error()
    try:
        model, info = cls.from_pretrained(name, *args, output_loading_info=True, **kwargs)
    except Exception as error:  # whatever a damaged or missing file leads to
        kind = OSError if isinstance(error, OSError) else ValueError
        file = "model.safetensors" if isinstance(error, SafetensorError) else "config.json"
        raise kind(f"{name} does not load, see its {file}: {error}") from error
    finally:
        logging.set_verbosity(level)
    base, missing = f"{model.base_model_prefix}.", set(info["missing_keys"])
    if not may_mismatch:
        missing |= {key for key, *_ in info["mismatched_keys"]}
    there = model.state_dict().keys() - model.all_tied_weights_keys.keys() - missing
    heads = {key.split(".")[0] for key in there} | {model.base_model_prefix}
    if model.get_output_embeddings() is not None and len(heads) > 1:
        heads |= {key.split(".")[0] for key in missing}
    wrong = {key for key in missing if key.split(".")[0] in heads}
    wrong |= {key for key in info["unexpected_keys"] if key.startswith(base)}
    if wrong := {key for key in wrong if "pooler." not in key}:
        raise ValueError(
            f"{name} is no whole checkpoint of {type(model).__name__} by its config.json, "
            f"name another: {len(wrong)} tensors are missing, of another shape or left over "
            f"({', '.join(sorted(wrong)[:3])}{', ...' * (len(wrong) > 3)})"
        )
    return (model, info) if info_wanted else model
