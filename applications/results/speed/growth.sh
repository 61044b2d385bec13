#!/usr/bin/env bash
# How cost grows with timesteps, depth, image size and batch, a family each: adds
# its rows to growth.csv beside it. 20 minutes on 2 cores that nothing else uses.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RESULTS=${RESULTS:-applications/results/speed}
CSV=${CSV:-$RESULTS/growth.csv}

measure() { # model, kwargs, flags
  "$PYTHON" -m tools.benchmark --model="kfeedback.$1" --kwargs="$2" --repeats=3 \
    --seconds=0.2 --csv="$CSV" "${@:3}"
}

all() { # flags
  measure LRNet '{"backbone": "lnin"}' --timesteps=2 "$@"
  measure CRCN '{"backbone": "vgg_small", "loops": [1, 2]}' --timesteps=2 "$@"
  measure FeedbackConvLSTMNet '{}' --timesteps=4 "$@"
  measure CliqueNet '{}' "$@"
}

for batch in 1 8 32; do
  all --batch_size=$batch
done
for size in 64,64,3 96,96,3; do
  all --batch_size=8 --input_shape=$size
done
for layers in 6 18 24; do
  measure CliqueNet "{\"layers\": $layers}" --batch_size=8
done
measure LRNet '{"backbone": "lnin"}' --batch_size=8 --timesteps=1,3
measure CRCN '{"backbone": "vgg_small", "loops": [1, 2]}' --batch_size=8 --timesteps=1,3
measure FeedbackConvLSTMNet '{}' --batch_size=8 --timesteps=1,2,3
