#!/usr/bin/env bash
# CRCN against its rivals on CIFAR-10, clean and corrupted, on a short schedule for two
# CPU cores: VGG-small of a quarter of the width, E1 epochs; then from it, each for E2 more
# epochs, itself ("ft"), LRNet and CRCN with loops 1 and 2, both with two passes; and
# VGG-ATT for E1 and E2 epochs of its own. All training and test images, two seeds.
# (The paper: the full width and a schedule that it does not tell.) With the first seed
# only: VGG-small at the doubled rate, as the losses of two passes add up ("ft2lr"); and
# VGG-small, LRNet and CRCN with --freeze_batch_norm ("frozen").
# Writes crcn_cifar10.csv (training), crcn_cifar10_robustness.csv and, from it,
# crcn_cifar10.png beside itself, and skips what has a row there. TFDS_DATA_DIR must hold
# CIFAR-10, or TFDS fetches it. PRECISION=--mixed_precision=bfloat16 for a CPU with AMX.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/crcn_cifar10}
PRECISION=${PRECISION:---mixed_precision=none}
E1=${E1:-10}          # epochs of the backbones
E2=${E2:-5}           # epochs that all are trained on
SEEDS=${SEEDS:-0 1}
LR1=${LR1:-0.05}
LR2=${LR2:-0.01}
WIDTH=${WIDTH:-0.25}
TRAIN_SPLIT=${TRAIN_SPLIT:-train}
EVAL_SPLIT=${EVAL_SPLIT:-test}
RESULTS=${RESULTS:-applications/results/contextual_recurrent_cnn}
ARGUMENTS="{\"width\": $WIDTH}"
CSV="$RESULTS/crcn_cifar10.csv"

train() { # experiment, config, epochs, more flags
  local name=$1 config=$2 epochs=$3
  shift 3
  # What has a row already is not run again.
  if grep -qs ",$name,$config,$seed,$epochs," "$CSV"; then return; fi
  "$PYTHON" -m applications.train --config="$config" --seed="$seed" "$PRECISION" \
    --epochs="$epochs" --lr_drops=0.5,0.75 --validation_freq=0 --verbose=2 \
    --train_split="$TRAIN_SPLIT" --eval_split="$EVAL_SPLIT" --results="$CSV" \
    --experiment="$name" --output_dir="$RUNS/$name-$seed" "$@"
}

baseline() { # model
  train "$1" vgg_small_cifar10 "$E1" --model="$1" --model_args="$ARGUMENTS" --lr="$LR1"
  train "ft-$1" vgg_small_cifar10 "$E2" --model="$1" --model_args="$ARGUMENTS" \
    --lr="$LR2" --init_from="$RUNS/$1-$seed/weights.h5"
}

further() { # experiment, model, more flags
  local name=$1 model=$2
  shift 2
  train "$name" crcn_cifar10 "$E2" --model="$model" --backbone_args="$ARGUMENTS" \
    --lr="$LR2" --init_from="$RUNS/vgg_small-$seed/weights.h5" "$@"
}

for seed in $SEEDS; do
  baseline vgg_small
  further lr-vgg_small lrnet --model_args='{}'
  further crcn-vgg_small crcn
  if [ "$seed" = "${SEEDS%% *}" ]; then
    train ft2lr-vgg_small vgg_small_cifar10 "$E2" --model_args="$ARGUMENTS" \
      --lr="$("$PYTHON" -c "print(2 * $LR2)")" \
      --init_from="$RUNS/vgg_small-$seed/weights.h5"
    train frozen-vgg_small vgg_small_cifar10 "$E2" --model_args="$ARGUMENTS" \
      --lr="$LR2" --init_from="$RUNS/vgg_small-$seed/weights.h5" --freeze_batch_norm
    further frozen-lr-vgg_small lrnet --model_args='{}' --freeze_batch_norm
    further frozen-crcn-vgg_small crcn --freeze_batch_norm
  fi
  baseline vgg_attention
done

runs=() names=()
for name in ft-vgg_small ft-vgg_attention lr-vgg_small crcn-vgg_small; do
  for seed in $SEEDS; do
    if [ -d "$RUNS/$name-$seed" ]; then
      runs+=("$RUNS/$name-$seed")
      names+=("$name")
    fi
  done
done
if [ ${#runs[@]} -gt 0 ]; then
  "$PYTHON" -m applications.robustness \
    --runs="$(IFS=,; echo "${runs[*]}")" --names="$(IFS=,; echo "${names[*]}")" \
    --noise=10,20,30,40,50 --occlusion=0.1,0.2,0.3 --fgsm=1,2,4,8 \
    --eval_split="$EVAL_SPLIT" --results="$RESULTS/crcn_cifar10_robustness.csv" \
    --output_dir="$RUNS/robustness"
  cp "$RUNS/robustness/robustness.png" "$RESULTS/crcn_cifar10.png"
fi
"$PYTHON" -m tools.summarize "$CSV"
