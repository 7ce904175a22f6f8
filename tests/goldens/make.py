"""Regenerates every golden in this folder: python tests/goldens/make.py"""

import importlib.metadata
import sys

import torch

WANTED = {"torch": "2.15.0", "zennit": "1.0.0", "captum": "0.9.0", "onnx": "1.23.2", "numpy": "2.4.6", "safetensors": "0.8.0"}


def check_versions():
    for name, wanted in WANTED.items():
        found = importlib.metadata.version(name).split("+")[0]
        if found != wanted:
            sys.exit(f"{name} is {found}; the goldens are made with {wanted}")


if __name__ == "__main__":
    check_versions()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    import by_attributors
    import by_captum
    import by_zennit
    import by_zennit_cnn

    by_zennit.main()
    by_zennit_cnn.main()
    by_captum.main()
    by_attributors.main()
