"""Train, evaluate, save and resume a model that FSDP2 shards, by a plain loop of any processes.

    torchrun --standalone --nproc_per_node 2 fsdp_driver.py OUT ARCHITECTURE …

Trains for two steps, saves the model as a checkpoint of the library's (OUT/ARCHITECTURE/model) and
what a run goes on from (…/resume), and does two more steps. OUT/ARCHITECTURE.pt has the losses, the
alignment and the weights at the end, of the run that went on and of one resumed. One process alone
shards nothing. (`Trainer` does not drive FSDP on CPUs: accelerate leaves its configuration unread.)
"""

import os
import sys
from pathlib import Path

import gradient_driver
import torch
import torch.distributed as dist
from torch.distributed import checkpoint
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.fsdp import fully_shard
from torch.utils.data import default_collate

from hf_alignmlm.alignment import dictionary_alignment
from hf_alignmlm.models.vocabulary import embedding_matrix

WHOLE = states.StateDictOptions(full_state_dict=True, cpu_offload=True)


def rank_and_size():
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def make(architecture):
    """The model, sharded by layer where there are several processes, and its optimizer."""
    model = gradient_driver.make_model(architecture).train()
    if dist.is_initialized():
        layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
        for layer in layers:
            fully_shard(layer)
        fully_shard(model)
    # With a smaller epsilon, gradients that are 0 but for rounding would give whole steps.
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-3)


def step(model, optimizer, number):
    """One step on this process's part of 16 rows; the loss of them all."""
    rank, size = rank_and_size()
    rows = gradient_driver.make_rows(seed=number)
    labels = sum(row["labels"].ne(-100).sum() for row in rows)
    loss = model(**default_collate(rows[rank::size]), num_items_in_batch=labels).loss
    (loss * size).backward()  # sharded gradients are the mean over the processes
    optimizer.step()
    optimizer.zero_grad()
    total = loss.detach().clone()
    if size > 1:
        dist.all_reduce(total)
    return total.item()


@torch.no_grad()
def evaluate(model):
    """The masked-LM loss of other rows, and the alignment."""
    # Before the forward pass, which leaves the matrix gathered.
    scores = dictionary_alignment(embedding_matrix(model.get_input_embeddings()), model.dictionary)
    model.eval()
    inputs = default_collate(gradient_driver.make_rows(7, seed=99))
    loss = model(**inputs, sparse_logits=True).mlm_loss.item()
    model.train()
    known = {name: score for name, score in scores.items() if score is not None}
    return known | {"loss": loss}


def save(model, optimizer, folder):
    weights = states.get_model_state_dict(model, options=WHOLE)
    # The other processes hold no weights of the whole.
    model.save_pretrained(
        folder / "model", state_dict=weights, is_main_process=not rank_and_size()[0]
    )
    parts = states.get_state_dict(model, optimizer)
    checkpoint.save(
        dict(zip(("model", "optimizer"), parts, strict=True)), checkpoint_id=folder / "resume"
    )


def resume(architecture, folder):
    model, optimizer = make(architecture)
    parts = dict(zip(("model", "optimizer"), states.get_state_dict(model, optimizer), strict=True))
    checkpoint.load(parts, checkpoint_id=folder / "resume")
    states.set_state_dict(
        model, optimizer, model_state_dict=parts["model"], optim_state_dict=parts["optimizer"]
    )
    return model, optimizer


def run(architecture, folder):
    model, optimizer = make(architecture)
    sharded = [hasattr(parameter, "full_tensor") for parameter in model.parameters()]
    result = {
        "processes": rank_and_size()[1],
        "sharded": all(sharded),
        "losses": [step(model, optimizer, n) for n in (1, 2)],
    }
    save(model, optimizer, folder)
    for one in ((model, optimizer), resume(architecture, folder)):
        result["losses"] += [step(*one, n) for n in (3, 4)]
        result.setdefault("evaluations", []).append(evaluate(one[0]))
        weights = states.get_model_state_dict(one[0], options=WHOLE)
        result.setdefault("weights", []).append(weights)
    return result


def main(folder, *architectures):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for architecture in architectures:
        result = run(architecture, Path(folder) / architecture)
        if not dist.get_rank():
            torch.save(result, Path(folder) / f"{architecture}.pt")
    dist.barrier()  # the first may still be writing
    dist.destroy_process_group()
    # What the threads of gloo do as the interpreter ends is not under test; at times it aborts.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
