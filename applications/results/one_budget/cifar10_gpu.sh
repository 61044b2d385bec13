#!/usr/bin/env bash
# The rows of cifar10.sh on a GPU, under JAX, which is all that is needed: those of LNIN
# six times as long, those of VGG-small four times. Four at a time share the GPU.
#
# NPZ must be a file with CIFAR-10, in a form that kfeedback.datasets.load_arrays takes.
# 14 minutes on an H200.
set -euo pipefail
cd "$(dirname "$0")/../../.."
NPZ=$(realpath "$NPZ")
export KERAS_BACKEND=jax XLA_PYTHON_CLIENT_MEM_FRACTION=0.2
export RUNS=${RUNS:-runs/one_budget_gpu}
RESULTS=${RESULTS:-applications/results/one_budget}
export CSV=${CSV:-$RESULTS/cifar10_gpu.csv}
# 125 images a batch, as they divide 50,000: every shape is compiled once.
FLAGS="--dataset=$(basename "$NPZ") --data_dir=$(dirname "$NPZ") --batch_size=125"
export FLAGS="$FLAGS --save_minutes=1"

chain() { # length, rows in turn
  export LENGTH=$1
  for name in "${@:2}"; do
    bash applications/results/one_budget/cifar10.sh "$name"
  done
}

chains=()
chain 1 cliquenet cliquenet_1_1 & chains+=($!)
chain 1 feedback_convlstm feedforward_convlstm & chains+=($!)
chain 6 lnin lr_lnin_2 ft_lnin lr_lnin_3 & chains+=($!)
chain 4 vgg_small crcn ft_vgg_small & chains+=($!)
failed=0
for one in "${chains[@]}"; do
  wait "$one" || failed=1
done
exit $failed
