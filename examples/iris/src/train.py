"""Trains a linear classifier on the iris data, one pass over the data at a time."""

import argparse
import sys

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training data")
    parser.add_argument("--test-size", type=float, default=0.3, help="share of the data kept for the test")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    data = load_iris()
    x_train, x_test, y_train, y_test = train_test_split(
        data.data, data.target, test_size=args.test_size, random_state=args.seed, stratify=data.target
    )
    scaler = StandardScaler().fit(x_train)
    x_train, x_test = scaler.transform(x_train), scaler.transform(x_test)
    print(f"{len(x_train)} flowers to learn from, {len(x_test)} to test with, {x_train.shape[1]} features")

    model = SGDClassifier(alpha=0.01, random_state=args.seed)
    classes = np.unique(data.target)
    for epoch in range(1, args.epochs + 1):
        model.partial_fit(x_train, y_train, classes=classes)
        print(
            f"epoch {epoch:2d}/{args.epochs}"
            f"  train accuracy {model.score(x_train, y_train):.3f}"
            f"  test accuracy {model.score(x_test, y_test):.3f}"
        )

    print("confusion matrix (rows: truth, columns: prediction)")
    for name, row in zip(data.target_names, confusion_matrix(y_test, model.predict(x_test))):
        print(f"  {name:<10} {row}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
