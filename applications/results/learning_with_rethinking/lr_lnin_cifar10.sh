#!/usr/bin/env bash
# LR-LNIN against LNIN trained on, CIFAR-10, on a short schedule for two CPU cores: all
# 50,000 training images, LNIN for 6 epochs, then each for 3 more, the last one at a
# tenth of the rate; all 10,000 test images. (The paper: 256 epochs, then 256 more.)
# Writes lr_lnin_cifar10.csv beside itself; TFDS_DATA_DIR must hold CIFAR-10, or TFDS
# fetches it. PRECISION=--mixed_precision=none for a CPU without AMX.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/lr_lnin_cifar10}
PRECISION=${PRECISION:---mixed_precision=bfloat16}
RESULTS=${RESULTS:-applications/results/learning_with_rethinking}
CSV=$RESULTS/lr_lnin_cifar10.csv

train() {
  local name=$1
  shift
  # What has a row already is not run again.
  if grep -qs ",$name," "$CSV"; then return; fi
  "$PYTHON" -m applications.train --config=lr_lnin_cifar10 "$PRECISION" \
    --validation_freq=0 --verbose=1 --results="$CSV" \
    --output_dir="$RUNS/$name" --experiment="$name" "$@"
}

further() {
  train "$@" --epochs=3 --lr_drops=0.667 --init_from="$RUNS/lnin/weights.h5"
}

train lnin --model=lnin --epochs=6
further ft-lnin --model=lnin
further lr-lnin --model=lrnet
# The losses of both passes add up: what does a doubled rate alone do?
further ft-lnin-lr0.02 --model=lnin --lr=0.02
