import json

import pytest

from applications.demo import page
from tests.applications.command import run_alone

PICTURES = {
    "corrected_lr_lenet_mnist_bg_sample.png",
    "corrected_crcn_lenet_mnist_bg_sample.png",
    "corrected_feedback_convlstm_mnist_bg_sample.png",
    "early_exit.png",
    "two_classes.png",
    "second_look.png",
}


@pytest.mark.slow
def test_demo_runs_to_its_end(tmp_path):
    """Also where an earlier one was finished or broken off."""
    for name in ("lenet", "lr_lenet"):
        (tmp_path / name).mkdir()
        about = {"flags": {}, "errors": [1.0]} if name == "lenet" else {"flags": {}}
        (tmp_path / name / "run.json").write_text(json.dumps(about))
    (tmp_path / "results.csv").write_text("a,b\n")
    output = run_alone(
        "applications.demo",
        f"--demo_dir={tmp_path}",
        "--baseline_epochs=1",
        "--further_epochs=1",
        "--noshow",
    )
    assert "LR-LeNet" in output and "timestep 2" in output
    assert "largest difference" in output
    assert (tmp_path / "lr_lenet" / "top_k.png").stat().st_size > 10_000
    assert (tmp_path / "served" / "1" / "saved_model.pb").exists()
    assert {path.name for path in tmp_path.glob("*.png")} == PICTURES
    looks = json.loads((tmp_path / "looks.json").read_text())
    corrected, exits, *_ = looks
    # What the pictures are there to show.
    assert all(row["corrected"] > row["spoiled"] for row in corrected["rows"])
    assert all(row["accuracy_all"] > 90 for row in exits["rows"])
    text = (tmp_path / "index.html").read_text()
    assert str((tmp_path / "index.html").resolve()) in output
    assert text.count("data:image/png") == len(PICTURES) + 1
    assert text.count("<h2>") == len(looks) + 2


def test_the_page_shows_what_it_is_given(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    rows = [{"network": "A & B", "error": 1.5}, {"network": "C", "error": 2}]
    sections = [
        page.section("First", "1 < 2", rows, ["a.png"]),
        page.section("Second", "nothing more"),
    ]
    path = page.write(tmp_path, json.loads(json.dumps(sections)))
    text = path.read_text()
    assert text.index("<h2>First</h2>") < text.index("<h2>Second</h2>")
    assert "<p>1 &lt; 2</p>" in text and "<th>network</th><th>error</th>" in text
    assert "<td>A &amp; B</td><td>1.5</td>" in text and text.count("<table>") == 1
    assert text.count("data:image/png;base64,cGljdHVyZQ==") == 1
