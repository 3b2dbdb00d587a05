"""The registry of trainers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cerebros_spark.training import base


class SmallTrainer:
    resident = True


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(base, "TRAINERS", dict(base.TRAINERS))


def test_a_registered_trainer_is_created_by_name():
    base.register("small", f"{__name__}:SmallTrainer")
    first, second = base.create_trainer("small"), base.create_trainer("small")
    assert isinstance(first, SmallTrainer)
    assert first is not second


def test_a_later_registration_replaces_the_earlier_one():
    base.register("keras", f"{__name__}:SmallTrainer")
    assert isinstance(base.create_trainer("keras"), SmallTrainer)


def test_a_path_needs_no_registration():
    assert isinstance(base.create_trainer(f"{__name__}:SmallTrainer"), SmallTrainer)


@pytest.mark.keras
@pytest.mark.parametrize("name", ["keras", "fused"])
def test_the_trainers_of_this_package_are_registered(name):
    assert type(base.create_trainer(name)).__name__.lower() == f"{name}trainer"


def test_an_unregistered_trainer_is_an_error():
    with pytest.raises(ValueError, match="'torch' is not registered; use one of fused, keras"):
        base.create_trainer("torch")


def test_the_registry_loads_neither_keras_nor_tensorflow():
    code = (
        "import sys, cerebros_spark.training.base\n"
        "print([name for name in ('keras', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
