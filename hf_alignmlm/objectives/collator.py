"""Packed sequences to masked batches, for every objective."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.tokenizer import reserved_ids
from hf_alignmlm.objectives.base import IGNORE_INDEX, Draws, Objective


@dataclass
class ObjectiveCollator:
    """Packed sequences to a masked batch, by objective.

    Input features: `input_ids` (at most `max_seq_length` of them), `language` (its number; −k for a
    pair of the source and language k), `example` (its number) and `epoch`. Masks are drawn from
    (seed, epoch, example) alone, whichever process draws them. The batch holds `input_ids`,
    `labels` (−100 where nothing is predicted), `attention_mask`, `token_type_ids` and, where they
    do not simply run on, `position_ids`: all [batch, max_seq_length], but for an `attention_mask`
    of isolated sentences, boolean [batch, 1, max_seq_length, max_seq_length].

    Raises ValueError where the objective needs a dictionary and has no fitting one.
    """

    tokenizer: PreTrainedTokenizerBase
    objective: Objective
    max_seq_length: int
    seed: int = 0
    dictionary: BilingualDictionary | None = None

    def __post_init__(self) -> None:
        ids = np.arange(len(self.tokenizer))
        self._special = np.isin(ids, self.tokenizer.all_special_ids)
        # A doubled vocabulary has twins of the special tokens. No text holds them: no draw may.
        self._random_ids = np.setdiff1d(ids, reserved_ids(self.tokenizer))
        self._prepared = self.objective.prepare(self.dictionary, len(ids))

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        ids = np.full((len(features), self.max_seq_length), self.tokenizer.pad_token_id)
        for row, feature in zip(ids, features, strict=True):
            row[: len(feature["input_ids"])] = feature["input_ids"]
        languages = np.array([[feature["language"]] for feature in features])
        batch = self._mask(ids, self._draws(ids.shape, features)) | self._frame(ids, languages)
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _draws(self, shape: tuple[int, int], features: Sequence[dict[str, Any]]) -> Draws:
        numbers = np.empty((shape[0], 5, shape[1]))
        for row, feature in zip(numbers, features, strict=True):
            key = [self.seed, int(feature.get("epoch", 0)), int(feature["example"])]
            np.random.Generator(np.random.Philox(np.random.SeedSequence(key))).random(out=row)
        choice, action, token, *spare = numbers.transpose(1, 0, 2)
        return Draws(choice, action, token, spare)

    def _mask(self, ids: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
        """The chosen positions' inputs and labels; all others keep their token, unlabelled."""
        candidates = ~self._special[ids]
        count = np.rint(self.objective.mlm_probability * candidates.sum(1))
        count = np.maximum(count, candidates.any(1))  # one at least
        # The lowest draws of a row are chosen; no draw is as high as 2.
        rank = np.where(candidates, draws.choice, 2.0).argsort(1).argsort(1)
        chosen = rank < count[:, None]
        # BERT, section 3.1: 80 % become the mask, 10 % a random token, 10 % stay.
        drawn = self._random_ids[(draws.token * len(self._random_ids)).astype(int)]
        masked = np.where(draws.action < 0.9, drawn, ids)
        masked[draws.action < 0.8] = self.tokenizer.mask_token_id
        inputs, labels = self.objective.replace(ids, masked, draws, self._prepared)
        return {
            "input_ids": np.where(chosen, inputs, ids),
            "labels": np.where(chosen, labels, IGNORE_INDEX),
        }

    def _frame(self, ids: np.ndarray, languages: np.ndarray) -> dict[str, np.ndarray]:
        """Which tokens see each other; token types; positions where they do not simply run on."""
        real, places = ids != self.tokenizer.pad_token_id, np.arange(ids.shape[1])
        half = len(places) // 2
        second = (languages < 0) & (places >= half)
        types = np.where(second, -languages, languages.clip(min=0)) * real
        types *= bool(self.objective.language_embeddings)
        frame = {"attention_mask": real.astype(np.int64), "token_type_ids": types.astype(np.int64)}
        starts = (places == 0) | ((languages < 0) & (places == half))
        if self.objective.restarts_positions:
            frame["position_ids"] = since(starts)
        if self.objective.isolate_sentences:
            after_sep = np.zeros_like(real)
            after_sep[:, 1:] = ids[:, :-1] == self.tokenizer.sep_token_id
            # Sentences are numbered from the start of each half, so that twins share a number.
            number = np.cumsum(after_sep, axis=1)
            number -= np.take_along_axis(number, places - since(starts), axis=1)
            together = (number[:, :, None] == number[:, None, :]) & real[:, None, :]
            # A row that may attend to nothing gives NaN, so padding attends to the real tokens.
            together |= ~real[:, :, None] & real[:, None, :]
            frame["attention_mask"] = together[:, None]
            frame["position_ids"] = since(starts | after_sep)
        return frame


def since(starts: np.ndarray) -> np.ndarray:
    """[rows, length]: how far each place is from the last start at or before it.

    For starts at the places 0 and 3 of 5: [0, 1, 2, 0, 1].
    """
    places = np.arange(starts.shape[1])
    return places - np.maximum.accumulate(np.where(starts, places, 0), axis=1)
