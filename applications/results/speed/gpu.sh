#!/usr/bin/env bash
# What looking again costs on a GPU, under JAX in bfloat16: adds its rows to gpu.csv
# beside it. Two minutes on an H200 that nothing else uses.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RESULTS=${RESULTS:-applications/results/speed}
CSV=${CSV:-$RESULTS/gpu.csv}
export KERAS_BACKEND=jax

measure() { # model, kwargs, flags
  "$PYTHON" -m tools.benchmark --model="kfeedback.$1" --kwargs="$2" --repeats=3 \
    --batch_size=128 --dtype=mixed_bfloat16 --fresh_process=false --csv="$CSV" "${@:3}"
}

measure CliqueNet '{}'
measure LRNet '{"backbone": "lnin"}' --timesteps=1,2
measure CRCN '{"backbone": "vgg_small", "loops": [1, 2]}' --timesteps=1,2
measure FeedbackConvLSTMNet '{}' --timesteps=1,4
