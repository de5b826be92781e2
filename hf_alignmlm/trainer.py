"""`AlignMLMTrainer`: the library's, that reports each part of the loss and the alignment."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import (
    PREFIX_CHECKPOINT_DIR,
    EvalLoopOutput,
    IntervalStrategy,
    rotate_checkpoints,
)
from transformers.utils import logging

from hf_alignmlm.alignment import dictionary_alignment
from hf_alignmlm.arguments import option
from hf_alignmlm.languages.synthetic import SyntheticLanguage
from hf_alignmlm.models.kernels import PLAIN_ATTENTION
from hf_alignmlm.models.modeling import BertForAlignedMaskedLM, embedding_matrix
from hf_alignmlm.objectives.base import IGNORE_INDEX
from hf_alignmlm.runs import begin_checkpoint, seal_checkpoint

logger = logging.get_logger(__name__)

# The parts of the loss that a model may name in its output.
PARTS = ("mlm_loss", "alignment_loss")
# What is worth a line in every evaluation; the results file has all of it.
LOGGED_ALIGNMENT = ("p1", "p1_seen", "p1_heldout", "csls_p1", "cosine_true", "cosine_random")


def has_compiler() -> bool:
    """Whether there is the C++ compiler that torch.compile needs on CPUs."""
    return any(map(shutil.which, filter(None, [os.environ.get("CXX"), "g++", "clang++"])))


@contextmanager
def without_token(args: TrainingArguments) -> Iterator[None]:
    """Keep the Hub's token out of the file of arguments that the library writes beside a model."""
    token, args.hub_token = args.hub_token, None
    try:
        yield
    finally:
        args.hub_token = token


@dataclass
class CommandArguments(TrainingArguments):
    """The library's training arguments."""

    overwrite_output_dir: bool = option(
        False, "Remove the run that lies in the output folder, if there is another one."
    )

    def __post_init__(self) -> None:
        if self.use_cpu or not torch.accelerator.is_available():
            # There is nothing to copy to; the library would warn at every run.
            self.dataloader_pin_memory = False
            if self.torch_compile and not has_compiler():
                logger.warning(
                    "There is no C++ compiler for torch.compile: training runs uncompiled"
                )
                self.torch_compile = False
        super().__post_init__()


@dataclass
class AlignMLMTrainingArguments(CommandArguments):
    """The library's training arguments, with defaults that suit pre-training."""

    # The collator needs columns that the model does not take: example, epoch, language.
    remove_unused_columns: bool = field(default=False)
    eval_strategy: str = field(default="steps")
    eval_steps: float | None = field(default=0.1)
    save_steps: float = field(default=0.1)
    save_total_limit: int | None = field(default=2)
    logging_steps: float = field(default=50)
    # Every parameter takes part in every step.
    ddp_find_unused_parameters: bool | None = field(default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        # The results need the number of tokens, and a resumed run can only read it from its state.
        self.include_num_input_tokens_seen = "non_padding"


class AlignMLMTrainer(Trainer):
    """Trains `BertForAlignedMaskedLM`, and any masked LM that names the parts of its loss.

    Logs `mlm_loss` and `alignment_loss` beside `loss`. In evaluation `eval_loss` is the masked-LM
    loss alone, so that its exponential is a perplexity, and what the library derives from it (best
    model, learning rate on a plateau) follows the masked LM; of several evaluation sets it is their
    mean. Evaluates the alignment of the model's dictionary once, and saves the language beside the
    model.
    """

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        *more: Any,
        language: SyntheticLanguage | None = None,
        **kwargs: Any,
    ):
        own_loss = kwargs.get("compute_loss_func") or getattr(args, "label_smoothing_factor", 0)
        if own_loss and isinstance(model, BertForAlignedMaskedLM):
            raise ValueError(
                "compute_loss_func and label_smoothing_factor take the labels from the model, "
                "which then has no loss to align with: leave them out"
            )
        if isinstance(args, AlignMLMTrainingArguments) and eval_dataset is None:
            args.eval_strategy = IntervalStrategy.NO  # by default on, but there is nothing to do
        super().__init__(model, args, data_collator, train_dataset, eval_dataset, *more, **kwargs)
        self.language = language
        self._own_model = isinstance(self.model, BertForAlignedMaskedLM)
        if isinstance(self.model, BertForAlignedMaskedLM) and self.args.device.type == "cpu":
            # Plain matrix products, which beat the fused kernel there (benchmarks/README.md).
            self.model.set_attn_implementation(PLAIN_ATTENTION)
        self._sums: dict[bool, dict[str, Tensor]] = {True: {}, False: {}}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss, whose parts are added up on the way, weighed as the loss weighs them."""
        if not model.training:
            # In evaluation each batch stands for itself: its mean loss, weighed by its labels.
            num_items_in_batch = None
        elif self._own_model and not return_outputs:
            inputs = {**inputs, "keep_logits": False}
        # Before the call, which may take them out: for label smoothing, say.
        weight = inputs["labels"].ne(IGNORE_INDEX).sum().float()
        loss, outputs = super().compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if num_items_in_batch is not None:
            weight = weight / num_items_in_batch
        sums = self._sums[model.training]
        for name in PARTS:
            if (value := outputs.get(name)) is not None:
                term = torch.stack([value.detach().float() * weight, weight])
                sums[name] = sums[name] + term if name in sums else term
        if not model.training:
            loss = outputs.get("mlm_loss", loss)
        return (loss, outputs) if return_outputs else loss

    def _means(self, training: bool) -> dict[str, float]:
        """The means of the parts since the last call, over all processes."""
        sums, self._sums[training] = self._sums[training], {}
        totals = {n: self.accelerator.gather(s[None]).sum(0).tolist() for n, s in sums.items()}
        return {name: total / weight for name, (total, weight) in totals.items() if weight}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the parts of the loss beside the loss."""
        if "loss" in logs:
            logs |= self._means(training=True)
        super().log(logs, start_time)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> Any:
        """Evaluate; for the loss alone, the logits of unlabelled positions are left out."""
        last = self.accelerator.gradient_state
        if last.end_of_dataloader and last.remainder > 0 and "labels" in inputs:
            # Several processes fill up the last batch with rows from the start: count none twice.
            own = last.remainder - self.args.process_index * len(inputs["labels"])
            inputs["labels"][max(0, own) :] = IGNORE_INDEX
        if prediction_loss_only and self._own_model:
            inputs = {**inputs, "sparse_logits": True}
        if ignore_keys is None:
            # A stock configuration does not know that the parts of the loss are no predictions.
            known = getattr(self.accelerator.unwrap_model(self.model).config, _IGNORED, None) or []
            ignore_keys = list(dict.fromkeys([*known, *PARTS]))
        return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The library's loop, with the masked-LM loss and its perplexity among the metrics."""
        self._sums[False] = {}
        output = super().evaluation_loop(*args, **kwargs)
        metrics = output.metrics if output.metrics is not None else {}
        prefix = kwargs.get("metric_key_prefix", "eval")
        means = self._means(training=False)
        if "mlm_loss" in means:
            metrics[f"{prefix}_loss"] = metrics[f"{prefix}_mlm_loss"] = means["mlm_loss"]
            metrics[f"{prefix}_perplexity"] = math.exp(min(means["mlm_loss"], 700.0))
        return output

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate each set (a dictionary of them: by language) and, once, the alignment."""
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        more: dict[str, float] = {}
        if isinstance(sets := eval_dataset or self.eval_dataset, dict):
            more[f"{metric_key_prefix}_loss"] = fmean(
                metrics[f"{metric_key_prefix}_{name}_loss"] for name in sets
            )
        if metric_key_prefix == "eval" and (alignment := self.alignment()):
            more |= {
                f"eval_alignment_{name}": value
                for name in LOGGED_ALIGNMENT
                if (value := alignment[name]) is not None
            }
        if more:
            self.log(dict(more))
        return metrics | more

    def alignment(self) -> dict[str, float | None]:
        """Alignment of the input word embeddings over the dictionary, in percent; empty without."""
        model = self.accelerator.unwrap_model(self.model)
        dictionary = getattr(model, "dictionary", None)
        if dictionary is None:
            return {}
        with torch.no_grad():
            embeddings = embedding_matrix(model.get_input_embeddings())
        return dictionary_alignment(embeddings, dictionary)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The library's, with the language beside the model and no token in its arguments' file."""
        with without_token(self.args):
            super().save_model(output_dir, _internal_call)
        if self.language is not None and self.args.should_save:
            self.language.save_pretrained(output_dir or str(self.args.output_dir))

    # The library has no hook for these three.

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # The library stops after a step alone: resumed at the last one, it would take one more.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        # Counted from the ids: the attention mask of isolated sentences has two dimensions more.
        super()._track_num_input_tokens({"input_ids": inputs["input_ids"]})

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # The library removes old checkpoints before this one is sealed, and by their time, which
        # it says may not be reliable: here the seal comes first, and the order is that of steps.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        folder = self._get_output_dir(trial)
        checkpoint = Path(folder) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            begin_checkpoint(checkpoint)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal_checkpoint(checkpoint)
            rotate_checkpoints(folder, limit, self.state.best_model_checkpoint)


_IGNORED = "keys_to_ignore_at_inference"
