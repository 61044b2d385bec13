#!/usr/bin/env bash
# LR-LNIN against LNIN trained on, CIFAR-10, on a short schedule for two CPU cores:
# the first tenth of the training images, LNIN for 1 epoch, then each for 1 more, in
# batches of 64, measured on the first fifth of the test images. (The paper: all
# images, 256 epochs, then 256 more, batches of 128.)
# Writes lr_lnin_cifar10.csv beside itself; TFDS_DATA_DIR must hold CIFAR-10, or TFDS
# fetches it.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/lr_lnin_cifar10}

train() {
  local name=$1
  shift
  if grep -qs ",$name," applications/results/lr_lnin_cifar10.csv; then return; fi
  "$PYTHON" -m applications.train --config=lr_lnin_cifar10 \
    --train_split='train[:10%]' --eval_split='test[:20%]' --batch_size=64 \
    --validation_freq=0 --verbose=1 \
    --results=applications/results/lr_lnin_cifar10.csv \
    --output_dir="$RUNS/$name" --experiment="$name" "$@"
}

train lnin --model=lnin --epochs=1
train ft-lnin --model=lnin --epochs=1 --init_from="$RUNS/lnin/weights.h5"
train lr-lnin --epochs=1 --init_from="$RUNS/lnin/weights.h5"
