"""The ATMNet sizes: xT, T, S, B and L of the paper, and `nano` for demonstrations and tests. Torch-free.

Source: Table 10 and Sec. A1 of "Active Token Mixer" (arXiv 2203.06108); stochastic depth is from Table 9, Sec. 4.2 and
Sec. 4.3. Table 10's stage-4 column for S, B and L contradicts Table 1. The depths and ratios here are those of the
released checkpoints, which give Table 1 exactly.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One ATMNet size; tuples hold one value per stage.

    Attributes:
        depths: Blocks, N in Table 10.
        dims: Channels, C.
        mlp_ratios: Expansion of the block's MLP, E.
        num_offsets: Distinct offsets per direction, |O|; S = C / |O| neighboring channels share each.
        offset_interval: Blocks between new offsets, K in Sec. A1.
        drop_path_rates: Stochastic depth in training, by task.
    """

    depths: tuple[int, int, int, int]
    dims: tuple[int, int, int, int]
    mlp_ratios: tuple[int, int, int, int]
    num_offsets: tuple[int, int, int, int]
    offset_interval: int
    drop_path_rates: dict[str, float]


_TASKS = ("classify", "segment", "detect")
# fmt: off
VARIANTS: dict[str, Variant] = {
    name: Variant(depths, dims, ratios, offsets, interval, dict(zip(_TASKS, drop, strict=True)))
    for name, depths, dims, ratios, offsets, interval, drop in (
        #                  depths N       dims C               mlp_ratios E  num_offsets |O|   K  drop path, by task
        ("atmnet_nano",   (2, 2, 18, 2), (24, 48, 64, 96),    (4, 4, 4, 3), (12, 12, 16, 12), 6, (0.0, 0.0, 0.0)),
        ("atmnet_xtiny",  (2, 2, 4, 2),  (64, 128, 320, 512), (4, 4, 4, 4), (32, 32, 80, 64), 2, (0.1, 0.1, 0.1)),
        ("atmnet_tiny",   (2, 3, 10, 3), (64, 128, 320, 512), (4, 4, 4, 4), (32, 32, 80, 64), 2, (0.1, 0.1, 0.1)),
        ("atmnet_small",  (3, 4, 18, 3), (64, 128, 320, 512), (8, 8, 4, 4), (32, 32, 80, 64), 6, (0.2, 0.2, 0.3)),
        ("atmnet_base",   (3, 8, 27, 3), (64, 128, 320, 512), (8, 8, 4, 4), (32, 32, 80, 64), 6, (0.3, 0.2, 0.5)),
        ("atmnet_large",  (3, 4, 24, 3), (96, 192, 384, 768), (4, 4, 4, 4), (48, 48, 96, 96), 6, (0.3, 0.2, 0.6)),
    )
}
# fmt: on
