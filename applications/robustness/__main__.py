r"""Measures how models degrade on noisy, hidden, blurred or attacked images.

    python -m applications.robustness --runs=runs/vgg,runs/crcn --noise=10,20,30,40,50 \
        --occlusion=0.1,0.2,0.3 --fgsm=1,2,4,8 --seeds=0,1 --output_dir=runs/robust
    python -m applications.robustness --weights=vgg_small_cifar10,crcn_cifar10 \
        --dataset=cifar10 --noise=30 --output_dir=runs/published
    python -m applications.robustness --models=mine.keras --preprocessing=torch \
        --dataset=imagenet2012 --eval_split=validation --pgd=1,2 --output_dir=runs/mine

The corruptions, in the units of images of 0 to 255, come before a model's own
preprocessing. Data set and splits are those of the first run unless flags say
otherwise; the models of --models get --preprocessing, those of --weights what their
cards say.

Into --output_dir go `robustness.csv`, one row per model, corruption, severity and seed
(what has a row already is not measured again); `robustness.png`, accuracy against
severity with the standard deviation over the seeds of training and corruption; and,
with --tsne_layers, `tsne_<model>_<run>.png`.
"""

import logging
import pathlib

from applications.common import data, scores
from applications.common.command_line import launch
from applications.common.rows import format_table
from applications.robustness import figures
from applications.robustness.entries import load_entries
from applications.robustness.settings import Settings
from applications.robustness.sweep import Sweep, summary


def main(settings):
    """Measures, prints, writes, draws."""
    output = pathlib.Path(settings.output_dir)
    # Each model is traced anew, of which TensorFlow warns.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    test, info = data.load(settings, settings.eval_split)
    scores.require_one_label(info)
    entries = load_entries(settings, info)
    figures.check_layers(entries, settings.tsne_layers)
    output.mkdir(parents=True, exist_ok=True)
    others = None
    if settings.occlusion and settings.occluder == "patches":
        train, _ = data.load(settings, settings.train_split)
        others, _ = data.first_images(train, 512)
    sweep = Sweep(settings, entries, test, info, others)
    rows = sweep.run()
    print(f"{info.name}, {info.split}: {info.num_examples} examples")
    print(format_table(summary(rows)))
    if any(settings.severities.values()):
        figures.draw_curves(rows, output / "robustness.png")
        print(f"wrote {output / 'robustness.png'}")
    if settings.tsne_layers:
        for path in figures.draw_tsne(settings, entries, test, output):
            print(f"wrote {path}")


if __name__ == "__main__":
    launch(main, Settings)
