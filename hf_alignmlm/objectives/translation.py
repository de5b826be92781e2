"""Pairs of sentences to masked batches, outside pre-training: TLM for any script (XLM)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from hf_alignmlm.data.packer import PAIR, PAIR_COLUMNS, Packer
from hf_alignmlm.data.parallel import translation
from hf_alignmlm.data.tokenizer import text_encoder
from hf_alignmlm.objectives.base import Objective
from hf_alignmlm.objectives.collator import ObjectiveCollator
from hf_alignmlm.objectives.xlm import XLM


@dataclass
class TranslationCollator(ObjectiveCollator):
    """Sentences and their translations to masked batches (TLM), for any training script.

    Input features: rows of parallel text, `{"translation": {"en": ..., "fr": ...}}` or
    `{"en": ..., "fr": ...}`, with texts or their ids (without special tokens) under `names`, the
    source first; `language` may say −k for the k-th other language. Each gives a row of the batch,
    as long as its longest sides need, at most `max_seq_length`: the sentence in the first half, its
    translation in the second. A longer pair is cut, both sides to the same share.

    Masks are a function of seed, `epoch` and `example` where a row has them. Where it has no
    `example`, torch's generator gives one, so that masks change with each call and `set_seed`
    repeats them, as with the library's own collators. Batches are those of `ObjectiveCollator`.

    Raises ValueError for a row without one of the two texts.
    """

    objective: Objective = field(default_factory=XLM)
    max_seq_length: int = 256
    names: Sequence[str] = PAIR_COLUMNS

    def __post_init__(self) -> None:
        if self.max_seq_length < 8:
            raise ValueError(f"max_seq_length must be at least 8, not {self.max_seq_length}")
        # One pair a row: there are no others for it to be isolated from.
        self.objective = replace(self.objective, isolate_sentences=False)
        super().__post_init__()
        special = (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
        sizes = self.max_seq_length, False, 1.0, self.seed
        self._packer = Packer({}, *sizes, *special, self.tokenizer.pad_token_id)
        self._backend = self.tokenizer.backend_tokenizer.to_str()

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        rows = []
        for number, feature in enumerate(features, 1):
            where = f"row {number} of a batch"
            pair = [self._ids(side) for side in translation(feature, self.names, where)]
            if not all(map(len, pair)):
                raise ValueError(f"{where} has an empty side: leave such rows out")
            (ids,) = self._packer.translations([tuple(pair)])
            row = {"language": PAIR, "example": int(torch.randint(1 << 62, ()))} | feature
            rows.append(row | {"input_ids": ids})
        batch, half = super().__call__(rows), self.max_seq_length // 2
        # Drawn at full length, so that a row's mask does not depend on the length of the others.
        sides = batch["attention_mask"][:, : 2 * half].view(-1, 2, half)
        places = torch.arange(int(sides.sum(2).max()))
        places = torch.cat([places, half + places])
        return {name: values[:, places] for name, values in batch.items()}

    def _ids(self, side: Any) -> Any:
        if not isinstance(side, str):
            return side or []
        return text_encoder(self._backend).encode(side.strip(), add_special_tokens=False).ids
