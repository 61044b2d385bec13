#!/usr/bin/env bash
# The rows of cifar10.sh on a GPU, under JAX, which is all that is needed: those of LNIN
# six times as long, those of VGG-small four times, and CliqueNet without dropout five
# times. Four or five at a time share the GPU.
#
# NPZ must be a file with CIFAR-10, in a form that kfeedback.datasets.load_arrays takes.
# Half an hour on an H200; vgg_attention was broken off there.
set -euo pipefail
cd "$(dirname "$0")/../../.."
NPZ=$(realpath "$NPZ")
export KERAS_BACKEND=jax XLA_PYTHON_CLIENT_MEM_FRACTION=0.15
export RUNS=${RUNS:-runs/one_budget_gpu}
RESULTS=${RESULTS:-applications/results/one_budget}
export CSV=${CSV:-$RESULTS/cifar10_gpu.csv}
# 125 images a batch, as they divide 50,000: every shape is compiled once.
FLAGS="--dataset=$(basename "$NPZ") --data_dir=$(dirname "$NPZ") --batch_size=125"
export FLAGS="$FLAGS --save_minutes=1"

chain() { # lengths, each before its rows, in turn
  for word in "$@"; do
    if [[ "$word" =~ ^[0-9]+$ ]]; then
      export LENGTH=$word
    else
      bash applications/results/one_budget/cifar10.sh "$word"
    fi
  done
}

beside() { # chains, all at once
  local chains=() failed=0
  for words in "$@"; do
    # shellcheck disable=SC2086 # a chain is several words
    chain $words & chains+=($!)
  done
  for one in "${chains[@]}"; do
    wait "$one" || failed=1
  done
  return $failed
}

beside "1 cliquenet cliquenet_1_1" "1 feedback_convlstm feedforward_convlstm" \
  "6 lnin lr_lnin_2 ft_lnin lr_lnin_3" "4 vgg_small crcn ft_vgg_small"
beside "5 cliquenet_no_dropout 1 cliquenet_no_dropout_on" \
  "5 cliquenet_1_1_no_dropout" "4 vgg_attention" \
  "6 ft2lr_lnin 1 ft_lnin_on ft_lnin_on_more" "4 ft2lr_vgg_small"
