import csv
import html.parser

import keras
import numpy as np
import pytest

from kfeedback import explain
from tests.applications.command import run_code, run_each

Image = pytest.importorskip("PIL.Image")

METHODS = explain.list_methods()

pytestmark = pytest.mark.slow  # it compiles every method several times

_XML = """<annotation><filename>{name}.png</filename><object><name>{label}</name>
<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>
</bndbox></object></annotation>"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Squares of two colors in a folder like VOC's, and a model that knows them."""
    folder = tmp_path_factory.mktemp("localize")
    for inner in ("voc/Annotations", "voc/JPEGImages", "voc/ImageSets/Main"):
        (folder / inner).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(12):
        top, left = rng.integers(0, 16, 2)
        side = rng.integers(6, 16)
        image = rng.integers(0, 40, (32, 32, 3)).astype(np.uint8)
        image[top : top + side, left : left + side, n % 2] = 230
        Image.fromarray(image).save(folder / f"voc/JPEGImages/{n}.png")
        (folder / f"voc/Annotations/{n}.xml").write_text(
            _XML.format(
                name=n,
                label=("red", "green")[n % 2],
                top=top + 1,
                left=left + 1,
                bottom=top + side,
                right=left + side,
            )
        )
    text = (folder / "voc/Annotations/0.xml").read_text()
    start, end = text.index("<object>"), text.index("</annotation>")
    # Another class too.
    text = text[:end] + text[start:].replace("<name>red", "<name>green")
    (folder / "voc/Annotations/12.xml").write_text(text)
    splits = {"tune": range(6), "test": range(6, 12), "two": [12]}
    for split, numbers in splits.items():
        lines = "".join(f"{n}\n" for n in numbers)
        (folder / f"voc/ImageSets/Main/{split}.txt").write_text(lines)
    x = inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(3, 3, activation="relu", padding="same", name="c1")(x)
    x = keras.layers.Conv2D(2, 3, activation="relu", padding="same", name="c2")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    first, second = np.zeros((3, 3, 3, 3)), np.zeros((3, 3, 3, 2))
    # Classes are numbered by name: green is 0.
    for n in range(3):
        first[1, 1, n, n] = 1
    second[:, :, 1, 0] = second[:, :, 0, 1] = 1 / 9
    model.set_weights(
        [first, np.full(3, -0.3), second, np.zeros(2), 40 * np.eye(2), np.zeros(2)]
    )
    model.save(folder / "model.keras")
    (folder / "other.csv").write_text("date,error\n")
    return folder


@pytest.fixture(scope="module")
def results(place):
    common = [f"--model={place / 'model.keras'}", f"--dataset={place / 'voc'}"]
    splits = ["--eval_split=test", "--tuning_split=tune"]
    out = f"--output_dir={place / 'out'}"
    lines = {
        "all": [
            *common,
            *splits,
            out,
            f"--methods={','.join(METHODS)}",
            "--gallery=2",
            "--top=2",
        ],
        "two": [
            *common,
            *splits,
            out,
            "--gallery=0",
            "--eval_split=two",
            "--methods=gradient",
        ],
        "method": [*common, *splits, out, "--methods=lime"],
        "both": [*common, *splits, out, f"--run={place}"],
        "none": [*splits, out],
        "split": [*common, "--eval_split=val", "--tuning_split=tune", out],
        "fitted": [*common, *splits, out, "--preprocessing=standardize"],
        "names": [*common, *splits, out, "--class_names=green,red,blue"],
        "classes": [*common, *splits, out, "--collages=1"],
        "size": [*common, *splits, out, "--image_size=20"],
        "columns": [*common, *splits, f"--results={place / 'other.csv'}", out],
        "layers": [*common, *splits, out, "--gate_layers=nowhere"],
    }
    found = run_each("applications.localize", list(lines.values()))
    return dict(zip(lines, found, strict=True))


class _Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.images, self.links, self.rows = [], [], 0
        self.headings, self.in_heading = set(), False

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[k] for k in ("href", "src") if k in attrs]
        self.images += [attrs["alt"]] if tag == "img" else []
        self.rows += tag == "tr"
        self.in_heading = tag == "th"

    def handle_data(self, data):
        self.headings |= {data} if self.in_heading else set()


def test_it_writes_rows_gallery_and_page(place, results):
    code, output = results["all"]
    assert code == 0, output
    with (place / "out" / "localize.csv").open() as file:
        rows = list(csv.DictReader(file))
    # The last row is of an image with two classes, which has no second look.
    assert [row["method"] for row in rows] == [*METHODS, "gradient"]
    assert rows[-1]["targets"] == "2" and rows[-1]["second_look"] == ""
    feedback = rows[METHODS.index("feedback")]
    assert feedback["images"] == feedback["targets"] == "6"
    # The squares are all that the model looks at.
    for row in (feedback, rows[METHODS.index("gradient")]):
        assert float(row["localization_error"]) == float(row["max_box_error"]) == 0
        assert float(row["pointing_game"]) == 1 and float(row["pxap"]) > 0.9
        assert float(row["energy_in_box"]) > 0.8
        assert float(row["first_look"]) == float(row["first_look_top"]) == 0
        assert float(row["seconds_per_map"]) > 0 and row["collage_pxap"] == ""
    for row in rows:
        assert 0 <= float(row["deletion"]) <= 1 and 0 <= float(row["insertion"]) <= 1
    for name in ("gallery", "looks"):
        with Image.open(place / "out" / f"{name}.png") as picture:
            assert picture.width > 200 * len(METHODS)
    page = _Page()
    page.feed((place / "out" / "localize.html").read_text(encoding="utf-8"))
    assert page.images == ["gallery", "looks"]
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    # All columns but date, commit, what all rows share, and what no one looks for.
    metrics = len(feedback) - 2 - 7 - 3
    assert {"localization error", "second look", "deletion"} <= page.headings
    assert page.headings >= {method.replace("_", " ") for method in METHODS}
    assert page.rows == 1 + metrics


_PEAK = """
import resource
from applications.common.command_line import launch
from applications.localize.__main__ import Settings, main
launch(main, Settings)
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_images(place):
    """The peak of 10,000 images is within 5 % of that of 1,000."""
    listed = place / "voc/ImageSets/Main/many.txt"
    listed.write_text("".join(f"{n % 12}\n" for n in range(10_000)))

    def peak(count):
        names = place / "names.txt"
        names.write_text("green\nred\n")
        arguments = [
            f"--model={place / 'model.keras'}",
            f"--dataset={place / 'voc'}",
            f"--class_names={names}",
            "--tuning_split=tune",
            "--eval_split=many",
            f"--examples={count}",
            "--methods=gradient",
            "--top=1",
            "--gallery=0",
            f"--output_dir={place / 'many'}",
        ]
        output = run_code(_PEAK, *arguments)
        assert f"many: {count} targets" in output
        return int(output.split("PEAK")[1])

    few, many = peak(1_000), peak(10_000)
    assert many < 1.05 * few, f"{few} KiB for 1,000 images, {many} for 10,000"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("method", "--methods must be some of center"),
        ("both", "--run or --model must be given, one of them"),
        ("none", "--run or --model must be given, one of them"),
        ("split", "split must be 'all' or name"),
        ("fitted", "--preprocessing must be one that nothing is fitted for"),
        ("names", "--dataset must have the 2 classes of the model, got"),
        ("classes", "--collages=1: images must have 4 classes or more, got 2"),
        ("size", "--image_size must be what the model takes, 32 × 32 pixels, got 20"),
        ("columns", "--results must be a file with the columns date, commit"),
        ("layers", "gate_layers must name layers"),
    ],
)
def test_bad_flags(results, name, message):
    code, output = results[name]
    assert code == 1 and message in output, output
