"""What the help of each command shows as examples."""

EXAMPLES = {
    "overlay": (
        "atmviz overlay photo.jpg --layer 3_last --query 120,80",
        "atmviz overlay photos/ -c ATMNet-T.pth --query grid:2x2 --out figures",
    ),
    "histogram": (
        "atmviz histogram photos/ --layer '2_1,3_*' --width column --out fig3.pdf",
        "atmviz histogram --figure 3 -c ATMNet-T.pth --data-dir data",
    ),
    "explore": (
        "atmviz explore photos/ --out look.html",
        "atmviz explore trained --and untrained --max-size 5MB --out look.html",
    ),
    "claims": (
        "atmviz claims",
        "atmviz claims --dataset ade20k --limit 500 -c ATMNet-T.pth --format pdf,tex",
    ),
    "depth": ("atmviz depth --unit px", "atmviz depth recording --width column --out depth.pdf"),
    "adaptivity": (
        "atmviz adaptivity --width column --out adaptivity.pdf",
        "atmviz adaptivity --dataset ade20k --limit 500 -c ATMNet-T.pth --json",
    ),
    "layers": ("atmviz layers", "atmviz layers atmnet_large --size 512x512 --json"),
    "inspect": ("atmviz inspect fig3.pdf", "atmviz inspect ATMNet-T.pth --json"),
    "compare": (
        "atmviz compare first second --baseline init --width column",
        "atmviz compare -c init:atmnet_tiny -c ATMNet-T.pth photos/",
    ),
    "record": (
        "atmviz record photos/ --out recording",
        "atmviz record --dataset ade20k --limit 500 -c ATMNet-T.pth --out ade20k",
    ),
    "merge": ("atmviz merge first second --out both",),
    "cache ls": ("atmviz cache ls",),
    "cache clear": ("atmviz cache clear --older-than 30d", "atmviz cache clear --yes"),
    "data info": ("atmviz data info imagenet",),
    "data check": ("atmviz data check ade20k --data-dir data --split val",),
    "train": (
        "atmviz train --epochs 2",
        "atmviz train --recipe imagenet1k --model atmnet_tiny --data-dir data",
    ),
    "eval": (
        "atmviz eval ATMNet-T.pth --dataset imagenet --data-dir data",
        "atmviz eval --offsets zero --limit 500",
    ),
    "ablate": ("atmviz ablate --seeds 1 --epochs 1",),
    "intervene": (
        "atmviz intervene --limit 300",
        "atmviz intervene ATMNet-T.pth --dataset imagenet --do clamp:1,2,4 --by stage",
    ),
    "models": ("atmviz models", "atmviz models --json"),
    "complexity": (
        "atmviz complexity --table 1 --table 7",
        "atmviz complexity --model atmnet_tiny --head mask_rcnn --neck atmfpn",
    ),
    "benchmark": (
        "atmviz benchmark op",
        "atmviz benchmark model -m atmnet_tiny -b 128 --dtype float16 --device cuda",
    ),
    "convert": (
        "atmviz convert ATMNet-T.pth atmnet_tiny.safetensors",
        "atmviz convert ATMNet-T.pth atmnet_tiny.onnx --size 224",
    ),
    "publish": (
        "atmviz publish runs/shapes-atmnet_nano-0 --license mit",
        "atmviz publish ATMNet-T.pth --recording ade20k --push user/repo",
    ),
    "checkpoints": ("atmviz checkpoints", "atmviz eval ATMNet-T.pth --dataset imagenet --data-dir data"),
}
