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
from hf_alignmlm.objectives.base import IGNORE_INDEX, Draws, Objective, bert_rule, choose


@dataclass
class ObjectiveCollator:
    """Packed sequences to a masked batch, by objective.

    Input features: `input_ids` (at most `max_seq_length` of them), `language` (0 original, 1
    derived, 2 pair), `example` (its number) and `epoch`. Masks are drawn from (seed, epoch,
    example) alone, whichever process draws them. The batch holds `input_ids`, `labels` (−100 where
    nothing is predicted), `attention_mask`, `token_type_ids` and, where they do not simply run on,
    `position_ids`: all [batch, max_seq_length], but for an `attention_mask` of isolated sentences,
    boolean [batch, 1, max_seq_length, max_seq_length].

    Raises ValueError where the objective needs a dictionary and has no fitting one.
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
        # A doubled vocabulary has twins of the special tokens. No text holds them: no draw may.
        excluded = self._special.copy()
        excluded[reserved_ids(self.tokenizer)] = True
        self._random_ids = np.flatnonzero(~excluded)
        self._prepared = self.objective.prepare(self.dictionary, size)

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        ids = np.full((len(features), self.max_seq_length), self.tokenizer.pad_token_id)
        for row, feature in zip(ids, features, strict=True):
            row[: len(feature["input_ids"])] = feature["input_ids"]
        languages = np.array([feature["language"] for feature in features])
        batch = self._mask(ids, features)
        batch["token_type_ids"] = self._token_types(ids, languages)
        batch |= self._attention(ids, languages)
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _mask(self, ids: np.ndarray, features: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
        """The chosen positions' inputs and labels; all others keep their token, unlabelled."""
        draws = self._draws(ids.shape, features)
        chosen = choose(~self._special[ids], draws.choice, self.objective.mlm_probability)
        masked = bert_rule(ids, draws, self.tokenizer.mask_token_id, self._random_ids)
        inputs, labels = self.objective.replace(ids, masked, draws, self._prepared)
        return {
            "input_ids": np.where(chosen, inputs, ids),
            "labels": np.where(chosen, labels, IGNORE_INDEX),
        }

    def _draws(self, shape: tuple[int, int], features: Sequence[dict[str, Any]]) -> Draws:
        numbers = np.empty((shape[0], 5, shape[1]))
        for row, feature in zip(numbers, features, strict=True):
            key = [self.seed, int(feature.get("epoch", 0)), int(feature["example"])]
            np.random.Generator(np.random.Philox(np.random.SeedSequence(key))).random(out=row)
        choice, action, token, *spare = numbers.transpose(1, 0, 2)
        return Draws(choice, action, token, (spare[0], spare[1]))

    def _token_types(self, ids: np.ndarray, languages: np.ndarray) -> np.ndarray:
        """1 at the derived language's tokens, where types tell the languages apart."""
        if not self.objective.language_embeddings:
            return np.zeros_like(ids)
        second_half = np.arange(ids.shape[1]) >= self.max_seq_length // 2
        derived = (languages == DERIVED)[:, None] | ((languages == PAIR)[:, None] & second_half)
        return (derived & (ids != self.tokenizer.pad_token_id)).astype(np.int64)

    def _attention(self, ids: np.ndarray, languages: np.ndarray) -> dict[str, np.ndarray]:
        """Which tokens see each other, and positions where they do not simply run on."""
        length = ids.shape[1]
        real, positions = ids != self.tokenizer.pad_token_id, np.arange(length)
        starts = np.zeros_like(real)
        starts[:, 0] = True
        starts[languages == PAIR, length // 2] = True
        if not self.objective.isolate_sentences:
            result = {"attention_mask": real.astype(np.int64)}
            if self.objective.restarts_positions:
                result["position_ids"] = since(starts, positions)
            return result
        after_sep = np.zeros_like(real)
        after_sep[:, 1:] = ids[:, :-1] == self.tokenizer.sep_token_id
        # Sentences are numbered from the start of each half, so that twins share a number.
        number = np.cumsum(after_sep, axis=1)
        number -= np.take_along_axis(number, positions - since(starts, positions), axis=1)
        together = (number[:, :, None] == number[:, None, :]) & real[:, None, :]
        # A row that may attend to nothing gives NaN, so padding attends to the real tokens.
        together |= ~real[:, :, None] & real[:, None, :]
        return {
            "attention_mask": together[:, None],
            "position_ids": since(starts | after_sep, positions),
        }


def since(starts: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """[rows, length]: how far each place is from the last start at or before it.

    For starts at the places 0 and 3 of 5: [0, 1, 2, 0, 1].
    """
    return positions - np.maximum.accumulate(np.where(starts, positions, 0), axis=1)
