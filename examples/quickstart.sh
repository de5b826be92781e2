#!/usr/bin/env bash
# Two objectives on English and its inverted twin, side by side: is alignment what transfers?
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-runs/quickstart}
# Two runs of one thread each are faster than one of two, at this size.
export OMP_NUM_THREADS=1

one() {
  python run_pretraining.py --objective "$1" --language trans_inv --size mini \
    --max_steps 800 --output_dir "$runs/$1" --use_cpu
  python run_tagging.py --model_name_or_path "$runs/$1" --task_name pos \
    --output_dir "$runs/$1-pos" --use_cpu
}

mkdir -p "$runs"
echo "mlm runs beside align-mlm, its progress in $runs/mlm.log"
one mlm > "$runs/mlm.log" 2>&1 &
other=$!
one align-mlm || { kill "$other"; exit 1; }
echo "Waiting for mlm …"
wait "$other" || { cat "$runs/mlm.log"; exit 1; }
tail -n 1 "$runs/mlm.log"
alignmlm report "$runs"
