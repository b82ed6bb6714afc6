"""Tables of accuracies as they are published, and the networks that their rows name."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from lightning_wrcor.benchmark._networks import read_networks, read_space
from lightning_wrcor.benchmark._tables import read_table
from lightning_wrcor.spaces import DARTS, NASBench201, TimmModels

CELL = {
    "normal": [["sep_conv_3x3", 0], ["skip_connect", 1]] + [["max_pool_3x3", 0], ["dil_conv_5x5", 2]] * 3,
    "normal_concat": [2, 3, 4, 5],
    "reduce": [["avg_pool_3x3", 1], ["none", 0]] * 4,
    "reduce_concat": [2, 3, 4, 5],
}


def nds_row(width: int, depth: int, error: float) -> dict[str, object]:
    return {"net": {"genotype": CELL, "width": width, "depth": depth}, "min_test_top1": error, "params": 7, "n_ep": 50}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_architectures_stay_text_and_columns_are_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "\ufeffadj,ops,acc\n0011,I-c1-O,90\n0100,I-c3-O,\n")
    table = read_table(path, ["acc"], "adj,ops")
    assert [(row.text, row.accuracies) for row in table.rows] == [("0011;I-c1-O", {"acc": 90.0})]
    assert table.notes == ["1 row has no number in acc."]
    assert read_table(path, ["acc"], "adj").rows[0].text == "0011"


def test_filters_keep_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "model,img_size,top1,top5\na.x,224,80,95\nb.x,256,81,95\nc.y,224.0,82,\n")
    assert [row.text for row in read_table(path, ["top1"], where={"img_size": "224"}).rows] == ["a.x", "c.y"]
    table = read_table(path, ["top1", "top5"], match=r"\.y$")
    assert [row.accuracies for row in table.rows] == [{"top1": 82.0}]
    assert table.notes == ["2 of 3 rows do not pass the filter match='\\\\.y$'."]
    assert read_table(path, ["top1"], errors=True).rows[0].accuracies == {"top1": 20.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": ["acc"]}, "has no column 'acc'; it has model, top1"),
        ({"columns": ["top1"], "architectures": "arch"}, "has no column 'arch'; it has model, top1"),
        ({"columns": ["top1"], "where": {"size": "1"}}, "has no column 'size'"),
        ({"columns": ["top1"], "where": {"top1": "1"}}, "No row of .* is left: of 2, 2 do not pass the filter top1=1"),
        ({"columns": ["top1"], "match": "(["}, r"match='\(\[' is no regular expression"),
        ({"columns": ["model"]}, "Row 1 of .*, column 'model' holds 'a', which is no number"),
        ({"columns": ["top1"], "table": "T"}, "can be named for a JSON file only"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    path = write(tmp_path / "t.csv", "model,top1\na,80\nb,81\n")
    with pytest.raises(ValueError, match=message):
        read_table(path, **arguments)  # type: ignore[arg-type]


def test_an_unusual_architecture_column_has_to_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "cell,acc\na,80\n")
    with pytest.raises(ValueError, match=r"it has cell, acc\. Name the architecture column with --architectures"):
        read_table(path, ["acc"])


def test_rows_of_nds_become_genotypes_and_accuracies(tmp_path: Path) -> None:
    path = tmp_path / "nds.json.gz"
    with gzip.open(path, "wt") as file:
        json.dump({"A": [nds_row(8, 5, 30.5), nds_row(4, 2, 40.0)], "B": [nds_row(16, 3, 20.0)]}, file)
    table = read_table(path, ["min_test_top1"], table="A", where={"width": "8"})
    assert table.choices == {"width": [4, 8], "depth": [2, 5]}, "of all rows, whatever the filter leaves"
    assert table.rows[0].accuracies == {"min_test_top1": 69.5}
    space = read_space("darts", table.choices)
    assert isinstance(space, DARTS)
    genotype = space.parse(table.rows[0].text)
    cells = tuple(tuple(tuple(pair) for pair in CELL[name]) for name in ("normal", "reduce"))  # type: ignore[arg-type]
    assert genotype == (cells[0], (2, 3, 4, 5), cells[1], (2, 3, 4, 5), 8, 5)
    given = read_space('{"class_path": "DARTS", "init_args": {"width": [4, 8, 16], "form": "cifar"}}', table.choices)
    assert (given.width, given.depth) == ((4, 8, 16), (2, 5))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="has 2 tables: choose one with --table: A, B"):
        read_table(path, ["min_test_top1"])
    with pytest.raises(ValueError, match="has no table 'C'"):
        read_table(path, ["min_test_top1"], table="C")
    single = write(tmp_path / "list.json", json.dumps([nds_row(8, 5, 30.5)]))
    assert read_table(single, ["min_test_top1"]).rows == read_table(path, ["min_test_top1"], table="A").rows[:1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not in the form of NDS"),
        ("{", "is no JSON"),
        ('[{"net": {}}]', "not in the form of NDS"),
        ("[]", "no rows"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / "t.json", text), ["acc"])


def test_tags_of_timm_are_left_out_and_rows_of_one_network_joined(tmp_path: Path) -> None:
    lines = "test_resnet.a_in1k,60\ntest_resnet.b_in1k,70\nresnet99.a,80\ntest_vit.x,50\nresnet99.b,81\n"
    table = read_table(write(tmp_path / "t.csv", f"model,top1\n{lines}"), ["top1"])
    networks, notes = read_networks(TimmModels("test_*"), table)
    assert [(one.name, one.accuracies["top1"]) for one in networks] == [("test_resnet", 65.0), ("test_vit", 50.0)]
    assert notes[0].startswith("2 rows were skipped because the space cannot read their architecture: resnet99.a")
    assert notes[1].startswith("2 rows share their architecture with another row; they were joined into 1 network with")


def test_isomorphic_cells_stay_apart(tmp_path: Path) -> None:
    cells = [
        "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|skip_connect~1|none~2|",
        "|none~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|skip_connect~2|",
    ]
    table = read_table(write(tmp_path / "t.csv", f"arch,acc\n{cells[0]},60\n{cells[1]},62\n"), ["acc"])
    networks, _ = read_networks(NASBench201(), table)
    assert [one.accuracies["acc"] for one in networks] == [60.0, 62.0]
    assert networks[0].key == networks[1].key


def test_a_table_of_another_space_says_what_cannot_be_read(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.csv", "arch,acc\nabc,60\n"), ["acc"])
    with pytest.raises(ValueError, match=r"can read none of 1 architectures\. abc: An arch string has 3 parts"):
        read_networks(NASBench201(), table)


@pytest.mark.parametrize("spec", ["{class_path: DARTS", "darts: 3", '{"class_path": 3}', '{"class_path": "Nope"}'])
def test_a_space_that_is_none_is_refused_in_words(spec: str) -> None:
    with pytest.raises(ValueError, match=r"space|mapping|class_path"):
        read_space(spec, {})


@pytest.mark.data
def test_published_tables_can_be_read(data: Path) -> None:
    table = read_table(data / "nds_imagenet.json.gz", ["min_test_top1"], table="DARTS_in")
    networks, notes = read_networks(read_space("darts", table.choices), table)
    assert (len(networks), notes) == (60, [])
    assert all(50 < network.accuracies["min_test_top1"] < 80 for network in networks)
    raw = json.loads(gzip.decompress((data / "nds_imagenet.json.gz").read_bytes()))["DARTS_in"]
    space = read_space("darts", table.choices)
    for network, row in list(zip(networks, raw, strict=True))[:3]:
        assert space.costs(space.parse(network.name), (3, 224, 224), 1000).params == row["params"]
    timm_table = read_table(data / "timm_imagenet.csv.gz", ["top1"], where={"img_size": "224"}, match=r"^resnet\d+\.")
    networks, _ = read_networks(read_space("timm", {}), timm_table)
    assert {"resnet50", "resnet101"} <= {network.name for network in networks}
    assert len({network.name for network in networks}) == len(networks) < len(timm_table.rows)
    cells = read_table(data / "nasbench101.csv.gz", ["test_acc"], "adj,ops")
    networks, notes = read_networks(read_space("nasbench101", {}), cells)
    assert (len(networks), notes) == (len(cells.rows), [])
    assert len(networks) >= 600


def test_all_tables_of_nds_as_one_space(data: Path) -> None:
    table = read_table(data / "nds_imagenet.json.gz", ["min_test_top1"], table="all")
    assert len(table.rows) == 140
    space = read_space("nds", table.choices)
    networks, notes = read_networks(space, table)
    assert not notes
    assert Counter(network.name.partition(":")[0] for network in networks) == {
        "darts": 60, "enas": 20, "pnas": 20, "nasnet": 20, "amoebanet": 20,
    }  # fmt: skip
    last = space.parse(networks[-1].name)
    with gzip.open(data / "nds_imagenet.json.gz", "rt") as file:
        row = json.load(file)["Amoeba_in"][-1]
    assert space.costs(last, (3, 224, 224)).params == row["params"]
    assert networks[-1].accuracies == {"min_test_top1": 100 - row["min_test_top1"]}
