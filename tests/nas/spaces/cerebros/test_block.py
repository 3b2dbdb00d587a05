from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import autokeras as ak
import keras
import keras_tuner
import numpy as np
import pytest
from autokeras.graph import Graph

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.block import CerebrosBlock
from nas.spaces.cerebros.space import CerebrosSpace

pytestmark = pytest.mark.usefixtures("fresh_keras")


def small(**more) -> CerebrosSpace:  # type: ignore[no-untyped-def]
    bounds = {"maximum_levels": 3, "maximum_units_per_level": 2}
    return CerebrosSpace.published(**{**bounds, **more})


def ready(inputs: list, shapes: list, head) -> Graph:  # type: ignore[no-untyped-def]
    graph = Graph(inputs, head)
    for node, shape in zip(inputs, shapes, strict=True):
        node.shape, node.dtype, node.batch_size, node.num_samples = shape, "float32", 8, 32
    last = graph.outputs[0].in_blocks[0]
    last.shape = (1,)
    graph.set_fit_args(validation_split=0.25, epochs=1)
    return graph


def test_the_block_runs_in_an_autokeras_graph(tmp_path: Path) -> None:
    node = ak.Input()
    block = CerebrosBlock(space=small())
    graph = ready([node], [(5,)], ak.RegressionHead(dropout=0.0)(block(node)))
    hp = keras_tuner.HyperParameters()
    model = graph.build(hp)
    assert f"{block.name}/levels" in hp.values
    assert f"{block.name}/wiring" in hp.values
    x, y = np.random.rand(16, 5), np.random.rand(16, 1)
    assert np.isfinite(model.fit(x, y, batch_size=8, verbose=0).history["loss"][0])
    # A block and a head are one complete network: no Dense layer between merge and head.
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert isinstance(dense[-1].input._keras_history.operation, keras.layers.BatchNormalization)

    (tmp_path / "model.json").write_text(model.to_json())
    (tmp_path / "compile.json").write_text(json.dumps(model.get_compile_config()))
    code = (
        "import json, keras, autokeras.keras_layers\n"
        "m = keras.models.model_from_json(open('model.json').read())\n"
        "m.compile_from_config(json.load(open('compile.json')))\n"
        f"assert m.count_params() == {model.count_params()}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_every_candidate_of_a_random_search_builds(tmp_path: Path) -> None:
    first, second = ak.Input(), ak.ImageInput()
    block = CerebrosBlock(space=small(merge=("add", "concatenate"), unit=("dense", "neuron")))
    head = ak.RegressionHead()(block([first, second]))
    graph = ready([first, second], [(3,), (4, 4, 1)], head)
    hp = keras_tuner.HyperParameters()
    graph.build(hp)
    names = {h.name for h in hp.space}
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("val_loss", "min"),
        max_trials=4,
        hyperparameters=hp,
        seed=1,
    )
    oracle._set_project_dir(str(tmp_path), "search")
    oracle.verbose = 0
    counts = set()
    for number in range(4):
        proposal = oracle.create_trial(f"slot{number}").hyperparameters
        keras.backend.clear_session()
        model = graph.build(proposal)
        counts.add(model.count_params())
        assert model.output_shape == (None, 1)
        assert {h.name for h in proposal.space} == names
    assert len(counts) > 1


def test_two_blocks_in_one_graph() -> None:
    node = ak.Input()
    merged = ak.Merge("concatenate")(
        [CerebrosBlock(space=small())(node)[0], CerebrosBlock(space=small())(node)[0]]
    )
    model = ready([node], [(3,)], ak.RegressionHead()(merged)).build(keras_tuner.HyperParameters())
    names = [layer.name for layer in model.layers]
    assert {"cerebros_block_1_level1_unit0_dense", "cerebros_block_2_level1_unit0_dense"} <= set(
        names
    )


def test_blocks_one_after_the_other() -> None:
    node = ak.Input()
    output = CerebrosBlock(space=small())(ak.DenseBlock()(node))
    output = CerebrosBlock(space=small())(output)
    model = ready([node], [(3,)], ak.RegressionHead()(output)).build(keras_tuner.HyperParameters())
    assert model.predict(np.ones((2, 3)), verbose=0).shape == (2, 1)


def test_the_config_makes_the_same_block() -> None:
    block = CerebrosBlock(space=small(learning_rate=0.1), seed=4, name="mine")
    config = json.loads(json.dumps(block.get_config()))
    again = CerebrosBlock.from_config(config)
    assert again.space == block.space
    assert (again.seed, again.name, again.tunable) == (4, "mine", True)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert isinstance(restored, CerebrosBlock)
    assert restored.space == block.space


def test_a_graph_with_the_block_can_be_serialized() -> None:
    node = ak.Input()
    graph = Graph([node], ak.RegressionHead()(CerebrosBlock(space=small())(node)))
    config = json.loads(json.dumps(graph.get_config()))
    blocks = Graph.from_config(config).blocks
    assert [type(block) for block in blocks] == [CerebrosBlock, ak.RegressionHead]
    assert blocks[0].space == small()


def test_the_seed_determines_the_wirings() -> None:
    configs = []
    for seed in (0, 1, 0):
        keras.backend.clear_session()
        tensor = keras.Input((3,), name="tensor")
        output = CerebrosBlock(space=small(minimum_units_per_level=2), seed=seed).build(
            keras_tuner.HyperParameters(), tensor
        )
        configs.append(keras.Model(tensor, output).to_json())
    # Initializers carry seeds of Keras' global state, so only the wiring is compared.
    wirings = [
        [node["inbound_nodes"] for node in json.loads(text)["config"]["layers"]] for text in configs
    ]
    assert wirings[0] == wirings[2] != wirings[1]


def test_another_type_of_space_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"space .* got 3"):
        CerebrosBlock(space=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        CerebrosBlock(spaces=small())  # type: ignore[call-arg]
