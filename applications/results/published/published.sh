#!/usr/bin/env bash
# Trains the small networks whose weights come with the package, one of every family, on
# the sample of MNIST-background-image that comes with it, too.
#
# LR-LeNet, CRCN and LeNet itself ("ft") train on from the LeNet that is published
# already; "ft2" for about as many multiply-adds as LR-LeNet. The others train from
# scratch. NIN is a quarter as wide as the paper's: a network of plain ReLUs that takes
# images of any size, for FeedbackCNN.
#
# Adds a row to published.csv beside itself for each, and skips what has a row there.
# Names as arguments choose rows. `publish.sh` makes the files of the package of them.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/published}
RESULTS=${RESULTS:-applications/results/published}
CSV=${CSV:-$RESULTS/published.csv}
LENET=kfeedback/weights/published/lenet_mnist_bg_sample.h5
SAMPLE=mnist_background_images_sample
ROWS=("$@") known=()

row() { # experiment, flags
  local name=$1
  shift
  known+=("$name")
  if [ ${#ROWS[@]} -gt 0 ] && [[ " ${ROWS[*]} " != *" $name "* ]]; then return; fi
  # What has a row already is not run again.
  if grep -qs ",$name,[a-z_0-9]*,0," "$CSV"; then return; fi
  echo "== $name"
  "$PYTHON" -m applications.train --dataset=$SAMPLE --seed=0 --validation_freq=0 \
    --verbose=2 --results="$CSV" --experiment="$name" --output_dir="$RUNS/$name" "$@"
}

on() { # experiment, config, flags
  row "$1" --config="$2" --init_from=$LENET --lr_drops=0.5,0.75 "${@:3}"
}

scratch() { # experiment, flags
  row "$1" --optimizer=adam --lr=0.002 --schedule=one_cycle --weight_decay=0 \
    --batch_size=64 --shift=2 "${@:2}"
}

on ft_lenet lenet_mnist_bg --epochs=16
on ft2_lenet lenet_mnist_bg --epochs=30
on lr_lenet lr_lenet_mnist_bg --epochs=16
on crcn_lenet lr_lenet_mnist_bg --epochs=16 --model=crcn \
  --model_args='{"loops": [["conv2", "conv1"]]}'
scratch nin --model=nin --model_args='{"width": 0.25, "dropout": 0.1}' --epochs=16
scratch cliquenet --model=cliquenet --epochs=10 \
  --model_args='{"filters": 12, "layers": 6, "dropout": 0.0}'
scratch feedback_convlstm --model=feedback_convlstm --epochs=10 --image_size=32 \
  --discount=1.2 --model_args='{"cells": [[[16, 2]], [[32, 2]], [[32, 2]]],
  "head_units": 64, "head_dropout": 0.2}'

for name in ${ROWS[@]+"${ROWS[@]}"}; do
  if [[ " ${known[*]} " != *" $name "* ]]; then
    echo "rows must be some of ${known[*]}, got $name" >&2
    exit 2
  fi
done
