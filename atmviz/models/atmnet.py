"""ATMNet: the backbone of "Active Token Mixer" (arXiv 2203.06108), Sec. 3.3 and A1, registered with timm.

Legend: B batch, H/W grid in tokens, C channels, O distinct offsets per direction. Images and returned feature maps are
[B, C, H, W]; tokens inside the network are [B, H, W, C].
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import ClassifierHead, DropPath, calculate_drop_path_rates
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from atmviz.architecture import FusionMode, OffsetMode
from atmviz.geometry import MIN_SIZE_PX
from atmviz.layers import LayerId, is_offset_source, offset_sources
from atmviz.models.layers import ChannelMLP, PositionalEncodingGenerator, init_weights
from atmviz.models.norm import LayerNorm
from atmviz.models.released import checkpoint_filter_fn
from atmviz.models.token_mixer import ActiveTokenMixer, OffsetLayer
from atmviz.observe.site import Site
from atmviz.variants import VARIANTS


class ATMBlock(nn.Module):
    """Token mixing, Eq. (5), then the channel MLP, Eq. (6); blocks that generate offsets have an `offset` layer."""

    def __init__(self, dim: int, mlp_ratio: float, drop_path: float, offset: OffsetLayer | None, **mixer: Any) -> None:
        super().__init__()
        self.offset = offset
        self.norm1 = LayerNorm(dim)
        self.token_mixer = ActiveTokenMixer(dim, **mixer)
        self.norm2 = LayerNorm(dim)
        self.mlp = ChannelMLP(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the block's tokens, [B, H, W, C], and the offsets it used, [B, H, W, 2, O], for the next block."""
        if self.offset is not None:
            offset = self.offset(x)  # from the block's input: the released code predicts them before norm1
        x = x + self.drop_path(self.token_mixer(self.norm1(x), offset))  # Eq. (5)
        x = x + self.drop_path(self.mlp(self.norm2(x)))  # Eq. (6)
        return x, offset


class ATMStage(nn.Module):
    """Downsampling (except in the first stage), then blocks; those without an offset layer reuse the last offsets."""

    def __init__(
        self,
        in_dim: int | None,
        dim: int,
        depth: int,
        mlp_ratio: float,
        num_offsets: int,
        drop_path_rates: Sequence[float],
        offset_interval: int,
        peg: bool,
        **mixer: Any,
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        # The released code keeps this convolution in the last block of the previous stage; the result is the same.
        self.downsample = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1) if in_dim else nn.Identity()
        self.peg = PositionalEncodingGenerator(dim) if peg else nn.Identity()
        self.is_source = [is_offset_source(block, depth, offset_interval) for block in range(depth)]
        self.blocks = nn.ModuleList()
        for is_source, drop_path in zip(self.is_source, drop_path_rates, strict=True):
            generates = is_source and mixer["offset_mode"] != "zero"
            offset = OffsetLayer(dim, mixer["num_samples"] * num_offsets) if generates else None
            self.blocks.append(ATMBlock(dim, mlp_ratio, drop_path, offset, **mixer))

    def forward(self, x: Tensor) -> Tensor:
        """Return the stage's feature map, [B, C, H', W'], from the previous one, [B, C_in, H, W]."""
        x = self.downsample(x).permute(0, 2, 3, 1)  # NCHW -> NHWC
        offset = None
        for block, is_source in zip(self.blocks, self.is_source, strict=True):
            if is_source:
                x = self.peg(x)
            if self.grad_checkpointing and self.training:
                x, offset = checkpoint(block, x, offset, use_reentrant=False)
            else:
                x, offset = block(x, offset)
        return x.permute(0, 3, 1, 2)  # NHWC -> NCHW


def site_of(mixer: ActiveTokenMixer, module: str, layer: LayerId, source: LayerId, num_offsets: int) -> Site:
    """Return what there is to know of a token mixer as a site.

    Args:
        mixer: The token mixer.
        module: Its path in the network.
        layer, source: Its layer, and the layer whose offsets it uses.
        num_offsets: Distinct offsets per direction of all samples; 0 in mode "zero".
    """
    channels, stride = mixer.fc_identity.in_features, 2 ** (layer.stage + 1)  # px: 4 after the stem
    return Site(
        name=str(layer),
        source=str(source),
        module=module,
        kind="point" if mixer.offset_mode == "joint" else "axis",
        channels=channels,
        num_offsets=num_offsets,
        channels_per_offset=channels * mixer.num_samples // num_offsets if num_offsets else 0,
        stride_px=(stride, stride),
        branches=mixer.branches,
    )


class ATMNet(nn.Module):
    """ATMNet, a backbone of four stages with timm's interface.

    Args:
        in_chans, num_classes, global_pool: Input channels, classes and pooling before the classifier, as in timm.
        depths, dims, mlp_ratios, num_offsets, offset_interval: One row of `atmviz.variants.VARIANTS`.
        offset_mode, num_samples, fusion: See `ActiveTokenMixer`; the defaults are the released network.
        channels_per_offset: S in every stage, in place of `num_offsets`; 1 in Fig. 2, A and B.
        peg: False leaves the positional encoding generators out (Table 8, rows 1 and 2).
        out_norms: Apply one LayerNorm to each of the four feature maps, as the released segmentation backbone does.
        drop_rate, drop_path_rate: Dropout before the classifier; stochastic depth, rising linearly.

    Raises:
        ValueError: a stage has one block (it could not generate offsets), |O| does not divide C, or a mode is unknown.

    Source: Sec. 3.3, Fig. 4, Table 10; the released code where they differ.
    """

    def __init__(  # noqa: PLR0913  timm passes each by name
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        depths: Sequence[int] = VARIANTS["atmnet_tiny"].depths,
        dims: Sequence[int] = VARIANTS["atmnet_tiny"].dims,
        mlp_ratios: Sequence[float] = VARIANTS["atmnet_tiny"].mlp_ratios,
        num_offsets: Sequence[int] = VARIANTS["atmnet_tiny"].num_offsets,
        offset_interval: int = VARIANTS["atmnet_tiny"].offset_interval,
        offset_mode: OffsetMode = "decoupled",
        num_samples: int = 1,
        channels_per_offset: int | None = None,
        fusion: FusionMode = "image",
        peg: bool = True,
        out_norms: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if channels_per_offset:
            if any(dim % channels_per_offset for dim in dims):
                raise ValueError(
                    f"got channels_per_offset {channels_per_offset} for {tuple(dims)} channels, "
                    "expected a divisor of each"
                )
            num_offsets = [dim // channels_per_offset for dim in dims]
        if any(dim % count for dim, count in zip(dims, num_offsets, strict=True)):
            raise ValueError(f"got {tuple(num_offsets)} offsets for {tuple(dims)} channels, expected divisors")
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.depths = tuple(depths)
        self.offset_sources = offset_sources(depths, offset_interval)
        self.offset_mode = offset_mode
        self.num_features = self.head_hidden_size = dims[-1]

        self.stem = nn.Conv2d(in_chans, dims[0], 7, stride=4, padding=2)
        drop_path_rates: Any = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        rows = zip((None, *dims[:-1]), dims, depths, mlp_ratios, num_offsets, drop_path_rates, strict=True)
        shared: dict[str, Any] = {"offset_interval": offset_interval, "peg": peg}
        shared |= {"offset_mode": offset_mode, "num_samples": num_samples, "fusion": fusion}  # settings of the mixers
        self.stages = nn.Sequential(*(ATMStage(*row, **shared) for row in rows))
        self.feature_info = [
            {"num_chs": dim, "reduction": 4 * 2**i, "module": f"stages.{i}"} for i, dim in enumerate(dims)
        ]
        self.out_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims) if out_norms else None
        self.norm: nn.Module = nn.LayerNorm(dims[-1])
        self.head = ClassifierHead(dims[-1], num_classes, pool_type=global_pool, drop_rate=drop_rate, input_fmt="NHWC")
        self.apply(init_weights)

    def atm_layers(self) -> list[Site]:
        """Return all ATM layers, in order."""
        layers = []
        for layer, source in self.offset_sources.items():
            if layer.stage > len(self.stages):
                break  # pruned
            blocks: list[ATMBlock] = list(self.stages[layer.stage - 1].blocks)  # type: ignore[arg-type]
            mixer, offset = blocks[layer.index - 1].token_mixer, blocks[source.index - 1].offset
            num_offsets = offset.linear.out_features // 2 if offset is not None else 0
            path = f"stages.{layer.stage - 1}.blocks.{layer.index - 1}.token_mixer"
            layers.append(site_of(mixer, path, layer, source, num_offsets))
        return layers

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names of the PEG weights; timm excludes norms and biases itself, because they are 1-D."""
        return {name for name, _ in self.named_parameters() if ".peg." in name}

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^stem",
            "blocks": r"^stages\.(\d+)"
            if coarse
            else [
                (r"^stages\.(\d+)\.(?:downsample|peg)", (0,)),
                (r"^stages\.(\d+)\.blocks\.(\d+)", None),
                (r"^(?:norm|out_norms)", (99999,)),
            ],
        }

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for stage in self.stages:
            stage.grad_checkpointing = enable  # type: ignore[assignment]

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return feature maps of the chosen stages, strides 4 to 32, before the downsampling that follows each.

        Args:
            x: Images, [B, in_chans, H, W].
            indices: Stages to return: all if None, the last n if an int, else these (negative from the end).
            norm: Apply the final norm to the last stage's map.
            stop_early: Skip the stages after the last chosen one.
            output_fmt: "NCHW" or "NHWC".
            intermediates_only: Return only the maps.

        Returns:
            The maps, or (final tokens [B, H, W, C], maps).
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ValueError(f"got output_fmt {output_fmt!r}, expected 'NCHW' or 'NHWC'")
        wanted = self._take_indices(indices)
        stages = self.stages[: max(wanted) + 1] if stop_early else self.stages
        x = self._embed_patches(x)
        maps: dict[int, Tensor] = {}
        for i, stage in enumerate(stages):
            x = stage(x)
            if i in wanted:
                tokens = x.permute(0, 2, 3, 1)  # NCHW -> NHWC
                if self.out_norms is not None:
                    tokens = self.out_norms[i](tokens)
                if norm and i == len(self.stages) - 1:
                    tokens = self.norm(tokens)
                maps[i] = tokens if output_fmt == "NHWC" else tokens.permute(0, 3, 1, 2)
        intermediates = [maps[i] for i in wanted]
        if intermediates_only:
            return intermediates
        x = x.permute(0, 2, 3, 1)  # NCHW -> NHWC
        return (self.norm(x) if len(stages) == len(self.depths) else x), intermediates

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the modules that the chosen feature maps do not need, so that every parameter gets a gradient."""
        wanted = self._take_indices(indices)
        keep = max(wanted) + 1
        if prune_norm or keep < len(self.stages):
            self.norm = nn.Identity()
        if self.out_norms is not None:
            norms = enumerate(self.out_norms[:keep])
            self.out_norms = nn.ModuleList(norm if i in wanted else nn.Identity() for i, norm in norms)
        self.stages = self.stages[:keep]
        if prune_head or keep < len(self.depths):
            self.reset_classifier(0, "")
        return wanted

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute normed tokens of the last stage, [B, H, W, C], from images [B, in_chans, H, W] of 32 px and up."""
        x = self.stages(self._embed_patches(x))
        return self.norm(x.permute(0, 2, 3, 1))  # NCHW -> NHWC

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute class scores, [B, classes], from tokens [B, H, W, C]: mean over tokens, then one linear layer."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Accept files of other layouts too, as timm's `checkpoint_path` passes them."""
        if f"{prefix}stem.weight" not in state_dict:
            names = [name for name in state_dict if name.startswith(prefix)]
            state = {name.removeprefix(prefix): state_dict.pop(name) for name in names}
            state_dict.update({prefix + name: tensor for name, tensor in checkpoint_filter_fn(state).items()})
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _embed_patches(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < MIN_SIZE_PX:
            raise ValueError(
                f"got an image of {x.shape[-2]}x{x.shape[-1]} px, expected at least {MIN_SIZE_PX} px a side"
            )
        return self.stem(x.contiguous(memory_format=torch.channels_last))  # [B, H, W, C] in memory from here on

    def _take_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        total = len(self.stages)
        if indices is None or isinstance(indices, int):
            last = total if indices is None else indices
            indices = range(total - last, total) if last <= total else [last]
        taken = [total + i if i < 0 else i for i in indices]
        if not taken or min(taken) < 0 or max(taken) >= total:
            raise ValueError(f"got feature indices {list(indices)}, expected some of 0 ... {total - 1}")
        return taken


default_cfgs = generate_default_cfgs(
    {
        name: {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "pool_size": (7, 7),
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "stem",
            "classifier": "head.fc",
            "paper_ids": "arXiv:2203.06108",
        }
        for name in VARIANTS
    }
)


def _register(name: str) -> None:
    """Register a variant with timm under its name."""
    variant = VARIANTS[name]
    sizes = {key: getattr(variant, key) for key in ("depths", "dims", "mlp_ratios", "num_offsets", "offset_interval")}

    def create(pretrained: bool = False, **kwargs: Any) -> ATMNet:
        return build_model_with_cfg(
            ATMNet,
            name,
            pretrained,
            pretrained_filter_fn=checkpoint_filter_fn,
            feature_cfg={"out_indices": (0, 1, 2, 3), "feature_cls": "getter"},
            **{**sizes, **kwargs},
        )

    create.__name__ = name
    globals()[name] = register_model(create)  # timm lists it in this module's __all__


for _name in VARIANTS:
    _register(_name)
