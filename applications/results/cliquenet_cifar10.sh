#!/usr/bin/env bash
# CliqueNet (12, 12) on CIFAR-10 without augmentation, on a short schedule for two CPU
# cores, and what stage II is worth: (II+II) against (I+I) at the same budget, two seeds.
# EPOCHS epochs over all 50,000 training images, the rate falling to a tenth at 50 % and
# 75 %; all 10,000 test images. (The paper: 300 epochs, other widths.)
# Writes cliquenet_cifar10.csv beside itself; TFDS_DATA_DIR must hold CIFAR-10, or TFDS
# fetches it. PRECISION=--nomixed_precision for a CPU without AMX.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/cliquenet_cifar10}
PRECISION=${PRECISION:---mixed_precision}

train() {
  local name=$1 arguments=$2
  # What has a row already is not run again.
  if grep -qs ",$name,cliquenet_cifar10,$seed," applications/results/cliquenet_cifar10.csv; then return; fi
  "$PYTHON" -m applications.train --config=cliquenet_cifar10 "$PRECISION" \
    --model_args="$arguments" --epochs=3 --validation_freq=0 --verbose=1 --seed="$seed" \
    --results=applications/results/cliquenet_cifar10.csv \
    --output_dir="$RUNS/$seed/$name" --experiment="$name"
}

for seed in 0 1; do
  train cliquenet-12-12 '{"filters": 12, "layers": 12}'
  train cliquenet-12-12-I+I \
    '{"filters": 12, "layers": 12, "block_feature": "I", "transition_feature": "I"}'
done
