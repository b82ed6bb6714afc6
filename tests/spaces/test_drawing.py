"""Drawings of genotypes, read back from the figure: what is drawn is the network, and nothing covers anything else."""

from __future__ import annotations

import random
import re
import runpy
import sys
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path as FilePath

import pytest

matplotlib = pytest.importorskip("matplotlib")

import numpy as np  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch  # noqa: E402
from search_toys import BATCH, CELLS  # noqa: E402
from torch import nn  # noqa: E402

from lightning_wrcor import zero_shot_search  # noqa: E402
from lightning_wrcor.search import SearchResult  # noqa: E402
from lightning_wrcor.spaces import (  # noqa: E402
    DARTS,
    ENAS,
    PNAS,
    AmoebaNet,
    ChoiceSpace,
    MobileNetV2,
    NASBench101,
    NASBench201,
    NASBenchMacro,
    NASNet,
    NATSBenchSize,
    Space,
    TimmEfficientNet,
    TimmResNet,
    get_space,
    list_spaces,
    nasbench101,
    nasbench201,
)
from lightning_wrcor.spaces._drawing import words  # noqa: E402

ARGUMENTS = runpy.run_path(str(FilePath(__file__).with_name("test_contract.py")))["ARGUMENTS"]
# Those whose cells are larger, or more, without these arguments.
DEFAULTS = ("nasbench101", "nasbench201", "darts", "enas", "pnas", "nasnet", "amoebanet")
WORDS = {
    "skip_connect": "skip",
    "nor_conv_1x1": "conv 1×1",
    "nor_conv_3x3": "conv 3×3",
    "avg_pool_3x3": "avg pool 3×3",
    "max_pool_3x3": "max pool 3×3",
    "sep_conv_3x3": "separable 3×3",
    "sep_conv_5x5": "separable 5×5",
    "dil_conv_3x3": "dilated 3×3",
    "dil_conv_5x5": "dilated 5×5",
    "conv3x3-bn-relu": "conv 3×3",
    "conv1x1-bn-relu": "conv 1×1",
    "maxpool3x3": "max pool 3×3",
}


def sample(space, count, seed=0):
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(count)]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def arrows(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


def line_of(arrow):
    """The path along an arrow, without its head (which is part of what its public methods give)."""
    return arrow._path_original


def rows(figure):
    """A table as it is read: by lines from top to bottom, and in a line from left to right."""
    lines: dict[float, list] = {}
    for text in figure.axes[0].texts:
        lines.setdefault(round(text.get_position()[1], 3), []).append(text)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for line in lines.values():
        line.sort(key=lambda text: text.get_window_extent(renderer).x0)
    return [[text.get_text() for text in lines[y] if text.get_text()] for y in sorted(lines)]


def boxes(figure):
    """The vertices and operations as ``(text, left, top, right, bottom)``, in the figure's own units."""
    found = []
    for patch in figure.axes[0].patches:
        if isinstance(patch, FancyBboxPatch):
            x, y, width, height = patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()
        elif isinstance(patch, Circle):
            x, y = (middle - patch.radius for middle in patch.center)
            width = height = 2 * patch.radius
        else:
            continue
        (inside,) = (
            text.get_text()
            for text in figure.axes[0].texts
            if x < text.get_position()[0] < x + width and y < text.get_position()[1] < y + height
        )
        found.append((inside, x, y, x + width, y + height))
    return found


def at(found, x, y):
    """The one box with a point on its edge or inside."""
    (box,) = (box for box in found if box[1] - 1e-6 <= x <= box[3] + 1e-6 and box[2] - 1e-6 <= y <= box[4] + 1e-6)
    return box


def read_cell(figure):
    """What the pictures say: ``(vertex above, operation or "", vertex below)`` for every arrow, in order."""
    found, edges = boxes(figure), []
    lines = [np.array(line.get_xydata()) for line in figure.axes[0].lines]
    for arrow in arrows(figure):
        source, end = (at(found, *line_of(arrow).vertices[place]) for place in (0, -1))
        joined = [line for line in lines if np.allclose(line[0], ((end[1] + end[3]) / 2, end[4]))]
        target = at(found, *joined[0][-1]) if joined else end
        edges.append((source[0], end[0] if joined else "", target[0]))
    return sorted(edges)


def assert_legible(figure, width):
    """No text covers another, everything lies inside the figure, and no edge runs through what it does not join."""
    assert 0 < figure.get_figwidth() <= width + 1e-9
    renderer = FigureCanvasAgg(figure).get_renderer()
    extents = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.axes[0].texts if text.get_text()]
    assert extents
    for (one, box), (other, second) in combinations(extents, 2):
        assert not box.overlaps(second), f"{one!r} and {other!r} overlap"
    right, top = figure.bbox.width, figure.bbox.height
    for artist in (*figure.axes[0].texts, *figure.axes[0].patches, *figure.axes[0].lines):
        box = artist.get_window_extent(renderer)
        assert box.x0 >= 0, artist
        assert box.y0 >= 0, artist
        assert box.x1 <= right, artist
        assert box.y1 <= top, artist
    if not arrows(figure):
        return
    found = boxes(figure)
    for (one, *a), (other, *b) in combinations(found, 2):
        apart = a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
        assert apart, f"the boxes of {one!r} and {other!r} overlap"
    for arrow in arrows(figure):
        (corners,) = line_of(arrow).to_polygons(closed_only=False)
        points = np.concatenate([np.linspace(*ends, 20) for ends in pairwise(corners)])
        for text, left, upper, right, lower in found:
            inner = np.array((left, upper)) + 1e-6, np.array((right, lower)) - 1e-6
            inside = ((points > inner[0]) & (points < inner[1])).all(axis=1)
            assert not inside.any(), f"an edge runs through {text!r}"


@pytest.mark.parametrize("kind", list_spaces())
def test_every_space_draws_its_genotypes_legibly(kind):
    space = get_space(kind, **ARGUMENTS[kind])
    for genotype, width in zip(sample(space, 2), (3.5, 7), strict=True):
        assert_legible(space.draw(genotype, width=width), width)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_cells_of_the_papers_are_drawn_legibly(kind):
    space = get_space(kind)
    for genotype, width, least in zip(sample(space, 3, seed=1), (3.5, 7, 14), (6.5, 7, 14), strict=True):
        figure = space.draw(genotype, width=width)
        (size,) = {text.get_fontsize() for text in figure.axes[0].texts}
        assert least <= size <= 8 * max(1, width / 7)
        assert_legible(figure, width)


def test_a_cell_of_nasbench201_can_be_read_from_its_drawing():
    space = NASBench201()
    names = {0: "0: input", 1: "1", 2: "2", 3: "3: output"}
    ends = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    empty = 0
    for genotype in [("none",) * 6, *sample(space, 20)]:
        figure = space.draw(genotype)
        expected = sorted(
            (names[source], WORDS[operation], names[target])
            for operation, (source, target) in zip(genotype, ends, strict=True)
            if operation != "none"
        )
        assert len(arrows(figure)) == sum(operation != "none" for operation in genotype)
        assert read_cell(figure) == expected
        dashed = sum(isinstance(p, Circle) and p.get_linestyle() == "--" for p in figure.axes[0].patches)
        assert dashed == (genotype[0] == "none") + (genotype[1] == genotype[2] == "none")
        empty += not expected
    assert empty


def test_cells_of_darts_can_be_read_from_their_drawing():
    for space in (DARTS(), DARTS(nodes=1), DARTS(nodes=6)):
        for genotype in sample(space, 2):
            expected = []
            for cell, concat in (genotype[:2], genotype[2:4]):
                names = ["0: two cells ago", "1: cell before", *map(str, range(2, space.nodes + 2))]
                expected += [
                    (names[node], WORDS[operation], names[place // 2 + 2])
                    for place, (operation, node) in enumerate(cell)
                    if operation != "none"
                ]
                expected += [(names[node], "", "concat") for node in concat]
            for width in (3.5, 7):
                figure = space.draw(genotype, width=width)
                assert read_cell(figure) == sorted(expected)
                assert Counter(texts(figure))["concat"] == 2


def test_width_and_depth_of_stacked_cells_are_below_them():
    space = DARTS(form="cifar", width=[16, 32], depth=[8, 20])
    for genotype in sample(space, 4):
        assert f"{genotype[4]} channels, {genotype[5]} cells" in texts(space.draw(genotype))


def test_loose_ends_are_what_is_concatenated():
    space = NASNet()
    for genotype in sample(space, 4):
        ends = [edge for edge in read_cell(space.draw(genotype)) if edge[2] == "concat"]
        assert Counter(int(source) for source, _, _ in ends) == Counter((*genotype[1], *genotype[3]))


def test_a_cell_of_nasbench101_can_be_read_from_its_drawing():
    space = NASBench101()
    for genotype in sample(space, 20):
        bits, operations = genotype
        labels = ["input", *(WORDS[operation] for operation in operations), "output"]
        matrix = np.zeros((7, 7), int)
        matrix[np.triu_indices(7, 1)] = [int(bit) for bit in bits]
        reach = np.linalg.matrix_power(matrix + np.eye(7, dtype=int), 7) > 0
        used = [vertex for vertex in range(7) if reach[0, vertex] and reach[vertex, 6]]
        expected = [(labels[a], "", labels[b]) for a in used for b in used if matrix[a, b]]
        figure = space.draw(genotype)
        assert read_cell(figure) == sorted(expected)
        assert Counter(texts(figure)) == Counter(labels[vertex] for vertex in used)


def test_edges_do_not_cross_where_they_end():
    for space in (NASBench101(), NASBench201(), DARTS()):
        for genotype in sample(space, 5):
            figure = space.draw(genotype)
            lines = [np.array(line.get_xydata()) for line in figure.axes[0].lines]
            found, ends = boxes(figure), {}
            for arrow in arrows(figure):
                path = line_of(arrow)
                straight = path.codes[-1] == path.LINETO  # after the last curve, which has four points
                start, end = path.vertices[-4 - straight], path.vertices[-1]
                box = at(found, *end)
                joined = [tuple(line[-1]) for line in lines if np.allclose(line[0], ((box[1] + box[3]) / 2, box[4]))]
                ends.setdefault((joined or [box])[0], []).append((end[0], start[0]))
            assert ends
            for landing in ends.values():
                starts = [start for _, start in sorted(landing)]
                assert (np.diff(starts) > -1e-6).all()


def test_every_operation_is_named_in_words():
    operations = {*nasbench101.OPERATIONS, *nasbench201.OPERATIONS}
    operations |= {operation for space in (DARTS, ENAS, PNAS, NASNet, AmoebaNet) for operation in space.operations}
    for operation in operations - {"none"}:
        said = words(operation)
        assert re.fullmatch(r"[a-z. ]+(\d×\d(, \d×\d)?)?", said), said
        # The numbers are those of the operation's own name (in the order in which crossed filters are run).
        assert sorted(re.findall(r"\dx\d", operation)) == sorted(re.findall(r"\dx\d", said.replace("×", "x")))


def test_stages_of_a_published_network_are_a_table():
    space = MobileNetV2()
    table = rows(space.draw(space.parse("ea_600m")))
    assert table[0] == ["stage", "expansion", "kernel", "width", "stride", "bottleneck", "depth"]
    assert table[1] == ["stem", "3", "48", "2"]
    assert table[2] == ["1", "2", "7", "32", "2", "40", "2"]
    assert table[8] == ["7", "6", "5", "240", "1", "136", "2"]
    assert table[9] == ["head", "1", "1264", "1"]
    assert table[10:] == [["images of 224 × 224 pixels"]]


def test_stages_of_timms_networks_are_a_table():
    space = TimmResNet()
    text = "stem64 basic_d2_w64_r1.0_g0 basic_d2_w128_r1.0_g0 bottle_d6_w1024_r0.25_g32 basic_d2_w512_r1.0_g0"
    table = rows(space.draw(space.parse(text)))
    assert table[0] == ["stage", "stride", "block", "depth", "width", "bottleneck", "group"]
    assert table[1:] == [
        ["stem", "64"],
        ["1", "1", "basic", "2", "64", "1.0", "0"],
        ["2", "2", "basic", "2", "128", "1.0", "0"],
        ["3", "2", "bottle", "6", "1024", "0.25", "32"],
        ["4", "2", "basic", "2", "512", "1.0", "0"],
    ]
    space = TimmEfficientNet(widths=[[16], [24]], depths=[[1], [2]], kernels=[5], expansions=[4], strides=[1, 2])
    assert rows(space.draw(sample(space, 1)[0])) == [
        ["stage", "block", "stride", "depth", "kernel", "expansion", "width", "se ratio"],
        ["stem", "32"],
        ["1", "separable", "1", "1", "5", "16", "0.25"],
        ["2", "MBConv", "2", "2", "5", "4", "24", "0.25"],
        ["head", "1280"],
    ]


def test_places_of_small_networks_are_a_table():
    assert rows(NASBenchMacro().draw((0, 1, 2, 0, 1, 1, 2, 0)))[1:] == [
        ["stem", "conv", "3", "1", "32"],
        ["1", "conv", "1", "2", "64"],
        ["inverted residual", "3", "3", "1", "64"],
        ["2", "inverted residual", "5", "6", "2", "128"],
        ["identity", "1", "128"],
        ["inverted residual", "3", "3", "1", "128"],
        ["3", "inverted residual", "3", "3", "2", "256"],
        ["inverted residual", "5", "6", "1", "256"],
        ["identity", "1", "256"],
        ["head", "conv", "1", "1", "1280"],
    ]
    assert rows(NATSBenchSize().draw((8, 16, 24, 32, 64)))[1:] == [
        ["stem", "conv 3×3", "1", "8"],
        ["1", "cell", "1", "8"],
        ["2", "residual", "2", "16"],
        ["3", "cell", "1", "24"],
        ["4", "residual", "2", "32"],
        ["5", "cell", "1", "64"],
    ]


def marked(figure):
    """The texts in a coloured box."""
    return [box[0] for box in boxes(figure)]


def test_the_chosen_values_are_marked():
    space = ChoiceSpace({"depth": [2, 3], "act": ["$x^2$", None]}, lambda depth, act: nn.Flatten())
    figure = space.draw((3, "$x^2$"))
    assert rows(figure) == [["depth", "2", "3"], ["act", "$x^2$", "None"]]
    assert marked(figure) == ["3", "$x^2$"]


def test_of_a_long_list_the_ends_and_the_neighbours_are_shown():
    space = ChoiceSpace({"width": range(100)}, lambda width: nn.Flatten())
    for chosen, shown in (
        (0, "0 1 2 3 4 5 … 99"),
        (50, "0 … 48 49 50 51 52 … 99"),
        (97, "0 … 94 95 96 97 98 99"),
        (99, "0 … 94 95 96 97 98 99"),
    ):
        figure = space.draw((chosen,))
        assert rows(figure) == [["width", *shown.split()]]
        assert marked(figure) == [str(chosen)]


class Own(Space):
    """A user's own space, without a word on drawings."""

    kind = "own"
    input_size = (3, 8, 8)

    def sample(self, rng):
        return rng.randint(1, 9)

    def mutate(self, genotype, rng):
        return genotype % 9 + 1

    def build(self, genotype, num_classes=1000, in_chans=3):
        return nn.Sequential(
            nn.Conv2d(in_chans, genotype, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(genotype, num_classes),
        )

    def parse(self, text):
        return int(text.split()[0])

    def name(self, genotype):
        return (
            f"{genotype} "
            + "channels and a long description that no line of a table has room for, with $5_dollars$ in it"
        )


def test_a_space_of_ones_own_is_drawn_by_its_name_and_costs():
    figure = Own().draw(4)
    assert_legible(figure, 7)
    params, macs = 3 * 4 + 4 + 4 * 1000 + 1000, 3 * 4 * 64 + 4 * 1000
    written = rows(figure)
    assert written[0][0] == "network"
    assert " ".join(part for row in written[:-4] for part in row if part != "network") == Own().name(4)
    assert written[-4:] == [
        ["parameters", f"{params:,}"],
        ["multiply-adds", f"{macs:,}"],
        ["non-linearities", "1"],
        ["for 1,000 classes and an image of 3 × 8 × 8"],
    ]


def test_costs_are_for_the_images_and_the_classes_that_are_asked_for():
    for space, genotype in ((Own(), 4), (get_space("union", spaces={"own": Own()}), ("own", 4))):
        drawn = space.draw(genotype, input_size=(1, 6, 5), num_classes=1)
        params, macs = 1 * 4 + 4 + 4 * 1 + 1, 1 * 4 * 30 + 4 * 1
        assert {f"{params:,}", f"{macs:,}", "for 1 class and an image of 1 × 6 × 5"} <= set(texts(drawn))
        assert_legible(drawn, 7)
    cell = CELLS.sample(random.Random(0))
    assert texts(CELLS.draw(cell, input_size=(1, 6, 5), num_classes=1)) == texts(CELLS.draw(cell)), (
        "which shows no costs"
    )


def test_a_union_draws_as_its_member():
    space = get_space("union", **ARGUMENTS["union"])
    for genotype in sample(space, 6):
        own = space.spaces[genotype[0]].draw(genotype[1], width=5)
        assert texts(space.draw(genotype, width=5)) == texts(own)


def test_a_result_draws_its_winner(tmp_path):
    result = zero_shot_search(CELLS, BATCH, budget=4, proxy="params")
    expected = read_cell(CELLS.draw(result.best.genotype))
    assert read_cell(result.draw()) == expected
    result.to_json(tmp_path / "search.json")
    again = SearchResult.from_json(tmp_path / "search.json")
    assert read_cell(again.draw(width=3.5)) == expected == read_cell(again.draw(space=CELLS))


def test_the_same_genotype_gives_the_same_drawing(tmp_path):
    genotype = sample(PNAS(), 1)[0]
    for name in ("one.png", "two.png"):
        PNAS().draw(genotype).savefig(tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_no_figure_of_pyplot_is_made():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    NASBench201().draw(sample(NASBench201(), 1)[0])
    assert pyplot.get_fignums() == before


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"NASBench201 has no operation 'nothing'"):
        NASBench201().draw(("nothing",) * 6)
    for width in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"width is a positive number of inches; got"):
            NASBench201().draw(("none",) * 6, width=width)


def test_a_missing_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"^A drawing needs matplotlib: pip install 'lightning_wrcor\[recipes\]'\.$"):
        NASBench201().draw(("none",) * 6)
