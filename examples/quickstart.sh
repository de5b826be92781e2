#!/usr/bin/env bash
# Two objectives on English and its inverted twin, side by side: is alignment what transfers?
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-runs/quickstart}

for objective in mlm align-mlm; do
  python run_pretraining.py --objective "$objective" --language trans_inv --size mini \
    --max_steps 800 --output_dir "$runs/$objective" --use_cpu
  python run_tagging.py --model_name_or_path "$runs/$objective" --task_name pos \
    --output_dir "$runs/$objective-pos" --use_cpu
done
python -m hf_alignmlm.transfer "$runs"
