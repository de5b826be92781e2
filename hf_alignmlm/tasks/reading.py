"""A task's rows as a dataset has them: its splits, its columns, its classes by their names."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Dataset, get_dataset_split_names, load_dataset

from hf_alignmlm.data.formats import errors_that_name

SPLITS = ("train", "validation", "test")
REQUIRED = {"train": True, "validation": False, "test": True}
Raw = dict[str, Any]  # a row as its source has it


def first_of(raw: Raw, names: Sequence[str], where: str) -> Any:
    """What stands in the first of these columns (null counts last); ValueError without a column."""
    values = [raw[name] for name in names if name in raw]
    if not values:
        raise ValueError(f"{where}: no column {' or '.join(names)} among {', '.join(raw)}")
    return next((value for value in values if value is not None), None)


def class_names(value: Any, names: list[str]) -> Any:
    """The name of a class, or those of a list of them; −1, null and the like stay as they are."""
    if isinstance(value, list):
        return [class_names(one, names) for one in value]
    return names[value] if value in range(len(names)) else value


def dataset_rows(dataset: Dataset) -> Iterator[Raw]:
    """The rows of a dataset, classes by their names."""
    kinds = {name: getattr(f, "feature", f) for name, f in dataset.features.items()}
    classes = {name: kind.names for name, kind in kinds.items() if isinstance(kind, ClassLabel)}
    for batch in dataset.iter(1_000):
        for name, names in classes.items():
            batch[name] = class_names(batch[name], names)
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def hub_rows(
    dataset: str, config: str | None, splits: Mapping[str, bool]
) -> dict[str, Iterator[Raw]]:
    """The rows of these splits of a dataset; ValueError where one that is required is missing."""
    place = ", ".join(filter(None, (dataset, config)))
    with errors_that_name(place):
        there = get_dataset_split_names(dataset, config)
        needed = [split for split, required in splits.items() if required]
        if not {*needed} <= {*there}:
            raise ValueError(
                f"{place} has the splits {', '.join(there)}: a task needs {' and '.join(needed)}"
            )
        return {
            split: dataset_rows(load_dataset(dataset, config, split=split))
            for split in splits
            if split in there
        }
