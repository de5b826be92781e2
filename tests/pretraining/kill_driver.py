"""Pre-trains in forked processes, each killed at a point of its own; then the same command again.

Arguments: a folder, the points and a command line as JSON. A point is a number n, the n-th time
that the run opens, renames or removes a file of its folder; or `tokenizer n`, the n-th time that it
writes its tokenizer, left empty; or `seal n`, before the n-th checkpoint is sealed.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

import hf_alignmlm.trainer
import run_pretraining


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(point, folder):
    kind, _, count = str(point).rpartition(" ")
    left = int(count)

    def counted():
        nonlocal left
        left -= 1
        return left == 0

    if kind == "tokenizer":
        save = PreTrainedTokenizerBase.save_pretrained

        def halfway(self, directory, *args, **kwargs):
            save(self, directory, *args, **kwargs)
            if counted():
                (Path(directory) / "tokenizer.json").write_bytes(b"")
                kill()

        PreTrainedTokenizerBase.save_pretrained = halfway
    elif kind == "seal":
        seal = hf_alignmlm.trainer.seal_checkpoint
        hf_alignmlm.trainer.seal_checkpoint = lambda path: kill() if counted() else seal(path)
    else:

        def hook(event, args):
            names = ("open", "os.rename", "os.remove", "os.mkdir", "shutil.rmtree")
            reads = event == "open" and args[1] is not None and not set(args[1]) & set("wax+")
            if event in names and not reads and str(args[0]).startswith(folder) and counted():
                kill()

        sys.addaudithook(hook)


def in_a_fork(argv, folder, point=None):
    child = os.fork()
    if child == 0:
        if point is not None:
            kill_at(point, folder)
        run_pretraining.main([folder if word == "OUTPUT" else word for word in argv])
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(root, points, argv):
    torch.set_num_threads(1)
    assert in_a_fork(argv, f"{root}/whole") == 0
    for point in points:
        killed = in_a_fork(argv, f"{root}/{point}", point)
        assert killed == -signal.SIGKILL, (point, killed)
        assert in_a_fork(argv, f"{root}/{point}") == 0, point


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3]))
