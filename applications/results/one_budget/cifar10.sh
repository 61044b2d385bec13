#!/usr/bin/env bash
# The five papers side by side on CIFAR-10: each network, the feedforward network that it
# comes from, trained for as many multiply-adds, and the rival that its paper names.
#
# All share applications/configs/one_budget_cifar10.toml. The rates are those of the
# papers (VGG-small's: of its config), but for LNIN, whose rate cifar10_tuning.sh chose:
# the paper's own is not for one cycle. LNIN and VGG-small (half the width) train for 16 epochs; from there
# their networks with feedback and they themselves ("ft") train on for the same
# multiply-adds, about those of 8 epochs of LNIN and 11 of VGG-small; "ft2lr" at twice the
# rate, as the losses of two passes add up. CliqueNet and FeedbackConvLSTMNet train from
# scratch for 12 epochs, their rivals for as many multiply-adds.
#
# Adds a row to cifar10.csv beside itself for each, and skips what has a row there. A run
# that was broken off goes on. TFDS_DATA_DIR must hold CIFAR-10. Names as arguments
# choose rows: `cifar10.sh lnin lr_lnin_2`. LENGTH=5 makes all of that five times as
# long; FLAGS are more flags of applications.train.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/one_budget}
RESULTS=${RESULTS:-applications/results/one_budget}
CSV=${CSV:-$RESULTS/cifar10.csv}
SEED=${SEED:-0}
LENGTH=${LENGTH:-1}
FLAGS=${FLAGS:-}
ROWS=("$@") known=()
HALF='{"width": 0.5}'
HALF_DROPOUT='{"dropout": 0.25}'

row() { # experiment, epochs, flags
  local name=$1 epochs=$(($2 * LENGTH))
  shift 2
  known+=("$name")
  if [ ${#ROWS[@]} -gt 0 ] && [[ " ${ROWS[*]} " != *" $name "* ]]; then return; fi
  if grep -qs ",$name,one_budget_cifar10,$SEED,$epochs," "$CSV"; then return; fi
  echo "== $name"
  # shellcheck disable=SC2086 # FLAGS are several words
  "$PYTHON" -m applications.train --config=one_budget_cifar10 --experiment="$name" \
    --epochs="$epochs" --seed="$SEED" --results="$CSV" --verbose=2 \
    --output_dir="$RUNS/$name-$SEED" $FLAGS "$@"
}

further() { # experiment, epochs, row to start from, flags
  local name=$1 epochs=$2 from=$3
  shift 3
  row "$name" "$epochs" --init_from="$RUNS/$from-$SEED/weights.h5" --warmup=0.1 "$@"
}

lnin() { further "$1" "$2" lnin "${@:3}"; }
vgg() { further "$1" "$2" vgg_small "${@:3}"; }

row lnin 16 --model=lnin --lr=0.02
row vgg_small 16 --model=vgg_small --model_args="$HALF" --lr=0.05
lnin lr_lnin_2 4 --model=lrnet --backbone=lnin --timesteps=2 --lr=0.01
vgg crcn 5 --model=crcn --backbone=vgg_small --backbone_args="$HALF" --timesteps=2 \
  --lr=0.02
row cliquenet 12 --model=cliquenet --lr=0.1
row feedback_convlstm 12 --model=feedback_convlstm --discount=1.2 --optimizer=adam \
  --lr=0.001 --weight_decay=0
# The paper's dropout of 0.2 is for training without augmentation.
row cliquenet_no_dropout 8 --model=cliquenet --lr=0.1 --model_args='{"dropout": 0}'
row cliquenet_1_1_no_dropout 11 --model=cliquenet --lr=0.1 --model_args='{"dropout": 0,
  "filters": 41, "block_feature": "I", "transition_feature": "I"}'
lnin ft_lnin 8 --model=lnin --lr=0.01
lnin ft2lr_lnin 8 --model=lnin --lr=0.02
lnin lr_lnin_3 3 --model=lrnet --backbone=lnin --timesteps=3 --lr=0.01
vgg ft_vgg_small 11 --model=vgg_small --model_args="$HALF" --lr=0.02
vgg ft2lr_vgg_small 11 --model=vgg_small --model_args="$HALF" --lr=0.04
row vgg_attention 26 --model=vgg_attention --model_args="$HALF" --lr=0.05
row cliquenet_1_1 16 --model=cliquenet --lr=0.1 \
  --model_args='{"filters": 41, "block_feature": "I", "transition_feature": "I"}'
row cliquenet_1_1_narrow 20 --model=cliquenet --lr=0.1 \
  --model_args='{"block_feature": "I", "transition_feature": "I"}'
row feedforward_convlstm 84 --model=feedback_convlstm --timesteps=1 --optimizer=adam \
  --lr=0.001 --weight_decay=0
# Beyond the one budget: LR-LNIN of cifar10_gpu.sh, as it was published at the commit of
# that row, trains on, and its rival for as many multiply-adds; CliqueNet trains on.
row lr_lnin_2_on 4 --model=lrnet --backbone=lnin --backbone_args="$HALF_DROPOUT" \
  --timesteps=2 --init_from=lr_lnin_2_cifar10 --lr=0.01 --warmup=0.1
further lr_lnin_2_on_more 8 lr_lnin_2_on --model=lrnet --backbone=lnin \
  --backbone_args="$HALF_DROPOUT" --timesteps=2 --lr=0.02
further ft_lnin_on 8 ft_lnin --model=lnin --model_args="$HALF_DROPOUT" --lr=0.01
further ft_lnin_on_more 16 ft_lnin_on --model=lnin --model_args="$HALF_DROPOUT" --lr=0.02
further cliquenet_no_dropout_on 28 cliquenet_no_dropout --model=cliquenet --lr=0.1 \
  --model_args='{"dropout": 0}'

for name in ${ROWS[@]+"${ROWS[@]}"}; do
  if [[ " ${known[*]} " != *" $name "* ]]; then
    echo "rows must be some of ${known[*]}, got $name" >&2
    exit 2
  fi
done
