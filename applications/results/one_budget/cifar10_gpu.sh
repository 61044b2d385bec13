#!/usr/bin/env bash
# The rows of cifar10.sh on a GPU, under JAX, which is all that is needed: those of LNIN
# six times as long, those of VGG-small four times, and CliqueNet without dropout five
# times. Four or five at a time share the GPU.
#
# NPZ must be a file with CIFAR-10, in a form that kfeedback.datasets.load_arrays takes.
# Names as arguments choose rows: `cifar10_gpu.sh lnin ft_lnin`. What has a row in CSV is
# skipped, also what others start from: in a clone RESULTS=folder, with RUNS of its own,
# makes all anew. Two sessions of 14 minutes on an H200; for what those left out see the
# README.
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

ROWS=("$@")
FIRST=("1 cliquenet cliquenet_1_1" "1 feedback_convlstm feedforward_convlstm"
  "6 lnin lr_lnin_2 ft_lnin lr_lnin_3" "4 vgg_small crcn ft_vgg_small")
SECOND=("5 cliquenet_no_dropout 1 cliquenet_no_dropout_on" "5 cliquenet_1_1_no_dropout"
  "4 vgg_attention" "6 ft2lr_lnin 1 ft_lnin_on ft_lnin_on_more" "4 ft2lr_vgg_small")

for name in ${ROWS[@]+"${ROWS[@]}"}; do
  if [[ ! "$name" =~ [a-z] || " ${FIRST[*]} ${SECOND[*]} " != *" $name "* ]]; then
    echo "rows must be some of ${FIRST[*]} ${SECOND[*]}, got $name" >&2
    exit 2
  fi
done

chain() { # lengths, each before its rows, in turn
  local word
  for word in "$@"; do
    if [[ "$word" =~ ^[0-9]+$ ]]; then
      export LENGTH=$word
    elif [ ${#ROWS[@]} = 0 ] || [[ " ${ROWS[*]} " == *" $word "* ]]; then
      bash applications/results/one_budget/cifar10.sh "$word"
    fi
  done
}

beside() { # chains, all at once
  local chains=() failed=0 words one
  for words in "$@"; do
    # shellcheck disable=SC2086 # a chain is several words
    chain $words & chains+=($!)
  done
  for one in "${chains[@]}"; do
    wait "$one" || failed=1
  done
  return $failed
}

failed=0
beside "${FIRST[@]}" || failed=1
beside "${SECOND[@]}" || failed=1
exit $failed
