"""Masked language modelling plus alignment: L = L_MLM + α · L_align (ALIGN-MLM, section 2.2)."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from transformers import BertConfig
from transformers.modeling_outputs import MaskedLMOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, cached_file, can_return_tuple

from hf_alignmlm.data.dictionary import DICTIONARY_FILE, BilingualDictionary
from hf_alignmlm.models import kernels
from hf_alignmlm.models.alignment_loss import ALIGNMENT_LOSSES, AlignmentLoss
from hf_alignmlm.models.configuration import AlignedBertConfig, positions, token_types
from hf_alignmlm.models.loading import load_whole
from hf_alignmlm.models.vocabulary import embedding_matrix
from hf_alignmlm.objectives.base import IGNORE_INDEX, Objective

# Options of `from_pretrained` that say where files are, and of `save_pretrained` for its push.
WHERE = {"cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder"}
_HUB = ("repo_id", "token", "commit_message", "create_pr", "private", "revision", "tags")
# Fields of ours, which the configuration of any architecture holds.
_OURS = {f.name for f in fields(AlignedBertConfig)} - {f.name for f in fields(BertConfig)}

if TYPE_CHECKING:
    from transformers import PreTrainedModel as _MaskedLM
else:  # a second model class would hide the configuration's class of the architecture
    _MaskedLM = object


@dataclass
class AlignedMaskedLMOutput(MaskedLMOutput):
    """A masked LM's output with each part of the loss under its own name.

    The new fields come last, so that a tuple has the logits where every masked LM has them.

    Parameters:
        loss: what to minimise, `mlm_loss + α · alignment_loss`; None without labels.
        logits: [batch, length, vocabulary], or [labels, vocabulary] of the labelled positions.
        mlm_loss: mean cross-entropy over the labelled positions of this batch, detached.
        alignment_loss: L_align over the seen pairs, detached; None without a dictionary.
    """

    mlm_loss: Tensor | None = None
    alignment_loss: Tensor | None = None


# The embeddings of the ids, what gives the logits of hidden states, and the alignment loss or None.
Tied = tuple[Tensor, Callable[[Tensor], Tensor], Tensor | None]


class AlignedMaskedLM(_MaskedLM):
    """A masked LM, trained to give words of like meaning like embeddings: a mixin.

    It stands before a `…ForMaskedLM` of the library, and says how hidden states become logits:

        class ElectraForAlignedMaskedLM(AlignedMaskedLM, ElectraForMaskedLM):
            def _logits(self, states):
                return self.generator_lm_head(self.generator_predictions(states))

    The weights are those of the library's class, so every stock Auto class loads a checkpoint. The
    dictionary is an input of training (`set_dictionary`), saved beside the weights. The stock
    configuration serves: what it does not say is `AlignedBertConfig`'s default.
    """

    def __init__(self, config: Any, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        # The library guesses the loss from the class's name and would take the causal one.
        self.loss_type = "ForMaskedLM"
        self.dictionary: BilingualDictionary | None = None
        self.alignment_loss: AlignmentLoss | None = None

    def _logits(self, states: Tensor) -> Tensor:
        """The head's logits [..., vocabulary] of hidden states [..., d]."""
        raise NotImplementedError

    @classmethod
    def check_batches(cls, config: Any, objective: Objective, length: int, languages: int) -> None:
        """Raise ValueError for what a model of this configuration cannot do exactly.

        `objective` says how sequences of `length` tokens, of so many `languages`, are framed.
        """
        if (most := positions(config)) < length:
            raise ValueError(f"max_seq_length {length} is more than the model's {most} positions")
        if objective.language_embeddings and (types := token_types(config)) < languages:
            raise ValueError(
                f"{languages} languages need as many token types, but this {config.model_type} "
                f"has {types}: add --language_embeddings False"
            )

    @property
    def alignment_loss_weight(self) -> float:
        """α, the weight of the alignment loss; 0 for none."""
        return self._ours("alignment_loss_weight")

    def _ours(self, field: str) -> Any:
        return getattr(self.config, field, getattr(AlignedBertConfig, field))

    def set_dictionary(self, dictionary: BilingualDictionary | None) -> None:
        """Give the model the pairs to align; None takes them away.

        Raises ValueError for ids outside the vocabulary, for an unknown `alignment_loss_type`, and
        for what its loss cannot follow.
        """
        name = self._ours("alignment_loss_type")
        if name not in ALIGNMENT_LOSSES:
            known = ", ".join(ALIGNMENT_LOSSES)
            raise ValueError(f"unknown alignment_loss_type {name!r}: known are {known}")
        if dictionary is not None:
            dictionary.check_ids(self.config.vocab_size)
        self.dictionary = dictionary
        self.alignment_loss = None
        if dictionary is not None and dictionary.seen:
            self.alignment_loss = ALIGNMENT_LOSSES[name](
                dictionary,
                pairs_per_step=self._ours("alignment_pairs_per_step"),
                word_weights=self._ours("alignment_word_weights"),
            )
            if self.device.type != "meta":
                self.alignment_loss.to(self.device)

    def compute_alignment_loss(self) -> Tensor | None:
        """L_align over the seen pairs, from the input word embeddings; None without any."""
        if self.alignment_loss is None:
            return None
        embeddings = embedding_matrix(self.get_input_embeddings())
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.alignment_loss(embeddings)

    @can_return_tuple
    def forward(  # type: ignore[misc]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        sparse_logits: bool | None = None,
        keep_logits: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> AlignedMaskedLMOutput:
        """A masked LM's forward pass.

        Shapes: ids and masks [batch, length]; `attention_mask` may be boolean [batch, 1, length,
        length]; `position_ids` count from 0 with any architecture; token types are left out where
        it has none. `labels` hold −100 where there is nothing to predict. `num_items_in_batch`
        counts the labels of the whole batch of which this is a part (accumulation, processes): the
        parts' losses then add up to that of the whole. `sparse_logits` leaves out the logits of
        unlabelled positions (default: while training); `keep_logits` returns them beside the loss.
        """
        to_logits: Callable[[Tensor], Tensor] = self._logits
        alignment_loss: Tensor | None = None
        aligning = labels is not None and self.alignment_loss_weight != 0
        if input_ids is not None and (tied := self._tied(input_ids, aligning)):
            input_ids, (inputs_embeds, to_logits, alignment_loss) = None, tied
        if aligning and alignment_loss is None:
            alignment_loss = self.compute_alignment_loss()
        frame = self._frame(attention_mask, token_type_ids, position_ids)
        hidden = self.base_model(
            input_ids=input_ids, inputs_embeds=inputs_embeds, return_dict=True, **frame, **kwargs
        )
        states = hidden.last_hidden_state
        if labels is not None and (self.training if sparse_logits is None else sparse_logits):
            labelled = labels != IGNORE_INDEX
            states, labels = states[labelled], labels[labelled]
        logits, parts = to_logits(states), {}
        if labels is not None:
            parts = self._losses(logits, labels, alignment_loss, num_items_in_batch)
        return AlignedMaskedLMOutput(
            logits=logits if keep_logits or labels is None else None,
            hidden_states=hidden.hidden_states,
            attentions=hidden.attentions,
            **parts,
        )

    def _frame(
        self, mask: Tensor | None, types: Tensor | None, places: Tensor | None
    ) -> dict[str, Any]:
        """Mask, token types and positions, as the architecture takes them."""
        frame: dict[str, Any] = {"attention_mask": self._mask(mask)}
        if types is not None and token_types(self.config):
            frame["token_type_ids"] = types
        if places is not None:
            # Where the table holds more, the first rows are not for tokens.
            first = self.config.max_position_embeddings - positions(self.config)
            frame["position_ids"] = places + first
        return frame

    def _losses(
        self, logits: Tensor, labels: Tensor, alignment_loss: Tensor | None, items: Any
    ) -> dict[str, Tensor]:
        """L = L_MLM + α · L_align, and its parts; `items` is `num_items_in_batch` of `forward`."""
        total = kernels.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))
        count = labels.ne(IGNORE_INDEX).sum()
        whole = torch.as_tensor(count if items is None else items, device=total.device).clamp(min=1)
        parts = {"loss": total / whole, "mlm_loss": total.detach() / count.clamp(min=1)}
        if alignment_loss is not None:
            # Each part of a batch carries its share of the alignment loss, or cutting a batch in
            # four would weigh it fourfold.
            share = 1.0 if items is None else count / whole
            parts["loss"] = parts["loss"] + self.alignment_loss_weight * share * alignment_loss
            parts["alignment_loss"] = alignment_loss.detach()
        return parts

    def _tied(self, ids: Tensor, aligning: bool) -> Tied | None:
        """What one operation makes of the word embeddings; None where each use calls them."""
        return None

    def _mask(self, mask: Tensor | None) -> Any:
        """The mask, for attention that adds it to the scores; other kinds take it as it is."""
        adds = self.config._attn_implementation in ("eager", kernels.PLAIN_ATTENTION)
        if mask is None or not adds:
            return mask
        return kernels.additive(mask, kernels.product_dtype(mask.device, self.dtype))

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any):  # type: ignore[no-untyped-def]
        """The library's; ValueError where the dictionary has ids that would be cut off."""
        if self.dictionary is not None:
            self.dictionary.check_ids(new_num_tokens or self.config.vocab_size)
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save the plain weights, and the dictionary beside them where there is one."""
        hub = {name: kwargs.pop(name) for name in _HUB if name in kwargs}
        super().save_pretrained(save_directory, **kwargs)
        if not kwargs.get("is_main_process", True):
            return
        # Tools that know no class of ours look the architecture up by its name.
        mro = type(self).__mro__
        self.config.architectures = [mro[mro.index(AlignedMaskedLM) + 1].__name__]
        self.config.save_pretrained(save_directory)
        if self.dictionary is not None:
            self.dictionary.save_pretrained(save_directory)
        if push_to_hub:
            # `save_pretrained` itself would upload before the dictionary is there.
            self.push_to_hub(**{"repo_id": Path(save_directory).name} | hub)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Load a checkpoint that is whole (`load_whole`), and the dictionary that lies beside.

        Fields of `AlignedBertConfig` are options of it with any architecture.
        """
        if (name := pretrained_model_name_or_path) is None:
            return super().from_pretrained(name, *args, **kwargs)
        ours = {field: kwargs.pop(field) for field in _OURS & kwargs.keys()}
        model = load_whole(super(), name, *args, **kwargs)
        path = cached_file(
            name,
            DICTIONARY_FILE,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **{option: kwargs[option] for option in WHERE & kwargs.keys()},
        )
        one = model[0] if isinstance(model, tuple) else model
        for field, value in ours.items():
            setattr(one.config, field, value)
        if path:
            dictionary = BilingualDictionary.from_pretrained(path)
            try:
                one.set_dictionary(dictionary)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return model
