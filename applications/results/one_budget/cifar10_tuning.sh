#!/usr/bin/env bash
# Chooses the rate of LNIN in cifar10.sh: each on 10,000 training images for 3 epochs of
# one cycle, measured on 5,000 others; then tries half the dropout, which no row of
# cifar10.sh has. Writes cifar10_tuning.csv beside itself, and skips what has a row
# there. TFDS_DATA_DIR must hold CIFAR-10.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/one_budget_tuning}
RESULTS=${RESULTS:-applications/results/one_budget}
CSV=${CSV:-$RESULTS/cifar10_tuning.csv}

try() { # experiment, flags
  local name=$1
  shift
  if grep -qs ",$name," "$CSV"; then return; fi
  "$PYTHON" -m applications.train --config=one_budget_cifar10 --experiment="$name" \
    --train_split='train[:10000]' --eval_split='train[45000:]' --epochs=3 \
    --results="$CSV" --output_dir="$RUNS/$name" --verbose=2 "$@"
}

for lr in 0.05 0.02; do
  try "lnin-sgd-$lr" --model=lnin --lr="$lr"
done
try lnin-dropout-0.25-0.02 --model=lnin --lr=0.02 --model_args='{"dropout": 0.25}'
