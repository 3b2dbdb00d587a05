"""Search networks for a classification of arrays in this process, without Spark."""

import autokeras as ak
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from nas import HyperHyperModel


def main() -> None:
    """Search, evaluate and save the best network."""
    x, y = load_iris(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)
    search = HyperHyperModel(
        inputs=ak.Input(),
        outputs=ak.ClassificationHead(metrics=["accuracy"]),
        project_name="iris",
        max_trials=4,
        seed=0,
        overwrite=True,
    )
    result = search.fit(x_train, y_train, epochs=15)
    print(result.leaderboard().drop(columns=["error", "traceback"]).to_string(index=False))
    print("test:", search.evaluate(x_test, y_test, return_dict=True))
    search.export_model().save("iris.keras")


if __name__ == "__main__":
    main()
