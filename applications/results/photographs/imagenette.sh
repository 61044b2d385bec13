#!/usr/bin/env bash
# What is feedback worth on a pretrained network and photographs? SqueezeNet 1.1 with the
# kernels of Imagenette's ten classes, at 112 pixels, trained for three more epochs: itself
# ("ft"), itself at twice the rate ("ft2lr"), LRNet and CRCN, both with two passes. Then
# errors under noise and occlusion, and leaving early. Writes imagenette.csv,
# imagenette_robustness.csv, from it imagenette_robustness.png, and
# imagenette_early_exit.csv beside itself, and skips what has a row there. With TUNE=1 it
# writes imagenette_tuning.csv alone: "ft" at three rates, on a part of the training
# images. README.md says what SQUEEZENET is; IMAGENETTE is the folder of its images with
# the splits train and test. Minutes a row on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/imagenette}
RESULTS=${RESULTS:-applications/results/photographs}
SEEDS=${SEEDS:-0}
LR=${LR:-0.003}
EPOCHS=${EPOCHS:-3}
TRAIN_SPLIT=${TRAIN_SPLIT:-train}
EVAL_SPLIT=${EVAL_SPLIT:-test}
CSV="$RESULTS/imagenette.csv"
: "${IMAGENETTE:?must be a folder of images}" "${SQUEEZENET:?must be a .keras file}"
TEN="$RUNS/squeezenet_ten.keras"
LOOPS='{"loops": [["fire8_e3", "fire5_e3"]]}'

mkdir -p "$RUNS"
if [ ! -f "$TEN" ]; then
  "$PYTHON" applications/results/photographs/ten_classes.py "$SQUEEZENET" "$TEN"
fi

train() { # experiment, flags
  local name=$1
  shift
  if grep -qs ",$name,.*,$seed,$EPOCHS," "$CSV"; then return; fi
  "$PYTHON" -m applications.train --init_from="$TEN" --dataset="$IMAGENETTE" \
    --image_size=112 --preprocessing=caffe --train_split="$TRAIN_SPLIT" \
    --eval_split="$EVAL_SPLIT" --epochs="$EPOCHS" --batch_size=64 --seed="$seed" \
    --schedule=one_cycle --flip --random_crop=0.35,1 --validation_freq=0 --verbose=2 \
    --results="$CSV" --experiment="$name" --output_dir="$RUNS/$name-$seed" "$@"
}

if [ "${TUNE:-}" ]; then
  CSV="$RESULTS/imagenette_tuning.csv" TRAIN_SPLIT='train[:85%]' seed=0
  EVAL_SPLIT='train[85%:]'
  for rate in 0.001 0.003 0.01; do
    train "tune-$rate" --model=lrnet --timesteps=1 --lr="$rate"
  done
  exit
fi

for seed in $SEEDS; do
  train ft --model=lrnet --timesteps=1 --lr="$LR"
  train ft2lr --model=lrnet --timesteps=1 \
    --lr="$("$PYTHON" -c "print(2 * $LR)")"
  train lrnet --model=lrnet --timesteps=2 --lr="$LR"
  train crcn --model=crcn --timesteps=2 --model_args="$LOOPS" --lr="$LR"
done

runs=() names=()
for name in ft ft2lr lrnet crcn; do
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
    --noise=10,20,30,40,50 --occlusion=0.1,0.2,0.3 --eval_split="$EVAL_SPLIT" \
    --results="$RESULTS/imagenette_robustness.csv" --output_dir="$RUNS/robustness"
  cp "$RUNS/robustness/robustness.png" "$RESULTS/imagenette_robustness.png"
fi
for seed in $SEEDS; do
  for name in lrnet crcn; do
    if [ ! -d "$RUNS/$name-$seed" ]; then continue; fi
    if grep -qs ",$name-$seed," "$RESULTS/imagenette_early_exit.csv"; then continue; fi
    "$PYTHON" -m applications.evaluate --run="$RUNS/$name-$seed" --early_exit \
      --exit_results="$RESULTS/imagenette_early_exit.csv"
  done
done
