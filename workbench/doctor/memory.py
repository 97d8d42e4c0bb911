"""Bytes that each part of training takes, from the shape of a Llama alone. Pure arithmetic.

Counts what torch allocates on the device, in bytes. Shapes: L = layers, D = hidden, I = intermediate, V = vocabulary,
H = query heads × head size, K = key-value heads × head size, r = LoRA rank, u = bytes of a number in computation.
"""

from dataclasses import dataclass

FLOAT32 = 4
NF4_BLOCK = 64
"""Weights that share one scale."""
SCALE_BLOCK = 256
"""Scales that share one scale of their own: double quantisation."""


@dataclass(frozen=True)
class Shape:
    """The part of a Llama's configuration that decides its memory."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    """The LM head is the embedding."""

    @property
    def queries(self) -> int:
        """H."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """K."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of a layer's linear maps: q, k, v, o, gate, up, down."""
        d, i, h, k = self.hidden, self.intermediate, self.queries, self.keys
        return ((d, h), (d, k), (d, k), (h, d), (d, i), (d, i), (i, d))

    @property
    def linear_parameters(self) -> int:
        """Parameters of the linear maps of all layers."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def parameters(self) -> int:
        """All of them."""
        norms = (2 * self.layers + 1) * self.hidden
        return self.linear_parameters + norms + (1 if self.tied else 2) * self.vocabulary * self.hidden


def nf4_bytes(parameters: int) -> float:
    """NF4 with double quantisation: 4 bits per weight, 8 per block of 64, 32 per block of 256 blocks.

        n · (4 + 8/64 + 32/(64·256)) / 8  =  n · 4.127 / 8

    Source: Dettmers et al. 2023, arXiv:2305.14314, section 3.
    """
    return parameters * (4 + 8 / NF4_BLOCK + 32 / (NF4_BLOCK * SCALE_BLOCK)) / 8


def base_bytes(shape: Shape, *, nf4: bool, unit: int) -> float:
    """The linear maps of the layers."""
    return nf4_bytes(shape.linear_parameters) if nf4 else shape.linear_parameters * unit


def embedding_bytes(shape: Shape, *, unit: int, lm_head: bool = True) -> float:
    """Embedding, LM head if it is not tied, and norms: never quantised."""
    tables = 2 if lm_head and not shape.tied else 1
    return (tables * shape.vocabulary + 2 * shape.layers + 1) * shape.hidden * unit


def lora_parameters(shape: Shape, r: int) -> int:
    """Parameters of one adapter on all linear maps of the layers: r · (in + out) each."""
    return shape.layers * r * sum(inputs + outputs for inputs, outputs in shape.linears)


def weight_bytes(parameters: int) -> float:
    """Adapter or head weights in float32."""
    return parameters * FLOAT32


def training_bytes(parameters: int, *, eight_bit: bool = False) -> float:
    """What training adds to weights: gradients and both moments of Adam (8 bits each if so configured)."""
    return parameters * (FLOAT32 + (2 if eight_bit else 2 * FLOAT32))


def kv_bytes(shape: Shape, *, rows: int, length: int, unit: int) -> float:
    """Keys and values of all layers for `rows` sequences of `length` tokens: 2·L·K·u per token."""
    return 2 * shape.layers * shape.keys * unit * rows * length


def layer_saved_bytes(shape: Shape, r: int, *, unit: int, autocast: bool, mask: int = 0) -> float:
    """Bytes per token that one layer keeps for its backward pass, without activation checkpointing.

    Both norms keep their input in float32 (8·D). LoRA keeps the inputs of its A matrices: shared by q, k, v and by
    gate, up under autocast or in float32; a float32 copy for each of the seven maps otherwise. Attention keeps q, k, v,
    its output and a float32 log-sum per head, and for padded rows a mask of T numbers; the gated unit keeps gate,
    silu(gate) and up.

    Args:
        shape: of the model.
        r: LoRA rank.
        unit: u.
        autocast: the forward runs under torch.autocast, as trainers of transformers do in bfloat16.
        mask: T where rows are padded; 0 where no row is.
    """
    d, i, h, k = shape.hidden, shape.intermediate, shape.queries, shape.keys
    norms = 2 * FLOAT32 * d
    shared = (2 * d + i + 7 * r) * unit  # the input of o is the output that attention keeps
    apart = (5 * d + h + i + 7 * r) * FLOAT32
    lora = shared if autocast or unit == FLOAT32 else apart
    attention = (2 * h + 2 * k + mask) * unit + FLOAT32 * shape.heads
    return norms + lora + attention + 3 * i * unit


def layer_working_bytes(shape: Shape, *, unit: int, autocast: bool) -> float:
    """Bytes per token of gradients in one layer's backward pass: two of I, two of D, and LoRA's in float32."""
    casts = 0 if autocast or unit == FLOAT32 else FLOAT32 * shape.intermediate
    return (2 * shape.intermediate + 2 * shape.hidden) * unit + casts


def kept_bytes(
    shape: Shape, r: int, *, rows: int, length: int, unit: int, autocast: bool, checkpointing: bool
) -> float:
    """What all layers keep for the backward pass; with activation checkpointing only the input of each layer."""
    saved = layer_saved_bytes(shape, r, unit=unit, autocast=autocast, mask=length)
    return rows * length * shape.layers * (shape.hidden * unit if checkpointing else saved)


def layers_bytes(
    shape: Shape, r: int, *, rows: int, length: int, unit: int, autocast: bool, checkpointing: bool
) -> float:
    """The peak of a backward pass within the layers: what is kept, gradients in flight, and one dequantised weight;
    with activation checkpointing also one layer's recomputed activations.
    """
    kept = kept_bytes(shape, r, rows=rows, length=length, unit=unit, autocast=autocast, checkpointing=checkpointing)
    recomputed = layer_saved_bytes(shape, r, unit=unit, autocast=autocast, mask=length) if checkpointing else 0.0
    working = layer_working_bytes(shape, unit=unit, autocast=autocast) + shape.hidden * unit
    return kept + rows * length * (recomputed + working) + largest_weight(shape) * unit


def forward_bytes(shape: Shape, *, rows: int, length: int, unit: int) -> float:
    """The peak of a forward pass without gradients, with one dequantised weight.

    In the gated unit: gate and up as computed, LoRA's addition to up in float32, scaled and not; as much again of D.
    """
    token = (shape.intermediate + shape.hidden) * (2 * unit + 2 * FLOAT32)
    return rows * length * token + largest_weight(shape) * unit


def largest_weight(shape: Shape) -> int:
    """Parameters of the largest linear map of a layer, which is dequantised while it is used."""
    return max(inputs * outputs for inputs, outputs in shape.linears)


def chunk_bytes(shape: Shape, *, tokens: int, chunk: int, copies: int = 3) -> float:
    """Log-probabilities in chunks (`workbench.model.logprobs`): so many float32 tensors of (chunk, V) at one time."""
    return min(tokens, chunk) * shape.vocabulary * FLOAT32 * copies


def fused_head_bytes(shape: Shape, *, tokens: int, unit: int, tile: tuple[int, int] = (4096, 32768)) -> float:
    """TRL's fused LM head: one tile of logits, and the float32 gradient of the hidden states."""
    return min(tokens, tile[0]) * tile[1] * unit + tokens * shape.hidden * (FLOAT32 + unit)
