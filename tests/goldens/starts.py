"""Relevance at the output, by the names that `relprop explain --start` takes."""

import torch


def one_hot(logits, target):
    return torch.nn.functional.one_hot(target, logits.shape[-1]).to(logits.dtype)


def start(name, logits, target):
    mask = one_hot(logits, target)
    match name:
        case "logit":
            return mask * logits
        case "one":
            return mask
        case "probability":
            return mask * torch.softmax(logits, -1)
        case "negative-logit":
            return -mask * logits
        case "contrast":
            # The target's logit less that of the strongest other class.
            rest = logits.masked_fill(mask.bool(), -torch.inf).argmax(-1)
            return mask * logits - one_hot(logits, rest) * logits
