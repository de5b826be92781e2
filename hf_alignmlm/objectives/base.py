"""What an objective is: which sequences there are, and what becomes of a chosen position.

An objective is a class in a file of its own. Each hook has a default, so that a new one says only
where it differs. Random numbers come from the collator, so that no objective can break the law that
masks depend on the seed, the epoch and the example alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hf_alignmlm.arguments import option
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.registry import registrar

# Labels of positions where there is nothing to predict, as the library has them.
IGNORE_INDEX = -100


class Draws(NamedTuple):
    """Uniform numbers in [0, 1), one a position: [rows, length] each."""

    choice: np.ndarray  # the lowest of a row are the positions to predict
    action: np.ndarray  # mask, random token or unchanged
    token: np.ndarray  # which random token
    spare: list[np.ndarray]  # two, for an objective's own hook


@dataclass(frozen=True)
class Objective:
    """Options of every objective.

    Class attributes: `name` (of `--objective`), `title` (for cards), `citation` (BibTeX), `colour`
    (in plots), `alignment_loss_weight` (the default α), `restarts_positions` (of the second half of
    a pair), `tells_languages` (the default of `language_embeddings`).

    Raises ValueError for a share outside 0 to 1, and for an `mlm_probability` of 0.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    colour: ClassVar[str] = "#CC79A7"
    alignment_loss_weight: ClassVar[float] = 0.0
    restarts_positions: ClassVar[bool] = False
    tells_languages: ClassVar[bool] = False

    mlm_probability: float = option(0.15, "Share of a sequence's tokens to predict.")
    language_embeddings: bool | None = option(
        None, "Token types tell the languages apart; default: for xlm."
    )
    isolate_sentences: bool = option(
        False, "A packed sentence does not see its neighbours; default: so with mini and small."
    )

    def __post_init__(self) -> None:
        if self.language_embeddings is None:
            object.__setattr__(self, "language_embeddings", self.tells_languages)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float | int) and not 0 <= value <= 1:
                raise ValueError(f"{field.name} must lie between 0 and 1, not {value}")
        if self.mlm_probability == 0:
            raise ValueError("mlm_probability must be more than 0, or there is nothing to predict")

    @staticmethod
    def from_name(name: str, **options: Any) -> "Objective":
        """The objective of that name; ValueError for an unknown name or another's option."""
        cls = find(name)
        cls.refuse_options_of_others(options)
        return cls(**options)

    @classmethod
    def refuse_options_of_others(cls, names: Iterable[str]) -> None:
        """Raise ValueError for the name of an option that only other objectives have."""
        own = {field.name for field in fields(cls)}
        for name in names:
            owners = [o.name for o in OBJECTIVES.values() if name in {f.name for f in fields(o)}]
            if name not in own and owners:
                raise ValueError(f"--{name} is an option of {', '.join(owners)}, not of {cls.name}")

    @property
    def pair_rate(self) -> float:
        """Share of the sentences that also give a pair, with their twin in one sequence."""
        return 0.0

    def prepare(self, dictionary: BilingualDictionary | None, vocab_size: int) -> Any:
        """What `replace` needs, made once; ValueError for a dictionary that does not serve."""

    def replace(
        self, ids: np.ndarray, masked: np.ndarray, draws: Draws, prepared: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels that chosen positions get, [rows, length] both.

        `ids` are the tokens that stand there, `masked` what BERT's rule makes of them, `prepared`
        what `prepare` gave. What is returned for other positions is not looked at.
        """
        return masked, ids


OBJECTIVES: dict[str, type[Objective]] = {}
register_objective = registrar(OBJECTIVES)


def find(name: str) -> type[Objective]:
    """The class of that name; ValueError lists the known ones."""
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}: known are {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
