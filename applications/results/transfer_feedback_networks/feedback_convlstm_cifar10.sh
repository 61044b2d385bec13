#!/usr/bin/env bash
# FeedbackConvLSTMNet of six cells on CIFAR-10, on a short schedule for two CPU cores:
# all 50,000 training images, 3 epochs, the rate falling to a tenth after two of them;
# all 10,000 test images. (The paper: twelve cells, 25 epochs.)
# Writes feedback_convlstm_cifar10.csv beside itself; TFDS_DATA_DIR must hold CIFAR-10,
# or TFDS fetches it.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/feedback_convlstm_cifar10}
RESULTS=${RESULTS:-applications/results/transfer_feedback_networks}
CSV=$RESULTS/feedback_convlstm_cifar10.csv
SIX='{"cells": [[[16, 1], [16, 1]], [[32, 2], [32, 1]], [[64, 2], [64, 1]]]}'

if grep -qs ",six_cells," "$CSV"; then exit; fi
"$PYTHON" -m applications.train --config=feedback_convlstm_cifar10 --seed=0 \
  --model_args="$SIX" --epochs=3 --lr_drops=0.67 --flip --validation_freq=0 \
  --verbose=2 --results="$CSV" --output_dir="$RUNS/six_cells" --experiment=six_cells
