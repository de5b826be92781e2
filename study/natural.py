"""Natural languages: what alignment is worth beside a masked LM alone, on texts of your own.

    python -m study.natural --data_dir DATA

`DATA` has `natural/NAME.train.txt.gz` and `NAME.validation.txt.gz` of each language,
`natural/en-NAME.filtered.txt.gz` (pairs of frequent words), and the treebanks of Universal
Dependencies (docs/natural/README.md tells what they are). Steps are run, resumed and stored as
those of the paper's grid; `alignmlm report docs/natural` makes the tables.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hf_alignmlm.arguments import one_line_errors
from study.driver import Driver
from study.grid import Step

# The weight of the alignment loss was chosen on en-hi by masked-LM losses and the cosine of seen
# pairs, never by a task (docs/natural/README.md).
WEIGHT = "1"
SEEDS = (0, 1, 2)
DICTIONARIES = {name: f"natural/en-{name}.filtered.txt.gz" for name in ("hi", "fr")}
DICTIONARIES["ar"] = "dictionaries/en-ar.txt.gz"
VOCABULARY = ("--vocab_size", "10000")
PRETRAIN = (
    *("run_pretraining", *VOCABULARY, "--dictionary_fraction", "0.9", "--bf16"),
    *("--eval_strategy", "no", "--save_steps", "500", "--logging_steps", "100"),
)
TAG = ("run_tagging", "--task_name", "pos", "--skip_supervised", "--bf16")


def named(names: Sequence[str], place: str) -> list[str]:
    """Files by language: `en={data}/natural/en.train.txt.gz` for the place `natural/{}.train…`."""
    return [f"{name}={{data}}/{place.format(name)}" for name in names]


def pretraining(name: str, names: Sequence[str], *options: str, needs: Sequence[Step] = ()) -> Step:
    """A pre-training run on these languages."""
    command = [*PRETRAIN, "--train_file", *named(names, "natural/{}.train.txt.gz")]
    command += ["--validation_file", *named(names, "natural/{}.validation.txt.gz"), *options]
    command += ["--output_dir", f"{{output}}/{name}"]
    product = f"{{output}}/{name}/model.safetensors"
    return Step(name, "pretraining", tuple(command), product, tuple(needs))


def aligned(names: Sequence[str], objective: str, seed: int, *options: str) -> Step:
    """A run with a dictionary of the first language and each other one, to align or to measure."""
    weight = ["--alignment_loss_weight", WEIGHT] if objective == "align-mlm" else []
    files = [f"{names[0]}-{other}={{data}}/{DICTIONARIES[other]}" for other in names[1:]]
    words = ["--objective", objective, "--seed", str(seed), *weight, "--dictionary_file", *files]
    return pretraining(f"{'-'.join(names)}-{objective}-{seed}", names, *words, *options)


def tagging(model: Step, names: Sequence[str]) -> Step:
    """Part-of-speech tagging: English labels, tested on parallel sentences of each language."""
    options = ["--train_file", "en={data}/ud/en_ewt-ud-train.conllu.gz"]
    options += ["--test_file", *named(names, "ud/{}_pud-ud-test.conllu.gz")]
    options += ["--model_name_or_path", f"{{output}}/{model.name}"]
    command = (*TAG, *options, "--output_dir", f"{{output}}/{model.name}-pos")
    product = f"{{output}}/{model.name}-pos/all_results.json"
    return Step(f"{model.name}-pos", "pos", command, product, (model,))


def retrieval(model: Step, pair: str) -> Step:
    """Retrieval of the translations of verses, both ways, by layer."""
    product = f"{{output}}/{model.name}-retrieval/all_results.json"
    command = ["hf_alignmlm", "retrieval", f"{{output}}/{model.name}", "--output", product]
    command += ["--parallel_file", f"{pair}={{data}}/natural/parallel.{pair}.test.tsv.gz"]
    return Step(f"{model.name}-retrieval", "retrieval", tuple(command), product, (model,))


def extension() -> Iterator[Step]:
    """French for an English checkpoint: new vocabulary, by how its rows start."""
    english = pretraining("en-mlm-0", ("en",), "--objective", "mlm", "--seed", "0")
    yield english
    for start in ("dictionary", "mean", "random"):
        options = ["--model_name_or_path", "{output}/en-mlm-0", "--extend_vocab", "5000"]
        options += ["--extend_vocab_init", start, "--objective", "mlm", "--max_steps", "500"]
        options += ["--dictionary_file", f"en-fr={{data}}/{DICTIONARIES['fr']}"]
        step = pretraining(f"en-fr-extended-{start}", ("en", "fr"), *options, needs=[english])
        yield replace(step, command=tuple(w for w in step.command if w not in VOCABULARY))


def plan() -> Iterator[Step]:
    """All steps, the most telling first."""
    for seed in SEEDS:
        for other in ("hi", "fr"):
            for objective in ("align-mlm", "mlm"):
                model = aligned(("en", other), objective, seed)
                yield from (model, tagging(model, ("en", other)))
                if other == "fr" and not seed:
                    yield retrieval(model, "en-fr")
        if not seed:
            yield from extension()
            verses = "en-fr={data}/natural/parallel.en-fr.train.tsv.gz"
            model = aligned(("en", "fr"), "xlm", 0, "--parallel_file", verses)
            yield from (model, retrieval(model, "en-fr"))
            model = aligned(("en", "fr", "hi", "ar"), "align-mlm", 0)
            yield from (model, tagging(model, ("en", "fr", "hi", "ar")))


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing; exit code 1 where a step failed."""
    parser = argparse.ArgumentParser(prog="python -m study.natural", description=__doc__)
    parser.add_argument("--data_dir", default="data", help="the folder of texts and treebanks")
    parser.add_argument("--output_dir", default="runs/natural", help="runs and checkpoints")
    parser.add_argument("--results_dir", default="docs/natural", help="results files")
    parser.add_argument("--jobs", type=int, help="steps at a time; default: number of cores")
    with one_line_errors():
        failed = Driver(parser.parse_args(argv), list(plan())).run()
    for name, reason in failed.items():
        print(f"FAILED {name}: {reason}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
