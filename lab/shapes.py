"""Glossary of axes: the names that array shapes use everywhere in the lab.

batch     conversations in one forward pass
pos       token positions
layer     residual stream after block l (`resid_post`), 0-based
d_model   width of the residual stream
chat      conversations (one scaffold paraphrase with one question), rows of a design
trait     persona traits; in Hearth the 12 coordinates of z
word      words and punctuation marks of a reply (tokenizer-free)
"""

from jaxtyping import Bool, Float, Int
from numpy import ndarray

ChatLayerModel = Float[ndarray, "chat layer d_model"]
LayerModel = Float[ndarray, "layer d_model"]
ChatLayer = Float[ndarray, "chat layer"]
Chat = Float[ndarray, " chat"]
Model = Float[ndarray, " d_model"]
Pos = Int[ndarray, " pos"]
PosMask = Bool[ndarray, " pos"]
Trait = Float[ndarray, " trait"]
