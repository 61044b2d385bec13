#!/usr/bin/env bash
# What the networks of CIFAR-10 do on bad images, and what stopping early saves.
#
# `cifar10_after.sh published` takes those that come with the package and adds rows to
# robustness_published.csv and early_exit_published.csv beside itself; nothing needs to
# be trained. Without an argument those of cifar10.sh, whose folders are below RUNS, as
# far as they are there, go to robustness.csv and early_exit.csv; with
# `RUNS=runs/one_budget_gpu SUFFIX=_gpu` those of cifar10_gpu.sh. Bad images are of the
# first 2,000 test images, of published networks 1,000. TFDS_DATA_DIR must hold CIFAR-10.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/one_budget}
RESULTS=${RESULTS:-applications/results/one_budget}
IMAGES=2000
DATA=(--dataset=cifar10 --data_dir="${TFDS_DATA_DIR:?must be the folder that holds CIFAR-10}")

case ${1:-} in
  "" | published) ;;
  *) echo "argument must be published or left out, got '$1'" >&2; exit 2 ;;
esac
networks=() exits=()
if [ "${1:-}" = published ]; then
  SUFFIX=${SUFFIX:-_published} IMAGES=1000
  for name in lnin lr_lnin_2 vgg_small crcn cliquenet feedback_convlstm; do
    networks+=("${name}_cifar10")
  done
  models=(--weights="$(IFS=,; echo "${networks[*]}")")
  exits=(lr_lnin_2_cifar10 crcn_cifar10 feedback_convlstm_cifar10)
else
  SUFFIX=${SUFFIX:-}
  names=()
  for name in lnin ft_lnin ft2lr_lnin lr_lnin_2 lr_lnin_3 vgg_small ft_vgg_small \
    ft2lr_vgg_small crcn vgg_attention cliquenet cliquenet_no_dropout cliquenet_1_1 \
    cliquenet_1_1_no_dropout cliquenet_1_1_narrow feedback_convlstm \
    feedforward_convlstm; do
    if [ ! -f "$RUNS/$name-0/weights.h5" ]; then continue; fi
    networks+=("$RUNS/$name-0") names+=("$name")
    case $name in lr_lnin_* | crcn | feedback_convlstm) exits+=("$name-0") ;; esac
  done
  : "${names[0]:?no network is trained in $RUNS}"
  models=(--runs="$(IFS=,; echo "${networks[*]}")" --names="$(IFS=,; echo "${names[*]}")")
fi
"$PYTHON" -m applications.robustness "${models[@]}" \
  --noise=10,20,30,40,50 --occlusion=0.1,0.2,0.3 --fgsm=1,2,4,8 \
  --eval_split="test[:$IMAGES]" --batch_size=250 \
  --results="$RESULTS/robustness$SUFFIX.csv" \
  --output_dir="$RUNS/robustness$SUFFIX" "${DATA[@]}"
cp "$RUNS/robustness$SUFFIX/robustness.png" "$RESULTS/robustness$SUFFIX.png"
for name in "${exits[@]}"; do
  if grep -qs ",$name," "$RESULTS/early_exit$SUFFIX.csv"; then continue; fi
  if [ "${1:-}" = published ]; then
    model=(--weights="$name" --output_dir="$RUNS/$name")
  else
    model=(--run="$RUNS/$name")
  fi
  "$PYTHON" -m applications.evaluate "${model[@]}" --early_exit \
    --exit_results="$RESULTS/early_exit$SUFFIX.csv" "${DATA[@]}"
done
