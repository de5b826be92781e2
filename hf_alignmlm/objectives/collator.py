"""Packed sequences to masked batches, for every objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.packing import DERIVED, PAIR
from hf_alignmlm.data.tokenizer import reserved_ids
from hf_alignmlm.objectives.base import IGNORE_INDEX, Objective


@dataclass
class ObjectiveCollator:
    """Packed sequences to a masked batch, by objective.

    Input features: `input_ids` (at most `max_seq_length` of them), `language` (0 original, 1
    derived, 2 pair), `example` (its number) and `epoch`. Masks are drawn from (seed, epoch,
    example) alone, whichever process draws them. The batch holds `input_ids`, `labels` (−100 where
    nothing is predicted), `attention_mask`, `token_type_ids` and, where they do not simply run on,
    `position_ids`: all [batch, max_seq_length], but for an `attention_mask` of isolated sentences,
    boolean [batch, 1, max_seq_length, max_seq_length].
    """

    tokenizer: PreTrainedTokenizerBase
    objective: Objective
    max_seq_length: int
    seed: int = 0
    dictionary: BilingualDictionary | None = None

    def __post_init__(self) -> None:
        size = len(self.tokenizer)
        self._special = np.zeros(size, dtype=bool)
        self._special[self.tokenizer.all_special_ids] = True
        # The twins of special tokens in a doubled vocabulary are in no text: nor in any draw.
        excluded = self._special.copy()
        excluded[reserved_ids(self.tokenizer)] = True
        self._random_ids = np.flatnonzero(~excluded)
        self._swaps = None
        if self.objective.name == "dict-mlm":
            pairs = self.dictionary.single_piece_pairs() if self.dictionary is not None else []
            if not pairs:
                raise ValueError("dict-mlm needs a dictionary with seen pairs of one piece each")
            self._swaps = _swap_table(pairs, size)

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        ids = np.full((len(features), self.max_seq_length), self.tokenizer.pad_token_id)
        for row, feature in zip(ids, features, strict=True):
            row[: len(feature["input_ids"])] = feature["input_ids"]
        languages = np.array([feature["language"] for feature in features])
        half = self.max_seq_length // 2
        derived = languages[:, None] == DERIVED
        derived = derived | ((languages[:, None] == PAIR) & (np.arange(ids.shape[1]) >= half))
        batch = self._mask(ids, features)
        batch["token_type_ids"] = (derived & (ids != self.tokenizer.pad_token_id)).astype(np.int64)
        if not self.objective.language_embeddings:
            batch["token_type_ids"][:] = 0
        batch |= self._attention(ids, languages)
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _attention(self, ids: np.ndarray, languages: np.ndarray) -> dict[str, np.ndarray]:
        length = ids.shape[1]
        real, positions = ids != self.tokenizer.pad_token_id, np.arange(length)
        starts = np.zeros_like(real)
        starts[:, 0] = True
        starts[languages == PAIR, length // 2] = True
        if not self.objective.isolate_sentences:
            result = {"attention_mask": real.astype(np.int64)}
            if self.objective.name == "xlm":
                result["position_ids"] = _since(starts, positions)
            return result
        closed = np.zeros_like(real)
        closed[:, 1:] = ids[:, :-1] == self.tokenizer.sep_token_id
        # Sentences are numbered from the start of each half, so that twins share a number.
        number = np.cumsum(closed, axis=1)
        number -= np.take_along_axis(number, positions - _since(starts, positions), axis=1)
        together = (number[:, :, None] == number[:, None, :]) & real[:, None, :]
        # Padding attends to something, or its softmax would be over nothing.
        together |= ~real[:, :, None] & real[:, None, :]
        return {
            "attention_mask": together[:, None],
            "position_ids": _since(starts | closed, positions),
        }

    def _mask(self, ids: np.ndarray, features: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
        """BERT's masking, and dict-mlm's swaps: inputs and labels."""
        rows, length = ids.shape
        draws = np.empty((rows, 5, length))
        for draw, feature in zip(draws, features, strict=True):
            key = [self.seed, int(feature.get("epoch", 0)), int(feature["example"])]
            np.random.Generator(np.random.Philox(np.random.SeedSequence(key))).random(out=draw)
        choice, action, token, swap, translation = draws.transpose(1, 0, 2)
        candidates = ~self._special[ids]
        count = np.rint(self.objective.mlm_probability * candidates.sum(1)).astype(int)
        if self.objective.mlm_probability > 0:
            count = np.maximum(count, candidates.any(1))
        rank = np.where(candidates, choice, 2.0).argsort(1).argsort(1)
        chosen = rank < count[:, None]

        inputs, labels = ids.copy(), np.where(chosen, ids, IGNORE_INDEX)
        replacements = self._random_ids[(token * len(self._random_ids)).astype(int)]
        masked = np.where(
            action < 0.8, self.tokenizer.mask_token_id, np.where(action < 0.9, replacements, ids)
        )
        if self._swaps is not None:
            counts, counterparts = self._swaps
            crossed = chosen & (swap < self.objective.swap_probability) & (counts[ids] > 0)
            picks = (translation * counts[ids]).astype(int)
            other = counterparts[ids, picks]
            if self.objective.dict_mlm_variant == "input":
                masked = np.where(crossed, other, masked)
            else:
                labels = np.where(crossed, other, labels)
        inputs[chosen] = masked[chosen]
        return {"input_ids": inputs, "labels": labels}


def _since(starts: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """[rows, length]: how far each place is from the last start at or before it."""
    return positions - np.maximum.accumulate(np.where(starts, positions, 0), axis=1)


def _swap_table(pairs: Sequence[tuple[int, int]], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Per token id, the number of its counterparts and their ids, in both directions."""
    counterparts: list[list[int]] = [[] for _ in range(size)]
    for original, derived in pairs:
        counterparts[original].append(derived)
        counterparts[derived].append(original)
    counts = np.array([len(others) for others in counterparts])
    table = np.zeros((size, max(1, counts.max())), dtype=np.int64)
    for row, others in zip(table, counterparts, strict=True):
        row[: len(others)] = others
    return counts, table
