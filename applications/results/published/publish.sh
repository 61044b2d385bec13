#!/usr/bin/env bash
# Makes the weights that come with the package of trained runs: published.sh's, and those
# of ../one_budget/cifar10_gpu.sh and cifar10.sh, for which TFDS_DATA_DIR must hold
# CIFAR-10. What is published already, or not trained yet, is left as it is; names as arguments choose
# tags and publish them anew: `publish.sh lr_lnin_2_cifar10`.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-.venv/bin/python}
RUNS=${RUNS:-runs/published}
ONE_BUDGET=${ONE_BUDGET:-runs/one_budget}
ONE_BUDGET_GPU=${ONE_BUDGET_GPU:-runs/one_budget_gpu}
INDEX=kfeedback/weights/published/index.json
TAGS=("$@") known=()

LI="Li et al., Learning with Rethinking, 2017"
WANG="Wang et al., Contextual recurrent convolutional model for robust visual learning, 2019"
YANG="Yang et al., Convolutional neural networks with alternately updated clique, 2018"
ZAMIR="Zamir et al., Feedback networks, 2017"
LENET="LeCun et al., Gradient-based learning applied to document recognition, 1998; $LI, table 5"
LIN="Lin et al., Network in network, 2014"
VGG="Simonyan and Zisserman, Very deep convolutional networks, 2015"

publish() { # tag, folder of the run, paper, data, license of the data, command, on, flags
  local tag=$1 run=$2
  known+=("$tag")
  if [ ${#TAGS[@]} -gt 0 ]; then
    if [[ " ${TAGS[*]} " != *" $tag "* ]]; then return; fi
  elif grep -q "\"tag\": \"$tag\"" "$INDEX"; then
    return
  fi
  if [ ! -f "$run/weights.h5" ]; then
    echo "$tag: not trained"
    return
  fi
  "$PYTHON" -m tools.publish_weights --run="$run" --tag="$tag" "${@:8}" --about="$(
    "$PYTHON" -c 'import json, sys
names = "paper", "dataset", "license", "command", "source"
print(json.dumps(dict(zip(names, sys.argv[1:], strict=True))))' \
      "$3" "$4" "Apache-2.0; the data: $5" "$6" \
      "trained for kfeedback, seed 0, on $7, rounded to float16"
  )"
}

sample() { # row, paper
  publish "$1_mnist_bg_sample" "$RUNS/$1" "$2" \
    "mnist_background_images_sample, train: 6,000 images" \
    "MNIST under CC BY-SA 3.0, photographs as in kfeedback/datasets/sample/README.md" \
    "applications/results/published/published.sh $1" "two CPU cores"
}

cifar10() { # tag without its end, folder of the run, script, on, paper
  publish "$1_cifar10" "$2" "$5" \
    "CIFAR-10, train: 50,000 images" "Krizhevsky, 2009, which names none" \
    "applications/results/one_budget/$3" "$4" \
    --dataset=cifar10 --data_dir="${TFDS_DATA_DIR:?must be the folder that holds CIFAR-10}"
}

on_gpu() { # row, paper
  cifar10 "$1" "$ONE_BUDGET_GPU/$1-0" "cifar10_gpu.sh $1" "an NVIDIA H200" "$2"
}

on_cpu() { # tag without its end, row, paper
  cifar10 "$1" "$ONE_BUDGET/$2-0" "cifar10.sh $2" "two CPU cores" "$3"
}

sample ft_lenet "$LENET"
sample lr_lenet "$LI"
sample crcn_lenet "$WANG"
sample cliquenet "$YANG"
sample feedback_convlstm "$ZAMIR"
sample nin "$LIN"
on_gpu lnin "$LI"
on_cpu lr_lnin_2 lr_lnin_2_on_more "$LI"
on_gpu vgg_small "$VGG"
on_gpu crcn "$WANG"
on_gpu feedback_convlstm "$ZAMIR"
cifar10 cliquenet "$ONE_BUDGET_GPU/cliquenet_no_dropout_on-0" \
  "cifar10_gpu.sh cliquenet_no_dropout_on" \
  "an NVIDIA H200, its last 277 batches on two CPU cores" "$YANG"

for name in ${TAGS[@]+"${TAGS[@]}"}; do
  if [[ " ${known[*]} " != *" $name "* ]]; then
    echo "tags must be some of ${known[*]}, got $name" >&2
    exit 2
  fi
done
