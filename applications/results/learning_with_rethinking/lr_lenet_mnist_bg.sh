#!/usr/bin/env bash
# MNIST-background-image, whole set, three seeds: LeNet 64 epochs, then LR-LeNet 16
# more from it and LeNet itself 16 more, by the recipe that lr_lenet_tuning.sh found.
# Writes lr_lenet_mnist_bg.csv beside itself and prints mean and standard deviation.
# TFDS_DATA_DIR must hold MNIST, or TFDS fetches it.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/lr_lenet_mnist_bg}
RESULTS=${RESULTS:-applications/results/learning_with_rethinking}
CSV=$RESULTS/lr_lenet_mnist_bg.csv

train() {
  local name=$1 seed=$2
  shift 2
  # What has a row already is not run again.
  if grep -qs ",$name,[a-z_]*,$seed," "$CSV"; then return; fi
  "$PYTHON" -m applications.train --seed="$seed" --validation_freq=0 --verbose=2 \
    --results="$CSV" --experiment="$name" --output_dir="$RUNS/$name-$seed" "$@"
}

for seed in 0 1 2; do
  init="$RUNS/lenet-$seed/weights.h5"
  train lenet "$seed" --config=lenet_mnist_bg
  train ft-lenet "$seed" --config=lenet_mnist_bg --init_from="$init" --epochs=16 \
    --lr_drops=0.5,0.75
  train lr-lenet "$seed" --config=lr_lenet_mnist_bg --init_from="$init"
done
"$PYTHON" -m tools.summarize "$CSV"
