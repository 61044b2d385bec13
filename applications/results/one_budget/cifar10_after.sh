#!/usr/bin/env bash
# What the networks of cifar10.sh do on bad images, and what stopping early saves.
#
# Needs their folders below RUNS; those that are not there yet are left out. Adds rows to
# robustness.csv (the first 2,000 test images) and early_exit.csv (all) beside itself,
# and draws robustness.png. TFDS_DATA_DIR must hold CIFAR-10. For those of cifar10_gpu.sh:
# `RUNS=runs/one_budget_gpu SUFFIX=_gpu bash cifar10_after.sh`.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/one_budget}
RESULTS=${RESULTS:-applications/results/one_budget}
SUFFIX=${SUFFIX:-}
DATA=(--dataset=cifar10 --data_dir="$TFDS_DATA_DIR")

runs=() names=()
for name in lnin ft_lnin ft2lr_lnin lr_lnin_2 lr_lnin_3 vgg_small ft_vgg_small \
  ft2lr_vgg_small crcn vgg_attention cliquenet cliquenet_1_1 cliquenet_1_1_narrow \
  feedback_convlstm feedforward_convlstm; do
  if [ ! -f "$RUNS/$name-0/weights.h5" ]; then continue; fi
  runs+=("$RUNS/$name-0") names+=("$name")
done
"$PYTHON" -m applications.robustness \
  --runs="$(IFS=,; echo "${runs[*]}")" --names="$(IFS=,; echo "${names[*]}")" \
  --noise=10,20,30,40,50 --occlusion=0.1,0.2,0.3 --fgsm=1,2,4,8 \
  --eval_split='test[:2000]' --batch_size=250 \
  --results="$RESULTS/robustness$SUFFIX.csv" --output_dir="$RUNS/robustness" "${DATA[@]}"
cp "$RUNS/robustness/robustness.png" "$RESULTS/robustness$SUFFIX.png"
for name in lr_lnin_2 lr_lnin_3 crcn feedback_convlstm; do
  if [ ! -f "$RUNS/$name-0/weights.h5" ]; then continue; fi
  if grep -qs ",$name-0," "$RESULTS/early_exit$SUFFIX.csv"; then continue; fi
  "$PYTHON" -m applications.evaluate --run="$RUNS/$name-0" --early_exit \
    --exit_results="$RESULTS/early_exit$SUFFIX.csv" "${DATA[@]}"
done
