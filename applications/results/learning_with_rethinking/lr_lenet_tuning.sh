#!/usr/bin/env bash
# The search for a recipe of LR-LeNet on MNIST-background-image: trained on the first
# 9,000 training images, measured on the other 3,000; the test set takes no part.
# Writes lr_lenet_tuning.csv beside itself, for every seed in SEEDS. TFDS_DATA_DIR must
# hold MNIST, or TFDS fetches it. Every run of 16 epochs starts from the LeNet of 64
# epochs that its name begins with: `plain`, or `dropout` (0.5 before both dense
# layers); `early` is a LeNet of 8 epochs.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/lr_lenet_tuning}
RESULTS=${RESULTS:-applications/results/learning_with_rethinking}
CSV=$RESULTS/lr_lenet_tuning.csv
SEEDS=${SEEDS:-0 1 2}

train() {
  local name=$1
  shift
  # What has a row already is not run again.
  if grep -qs ",$name,,$seed," "$CSV"; then return; fi
  "$PYTHON" -m applications.train --dataset=mnist_background_images \
    --train_split='train[:9000]' --eval_split='train[9000:]' --results="$CSV" \
    --output_dir="$RUNS/$seed/$name" --experiment="$name" \
    --seed="$seed" --validation_freq=0 --verbose=2 "$@"
}
further() {
  local start=$1 name=$2
  shift 2
  train "$start-$name" --init_from="$RUNS/$seed/$start/weights.h5" --epochs=16 \
    --lr_drops=0.5,0.75 "$@"
}
LR="--model=lrnet --backbone=lenet"
DROP='{"dropout": 0.5}'

for seed in $SEEDS; do
  train plain --model=lenet --epochs=64
  train dropout --model=lenet --model_args="$DROP" --epochs=64

  further plain ft --model=lenet
  further plain lr $LR
  further plain lr-init0.5 $LR --feedback_init=0.5
  further dropout ft --model=lenet --model_args="$DROP"
  further dropout lr $LR --backbone_args="$DROP"
  further dropout lr-init0.5 $LR --backbone_args="$DROP" --feedback_init=0.5

  # A higher learning rate for the feedback weights, which otherwise hardly leave zero.
  further dropout lr-mult30 $LR --backbone_args="$DROP" --feedback_lr_mult=30
  further dropout lr-mult300 $LR --backbone_args="$DROP" --feedback_lr_mult=300

  # More regularization, with and without feedback.
  further dropout ft-wd0.001 --model=lenet --model_args="$DROP" --weight_decay=0.001
  further dropout lr-wd0.001 $LR --backbone_args="$DROP" --weight_decay=0.001

  # What the feedback starts from, sees and weighs.
  further dropout lr-init1-lr0.003 $LR --backbone_args="$DROP" --feedback_init=1 --lr=0.003
  further dropout lr-t3 $LR --backbone_args="$DROP" --timesteps=3
  further dropout lr-discount3 $LR --backbone_args="$DROP" --discount=3
  further dropout lr-conv2 $LR --backbone_args="$DROP" \
    --model_args='{"emphasis_layers": ["conv2"]}'
  further dropout ft-shift1 --model=lenet --model_args="$DROP" --shift=1
  further dropout lr-shift1 $LR --backbone_args="$DROP" --shift=1

  # A baseline that has not converged.
  train early --model=lenet --epochs=8
  further early ft --model=lenet
  further early lr $LR

  # Feedback from the first epoch on, for as many epochs as start and 16 more together.
  # The losses of two passes add up, so half the rate; at the full one it diverges.
  train scratch-plain-lr-2epochs $LR --epochs=2
  train scratch-plain-lr-lr0.005 $LR --epochs=80 --lr_drops=0.9,0.95 --lr=0.005
  train scratch-dropout-lr-lr0.005 $LR --backbone_args="$DROP" --epochs=80 \
    --lr_drops=0.9,0.95 --lr=0.005
done
