#!/usr/bin/env bash
# Where do two published ImageNet networks look in photographs, and what is a second look
# worth? All methods on two splits, thresholds from the respective other one, the slow
# methods on 100 images; scenes of four; then the second look. Writes photographs.csv
# beside itself, and pictures into RUNS; a row that is there is not measured again.
# README.md says what DATA, SQUEEZENET and LITE are. Takes hours on 2 cores; with
# ONLY_SAMPLE=1, which asks for four methods on 200 images, minutes.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/photographs}
RESULTS=${RESULTS:-applications/results/photographs}
NAME=$RESULTS/photographs
: "${DATA:?must be a folder in the form of VOC with the splits small and large}"
: "${SQUEEZENET:?must be a .keras file}" "${LITE:?must be a .keras file}"
FAST=feedback,gradient,gradient_input,deconvnet,guided_backpropagation
FAST+=,grad_cam,grad_cam_plus_plus,layer_cam,hires_cam
SLOW=smooth_grad,integrated_gradients,score_cam,occlusion,rise

where() { # name, network, split, split to tune on, more flags
  local name=$1 model=$SQUEEZENET mode=caffe
  if grep -qsF ",$name," "$NAME.csv"; then return; fi
  if [ "$2" = lite ]; then model=$LITE mode=torch; fi
  "$PYTHON" -m applications.localize --model="$model" --preprocessing="$mode" \
    --dataset="$DATA" --class_names="$DATA/classes.txt" \
    --eval_split="$3" --tuning_split="$4" --tuning_examples=200 --top=0 \
    --results="$NAME.csv" --output_dir="$RUNS/$name" "${@:5}"
}

for network in squeezenet lite; do
  # A first answer, in minutes.
  where "${network}_sample" "$network" small large --center_crop=1 \
    --methods=feedback,gradient,guided_backpropagation,grad_cam --examples=200 \
    --tuning_examples=100 --collages=20
done
if [ "${ONLY_SAMPLE:-}" ]; then exit; fi
for network in squeezenet lite; do
  where "${network}_small" "$network" small large --center_crop=1 --methods=$FAST \
    --collages=40
  where "${network}_large" "$network" large small --center_crop=1 --methods=$FAST
  where "${network}_slow" "$network" small large --center_crop=1 --methods=$SLOW \
    --examples=100 --tuning_examples=50 --collages=10
  # The paper's rule for the gates.
  where "${network}_paper" "$network" small large --center_crop=1 --methods=feedback \
    --gallery=0 --sparsity=0.001 --start=activations --nonormalize \
    --objective=score --readout=gradient
  # Objects' sizes are those in the whole image: no crop. The control looks at the middle.
  where "${network}_looks" "$network" large small --methods=feedback,grad_cam,gradient \
    --top=5
  where "${network}_middle" "$network" large small --methods=center --top=5 --gallery=0
done
