#!/usr/bin/env bash
# CliqueNet (12, 12) on CIFAR-10 without augmentation, on a short schedule for two CPU
# cores, and what stage II is worth: (II+II) against (I+I) at the same budget, two seeds.
# The first 10,000 training images, 6 epochs, the rate falling to a tenth at 50 % and
# 75 %; all 10,000 test images. (The paper: 50,000 images, 300 epochs, other widths.)
# Writes cliquenet_cifar10.csv beside itself; TFDS_DATA_DIR must hold CIFAR-10, or TFDS
# fetches it.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/cliquenet_cifar10}
RESULTS=${RESULTS:-applications/results/cliquenet}
CSV=$RESULTS/cliquenet_cifar10.csv

train() {
  local name=$1 arguments=$2
  # What has a row already is not run again.
  if grep -qs ",$name,cliquenet_cifar10,$seed," "$CSV"; then return; fi
  "$PYTHON" -m applications.train --config=cliquenet_cifar10 --seed="$seed" \
    --model_args="$arguments" --train_split='train[:20%]' --epochs=6 \
    --validation_freq=0 --verbose=2 --results="$CSV" \
    --output_dir="$RUNS/$seed/$name" --experiment="$name"
}

for seed in 0 1; do
  train II+II '{"filters": 12, "layers": 12}'
  train I+I \
    '{"filters": 12, "layers": 12, "block_feature": "I", "transition_feature": "I"}'
done
