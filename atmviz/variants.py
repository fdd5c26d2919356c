"""The ATMNet variants as data: xT, T, S, B, L of the paper and `nano` for demonstrations and tests.

Sources: Tables 1, 9 and 10 of "Active Token Mixer" (arXiv 2203.06108). Table 10's stage-4 column for S, B and L
contradicts Table 1; the depths and ratios of the released checkpoints, which give Table 1 exactly, are used here.
"""

from dataclasses import dataclass

from atmviz.errors import CheckpointError


@dataclass(frozen=True)
class PaperFigures:
    """What the paper prints for one variant: #P in millions, FLOPs in G at 224x224 (Table 1), top-1 in %."""

    label: str
    params_m: float
    flops_g: float
    top1: float


@dataclass(frozen=True)
class Variant:
    """One ATMNet size; tuples hold one value per stage.

    Attributes:
        depths: Blocks, N in Table 10.
        dims: Channels, C.
        mlp_ratios: Expansion of the block's MLP, E.
        num_offsets: Distinct offsets per direction, |O|; each is shared by S = C / |O| neighbouring channels.
        offset_interval: Blocks between new offsets, K in Sec. A1.
        drop_path_rate: Stochastic depth in training, Table 9.
        paper: The row of Table 1, None where the paper has no such model.
    """

    depths: tuple[int, int, int, int]
    dims: tuple[int, int, int, int]
    mlp_ratios: tuple[int, int, int, int]
    num_offsets: tuple[int, int, int, int]
    offset_interval: int
    drop_path_rate: float
    paper: PaperFigures | None = None


_SMALL_DIMS = ((64, 128, 320, 512), (32, 32, 80, 64))
_LARGE_DIMS = ((96, 192, 384, 768), (48, 48, 96, 96))

# fmt: off
VARIANTS: dict[str, Variant] = {
    name: Variant(depths, dims, mlp_ratios, num_offsets, interval, drop_path, paper)
    for name, depths, mlp_ratios, (dims, num_offsets), interval, drop_path, paper in (
        ("atmnet_nano",   (2, 2, 18, 2), (4, 4, 4, 3), ((24, 48, 64, 96), (12, 12, 16, 12)), 6, 0.0, None),
        ("atmnet_xtiny",  (2, 2, 4, 2),  (4, 4, 4, 4), _SMALL_DIMS, 2, 0.1, PaperFigures("xT", 15, 2.2, 79.7)),
        ("atmnet_tiny",   (2, 3, 10, 3), (4, 4, 4, 4), _SMALL_DIMS, 2, 0.1, PaperFigures("T", 27, 4.0, 82.0)),
        ("atmnet_small",  (3, 4, 18, 3), (8, 8, 4, 4), _SMALL_DIMS, 6, 0.2, PaperFigures("S", 39, 6.9, 83.1)),
        ("atmnet_base",   (3, 8, 27, 3), (8, 8, 4, 4), _SMALL_DIMS, 6, 0.3, PaperFigures("B", 52, 10.1, 83.5)),
        ("atmnet_large",  (3, 4, 24, 3), (4, 4, 4, 4), _LARGE_DIMS, 6, 0.3, PaperFigures("L", 76, 12.3, 83.8)),
    )
}
# fmt: on


def require_model(found: str, expected: str | None, where: object) -> None:
    """Raises CheckpointError if a checkpoint's variant is not the expected one; None expects any."""
    if expected not in (None, found):
        raise CheckpointError(f"got {found} in {where}, expected {expected}: drop --model or change it")
