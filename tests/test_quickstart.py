"""The README's first command, whole: minutes long, run by hand (`make test-slow`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_quickstart_shows_what_the_readme_shows(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(ROOT / "examples" / "quickstart.sh"), str(tmp_path)]
    subprocess.run(command, env=os.environ | {"PATH": path}, check=True)
    results = {
        name: json.loads((tmp_path / name / "all_results.json").read_text(encoding="utf-8"))
        for name in ("mlm", "align-mlm", "mlm-pos", "align-mlm-pos")
    }
    assert results["align-mlm"]["alignment_p1"] == pytest.approx(100, abs=0.5)
    assert results["mlm"]["alignment_p1"] < 1
    # README's figures; rounding differs from one kind of processor to another.
    assert results["align-mlm-pos"]["bz"] == pytest.approx(82.7, abs=2)
    assert results["mlm-pos"]["bz"] == pytest.approx(32.7, abs=4)
