"""`AlignMLMTrainer`: the library's, that reports each part of the loss and the alignment."""

import math
import os
import shutil
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments
from transformers.trainer import SCHEDULER_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, rotate_checkpoints
from transformers.utils import logging

from hf_alignmlm.alignment import dictionary_alignment
from hf_alignmlm.arguments import option
from hf_alignmlm.languages.natural import Languages
from hf_alignmlm.models.kernels import PLAIN_ATTENTION
from hf_alignmlm.models.modeling import AlignedMaskedLM
from hf_alignmlm.models.vocabulary import embedding_matrix
from hf_alignmlm.objectives.base import IGNORE_INDEX
from hf_alignmlm.objectives.collator import ObjectiveCollator
from hf_alignmlm.runs import begin_checkpoint, seal_checkpoint, without_token

logger = logging.get_logger(__name__)

# The parts of the loss that a model may name in its output.
PARTS = ("mlm_loss", "alignment_loss")
# Where a checkpoint keeps what was added up since the last line of the log.
_SINCE_LOG = "since_log"
_OWN_LOSS = (
    "compute_loss_func and label_smoothing_factor take the labels from the model, "
    "which then has no loss to align with: leave them out"
)
# What is worth a line in every evaluation; the results file has all of it.
LOGGED_ALIGNMENT = ("p1", "p1_seen", "p1_heldout", "csls_p1", "cosine_true", "cosine_random")


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
            compilers = filter(None, (os.environ.get("CXX"), "g++", "clang++"))
            if self.torch_compile and not any(map(shutil.which, compilers)):
                self.torch_compile = False
                logger.warning(
                    "There is no C++ compiler for torch.compile: training runs uncompiled"
                )
        super().__post_init__()


@dataclass
class AlignMLMTrainingArguments(CommandArguments):
    """The library's training arguments, with defaults that suit pre-training."""

    # The collator needs columns that the model does not take: example, epoch, language.
    remove_unused_columns: bool = False
    eval_strategy: str = "steps"
    eval_steps: float | None = 0.1
    save_steps: float = 0.1
    save_total_limit: int | None = 2
    logging_steps: float = 50
    # Every parameter takes part in every step.
    ddp_find_unused_parameters: bool | None = False

    def __post_init__(self) -> None:
        if self.save_strategy == "best" and self.metric_for_best_model is None:
            self.metric_for_best_model = "loss"  # the library's, but not here
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = not self.metric_for_best_model.endswith(("loss", "perplexity"))
        super().__post_init__()
        # The results need the number of tokens, and a resumed run can only read it from its state.
        self.include_num_input_tokens_seen = "non_padding"
        if self.label_smoothing_factor:
            raise ValueError(_OWN_LOSS)
        if self.dataloader_drop_last:
            raise ValueError("dataloader_drop_last would leave out rows of evaluation: omit it")
        if self.label_names and "labels" not in self.label_names:
            raise ValueError("label_names must hold labels, which the loss is of: omit it")


def _check_metric(metric: str, given: dict[str, Any]) -> None:
    """Raise ValueError for a metric to follow that no evaluation gives."""
    sets = given.get("eval_dataset")
    names = [f"{name}_" for name in sets] if isinstance(sets, dict) else [""]
    known = [f"{name}{end}" for name in names for end in ("loss", "mlm_loss", "perplexity")]
    known = ["loss", *known, *(f"alignment_{name}" for name in LOGGED_ALIGNMENT)]
    if metric.removeprefix("eval_") not in known and not given.get("compute_metrics"):
        listed = ", ".join(dict.fromkeys(known))
        raise ValueError(f"unknown metric_for_best_model {metric!r}: known are {listed}")


class AlignMLMTrainer(Trainer):
    """Trains an `AlignedMaskedLM`, and any masked LM that names the parts of its loss.

    Logs `mlm_loss` and `alignment_loss` beside `loss`. `eval_loss` is the masked-LM loss alone, so
    that its exponential is a perplexity and the best model is that of the masked LM; of several
    evaluation sets it is their mean. Evaluates the alignment of the model's dictionary once.
    """

    def __init__(self, *args: Any, language: Languages | None = None, **kwargs: Any):
        """Takes the library's arguments, and the language to save beside the model."""
        given = signature(Trainer).bind(*args, **kwargs).arguments
        model, options, collator = map(given.get, ("model", "args", "data_collator"))
        if isinstance(model, AlignedMaskedLM):
            if given.get("compute_loss_func") or getattr(options, "label_smoothing_factor", 0):
                raise ValueError(_OWN_LOSS)
            if isinstance(collator, ObjectiveCollator):
                frame = (collator.objective, collator.max_seq_length)
                model.check_batches(model.config, *frame, len(language.names) if language else 2)
        if isinstance(options, AlignMLMTrainingArguments):
            if metric := options.metric_for_best_model:
                _check_metric(metric, given)
            elif given.get("eval_dataset") is None:
                options.eval_strategy = "no"  # by default on, but there is nothing to do
        if options is not None and isinstance(collator, ObjectiveCollator):
            options.remove_unused_columns = False  # it needs example, epoch and language
        super().__init__(*args, **kwargs)
        self.language = language
        self._own_model = isinstance(self.model, AlignedMaskedLM)
        on_cpu = self.args.device.type == "cpu"
        if isinstance(self.model, AlignedMaskedLM) and on_cpu and self.model._supports_sdpa:
            # Plain matrix products, which beat the fused kernel there (benchmarks/README.md).
            self.model.set_attn_implementation(PLAIN_ATTENTION)
        # Of each part, by whether it is training: the sum of weight x value, and of the weights.
        self._sums: dict[bool, dict[str, Tensor]] = {True: {}, False: {}}

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss, whose parts are added up on the way, weighed as the loss weighs them."""
        if not model.training:
            # In evaluation each batch stands for itself: its mean loss, weighed by its labels.
            num_items_in_batch = None
        elif self._own_model:
            inputs = {**inputs, "keep_logits": return_outputs}
            if loss := getattr(self.model, "alignment_loss", None):
                loss.draw(self.args.seed, self.state.global_step)
        # Before the call, which may take them out: for label smoothing, say.
        weight = inputs["labels"].ne(IGNORE_INDEX).sum().float()
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if num_items_in_batch is not None:
            weight = weight / num_items_in_batch
        sums = self._sums[model.training]
        for name in PARTS:
            if (value := outputs.get(name)) is not None:
                term = torch.stack([value.detach().float() * weight, weight])
                sums[name] = sums.get(name, 0) + term
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
        if "train_loss" in logs:
            # The whole run's; the library divides by the steps of this session.
            logs["train_loss"] = self._total_loss_scalar / max(1, self.state.global_step)
        super().log(logs, start_time)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
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
            config = getattr(self.model, "config", None)
            ignore_keys = getattr(config, "keys_to_ignore_at_inference", None) or []
        # A stock configuration does not know that the parts of the loss are no predictions.
        return super().prediction_step(model, inputs, prediction_loss_only, [*ignore_keys, *PARTS])

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The library's loop, with the masked-LM loss and its perplexity among the metrics."""
        self._sums[False] = {}
        dataloader.iteration = 0  # one that persists counts on, and its data set's masks change
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        if (loss := self._means(training=False).get("mlm_loss")) is not None:
            prefix, metrics = kwargs.get("metric_key_prefix", "eval"), output.metrics or {}
            metrics[f"{prefix}_loss"] = metrics[f"{prefix}_mlm_loss"] = loss
            metrics[f"{prefix}_perplexity"] = math.exp(min(loss, 700.0))
        return output

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Evaluate each set (a dictionary of them: by language) and, once, the alignment."""
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        more: dict[str, float] = {}
        if isinstance(sets := eval_dataset or self.eval_dataset, dict):
            # Beside the languages there may be pairs of them.
            languages = [n for n in sets if self.language and n in self.language.names] or sets
            losses = (metrics[f"{metric_key_prefix}_{name}_loss"] for name in languages)
            more[f"{metric_key_prefix}_loss"] = fmean(losses)
        followed = self.args.metric_for_best_model or ""  # a sample has no CSLS to follow
        if metric_key_prefix == "eval" and (scores := self.alignment(quick="csls" not in followed)):
            logged = {f"eval_alignment_{name}": scores.get(name) for name in LOGGED_ALIGNMENT}
            more |= {name: score for name, score in logged.items() if score is not None}
        if more:
            self.log(dict(more))
        return metrics | more

    def alignment(self, *, quick: bool = False) -> dict[str, float | None]:
        """`dictionary_alignment` of the model and its dictionary, in percent; empty without one."""
        model = self.accelerator.unwrap_model(self.model)
        if (dictionary := getattr(model, "dictionary", None)) is None:
            return {}
        with torch.no_grad():
            embeddings = embedding_matrix(model.get_input_embeddings())
        return dictionary_alignment(embeddings, dictionary, quick=quick)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The library's, with the language beside the model and no token in its arguments' file."""
        with without_token(self.args):
            super().save_model(output_dir, _internal_call)
        if self.language is not None and self.args.should_save:
            self.language.save_pretrained(output_dir or str(self.args.output_dir))

    # The library has no hook for these four.

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # Without these files the library would go on with a new optimizer and learning rate.
        whole = self.is_deepspeed_enabled or Path(checkpoint or "", SCHEDULER_NAME).exists()
        if checkpoint and not whole:
            raise ValueError(f"{checkpoint} has the model alone, from which no run can go on")
        super()._load_optimizer_and_scheduler(checkpoint)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # The library begins its sums anew; those of a resumed run go on.
        saved: Any = self.state.stateful_callbacks
        if since := saved.pop(_SINCE_LOG, None):
            self._globalstep_last_logged, self._total_loss_scalar, losses, parts = since
            own = self.args.process_index % len(losses)
            self._tr_loss += losses[own]
            for name, sums in parts.items():
                self._sums[True][name] = torch.tensor(sums[own], device=self.args.device)
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
        saved: Any = self.state.stateful_callbacks
        gather = self.accelerator.gather  # for each process has sums of its own
        parts = {name: gather(sums[None]).tolist() for name, sums in self._sums[True].items()}
        counts = (self._globalstep_last_logged, self._total_loss_scalar)
        saved[_SINCE_LOG] = (*counts, gather(self._tr_loss[None]).tolist(), parts)
        if self.args.should_save:
            begin_checkpoint(checkpoint)
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
            del saved[_SINCE_LOG]
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            if not self.args.save_only_model:  # from which no run can go on
                seal_checkpoint(checkpoint)
            rotate_checkpoints(folder, limit, self.state.best_model_checkpoint)
