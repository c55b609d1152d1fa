"""Generators: models that write a list item by item, from a set of candidates.

Reasoning, sampling and training call only the four functions of `Generator`, so one of your own is trained and made to
think like those here.

The paper adds reasoning to existing generative re-rankers and calls itself a plug-in (abstract). Which ones is not
known: all four here are reconstructed.
"""

from thinkrank.rerank.eglr.config import GeneratorKind, GeneratorOptions
from thinkrank.rerank.eglr.generators.base import Context, Generator, Rows, Slot
from thinkrank.rerank.eglr.generators.prefix_sum import PrefixSum
from thinkrank.rerank.eglr.generators.recurrent import GRUPointer, MLPPointer
from thinkrank.rerank.eglr.generators.transformer import TransformerPointer

__all__ = [
    "Context",
    "GRUPointer",
    "Generator",
    "MLPPointer",
    "PrefixSum",
    "Rows",
    "Slot",
    "TransformerPointer",
    "make_generator",
]

_Own = GRUPointer | TransformerPointer | MLPPointer | PrefixSum

_KINDS: dict[GeneratorKind, type[_Own]] = {
    "gru": GRUPointer,
    "transformer": TransformerPointer,
    "mlp": MLPPointer,
    "prefix_sum": PrefixSum,
}


def make_generator(input_width: int, options: GeneratorOptions) -> _Own:
    """Build a generator with fresh weights."""
    return _KINDS[options.kind](input_width, options)
