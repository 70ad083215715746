"""What hangs on a model: transformers keeps hooks of its own there once hidden states were asked for, so that a test
compares before with after.
"""

from torch import nn


def hooks_on(model: nn.Module) -> list[tuple[list[int], list[int]]]:
    return [(list(module._forward_hooks), list(module._forward_pre_hooks)) for module in model.modules()]
