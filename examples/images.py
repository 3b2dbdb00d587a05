"""Search the hyperparameters of an AutoKeras graph for images."""

import autokeras as ak
from sklearn.datasets import load_digits

from nas import HyperHyperModel


def main() -> None:
    """Search a small convolutional network for handwritten digits of 8 × 8 pixels."""
    digits = load_digits()
    image = ak.ImageInput()
    hidden = ak.ConvBlock(max_pooling=False)(ak.Normalization()(image))
    head = ak.ClassificationHead(dropout=0.25)(hidden)
    search = HyperHyperModel(
        inputs=image,
        outputs=head,
        project_name="digits",
        max_trials=3,
        objective="val_accuracy",
        seed=0,
        overwrite=True,
    )
    result = search.fit(digits.images.astype("float32"), digits.target, epochs=3, batch_size=64)
    print(result.leaderboard()[["trial", "score", "parameters", "status"]].to_string(index=False))


if __name__ == "__main__":
    main()
