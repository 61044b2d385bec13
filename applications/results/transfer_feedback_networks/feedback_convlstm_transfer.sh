#!/usr/bin/env bash
# Transfer learning with a FeedbackConvLSTMNet of six cells, by every method of
# applications.transfer, for every seed in SEEDS:
#   classes   five CIFAR-10 classes to the other five, of which about 1,000 images
#   digits    MNIST digits (10,000, resized to 32x32) to 1,000 images of Fashion-MNIST
#   objects   CIFAR-10 to 2,000 scenes of one to three of its objects, several labels an
#             image, resized to 32x32; CIFAR10 may name a run to start from, such as that
#             of feedback_convlstm_cifar10.sh, which is otherwise made here again
# Writes feedback_convlstm_transfer.csv beside itself and the figures into $RUNS; what
# is there already is not run again. TFDS_DATA_DIR must hold CIFAR-10, MNIST and
# Fashion-MNIST, or TFDS fetches them.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/feedback_convlstm_transfer}
RESULTS=${RESULTS:-applications/results/transfer_feedback_networks}
CSV=$RESULTS/feedback_convlstm_transfer.csv
SEEDS=${SEEDS:-0}
SIX='{"cells": [[[16, 1], [16, 1]], [[32, 2], [32, 1]], [[64, 2], [64, 1]]]}'

pretrain() {
  local name=$1
  shift
  if [ -f "$RUNS/$seed/$name/weights.h5" ]; then return; fi
  "$PYTHON" -m applications.train --config=feedback_convlstm_cifar10 --seed="$seed" \
    --model_args="$SIX" --validation_freq=0 --verbose=2 \
    --output_dir="$RUNS/$seed/$name" "$@"
}
transfer() {
  local name=$1 source=$2
  shift 2
  if grep -qs ",$name,,$seed," "$CSV"; then return; fi
  "$PYTHON" -m applications.transfer --run="$source" --seed="$seed" \
    --output_dir="$RUNS/$seed/$name" --experiment="$name" --results="$CSV" \
    --discount=1.2 --verbose=2 "$@"
}

for seed in $SEEDS; do
  pretrain source --classes=airplane,automobile,bird,cat,deer --epochs=4 \
    --lr_drops=0.75 --flip
  transfer classes "$RUNS/$seed/source" --dataset=cifar10 \
    --classes=dog,frog,horse,ship,truck --train_split='train[:4%]' --eval_split=test

  pretrain mnist --dataset=mnist --train_split='train[:10000]' --image_size=32 --epochs=2
  transfer digits "$RUNS/$seed/mnist" --dataset=fashion_mnist \
    --train_split='train[:1000]' --eval_split=test

  if [ -z "${CIFAR10:-}" ]; then
    pretrain cifar10 --epochs=3 --lr_drops=0.67 --flip
  fi
  transfer objects "${CIFAR10:-$RUNS/$seed/cifar10}" \
    --dataset=cifar10_objects --image_size=32 --train_split='train[:2000]' \
    --eval_split='test[:2000]'
done
