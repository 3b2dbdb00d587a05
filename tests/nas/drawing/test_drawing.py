from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from xml.etree import ElementTree

import keras
import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.serialization import serialize_model
from nas import draw_network
from nas.drawing.layer_graph import build_layer_graph, read_architecture
from nas.drawing.layout import Size, compute_layout
from nas.drawing.plan_graph import build_plan_graph
from nas.drawing.unit_graph import build_unit_graph
from nas.spaces.cerebros import CerebrosBlock, CerebrosNetworks, CerebrosSpace, Output
from nas.spaces.cerebros.moiety import draw_moiety
from nas.spaces.cerebros.plan import Edge, NetworkFuture, OutputFuture, UnitFuture
from nas.spaces.cerebros.wiring import draw_future
from tests.nas.small_searches import FEATURES, search, table

pytestmark = pytest.mark.usefixtures("eager_training")

SVG = "{http://www.w3.org/2000/svg}"


def dense(level, number, neurons, *edges):
    return UnitFuture(level, number, "dense", neurons, edges=edges)


@pytest.fixture
def plan() -> NetworkFuture:
    """Return three units on two levels, with an edge of every kind, one of them twice."""
    return NetworkFuture(
        levels=(
            (UnitFuture(0, 0, "input", 5),),
            (
                dense(1, 0, 2, Edge(0, 0), Edge(0, 0)),
                dense(1, 1, 3, Edge(0, 0), Edge(1, 0, "lateral"), Edge(1, 0, "lateral", True)),
            ),
            (dense(2, 0, 4, Edge(1, 0), Edge(1, 1), Edge(0, 0)),),
            (UnitFuture(3, 0, "output", 1, edges=(Edge(2, 0),)),),
        ),
        maximum_skip_connection_depth=2,
    )


def parse(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the nodes, edges and texts of a drawing."""
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    ids = [group.get("id", "") for group in root.iter(f"{SVG}g")]
    nodes = [each.removeprefix("node-") for each in ids if each.startswith("node-")]
    edges = [each.removeprefix("edge-") for each in ids if each.startswith("edge-")]
    return nodes, edges, ["".join(each.itertext()).strip() for each in root.iter(f"{SVG}text")]


def count_lines(future: NetworkFuture) -> int:
    """Return the number of lines of a plan: equal edges are one line."""
    return len({(unit.name, edge) for unit in future.units() for edge in unit.edges})


def shape(graph):
    """Return a graph without names."""
    position = {name: (data["row"], data["position"]) for name, data in graph.nodes(data=True)}
    return (
        sorted((*position[n], d["kind"], d["text"]) for n, d in graph.nodes(data=True)),
        Counter(
            {
                (position[s], position[t], k): n
                for s, t, k, n in graph.edges(keys=True, data="count")
            }
        ),
    )


def test_a_plan_is_drawn_completely(plan):
    nodes, edges, texts = parse(draw_network(plan))
    assert nodes == [unit.name for unit in plan.units()]
    assert sorted(edges) == [
        "level0_unit0-level1_unit0-level-2",
        "level0_unit0-level1_unit1-level-1",
        "level0_unit0-level2_unit0-skip-1",
        "level1_unit0-level1_unit1-gated-1",
        "level1_unit0-level1_unit1-lateral-1",
        "level1_unit0-level2_unit0-level-1",
        "level1_unit1-level2_unit0-level-1",
        "level2_unit0-level3_unit0-level-1",
    ]
    for words in ("2", "3", "4", "1", "input 0 (5)", "output 0", "level 1", "level 2"):
        assert words in texts
    for words in ("skip connection", "lateral, on a level", "lateral, through a gate"):
        assert words in texts


def test_the_legend_shows_only_drawn_kinds(plan):
    plain = NetworkFuture(
        levels=(
            (UnitFuture(0, 0, "input", 5),),
            (dense(1, 0, 2, Edge(0, 0)),),
            (UnitFuture(2, 0, "output", 1, edges=(Edge(1, 0),)),),
        ),
        maximum_skip_connection_depth=1,
    )
    texts = parse(draw_network(plain))[2]
    assert "skip connection" not in texts
    assert "merge of inputs" not in texts
    assert "merge of inputs" in parse(draw_network(plan))[2]


def test_the_same_network_gives_the_same_bytes(plan):
    import matplotlib

    text = draw_network(plan)
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert draw_network(plan) == text
    assert not re.search(r"\d{4}-\d\d-\d\dT", text)


def test_drawing_never_imports_pyplot():
    code = (
        "import sys, nas\n"
        "assert not {'matplotlib', 'networkx'} & set(sys.modules)\n"
        "from nas.drawing import draw_network\n"
        "from nas.spaces.cerebros.plan import Edge, NetworkFuture, UnitFuture\n"
        "draw_network(NetworkFuture(((UnitFuture(0, 0, 'input', 1),), (UnitFuture(1, 0, 'output',"
        " 1, edges=(Edge(0, 0),)),)), 1))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SPACES = {
    "published": {},
    "largest": {"minimum_levels": 7, "minimum_units_per_level": 4},
    "smallest": {"maximum_levels": 1, "minimum_levels": 1, "maximum_units_per_level": 1},
    "neurons": {"unit": "neuron", "merge": "add", "maximum_levels": 3},
    "bare": {
        "regularization": "none",
        "maximum_levels": 4,
        "predecessor_level_connection_affinity_factor_first": 0.4,
        "predecessor_level_connection_affinity_factor_main": 0.4,
        "predecessor_level_connection_affinity_factor_main_rounding_rule": "floor",
    },
}


@pytest.mark.parametrize("bounds", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("seed", range(3))
def test_plan_and_model_give_the_same_drawing(bounds, seed):
    space = CerebrosSpace.published(**bounds)
    networks = CerebrosNetworks(
        space,
        [(6,), (2, 2)],
        [
            Output("price", 1, mean=(1.0,), variance=(2.0,)),
            Output("kind", 3, "softmax", "categorical_crossentropy"),
        ],
        normalizations=[(0.0, 1.0), None],
        seed=seed,
    )
    hp = keras_tuner.HyperParameters()
    future, model = networks.plan(hp), networks.build(hp)
    units = build_unit_graph(build_layer_graph(read_architecture(model)))
    assert units is not None
    assert shape(units) == shape(build_plan_graph(future))
    text = draw_network(model)
    assert draw_network(serialize_model(model)) == text
    nodes, edges, texts = parse(text)
    assert len(nodes) == sum(len(level) for level in future.levels)
    assert len(edges) == count_lines(future)
    assert {"input_0 (6)", "input_1 (4)", "price", "kind"} <= set(texts)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_no_line_passes_behind_a_node(seed):
    space = CerebrosSpace.published(minimum_units_per_level=1, maximum_units_per_level=4)
    future = draw_future(
        space, draw_moiety(space, seed), [3, 4], [OutputFuture(1), OutputFuture(2)], seed
    )
    graph = build_plan_graph(future)
    layout = compute_layout(graph, Size(1.5, 0.62, 2.75))
    half = layout.size.width / 2
    for (source, target, kind), points in layout.lines.items():
        if kind not in ("level", "skip"):
            continue
        for x, y in points[1:-1]:
            for name, (there, row) in layout.nodes.items():
                apart = abs(y - row) > layout.size.height or abs(x - there) > half
                assert apart or name in (source, target)


def test_a_block_and_its_head_are_drawn_as_a_cerebros_network():
    hp = keras_tuner.HyperParameters()
    space = CerebrosSpace.published(minimum_levels=2, maximum_levels=2)
    tensor = keras.Input((4,), name="features")
    merged = CerebrosBlock(space=space, name="block").build(hp, tensor)
    model = keras.Model(tensor, keras.layers.Dense(2, name="goal")(merged))
    nodes, _, texts = parse(draw_network(model))
    assert "features" in nodes
    assert {"features (4)", "goal", "level 2", "outputs"} <= set(texts)


def test_any_other_network_is_drawn_by_layers():
    image, numbers = keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="numbers")
    x = keras.layers.Conv2D(4, 3, activation="relu", padding="same", name="first")(image)
    x = keras.layers.Add(name="sum")([x, keras.layers.Conv2D(4, 1, name="second")(x)])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    shared = keras.layers.Dense(4, name="shared")
    y = shared(
        keras.layers.Dense(4, name="before")(shared(keras.layers.Dense(4, name="a")(numbers)))
    )
    out = keras.layers.Dense(1, name="out")(keras.layers.Concatenate(name="both")([x, y, y]))
    nodes, edges, texts = parse(draw_network(keras.Model([image, numbers], out)))
    assert {"image", "first", "shared", "shared (call 2)", "out"} <= set(nodes)
    assert "shared (call 2)-both-flow-2" in edges
    assert {"Conv2D 4 relu", "Add", "Input 8\u00d78\u00d73"} <= set(texts)
    assert len(nodes) == 12


def test_a_sequential_model_is_a_chain():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, name="a"), keras.layers.Dense(1, name="b")]
    )
    nodes, edges, _ = parse(draw_network(model))
    assert nodes[-2:] == ["a", "b"]
    assert edges[-1] == "a-b-flow-1"


@pytest.mark.parametrize("network", [None, 3, "no program", "{}", keras.Sequential()])
def test_other_objects_are_refused(network):
    with pytest.raises(ArgumentError, match="network"):
        draw_network(network)


def test_a_result_draws_its_trials(tmp_path):
    frame = table()
    result = search(tmp_path).fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert result.draw() == draw_network(result.best_model)
    assert result.draw("trial-0001") == draw_network(result.get_model("trial-0001"))
    with pytest.raises(ArgumentError, match="there is no trial 'trial-9'"):
        result.draw("trial-9")
