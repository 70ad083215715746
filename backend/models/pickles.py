"""What a refused PyTorch file has in it, in words of ours: PyTorch's own end with how to run it all the same."""

import pickle
import re


def refused_object(error: pickle.UnpicklingError) -> str:
    """What `torch.load` with weights_only met that is no plain tensor, by name where it gives one; for a sentence."""
    found = re.search(r"\b(?:GLOBAL|class|type|function) ([A-Za-z_][\w.]{0,99}\w)", str(error))
    if found and found[1].startswith("numpy"):
        return f"NumPy arrays in a pickle ({found[1]})"
    return f"{found[1]}, something other than plain tensors" if found else "something other than plain tensors"
