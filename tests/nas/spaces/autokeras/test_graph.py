from __future__ import annotations

import autokeras as ak
import keras
import keras_tuner
import numpy as np
import pytest

from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError
from nas import CerebrosSpace, HyperHyperModel, SmallImageBlock
from nas.spaces.autokeras.graph import apply_overrides
from tests.nas.spaces.autokeras.small_graphs import (
    CLASSES,
    COLOUR,
    GRAY,
    ROWS,
    TABLE,
    TOKENS,
    augmented,
)

pytestmark = pytest.mark.usefixtures("eager_training")


def searched(folder, inputs, outputs, workers=1, **more) -> HyperHyperModel:
    auto_model = HyperHyperModel(
        inputs, outputs, max_trials=1, overwrite=True, **{"seed": 1, **more}
    )
    auto_model.resource_bind(store=LocalStore(folder), backend=LocalBackend(workers))
    return auto_model


def space_of(
    auto_model: HyperHyperModel,
) -> dict[str, keras_tuner.engine.hyperparameters.HyperParameter]:
    return {each.name: each for each in auto_model._last_tuner.hyperparameters.space}


def fixed(**values) -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    for name, value in {"optimizer": "adam", "learning_rate": 1e-3, **values}.items():
        hp.Fixed(name, value)
    return hp


SMALL_IMAGE = {"image_1/block_type": "vanilla", "image_1/conv/filters_0_0": 16}


# Inputs and heads alone ------------------------------------------------------------------


def test_an_image_alone_searches_small_networks_without_downloads(tmp_path):
    auto_model = searched(tmp_path, ak.ImageInput(), ak.ClassificationHead())
    auto_model.tuner_bind("random", hyperparameters=fixed(**{"image_1/block_type": "residual"}))
    result = auto_model.fit(GRAY[..., 0], CLASSES, epochs=1, verbose=0)
    assert result.best_model.input_shape == (None, 8, 8)
    names = set(space_of(auto_model))
    assert {"image_1/normalize", "image_1/augment", "image_1/residual/stages"} <= names
    assert not any("pretrained" in name for name in names)


def test_token_ids_beyond_the_vocabulary_count_as_one_word(tmp_path):
    auto_model = searched(tmp_path, ak.TextInput(), ak.ClassificationHead(dropout=0.0))
    auto_model.tuner_bind("random", hyperparameters=fixed(**{"text_1/max_tokens": 500}))
    result = auto_model.fit(TOKENS, CLASSES, epochs=1, verbose=0)
    rare = np.full((1, 12), 501)
    predictions = [result.best_model.predict(rare + more, verbose=0) for more in (-1, 0, 10_000)]
    np.testing.assert_array_equal(predictions[0], predictions[1])
    np.testing.assert_array_equal(predictions[0], predictions[2])


def test_mixed_inputs_are_merged_for_every_head(tmp_path):
    auto_model = searched(
        tmp_path,
        [ak.ImageInput(), ak.Input(), ak.StructuredDataInput()],
        [ak.ClassificationHead(), ak.RegressionHead()],
    )
    auto_model.tuner_bind("random", hyperparameters=fixed(**SMALL_IMAGE))
    result = auto_model.fit([GRAY, TABLE, TABLE], [CLASSES, TABLE[:, 0]], epochs=1, verbose=0)
    assert result.best_model.output_shape == [(None, 3), (None, 1)]
    assert {"image_1/normalize", "table_2/normalize", "table_3/normalize"} <= set(
        space_of(auto_model)
    )


def test_a_node_may_be_used_in_two_searches(tmp_path):
    node, head = ak.ImageInput(), ak.ClassificationHead()
    for folder in ("one", "two"):
        auto_model = searched(tmp_path / folder, node, head)
        auto_model.tuner_bind("random", hyperparameters=fixed(**SMALL_IMAGE))
        auto_model.fit(GRAY, CLASSES, epochs=1, verbose=0)
        assert sum(name.endswith("block_type") for name in space_of(auto_model)) == 1
    assert (node.out_blocks, head.inputs, head.num_classes) == ([], None, None)


def test_a_cerebros_space_with_images_is_refused():
    with pytest.raises(ArgumentError, match=r"space and base_models are for ak.Input"):
        HyperHyperModel(ak.ImageInput(), ak.ClassificationHead(), space=CerebrosSpace())


def test_an_unknown_kind_of_image_network_is_refused():
    with pytest.raises(ArgumentError, match=r"block_type must be one of .* but got 'resnet'"):
        SmallImageBlock(block_type="resnet")


# What does not fit -----------------------------------------------------------------------


def test_flat_images_need_their_shape(tmp_path):
    auto_model = searched(tmp_path, ak.ImageInput(), ak.ClassificationHead())
    with pytest.raises(ArgumentError, match=r"input 0 is an ImageInput.* rows are \(64,\)"):
        auto_model.fit(GRAY.reshape(ROWS, -1), CLASSES, epochs=1, verbose=0)


def test_text_inputs_need_rows_of_ids(tmp_path):
    auto_model = searched(tmp_path, ak.TextInput(), ak.ClassificationHead())
    with pytest.raises(ArgumentError, match=r"input 0 is a TextInput.* rows are \(8, 8, 1\)"):
        auto_model.fit(GRAY, CLASSES, epochs=1, verbose=0)


def test_an_unconnected_input_is_refused():
    node, other = ak.Input(), ak.Input()
    head = ak.RegressionHead()(ak.DenseBlock()(node))
    with pytest.raises(ArgumentError, match="cannot use the graph of inputs and outputs"):
        HyperHyperModel([node, other], head)


def test_blocks_of_one_name_are_refused():
    node = ak.Input()
    blocks = [ak.DenseBlock(name="same")(node), ak.DenseBlock(name="same")(node)]
    with pytest.raises(ArgumentError, match="2 blocks of the graph are named 'same'"):
        HyperHyperModel(node, ak.RegressionHead()(ak.Merge()(blocks)))


# What the user says counts ---------------------------------------------------------------


def test_pretrained_weights_are_not_searched():
    hp = keras_tuner.HyperParameters()
    for values in (hp, hp.copy()):
        with apply_overrides(values), values.name_scope("image_block_1"):
            kind = values.Choice("block_type", ["xception", "vanilla"])
            with values.conditional_scope("block_type", [kind]):
                assert values.Boolean("xception_block_1/pretrained", default=False) is False
        (known,) = [each for each in values.space if each.name.endswith("pretrained")]
        assert known.random_sample() is False


def test_pretrained_weights_are_loaded_on_request():
    hp = keras_tuner.HyperParameters()
    hp.Fixed("res_net_block_1/pretrained", True)
    with apply_overrides(hp), hp.name_scope("res_net_block_1"):
        assert hp.Boolean("pretrained", default=False) is True
        with hp.conditional_scope("pretrained", [True]):
            assert hp.Boolean("trainable", default=False) is False
    assert "_retrieve" not in vars(hp)


def test_overrides_reach_conditional_hyperparameters(tmp_path):
    keras.backend.clear_session()
    node = ak.ImageInput()
    block = SmallImageBlock(name="left.eye", normalize=True, augment=False)
    head = ak.ClassificationHead(dropout=0.0)(block(node))
    auto_model = searched(tmp_path, node, head, max_model_size=10**6)
    hp = fixed(
        **{
            "learning_rate": 1e-4,
            "left.eye/block_type": "residual",
            "left.eye/residual/filters": 16,
            "left.eye/residual/stages": 1,
            "left.eye/residual/units": 1,
        }
    )
    auto_model.tuner_bind("random", hyperparameters=hp, max_trials=2)
    result = auto_model.fit(COLOUR, CLASSES, epochs=1, verbose=0)
    board = result.leaderboard()
    assert board["status"].tolist() == ["completed"] * 2
    assert board["parameters"].nunique() == 1
    assert float(result.best_model.optimizer.learning_rate) == pytest.approx(1e-4)


# Determinism, and shapes -----------------------------------------------------------------


def test_augmentation_is_reproducible_bit_for_bit(tmp_path):
    weights = []
    for folder in ("one", "two"):
        keras.backend.clear_session()
        node = ak.ImageInput()
        head = ak.ClassificationHead(dropout=0.25)
        auto_model = searched(tmp_path / folder, node, head(augmented(node)), workers=2)
        auto_model.tuner_bind("random", hyperparameters=fixed())
        result = auto_model.fit(GRAY, CLASSES, epochs=2, batch_size=8, verbose=0, reproducible=True)
        weights.append(result.best_model.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_shapes_may_be_numpy_integers(tmp_path):
    keras.backend.clear_session()
    node = ak.ImageInput()
    dense = ak.DenseBlock(num_layers=1, num_units=16, use_batchnorm=False, dropout=0.0)(node)
    auto_model = searched(tmp_path, node, ak.RegressionHead(dropout=0.0)(dense))
    auto_model.tuner_bind("random", hyperparameters=fixed())
    result = auto_model.fit(
        GRAY.reshape(ROWS, -1),
        np.stack([TABLE[:, 0], TABLE[:, 1]], axis=1),
        epochs=1,
        verbose=0,
        input_shape=np.array([8, 8, 1]),
    )
    assert result.best_model.output_shape == (None, 2)
