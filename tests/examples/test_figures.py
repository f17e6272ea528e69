"""Pictures of the documentation are drawn from kept results."""

from pathlib import Path

import pytest
from matplotlib import colors

from examples.figures import __main__ as figures
from examples.figures import style

DOCS = Path(__file__).parents[2] / "docs"


def test_pictures_are_drawn_where_pages_look_for_them(tmp_path):
    drawn = figures.main(["--output", str(tmp_path)])
    assert all(path.stat().st_size > 10_000 for path in drawn)
    pages = "".join(path.read_text() for path in DOCS.rglob("*.md"))
    for path in drawn:
        theme = "dark" if path.stem.endswith("_dark") else "light"
        assert f"figures/{path.name}#only-{theme})" in pages and (DOCS / "figures" / path.name).exists(), path.name


@pytest.mark.parametrize(("suffix", "background"), [("", "white"), ("_dark", "#1e2129")])
def test_colors_stand_out_from_the_page(suffix, background):
    def luminance(color):
        linear = [one / 12.92 if one <= 0.04 else ((one + 0.055) / 1.055) ** 2.4 for one in colors.to_rgb(color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    page = luminance(background)
    for name, color in style.THEMES[suffix].items():
        light, dark = max(page, luminance(color)), min(page, luminance(color))
        assert (light + 0.05) / (dark + 0.05) > (4 if name == "text" else 3), name
