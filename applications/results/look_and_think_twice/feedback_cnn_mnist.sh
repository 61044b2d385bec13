#!/usr/bin/env bash
# Where does a classifier of cluttered MNIST look? VGG-small of a quarter of the width,
# seven convolutions, without and with batch norm, trained on 90 % of the training
# scenes; the settings of FeedbackCNN's loop on 200 scenes of the other 10 %; then every
# method, with thresholds from 300 of those, on 1,000 test scenes of one digit and on
# 500 of two. And what is a second look worth? A network of six
# convolutions sees the scenes at half their size; its second look cuts out of them.
# Feedback maximizes the score and is read out as a gradient, and crops alone answer in a
# second look, the only way at the time; feedback_cnn_mnist_defaults.csv has it as it
# comes today.
# Writes feedback_cnn_mnist_tuning.csv, feedback_cnn_mnist.csv and .png beside itself; a
# row that is there is not measured again. TFDS_DATA_DIR must hold MNIST, or TFDS fetches
# it. Takes about an hour on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/feedback_cnn_mnist}
RESULTS=${RESULTS:-applications/results/look_and_think_twice}
NAME=$RESULTS/feedback_cnn_mnist

train() { # name, batch norm, blocks, epochs, more flags
  if [ -f "$RUNS/$1/model.keras" ]; then return; fi
  "$PYTHON" -m applications.train --model=vgg_small --dataset=cluttered_mnist \
    --model_args="{\"width\": 0.25, \"batch_norm\": $2, \"blocks\": $3}" \
    --train_split='train[:90%]' --eval_split='train[90%:]' --epochs="$4" "${@:5}" \
    --optimizer=adam --lr=0.001 --lr_drops=0.7 --batch_size=64 --verbose=2 \
    --output_dir="$RUNS/$1"
}

tune() { # network, iterations, step size, sparsity, more flags
  local network=$1 name="$1-$2-$3-$4"
  name+=$(printf -- '%s' "${@:5}" | tr , +)
  if grep -qsF ",$name," "${NAME}_tuning.csv"; then return; fi
  "$PYTHON" -m applications.localize --run="$RUNS/$network" --methods=feedback \
    --objective=score --readout=gradient --combine=crops \
    --iterations="$2" --step_size="$3" --sparsity="$4" --top=1 --gallery=0 \
    --eval_split='train[95%:]' --examples=200 --tuning_split='train[90%:95%]' \
    --tuning_examples=50 --results="${NAME}_tuning.csv" --experiment="$name" \
    --output_dir="$RUNS/tuning" "${@:5}"
}

compare() { # name, network, split, examples, more flags
  local name=$1
  if grep -qsF ",$name," "$NAME.csv"; then return; fi
  "$PYTHON" -m applications.localize --run="$RUNS/$2" --eval_split="$3" \
    --examples="$4" --tuning_split='train[90%:]' --tuning_examples=300 --top=2 \
    --objective=score --readout=gradient --look_energy=0.95 --margin=0.25 \
    --combine=crops \
    --results="$NAME.csv" --experiment="$name" --output_dir="$RUNS/$name" "${@:5}"
}

defaults() { # name, network, split, examples
  local name=$1
  if grep -qsF ",$name," "${NAME}_defaults.csv"; then return; fi
  "$PYTHON" -m applications.localize --run="$RUNS/$2" --eval_split="$3" \
    --examples="$4" --tuning_split='train[90%:]' --tuning_examples=300 --top=0 \
    --gallery=0 --methods=feedback,gradient,guided_backpropagation,grad_cam \
    --results="${NAME}_defaults.csv" --experiment="$name" --output_dir="$RUNS/$name" \
    "${@:5}"
}

train plain false '[2, 2, 2, 1]' 6
train batch_norm true '[2, 2, 2, 1]' 5
train small false '[2, 2, 2]' 6 --image_size=32
for network in plain batch_norm; do
  for sparsity in 0 0.01 0.02 0.03 0.1; do
    tune "$network" 10 0.1 "$sparsity"
  done
  tune "$network" 30 0.1 0.01
  tune "$network" 50 0.1 0.1 --start=activations
  tune "$network" 10 0.1 0.01 --start=activations --nonormalize
  tune "$network" 1 0.1 0 --update_rule=recovering
  tune "$network" 1 0.1 0 --update_rule=selective_pruning
  for layers in block4_relu1 block3_relu2,block4_relu1 \
    block3_relu1,block3_relu2,block4_relu1 \
    block2_relu2,block3_relu1,block3_relu2,block4_relu1; do
    for sparsity in 0.01 0.02 0.05; do
      tune "$network" 10 0.1 "$sparsity" --gate_layers="$layers"
    done
  done
done
for look in '3 0.95 0.1' '3 0.95 0.25' '3 0.95 0.5' '3 0.8 0.1' '3 0.8 0.25' \
  '3 0.8 0.5' '3 0.8 1' '1 0.95 0.25' '2 0.95 0.25' '5 0.95 0.25'; do
  read -r top energy margin <<<"$look"
  tune small 10 0.1 0.01 --look_energy="$energy" --margin="$margin" --top="$top" \
    --eval_split='train[90%:]' --examples=2000
done
upper=block3_relu1,block3_relu2,block4_relu1
compare plain plain test 1000
compare plain_upper plain test 1000 --methods=feedback --gate_layers="$upper" \
  --sparsity=0.01 --gallery=0
compare plain_recovering plain test 1000 --methods=feedback --gallery=0 \
  --update_rule=recovering --iterations=1
compare batch_norm batch_norm test 1000 --sparsity=0.03
compare batch_norm_upper batch_norm test 1000 --methods=feedback --gallery=0 \
  --gate_layers="$upper"
compare batch_norm_recovering batch_norm test 1000 --methods=feedback --gallery=0 \
  --update_rule=recovering --iterations=1
compare two plain test_two 500 --gallery=0
compare small small test 4000 --sparsity=0.01 --look_energy=0.95 --margin=0.25 \
  --top=3
defaults plain plain test 1000
defaults two plain test_two 500
for split in test test_two; do # the rule of before on the same scenes
  defaults "score_$split" plain "$split" 500 --methods=feedback --objective=score \
    --readout=gradient
done
if [ -f "$RUNS/plain/gallery.png" ]; then cp "$RUNS/plain/gallery.png" "$NAME.png"; fi
